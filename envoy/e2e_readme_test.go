package envoy_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
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
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/envoy/typed"
)

// language is one of those of the README's login handlers. body stands before the user in what it reads, and status
// is what it answers a script with.
type language struct {
	fence, file, tool, remedy, body string
	status                          int
}

var languages = []language{
	{"python", "login.py", "python3", "apt-get install python3", "user=", http.StatusOK},
	{"js", "login.js", "node", "apt-get install nodejs (18 or newer)", "", http.StatusNoContent},
	{"perl", "login.pl", "perl", "apt-get install perl", "", http.StatusNoContent},
	{"go", "login.go", "go", "https://go.dev/dl", "", http.StatusNoContent},
}

// newLogins deploys behind Envoy, and gives each handler of the README an address that Envoy sends sign-ins to.
func newLogins(t *testing.T) (s *stack, addresses map[string]string) {
	t.Helper()
	addresses = map[string]string{}
	for _, l := range languages {
		addresses[l.fence] = freeAddress(t)
	}
	return newStack(t, stackOptions{
		processes: 1,
		settings:  []string{"SESSIONGATE_RESPONSES_DENIAL_HEADER=true"},
		edit:      func(b *bootstrapv3.Bootstrap) error { return addLogins(b, addresses) },
	}), addresses
}

// blocks are the README's blocks of a language.
func blocks(t *testing.T, fence string) []string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, block := range regexp.MustCompile("(?ms)^```"+fence+"\n(.*?)^```$").FindAllStringSubmatch(string(readme), -1) {
		found = append(found, block[1])
	}
	return found
}

// loginCommand is a login handler of the README as it stands there.
func loginCommand(t *testing.T, fence string) *exec.Cmd {
	t.Helper()
	l := languages[slices.IndexFunc(languages, func(l language) bool { return l.fence == fence })]
	found := blocks(t, fence)
	if len(found) != 1 {
		t.Fatalf("README.md has %d blocks of %s, want one", len(found), fence)
	}
	tool, err := exec.LookPath(l.tool)
	if err != nil {
		t.Fatalf("this test needs %s: %s", l.tool, l.remedy)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, l.file)
	if err := os.WriteFile(file, []byte(found[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if fence != "go" {
		return exec.Command(tool, file) // our README's own text; killed by runLogin
	}
	binary := filepath.Join(dir, "login")
	if output, err := exec.CommandContext(t.Context(), tool, "build", "-o", binary, file).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, output)
	}
	return exec.Command(binary)
}

// TestReadmeLogins runs each login handler of the README, and signs in through Envoy by a script.
func TestReadmeLogins(t *testing.T) {
	t.Parallel()
	s, addresses := newLogins(t)
	whole := t
	for _, l := range languages {
		t.Run(l.fence, func(t *testing.T) {
			s.runLogin(whole, loginCommand(whole, l.fence), addresses[l.fence], s.apiKey)

			b, user := s.newBrowser(networkV), "user-of-"+l.fence
			a := b.do(http.MethodPost, "/login", script, with("X-Login", l.fence), withBody(l.body+user))
			if a.status != l.status {
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
			if a := b.do(http.MethodPost, "/login", script, with("X-Login", l.fence), withBody(l.body+"no user id")); a.status < 400 || a.sets("sAccessToken") {
				t.Errorf("what sessiongate refuses is answered %d", a.status)
			}
		})
	}
	s.processes[0].stop()
	for _, l := range languages {
		for range 2 { // and lives to answer the next one
			a := s.newBrowser(networkV).do(http.MethodPost, "/login", script, with("X-Login", l.fence), withBody(l.body+"alice"))
			if a.status != http.StatusServiceUnavailable {
				t.Errorf("%s, while sessiongate is away: %d", l.fence, a.status)
			}
		}
	}
}

// TestReadmeLoginForm signs in by the form of the README's complete handler, and in every way that it must not.
func TestReadmeLoginForm(t *testing.T) {
	s, addresses := newLogins(t)
	command := loginCommand(t, "python")
	s.runLogin(t, command, addresses["python"], s.apiKey)
	post := func(form url.Values, options ...option) answer {
		options = append([]option{with("Content-Type", "application/x-www-form-urlencoded"), withBody(form.Encode())}, options...)
		return s.newBrowser(networkV).do(http.MethodPost, "/login", options...)
	}
	page := []option{with("Accept", "text/html"), with("Sec-Fetch-Mode", "navigate"), with("Sec-Fetch-Dest", "document")}
	own := append(slices.Clone(page), with("Sec-Fetch-Site", "same-origin"))

	t.Run("the form carries the way back", func(t *testing.T) {
		for asked, shown := range map[string]string{"/shop?a=1&b=2": "/shop?a=1&amp;b=2", "https://evil.example/": "/", `/"><script>`: "/&quot;&gt;&lt;script&gt;"} {
			a := s.newBrowser(networkV).do(http.MethodGet, "/login?return_to="+url.QueryEscape(asked), own...)
			if a.status != http.StatusOK || !strings.Contains(a.body, `name="return_to" value="`+shown+`"`) {
				t.Errorf("%q: %d %s", asked, a.status, a.body)
			}
		}
	})
	t.Run("it leads back, and nowhere else", func(t *testing.T) {
		for asked, to := range map[string]string{
			"": "/", "/": "/", "/shop?a=1&b=2": "/shop?a=1&b=2",
			"//evil.example": "/", `/\evil.example`: "/", "https://evil.example/": "/", "javascript:alert(1)": "/", "evil": "/",
			"/\t/evil.example": "/", "/\r\nset-cookie: a=b": "/", "\t//evil.example": "/",
		} {
			a := post(url.Values{"user": {"ada"}, "return_to": {asked}}, own...)
			if a.status != http.StatusSeeOther || a.header.Get("Location") != to || !a.sets("sAccessToken") || !a.sets("sRefreshToken") {
				t.Errorf("%q: %d to %q", asked, a.status, a.header.Get("Location"))
			}
		}
	})
	t.Run("a foreign page's form is refused", func(t *testing.T) {
		for name, from := range map[string][]option{
			"another site":                      append(slices.Clone(page), with("Sec-Fetch-Site", "cross-site"), with("Origin", "https://evil.example")),
			"a sibling host":                    append(slices.Clone(page), with("Sec-Fetch-Site", "same-site")),
			"another origin, by an old browser": {with("Origin", "https://evil.example")},
			"no origin, by an old browser":      {with("Origin", "null")},
			"the same host by another scheme":   {with("Origin", "https://"+host)},
		} {
			if a := post(url.Values{"user": {"eve"}}, from...); a.status != http.StatusForbidden || a.sets("sAccessToken") {
				t.Errorf("%s: %d", name, a.status)
			}
		}
		if a := post(url.Values{"user": {"ada"}}, with("Origin", "http://"+host), with("Accept", "text/html")); a.status != http.StatusSeeOther {
			t.Errorf("the own page, in an old browser: %d", a.status)
		}
		if a := post(url.Values{"user": {"ada"}}, append(slices.Clone(own), with("Origin", "null"))...); a.status != http.StatusSeeOther {
			t.Errorf("the own page, under no-referrer: %d", a.status)
		}
	})
	t.Run("a person is told", func(t *testing.T) {
		for user, want := range map[string]struct {
			status int
			note   string
		}{"": {401, "That did not fit."}, "no user id": {400, "That user name cannot be used."}} {
			a := post(url.Values{"user": {user}, "return_to": {"/shop"}}, own...)
			if a.status != want.status || !strings.Contains(a.body, want.note) || !strings.Contains(a.body, `value="/shop"`) || a.sets("sAccessToken") {
				t.Errorf("user %q: %d %s", user, a.status, a.body)
			}
		}
	})
	t.Run("a wrong API key is in the log", func(t *testing.T) {
		wrong := newSecret()
		s.secrets.add(wrong) // and is no text for a log
		address := freeAddress(t)
		log := s.runLogin(t, loginCommand(t, "python"), address, wrong)
		a := postDirect(t, address, url.Values{"user": {"ada"}})
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "does not work at the moment") {
			t.Errorf("%d %s", a.status, a.body)
		}
		text, err := os.ReadFile(log)
		if err != nil || !strings.Contains(string(text), "sessiongate refused: 401 unknown_api_key The API key is not known.") {
			t.Errorf("the log does not say so: %v\n%s", err, text)
		}
	})
	s.processes[0].stop()
	if a := post(url.Values{"user": {"ada"}}, own...); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "does not work at the moment") {
		t.Errorf("while sessiongate is away: %d %s", a.status, a.body)
	}
}

// postDirect sends a form to a handler that is not behind Envoy.
func postDirect(t *testing.T, address string, form url.Values) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	response, err := direct.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: string(body)}
}

// TestReadmeCheckIt runs the lines of "Check it" as they stand, and holds each to the comment behind it.
func TestReadmeCheckIt(t *testing.T) {
	lines := strings.Join(slices.DeleteFunc(blocks(t, "sh"), func(block string) bool { return !strings.Contains(block, "jar.txt") }), "")
	var want []string
	for _, comment := range regexp.MustCompile(`(?m)^ask .*# (.+)$`).FindAllStringSubmatch(lines, -1) {
		want = append(want, comment[1])
	}
	if len(want) != 6 {
		t.Fatalf("README.md has %d lines to check it with, want six", len(want))
	}
	s, addresses := newLogins(t)
	s.runLogin(t, loginCommand(t, "python"), addresses["python"], s.apiKey)
	shell := exec.CommandContext(t.Context(), "sh", "-c", lines)
	shell.Dir = t.TempDir()
	shell.Env = []string{"PATH=" + os.Getenv("PATH"), "APP=" + s.proxy.URL("ingress")}
	var failure strings.Builder
	shell.Stderr = &failure
	printed, err := shell.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, printed, failure.String())
	}
	var got []string
	for line := range strings.Lines(string(printed)) {
		got = append(got, strings.TrimSpace(line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-README +printed):\n%s%s", diff, failure.String())
	}
}

// runLogin starts a handler and waits until it listens. It returns the name of its log.
func (s *stack) runLogin(t *testing.T, command *exec.Cmd, address, apiKey string) string {
	t.Helper()
	log := s.logFile(filepath.Base(command.Args[len(command.Args)-1]) + "-" + address)
	_, port, _ := net.SplitHostPort(address)
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PORT=" + port,
		"SESSIONS_URL=http://" + s.processes[0].internal, "SESSIONS_API_KEY=" + apiKey,
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
	return log.Name()
}

// addLogins gives each handler a cluster and, by a header that only these tests send, the login route. Without that
// header it is the complete one's.
func addLogins(b *bootstrapv3.Bootstrap, addresses map[string]string) error {
	clusters := b.GetStaticResources().GetClusters()
	app := clusters[slices.IndexFunc(clusters, func(c *clusterv3.Cluster) bool { return c.GetName() == "app" })]
	return typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
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
		login.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "login-python"}
		return nil
	})
}
