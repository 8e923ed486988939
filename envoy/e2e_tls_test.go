package envoy_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sessiongate/sessiongate/internal/authority"
)

// transportSocket is the fragment that the documentation gives for a cluster, with its files in dir.
func transportSocket(t *testing.T, name, dir string) *clusterv3.Cluster {
	t.Helper()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("<!-- envoy: " + name + " -->\n```yaml\n((?s:.*?))```\n")
	var found []string
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		t.Fatalf("docs has %d fragments for the cluster %s, want one", len(found), name)
	}
	var tree any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(found[0], "/tls/", dir+"/")), &tree); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	fragment := new(clusterv3.Cluster)
	if err := protojson.Unmarshal(text, fragment); err != nil {
		t.Fatal(err)
	}
	return fragment
}

// certificateFiles is a folder of certificates, as the documentation names them.
type certificateFiles struct {
	*testing.T

	dir       string
	authority *authority.Authority
}

func (f certificateFiles) issue(name string) authority.Pair {
	f.Helper()
	pair, err := f.authority.Issue(name, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	return pair
}

func (f certificateFiles) write(name string, content []byte) {
	f.Helper()
	file := filepath.Join(f.dir, name)
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil { // whole, as what replaces files in production does
		f.Fatal(err)
	}
}

func (f certificateFiles) writePair(p authority.Pair) {
	f.write("tls.crt", p.Cert)
	f.write("tls.key", p.Key)
}

// TestTLS: Envoy speaks mutual TLS with the check and TLS with the auth path, as the documentation says; a client without a certificate gets
// nothing; and certificates are renewed under load.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, err := authority.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	files := certificateFiles{t, t.TempDir(), ours}
	files.writePair(files.issue("sessiongate"))
	files.write("sessiongate-ca.crt", ours.PEM)
	envoys := files.issue("envoy")
	files.write("envoy.crt", envoys.Cert)
	files.write("envoy.key", envoys.Key)
	own, err := files.issue("test").TLS()
	if err != nil {
		t.Fatal(err)
	}
	trusting := &tls.Config{RootCAs: ours.Pool(), ServerName: "sessiongate"}
	known := trusting.Clone()
	known.Certificates = []tls.Certificate{own}
	encrypt := func(withCertificate bool) func(*bootstrapv3.Bootstrap) error {
		return func(b *bootstrapv3.Bootstrap) error {
			for _, c := range b.GetStaticResources().GetClusters() {
				if c.GetName() == "app" {
					continue
				}
				c.TransportSocket = transportSocket(t, c.GetName(), files.dir).GetTransportSocket()
				if withCertificate {
					continue
				}
				context := new(tlsv3.UpstreamTlsContext)
				if err := c.GetTransportSocket().GetTypedConfig().UnmarshalTo(context); err != nil {
					return err
				}
				context.GetCommonTlsContext().TlsCertificates = nil
				if err := c.GetTransportSocket().GetTypedConfig().MarshalFrom(context); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var settings []string
	for _, listener := range []string{"AUTHZ", "PUBLIC", "INTERNAL"} {
		settings = append(settings,
			"SESSIONGATE_TLS_"+listener+"_CERT_FILE="+filepath.Join(files.dir, "tls.crt"),
			"SESSIONGATE_TLS_"+listener+"_KEY_FILE="+filepath.Join(files.dir, "tls.key"))
		if listener != "PUBLIC" {
			settings = append(settings, "SESSIONGATE_TLS_"+listener+"_CLIENT_CA_FILE="+filepath.Join(files.dir, "sessiongate-ca.crt"))
		}
	}
	s := newStack(t, stackOptions{
		// Envoy has to make new connections all the time, with whatever certificate there is.
		settings: append(settings, "SESSIONGATE_GRPC_CONNECTION_AGE=1s", "SESSIONGATE_TLS_AUTHZ_CLIENT_NAMES=envoy,test", "SESSIONGATE_TLS_INTERNAL_CLIENT_NAMES=test"),
		tls:      known, internal: known, edit: encrypt(true),
	})
	b := s.newBrowser(networkV)
	handle := b.signIn("alice")
	s.advance(grace + moment)
	if !b.mustRefresh(t) {
		t.Error("no new refresh token")
	}
	b.use(handle)

	t.Run("healthcheck", func(t *testing.T) {
		file, err := program()
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command(file, "healthcheck")
		command.Env = append([]string{"SESSIONGATE_LISTEN_INTERNAL=" + s.processes[0].internal}, settings...)
		if out, err := command.CombinedOutput(); err != nil || string(out) != "ready\n" {
			t.Errorf("%s, %v", out, err)
		}
	})

	t.Run("without a certificate", func(t *testing.T) {
		outsider := s.startEnvoy("outsider", encrypt(false))
		for range 4 {
			if a := b.newTab(outsider).do(http.MethodGet, "/", script); a.status != http.StatusServiceUnavailable || a.app != nil {
				t.Errorf("through an Envoy without a certificate: %d", a.status)
			}
		}
		for _, p := range s.processes {
			conn, err := tls.Dial("tcp", p.authz, trusting)
			if err == nil { // in TLS 1.3 the client hears of it when it reads
				_, err = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "certificate required") {
				t.Errorf("%s: %v", p.name, err)
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting, DisableKeepAlives: true}}
			for path, want := range map[string]int{
				"/healthz": 200, "/readyz": 200, "/metrics": 403, "/openapi.json": 403, "/v1/users/alice/sessions": 403, "//metrics": 404, "/healthz/../metrics": 404,
			} {
				response, err := client.Get("https://" + p.internal + path)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("%s: %s: %d, want %d", p.name, path, response.StatusCode, want)
				}
			}
		}
	})

	t.Run("with a certificate of another name", func(t *testing.T) {
		others := certificateFiles{t, t.TempDir(), ours}
		others.write("sessiongate-ca.crt", ours.PEM)
		backends := others.issue("backend")
		others.write("envoy.crt", backends.Cert)
		others.write("envoy.key", backends.Key)
		outsider := s.startEnvoy("another", func(b *bootstrapv3.Bootstrap) error {
			for _, c := range b.GetStaticResources().GetClusters() {
				if c.GetName() != "app" {
					c.TransportSocket = transportSocket(t, c.GetName(), others.dir).GetTransportSocket()
				}
			}
			return nil
		})
		for range 4 {
			if a := b.newTab(outsider).do(http.MethodGet, "/", script); a.status != http.StatusServiceUnavailable || a.app != nil {
				t.Errorf("through an Envoy of another name: %d", a.status)
			}
		}
	})

	t.Run("renewal under load", func(t *testing.T) {
		serial := func(address string) string {
			conn, err := tls.Dial("tcp", address, known)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
		}
		load := s.newLoad(t)
		for _, refreshes := range []bool{false, false, true} {
			tab := b.newTab(s.proxy)
			method, path := http.MethodGet, "/"
			if refreshes {
				method, path = http.MethodPost, refreshPath
			}
			load.run(func() error { return tab.do(method, path, script).ok(path) })
		}
		for range 2 {
			before := map[string]string{}
			for _, p := range s.processes {
				before[p.authz], before[p.public], before[p.internal] = serial(p.authz), serial(p.public), serial(p.internal)
			}
			files.writePair(files.issue("sessiongate"))
			for address, old := range before {
				s.eventually("the new certificate at "+address, func() bool { return serial(address) != old })
			}
			load.more(51) // on the new certificate
		}
		load.stop()
	})
}
