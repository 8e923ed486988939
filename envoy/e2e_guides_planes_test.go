package envoy_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/envoy"
)

// roles tell which cluster of a plane leads to what. All others lead to the app, which is the login service, too.
var roles = []struct {
	cluster *regexp.Regexp
	role    string
}{
	{regexp.MustCompile(`^securitypolicy/|^outbound\|9001\||^extension/`), "check"},
	{regexp.MustCompile(`^httproute/ingress/auth/|^outbound\|9002\||^sessiongate/sessiongate/9002/`), "public"},
}

// left are the filters that do not work in the test: those that only Istio's build of Envoy has, which choose the protocol to the next proxy and
// count, and decide about no request; and Contour's, which compares the host name with the one of the TLS handshake.
func left(filter any) bool {
	config, _ := filter.(object)["typed_config"].(object)
	kind, _ := config["@type"].(string)
	if kind == "type.googleapis.com/udpa.type.v1.TypedStruct" {
		kind, _ = config["type_url"].(string)
	}
	script, _ := config["default_source_code"].(object)
	text, _ := script["inline_string"].(string)
	return strings.HasPrefix(kind, "type.googleapis.com/istio.") || strings.HasPrefix(kind, "type.googleapis.com/io.istio.") || strings.Contains(text, "requestedServerName()")
}

// replay runs the real Envoy with what a control plane generated, in front of a stack. Of the recorded configuration this changes:
//   - addresses: of the listener, of the clusters, and the host name, which the test has no DNS for;
//   - TLS, of the listener and of the clusters, with what is for it: the test speaks plain HTTP;
//   - filters that do not work here (left), and Istio's in its clusters, which tell proxies of each other;
//   - what the listener says of its socket, access logs, and other listeners, such as Contour's that redirects to TLS;
//   - timeouts of the check and of connections, for a busy machine.
//
// Nothing else: the connection manager, its filters, their order, the routes and what they carry are as they were generated.
func replay(t *testing.T, r recording, s *stack) {
	t.Helper()
	addresses := map[string][]string{"app": {s.app.address}}
	for _, p := range s.processes {
		addresses["check"] = append(addresses["check"], p.authz)
		addresses["public"] = append(addresses["public"], p.public)
	}
	bootstrap := r.Bootstrap
	listener, chain := checked(t, bootstrap)
	for _, key := range []string{"filter_chain_match", "transport_socket"} {
		delete(chain, key)
	}
	at(bootstrap, "static_resources").(object)["listeners"] = []any{object{
		"name": "ingress", "filter_chains": []any{chain},
		"per_connection_buffer_limit_bytes": listener["per_connection_buffer_limit_bytes"],
	}}
	m := at(chain, "filters", 0, "typed_config").(object)
	var filters []any
	var without []string
	for _, filter := range m["http_filters"].([]any) {
		if left(filter) {
			without = append(without, at(filter, "name").(string))
			continue
		}
		if isCheck(filter) {
			at(filter, "typed_config", "grpc_service").(object)["timeout"] = patience.String()
		}
		filters = append(filters, filter)
	}
	m["http_filters"] = filters
	known := map[string][]string{"Istio": {"istio.metadata_exchange", "istio.alpn"}, "Contour": {"envoy.filters.http.lua"}}
	if !slices.Equal(without, known[r.Plane]) {
		t.Fatalf("left out are %v, want %v: does one that is new decide about requests?", without, known[r.Plane])
	}
	delete(m, "access_log") // of the test's output
	ours := 0
	for _, host := range at(m, "route_config", "virtual_hosts").([]any) {
		if domains := host.(object)["domains"].([]any); slices.Contains(domains, any("app.example.com")) {
			host.(object)["domains"] = []any{"*"}
			ours++
		}
	}
	if ours != 1 {
		t.Fatalf("%d virtual hosts are for app.example.com", ours)
	}

	endpoints, count := map[string][]string{}, map[string]int{}
	for _, cluster := range at(bootstrap, "static_resources", "clusters").([]any) {
		cluster := cluster.(object)
		for _, key := range []string{"eds_cluster_config", "transport_socket", "transport_socket_matches", "filters"} {
			delete(cluster, key)
		}
		cluster["connect_timeout"] = patience.String()
		name, role := cluster["name"].(string), "app"
		for _, r := range roles {
			if r.cluster.MatchString(name) {
				role = r.role
			}
		}
		count[role]++
		endpoints[name] = addresses[role]
	}
	if count["check"] == 0 || count["public"] == 0 || count["app"] == 0 {
		t.Fatalf("clusters lead to %v", count)
	}
	text, err := envoy.Readdress(r.text(t), map[string]string{"ingress": "127.0.0.1:0"}, endpoints)
	if err != nil {
		t.Fatal(err)
	}
	whole := parse(t, string(text))
	for _, cluster := range at(whole, "static_resources", "clusters").([]any) {
		for _, locality := range at(cluster, "load_assignment", "endpoints").([]any) {
			locality.(object)["load_balancing_weight"] = 1 // Envoy Gateway weighs them
		}
	}
	s.proxy = s.runEnvoy("envoy", func(shipped []byte) ([]byte, error) {
		whole["admin"] = parse(t, string(shipped))["admin"]
		return json.Marshal(whole)
	})
}

// tableOfRoutes is a configuration file with nothing but the routes of istio/config.yaml.
func tableOfRoutes(t *testing.T) (setting string) {
	t.Helper()
	whole := parse(t, at(parse(t, manifestFiles(t)["istio/config.yaml"]), "data", "sessiongate.yaml").(string))
	text, err := yaml.Marshal(object{"routes": whole["routes"]})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return "SESSIONGATE_CONFIG=" + file
}

// TestControlPlanes plays a session's life, and the attacks of the guides' tables, behind each.
func TestControlPlanes(t *testing.T) {
	t.Parallel()
	type controlPlane struct {
		lookAlikes  bool // pass, as the guide says
		spelling    int  // the answer to an escaped slash on a checked path
		unreachable int  // the answer where sessiongate is away
		twoLines    int  // the answer to a harmless second Cookie line, which only raw headers tell apart
		table       bool // policy is in sessiongate's table of routes
		ownForm     bool // what Envoy answers itself has the form of the shipped file
		readable    bool // scripts of another origin that may ask can read the answer of the check; Istio's guide leaves CORS to the reader
	}
	for name, test := range map[string]controlPlane{
		"Contour":       {true, http.StatusFound, http.StatusForbidden, 440, false, false, true},
		"Envoy Gateway": {false, http.StatusBadRequest, http.StatusServiceUnavailable, http.StatusOK, false, false, true},
		"Istio":         {false, http.StatusBadRequest, http.StatusServiceUnavailable, http.StatusOK, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := stackOptions{noEnvoy: true}
			if test.table {
				options.settings = []string{tableOfRoutes(t)}
			}
			s := newStack(t, options)
			replay(t, recorded(t, name), s)
			b := s.newBrowser(networkV)
			expect := func(what string, a answer, status int) answer {
				t.Helper()
				return a.expect(t, what, status)
			}
			forged := with("X-Session-User-Id", "root")

			expect("a page without a session", b.do(http.MethodGet, "/", navigation), http.StatusFound)
			expect("a script without a session", b.do(http.MethodGet, "/api/", script), http.StatusUnauthorized)
			expect("the auth path, which answers for itself", b.do(http.MethodGet, refreshPath, script), http.StatusMethodNotAllowed)
			expect("an escaped slash", b.do(http.MethodGet, "/x%2F..%2Fapi", navigation), test.spelling)
			// Spellings that one of the unchecked routes might take, and another server read as a page of the app.
			for _, path := range []string{"/auth/../", "/auth/%2e%2e/", "/auth/..//api/", "/login/../", "/login/", "/LOGIN", "//login/..", "/login;/../", "/.well-known/jwks.json/../../"} {
				if a := b.do(http.MethodGet, path, navigation); a.app != nil || a.status == http.StatusOK {
					t.Errorf("%s reaches the app without a session: %d", path, a.status)
				}
			}
			foreign := b.do(http.MethodGet, "/api/", script, with("Origin", "https://frontend.example.com"), with("Sec-Fetch-Site", "cross-site"))
			expect("a script of another origin without a session", foreign, http.StatusUnauthorized)
			if may := foreign.header.Get("Access-Control-Allow-Origin") == "https://frontend.example.com"; may != test.readable {
				t.Errorf("a script of another origin can read that: %v", may)
			}
			if a := b.do(http.MethodGet, "/api/", script, with("Origin", "https://evil.example"), with("Sec-Fetch-Site", "cross-site")); a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("a script of any origin can read an answer")
			}
			expect("public keys", b.do(http.MethodGet, "/.well-known/jwks.json"), http.StatusOK)
			b.signIn("ada")
			expect("not ours", b.do(http.MethodGet, "/authors", navigation, without("Cookie")), http.StatusFound)
			if got := expect("signed in", b.get(forged), http.StatusOK).app.Header["X-Session-User-Id"]; !slices.Equal(got, []string{"ada"}) {
				t.Errorf("the app sees user %q", got)
			}
			if got := expect("an unchecked route", b.do(http.MethodGet, "/login", forged), http.StatusOK).app.Header["X-Session-User-Id"]; got != nil {
				t.Errorf("the login page sees user %q", got)
			}
			a := b.get(with("x_session_user_id", "root"))
			if passed := a.app != nil && strings.Contains(a.body, "root"); passed != test.lookAlikes {
				t.Errorf("a look-alike passes: %v (%d)", passed, a.status)
			}
			expect("two Cookie lines", b.get(with("Cookie", "a=1")), test.twoLines)

			if test.table {
				expect("a claim that the table requires", b.do(http.MethodGet, "/admin/x", script), http.StatusForbidden)
				expect("another spelling of that path", b.do(http.MethodGet, "/ADMIN/x", script), http.StatusForbidden)
				anonymous := expect("optional", b.do(http.MethodGet, "/optional", script, forged, without("Cookie")), http.StatusOK)
				if got := anonymous.app.Header["X-Session-User-Id"]; got != nil {
					t.Errorf("on an optional route the app sees user %q", got)
				}
			}

			thief := b.stolenBy(networkX)
			s.advance(accessLife + moment)
			expect("expired", b.get(), 440)
			if !b.mustRefresh(t) {
				t.Error("the refresh brought no refresh token")
			}
			thief.do(http.MethodPost, refreshPath, script, with("X-Sessiongate-Peer", networkV)).superseded(t)
			b.mustGet(t)
			expect("sign-out", b.do(http.MethodPost, "/auth/signout", script), http.StatusOK)
			expect("signed out", b.do(http.MethodGet, "/", navigation), http.StatusFound)

			b.signIn("ada")
			for _, p := range s.processes {
				p.stop()
			}
			expect("without sessiongate", b.get(), test.unreachable)
			a = expect("a refresh without sessiongate", b.do(http.MethodPost, refreshPath, script), http.StatusServiceUnavailable)
			if own := a.header.Get("Retry-After") != "" && a.header.Get("Cache-Control") == "no-store" && strings.Contains(a.body, `"code":"unavailable"`); own != test.ownForm {
				t.Errorf("Envoy's own answer has our form: %v\n%v %s", own, a.header, a.body)
			}
		})
	}
}
