package envoy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// tableAlone is a table that a control plane's user would write, who cannot give Envoy's routes context_extensions.
const tableAlone = `[
	{path_prefix: /admin, policy: {require.role: admin, on_unauthorised: "401"}},
	{path_prefix: /admin, methods: [DELETE], policy: {require.role: owner}},
	{path_prefix: /team, policy: {require.role: tester, on_unauthorised: auto}},
	{path_prefix: /open, policy: {session: optional}},
	{path: /health, methods: [GET], policy: {session: optional}},
	{host: status.example.com, policy: {session: optional}},
	{host: "*.inner.example.com", path: /, policy: {on_unauthorised: "403"}},
]`

// noExtensions takes what Envoy says of policy from every route.
func noExtensions(v *routev3.VirtualHost) error {
	for _, r := range v.GetRoutes() {
		switch r.GetName() {
		case "auth", "jwks", "login": // not checked
		default:
			delete(r.TypedPerFilterConfig, "envoy.filters.http.ext_authz")
		}
	}
	return nil
}

// verbatim makes Envoy pass paths on as they came.
func verbatim(b *bootstrapv3.Bootstrap) error {
	if err := editRoutes(noExtensions)(b); err != nil {
		return err
	}
	return typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
		m.NormalizePath, m.MergeSlashes = wrapperspb.Bool(false), false
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
		return nil
	})
}

// TestRoutesTable: with no word on policy in Envoy, the table alone decides.
func TestRoutesTable(t *testing.T) {
	s := newStack(t, stackOptions{settings: []string{"SESSIONGATE_ROUTES=" + tableAlone}, edit: editRoutes(noExtensions)})
	b, none := s.newBrowser(networkV), s.newBrowser(networkX)
	b.signIn("alice") // a tester

	t.Run("policies", func(t *testing.T) {
		for _, tt := range []struct {
			method, host, path string
			none, alice        int
		}{
			{"GET", "", "/admin", 401, 403},
			{"GET", "", "/admin/", 401, 403},
			{"GET", "", "/admin/users?x=/open", 401, 403},
			{"DELETE", "", "/admin/users", 302, 403},
			{"GET", "", "/administrator", 302, 200},
			{"GET", "", "/team/x", 401, 200},
			{"GET", "", "/open", 200, 200},
			{"GET", "", "/open/x/y", 200, 200},
			{"GET", "", "/opened", 302, 200},
			{"GET", "", "/health", 200, 200},
			{"POST", "", "/health", 302, 200},
			{"GET", "", "/health/x", 302, 200},
			{"GET", "", "/", 302, 200},
			{"GET", "status.example.com", "/anything", 200, 200},
			{"GET", "STATUS.example.com:8080", "/admin", 200, 200}, // host before path
			{"GET", "a.inner.example.com", "/", 403, 200},
			{"GET", "a.inner.example.com", "/admin", 401, 403},
		} {
			for name, browser := range map[string]*browser{"no session": none, "alice": b} {
				want := map[string]int{"no session": tt.none, "alice": tt.alice}[name]
				a := browser.send(tt.method, tt.path, script, func(r *http.Request) {
					if tt.host != "" {
						r.Host = tt.host
					}
				})
				if a.status != want || (a.app != nil) != (want == http.StatusOK) {
					t.Errorf("%s as %s: %s %s%s: %d, want %d", tt.method, name, tt.method, tt.host, tt.path, a.status, want)
				}
				if a.app != nil && (a.app.Header.Get("X-Session-User-Id") == "alice") != (name == "alice") {
					t.Errorf("%s%s as %s: the app sees user %q", tt.host, tt.path, name, a.app.Header.Get("X-Session-User-Id"))
				}
			}
		}
	})

	t.Run("refresh and sign-in", func(t *testing.T) {
		b.mustRefresh(t)
		if a := none.send(http.MethodGet, "/login", navigation); a.app == nil {
			t.Errorf("login page: %d", a.status)
		}
	})

	open := s.startEnvoy("envoy-verbatim", verbatim)
	for name, proxy := range map[string]*envoyrun.Proxy{"shipped": s.proxy, "verbatim": open} {
		t.Run("attacks on "+name, func(t *testing.T) {
			for _, target := range []string{
				"//admin", "///admin/x", "/admin/", "/admin//x", "/%61dmin", "/%2561dmin", "/adm%69n/users", "/admin;x", "/admin;x/users", "/;x/admin", "/ADMIN", "/Admin/x", "/admin%3bx",
				"/%2fadmin", "/%5cadmin", `/\admin`, `\admin`, "/admin%2fx", "/admin%5Cx", `/admin\x`, "/admin%3Fx", "/admin%23x", "/admin#x", "/admin%00", "/admin%0a",
				"/./admin", "/x/../admin", "/open/../admin", "/open/%2e%2e/admin", "/open/%2E./admin", "/open/.%2e/admin", "/open/%252e%252e/admin", "/open/..%2fadmin", "/open%2f..%2fadmin",
				`/open/..\admin`, "/open/..%5cadmin", "/open/..;/admin", "/open/..;x=1/admin", "/open/..%3b/admin", "/open/../admin//../open/x", "/open/a//../../admin", "/admin/../open", "/admin/../admin",
				"/%zz/../admin", "/%u0061dmin", "http://status.example.com/admin", "http://x/admin", "/health/../admin", "/open/%2e%2e%2fadmin", "/open/x/../../admin?/open",
			} {
				for _, client := range []*browser{none, b} {
					answer := s.sendRaw(t, proxy, target, client)
					if strings.HasPrefix(target, "http://status.example.com") {
						continue // an absolute target names the host, and that host is open
					}
					if answer.app == "" {
						if answer.status < 300 {
							t.Errorf("%s: %d", target, answer.status)
						}
						continue
					}
					if leadsToAdmin(answer.app) {
						t.Errorf("%s reaches the app as %q", target, answer.app)
					}
				}
			}
			// The one that a tidy Envoy makes harmless, and what is as it seems.
			for _, target := range []string{"/open/x", "/open//x", "/open/a%20b", "/open/A;b=c", "/administrator"} {
				if answer := s.sendRaw(t, proxy, target, b); answer.app == "" {
					t.Errorf("%s: %d", target, answer.status)
				}
			}
		})
	}

	t.Run("hosts", func(t *testing.T) {
		for _, h := range []string{"status.example.com..", "x@status.example.com", "status.example.com:x", "status.example.com,app", "status..example.com", "[::1"} {
			a := none.send(http.MethodGet, "/admin", script, func(r *http.Request) { r.Host = h })
			if a.app != nil {
				t.Errorf("host %q passes", h)
			}
		}
	})
}

// leadsToAdmin says whether an app of some framework would take a path for that of /admin: by any of decoding, cutting parameters, other
// slashes, merging them, resolving dots, and case.
func leadsToAdmin(target string) bool {
	target, _, _ = strings.Cut(target, "?")
	decoded := target
	for range 3 {
		if d, err := url.PathUnescape(decoded); err == nil {
			decoded = d
		}
	}
	decoded = strings.ReplaceAll(decoded, `\`, "/")
	segments := strings.Split(decoded, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	for _, reading := range []string{target, decoded, strings.Join(segments, "/")} {
		if strings.HasPrefix(strings.ToLower(path.Clean("/"+reading))+"/", "/admin/") {
			return true
		}
	}
	return false
}

// rawAnswer is a status and the target that the app got, if it did.
type rawAnswer struct {
	status int
	app    string
}

// sendRaw writes a request target as it stands, which no HTTP client would.
func (s *stack) sendRaw(t *testing.T, proxy *envoyrun.Proxy, target string, b *browser) rawAnswer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(proxy.URL("ingress"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	cookie := ""
	if jar := b.cookies("/"); jar != "" {
		cookie = "Cookie: " + jar + "\r\nAnti-Csrf: " + b.antiCSRF + "\r\n"
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n%sConnection: close\r\n\r\n", target, host, cookie); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return rawAnswer{response.StatusCode, response.Header.Get("X-Target")}
}
