package envoy_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/envoy"
)

// languages are those of the README's login handlers.
var languages = []struct{ fence, file, tool, remedy string }{
	{"python", "login.py", "python3", "apt-get install python3"},
	{"js", "login.js", "node", "apt-get install nodejs (18 or newer)"},
	{"perl", "login.pl", "perl", "apt-get install perl"},
	{"go", "login.go", "go", "https://go.dev/dl"},
}

// TestReadmeLogins runs each login handler of the README as it stands there, and signs in through Envoy.
func TestReadmeLogins(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{}
	for _, l := range languages {
		addresses[l.fence] = freeAddress(t)
	}
	s := newStack(t, stackOptions{processes: 1, edit: func(b *bootstrapv3.Bootstrap) error { return addLogins(b, addresses) }})
	whole := t
	for _, l := range languages {
		t.Run(l.fence, func(t *testing.T) {
			blocks := regexp.MustCompile("(?ms)^```"+l.fence+"\n(.*?)^```$").FindAllStringSubmatch(string(readme), -1)
			if len(blocks) != 1 {
				t.Fatalf("README.md has %d blocks of %s, want one", len(blocks), l.fence)
			}
			tool, err := exec.LookPath(l.tool)
			if err != nil {
				t.Fatalf("this test needs %s: %s", l.tool, l.remedy)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, l.file)
			if err := os.WriteFile(file, []byte(blocks[0][1]), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.Command(tool, file) // our README's own text; killed below
			if l.fence == "go" {
				binary := filepath.Join(dir, "login")
				if output, err := exec.CommandContext(t.Context(), tool, "build", "-o", binary, file).CombinedOutput(); err != nil {
					t.Fatalf("building: %v\n%s", err, output)
				}
				command = exec.Command(binary)
			}
			s.runLogin(whole, command, addresses[l.fence])

			b, user := s.newBrowser(networkV), "user-of-"+l.fence
			a := b.do(http.MethodPost, "/login", with("X-Login", l.fence), withBody(user))
			if a.status != http.StatusNoContent {
				t.Fatalf("sign-in: %d %s", a.status, a.body)
			}
			for _, name := range []string{"Anti-Csrf", "Front-Token", "Id-Refresh-Token"} {
				if a.header.Get(name) == "" {
					t.Errorf("the answer lacks %s", name)
				}
			}
			if got := b.mustGet(t).Header["X-Session-User-Id"]; !slices.Equal(got, []string{user}) {
				t.Errorf("the app sees user %q, want %q", got, user)
			}
			b.mustRefresh(t)
			b.mustGet(t)
			if a := b.do(http.MethodPost, "/login", with("X-Login", l.fence), withBody("no user id")); a.status < 500 || a.sets("sAccessToken") {
				t.Errorf("what sessiongate refuses is answered %d", a.status)
			}
		})
	}
	s.processes[0].stop()
	for _, l := range languages {
		for range 2 { // and lives to answer the next one
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addresses[l.fence]+"/login", strings.NewReader("alice"))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Errorf("%s, while sessiongate is away: %v", l.fence, err)
				continue
			}
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s, while sessiongate is away: %d", l.fence, answer.StatusCode)
			}
		}
	}
}

// runLogin starts a handler and waits until it listens.
func (s *stack) runLogin(t *testing.T, command *exec.Cmd, address string) {
	t.Helper()
	log := s.logFile(filepath.Base(command.Args[len(command.Args)-1]))
	_, port, _ := net.SplitHostPort(address)
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PORT=" + port,
		"SESSIONS_URL=http://" + s.processes[0].internal, "SESSIONS_API_KEY=" + s.apiKey,
	}
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = command.Wait()
		_ = log.Close()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-exited
	})
	s.eventually("the login handler listens", func() bool {
		select {
		case <-exited:
			t.Fatal("the login handler ended")
		default:
		}
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// addLogins gives each handler a cluster and, by a header that only this test sends, the login route.
func addLogins(b *bootstrapv3.Bootstrap, addresses map[string]string) error {
	clusters := b.GetStaticResources().GetClusters()
	app := clusters[slices.IndexFunc(clusters, func(c *clusterv3.Cluster) bool { return c.GetName() == "app" })]
	return envoy.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
		v := m.GetRouteConfig().GetVirtualHosts()[0]
		login := v.GetRoutes()[slices.IndexFunc(v.GetRoutes(), func(r *routev3.Route) bool { return r.GetName() == "login" })]
		for name, address := range addresses {
			added, route := proto.CloneOf(app), proto.CloneOf(login)
			added.Name = "login-" + name
			added.LoadAssignment.ClusterName = added.GetName()
			port := uint32(0)
			for _, digit := range address[strings.LastIndex(address, ":")+1:] {
				port = port*10 + uint32(digit-'0')
			}
			added.LoadAssignment.Endpoints[0].LbEndpoints = []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
				}}}},
			}}}
			b.StaticResources.Clusters = append(b.StaticResources.Clusters, added)
			route.Name = added.GetName()
			route.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: added.GetName()}
			route.Match.Headers = []*routev3.HeaderMatcher{{
				Name: "x-login", HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: name}, //nolint:staticcheck // short
			}}
			v.Routes = append([]*routev3.Route{route}, v.GetRoutes()...)
		}
		return nil
	})
}
