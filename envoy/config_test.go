package envoy_test

// What envoy.yaml promises, asked of the real Envoy. The check is dead, or hostile: the tests with the real sessiongate are elsewhere.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
	"github.com/sessiongate/sessiongate/sessions"
)

// dead is an address that refuses connections: port 1 (tcpmux) has no server on a machine of today.
const dead = "127.0.0.1:1"

func binary(t *testing.T) string {
	t.Helper()
	path, err := envoyrun.Binary(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// nowhere runs Envoy with nothing behind it.
func nowhere() envoyrun.Options {
	return envoyrun.Options{
		Listeners: map[string]string{"ingress": "127.0.0.1:0"},
		Clusters:  map[string][]string{"sessiongate_authz": {dead}, "sessiongate_public": {dead}, "app": {dead}},
	}
}

func TestShippedFileIsValid(t *testing.T) {
	if err := envoyrun.Validate(t.Context(), binary(t), envoy.Shipped()); err != nil {
		t.Error(err)
	}
}

// patient gives the check and the auth path time: on a busy machine a second is no promise, and these tests are about something else.
func patient(bootstrap *bootstrapv3.Bootstrap) error {
	const patience = 20 * time.Second
	for _, cluster := range bootstrap.GetStaticResources().GetClusters() {
		cluster.ConnectTimeout = durationpb.New(patience)
	}
	err := typed.EditConnectionManager(bootstrap, "ingress", func(manager *hcmv3.HttpConnectionManager) error {
		for _, filter := range manager.GetHttpFilters() {
			check, packed := new(extauthzv3.ExtAuthz), filter.GetTypedConfig()
			if !packed.MessageIs(check) {
				continue
			}
			if err := packed.UnmarshalTo(check); err != nil {
				return err
			}
			check.GetGrpcService().Timeout = durationpb.New(patience)
			if err := packed.MarshalFrom(check); err != nil {
				return err
			}
			return authPathWithin(9 * time.Second)(manager) // less than D, for the doctor
		}
		return errors.New("there is no ext_authz filter")
	})
	return errors.Join(err, olderRetries(bootstrap))
}

// authPathWithin has Envoy wait so long for sessiongate's answers.
func authPathWithin(limit time.Duration) func(*hcmv3.HttpConnectionManager) error {
	return func(manager *hcmv3.HttpConnectionManager) error {
		for _, host := range manager.GetRouteConfig().GetVirtualHosts() {
			for _, r := range host.GetRoutes() {
				if r.GetRoute().GetCluster() == "sessiongate_public" {
					r.GetRoute().Timeout = durationpb.New(limit)
				}
			}
		}
		return nil
	}
}

// start runs Envoy until the test ends, with a patient check unless the options edit otherwise.
func start(t *testing.T, options envoyrun.Options) *envoyrun.Proxy {
	t.Helper()
	if options.Edit == nil {
		options.Edit = typed.Edit(patient)
	}
	proxy, err := envoyrun.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return proxy
}

// upstream is an app that answers with its name and the request headers as it saw them, and speaks CORS for everyone.
type upstream struct {
	name     string
	requests atomic.Int64
	address  string
}

func newUpstream(t *testing.T, name string) *upstream {
	t.Helper()
	u := &upstream{name: name}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.requests.Add(1)
		if r.Header.Get("Upgrade") == "websocket" {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		w.Header().Set("X-Upstream", name)
		w.Header().Set("X-Path", r.URL.Path)
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(server.Close)
	u.address = server.Listener.Addr().String()
	return u
}

type received struct {
	status   int
	body     string
	header   http.Header
	upstream string
	seen     http.Header // the request's headers at the upstream
}

// send writes the request target as it is: net/url would clean what some of these tests are about.
func send(t *testing.T, proxy *envoyrun.Proxy, method, target string, header http.Header) received {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(proxy.URL("ingress"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: app.localhost:10000\r\n", method, target)
	if header.Get("Connection") == "" {
		request.WriteString("Connection: close\r\n")
	}
	if err := header.Write(&request); err != nil {
		t.Fatal(err)
	}
	request.WriteString("\r\n")
	if _, err := connection.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var body []byte
	if response.StatusCode != http.StatusSwitchingProtocols { // what follows has no end
		if body, err = io.ReadAll(response.Body); err != nil {
			t.Fatal(err)
		}
	}
	result := received{status: response.StatusCode, body: string(body), header: response.Header, upstream: response.Header.Get("X-Upstream")}
	if result.upstream != "" && len(body) > 0 {
		if err := json.Unmarshal(body, &result.seen); err != nil {
			t.Fatal(err)
		}
	}
	return result
}

// withoutCheck runs Envoy with an app and a public listener, but no sessiongate to ask.
func withoutCheck(t *testing.T) (proxy *envoyrun.Proxy, app, public *upstream) {
	t.Helper()
	app, public = newUpstream(t, "app"), newUpstream(t, "public")
	options := nowhere()
	options.Clusters["app"], options.Clusters["sessiongate_public"] = []string{app.address}, []string{public.address}
	return start(t, options), app, public
}

func TestDeadCheckLetsNothingThrough(t *testing.T) {
	proxy, app, public := withoutCheck(t)
	for _, target := range []string{
		"/", "/api/things", "/api", "/optional", "/optional/page", "/no/route/names/this",
		"/authors", "/login/", "/login/x", "/LOGIN", "/static", "/optionally", "/.well-known/jwks.json/x",
		"/static/../api/things", "/static/%2e%2e/api/things", "/auth/../api/things", "/login/../", "//api/things",
		`/static/..\api/things`,
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS", "TRACE"} {
			got := send(t, proxy, method, target, nil)
			if method == "TRACE" && got.status == http.StatusNotImplemented {
				continue
			}
			if got.status != http.StatusServiceUnavailable {
				t.Errorf("%s %s: %d, want 503", method, target, got.status)
			}
			if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Retry-After") == "" {
				t.Errorf("%s %s: headers %v, want no-store and Retry-After", method, target, got.header)
			}
		}
	}
	if n := app.requests.Load() + public.requests.Load(); n != 0 {
		t.Errorf("%d requests arrived unchecked", n)
	}
}

func TestRoutesWithoutCheck(t *testing.T) {
	proxy, _, _ := withoutCheck(t)
	for target, want := range map[string]string{
		"/login": "app", "/login?return_to=/x": "app", "/static/site.css": "app", "//static//a": "app", "/static//..//api/things": "app", "/api/../login": "app",
		"/auth": "public", "/auth/": "public", "/auth/session/refresh": "public", "/auth/unknown": "public", "/auth?x": "public",
		"/.well-known/jwks.json": "public",
	} {
		got := send(t, proxy, "GET", target, nil)
		if got.status != http.StatusOK || got.upstream != want {
			t.Errorf("%s: %d from %q, want 200 from %q", target, got.status, got.upstream, want)
		}
		for name := range got.header {
			if strings.HasPrefix(name, "X-Envoy") {
				t.Errorf("%s: the client sees %s", target, name)
			}
		}
		// The app must read the path as Envoy did when it chose the route.
		if path := got.header.Get("X-Path"); want == "app" && path != "/login" && (!strings.HasPrefix(path, "/static/") || strings.Contains(path, "..")) {
			t.Errorf("%s: the app reads %q", target, path)
		}
	}
}

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	proxy, app, _ := withoutCheck(t)
	for name, test := range map[string]struct {
		target string
		header http.Header
	}{
		"escaped slash":            {"/static/..%2Fapi/things", nil},
		"escaped slash, lowercase": {"/static/..%2fapi/things", nil},
		"escaped backslash":        {"/static/..%5Capi/things", nil},
		"underscores":              {"/login", http.Header{"x_session_user_id": {"admin"}}},
		"two lengths":              {"/login", http.Header{"Content-Length": {"0"}, "Transfer-Encoding": {"chunked"}}},
	} {
		if got := send(t, proxy, "GET", test.target, test.header); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", name, got.status)
		}
	}
	if n := app.requests.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestClientsCannotClaimAnIdentity(t *testing.T) {
	proxy, _, _ := withoutCheck(t)
	claims := http.Header{
		"X-Session-User-Id": {"admin", "root"}, "x-session-handle": {"h"}, "X-SESSION-CLAIMS": {"e30"}, "x-sessiongate-peer": {"10.0.0.1"},
		"x-envoy-retry-on": {"5xx"}, "x-envoy-max-retries": {"9"}, "x-envoy-upstream-rq-timeout-ms": {"1"}, "x-envoy-original-path": {"/"},
		"x-forwarded-for": {"10.0.0.1"},
	}
	internal := maps.Clone(claims) // without it Envoy may take the request for one of its own network's, and believe x-envoy-*
	delete(internal, "x-forwarded-for")
	for _, test := range []struct {
		target string
		claims http.Header
	}{
		{"/login", claims},
		{"/static/x", claims},
		{"/auth/session/refresh", claims},
		{"/login", internal},
		{"/auth/session/refresh", internal},
	} {
		target := test.target
		got := send(t, proxy, "POST", target, test.claims)
		if got.status != http.StatusOK {
			t.Fatalf("%s: %d", target, got.status)
		}
		for name := range claims {
			name = http.CanonicalHeaderKey(name)
			var want []string
			switch {
			case name == "X-Sessiongate-Peer" && got.upstream == "public":
				want = []string{"127.0.0.1"}
			case name == "X-Forwarded-For":
				continue
			}
			if !slices.Equal(got.seen[name], want) {
				t.Errorf("%s: the upstream sees %s %q, want %q", target, name, got.seen[name], want)
			}
		}
	}
}

func TestOnlyEnvoySpeaksCORS(t *testing.T) {
	const ours, foreign = "http://app.localhost:10000", "https://evil.example"
	proxy, app, _ := withoutCheck(t)
	from := func(origin string) http.Header { return http.Header{"Origin": {origin}} }
	preflight := func(origin string) http.Header {
		return http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"anti-csrf"}}
	}
	for _, test := range []struct {
		name, method, target string
		header               http.Header
		status               int
		origin               string
	}{
		{"our frontend", "GET", "/login", from(ours), 200, ours},
		{"our frontend, auth path", "POST", "/auth/session/refresh", from(ours), 200, ours},
		{"our frontend, denied", "GET", "/api/x", from(ours), 503, ours},
		{"foreign", "GET", "/login", from(foreign), 200, ""},
		{"foreign, auth path", "POST", "/auth/session/refresh", from(foreign), 200, ""},
		{"foreign, null", "GET", "/login", from("null"), 200, ""},
		{"preflight", "OPTIONS", "/api/x", preflight(ours), 200, ours},
		{"foreign preflight", "OPTIONS", "/login", preflight(foreign), 200, ""},
	} {
		before := app.requests.Load()
		got := send(t, proxy, test.method, test.target, test.header)
		if got.status != test.status {
			t.Errorf("%s: %d, want %d", test.name, got.status, test.status)
		}
		if origins := got.header.Values("Access-Control-Allow-Origin"); strings.Join(origins, ",") != test.origin {
			t.Errorf("%s: allow-origin %q, want %q", test.name, origins, test.origin)
		}
		if credentials := got.header.Values("Access-Control-Allow-Credentials"); test.origin != "" && strings.Join(credentials, ",") != "true" {
			t.Errorf("%s: allow-credentials %q, want \"true\"", test.name, credentials)
		}
		if test.method == "OPTIONS" && app.requests.Load() != before {
			t.Errorf("%s: it arrived at the app", test.name)
		}
		if test.origin == "" {
			continue
		}
		name, words := "Access-Control-Expose-Headers", "front-token anti-csrf id-refresh-token st-access-token st-refresh-token x-sessiongate-denial retry-after"
		if test.method == "OPTIONS" {
			name, words = "Access-Control-Allow-Headers", "content-type anti-csrf rid fdi-version st-auth-mode authorization supertokens-sdk-name supertokens-sdk-version"
		}
		for word := range strings.FieldsSeq(words) {
			if !strings.Contains(got.header.Get(name), word) {
				t.Errorf("%s: %s is %q, without %s", test.name, name, got.header.Get(name), word)
			}
		}
	}
}

// fakeCheck answers as a test tells it to, and keeps what it was asked.
type fakeCheck struct {
	authv3.UnimplementedAuthorizationServer

	mu     sync.Mutex
	answer *authv3.CheckResponse
	asked  *authv3.CheckRequest
	hangs  bool
}

func (c *fakeCheck) Check(ctx context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = request
	if c.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.answer, nil
}

// lastAsked returns the attributes of the latest request.
func (c *fakeCheck) lastAsked() *authv3.AttributeContext {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked.GetAttributes()
}

func (c *fakeCheck) say(answer *authv3.CheckResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

// newCheck serves on a unix socket and returns its endpoint.
func newCheck(t *testing.T) (*fakeCheck, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c, server := new(fakeCheck), grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, c)
	healthv1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c, "unix:" + path
}

func setting(pairs ...string) *authv3.CheckResponse {
	ok := new(authv3.OkHttpResponse)
	for pair := range slices.Chunk(pairs, 2) {
		ok.Headers = append(ok.Headers, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: pair[0], Value: pair[1]},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
}

func removing(names ...string) *authv3.CheckResponse {
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{HeadersToRemove: names}}}
}

// TestCheckMayOnlyChangeOurHeaders takes the check over: what it may do to a request is bounded.
func TestCheckMayOnlyChangeOurHeaders(t *testing.T) {
	app := newUpstream(t, "app")
	check, endpoint := newCheck(t)
	options := nowhere()
	options.Clusters["app"], options.Clusters["sessiongate_authz"] = []string{app.address}, []string{endpoint}
	proxy := start(t, options)

	sent := http.Header{"Cookie": {"a=1", "b=2"}, "Authorization": {"Bearer t"}, "X-Tenant": {"mine"}, "X-Session-User-Id": {"forged"}}
	for name, test := range map[string]struct {
		answer *authv3.CheckResponse
		status int
		want   map[string][]string
	}{
		"identity": {
			setting("x-session-user-id", "u1", "x-session-handle", "h1", "x-session-claims", "e30"), 200,
			map[string][]string{"X-Session-User-Id": {"u1"}, "X-Session-Handle": {"h1"}, "X-Session-Claims": {"e30"}},
		},
		"cookies replaced":   {setting("cookie", "a=1"), 200, map[string][]string{"Cookie": {"a=1"}}},
		"cookies removed":    {removing("cookie", "authorization"), 200, map[string][]string{"Cookie": nil, "Authorization": nil}},
		"nothing":            {removing(), 200, map[string][]string{"X-Session-User-Id": nil, "X-Tenant": {"mine"}}},
		"another header":     {setting("x-tenant", "yours"), 500, nil},
		"lookalike":          {setting("x-session-user-id2", "u"), 500, nil},
		"another removed":    {removing("x-tenant"), 500, nil},
		"path":               {setting(":path", "/admin"), 500, nil},
		"host":               {setting("host", "other"), 500, nil},
		"split header":       {setting("x-session-user-id", "u\r\nx-tenant: yours"), 500, nil},
		"peer of refreshing": {setting("x-sessiongate-peer", "10.0.0.1"), 500, nil},
	} {
		check.say(test.answer)
		before := app.requests.Load()
		got := send(t, proxy, "GET", "/api/x", sent)
		if got.status != test.status {
			t.Errorf("%s: %d, want %d", name, got.status, test.status)
		}
		if got.status != http.StatusOK && app.requests.Load() != before {
			t.Errorf("%s: it arrived at the app", name)
		}
		for header, want := range test.want {
			if !slices.Equal(got.seen[header], want) {
				t.Errorf("%s: the app sees %s %q, want %q", name, header, got.seen[header], want)
			}
		}
	}
}

// breaking is a replica that takes what it is asked, and is killed before it answers.
func breaking(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	all.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				// The connection's preface and settings are 76 bytes, and 453 with one check. A replica that waited for more than
				// that would hang, and not break off.
				_, _ = io.CopyN(io.Discard, connection, 256)
				_ = connection.Close() // a reset: there is more to read
			})
		}
	})
	return listener.Addr().String()
}

// TestGoneReplicaDeniesNoRequest: until a health check finds out, another replica is asked instead, for a burst of requests as well.
func TestGoneReplicaDeniesNoRequest(t *testing.T) {
	for name, gone := range map[string]string{"refuses": dead, "breaks off": breaking(t)} {
		t.Run(name, func(t *testing.T) { burstBeside(t, gone) })
	}
}

// burstBeside asks at once, with one replica that answers and one that is gone.
func burstBeside(t *testing.T, gone string) {
	t.Helper()
	const burst = 300
	app := newUpstream(t, "app")
	check, endpoint := newCheck(t)
	check.say(removing())
	options := nowhere()
	options.Clusters["app"], options.Clusters["sessiongate_authz"] = []string{app.address}, []string{endpoint, gone}
	options.Edit = typed.Edit(func(bootstrap *bootstrapv3.Bootstrap) error {
		for _, cluster := range bootstrap.GetStaticResources().GetClusters() {
			cluster.HealthChecks = nil
		}
		return patient(bootstrap)
	})
	proxy := start(t, options)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: burst}}
	t.Cleanup(client.CloseIdleConnections)
	var clients sync.WaitGroup
	for range burst {
		clients.Go(func() {
			for range 5 {
				response, err := client.Get(proxy.URL("ingress") + "/x")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("%d, want 200", response.StatusCode)
					return
				}
			}
		})
	}
	clients.Wait()
}

// TestHangingCheckIsAnOutage fails by never ending where the check has no deadline.
func TestHangingCheckIsAnOutage(t *testing.T) {
	check, endpoint := newCheck(t)
	check.hangs = true
	options := nowhere()
	options.Clusters["sessiongate_authz"] = []string{endpoint}
	options.Edit = typed.Edit(olderRetries) // the shipped deadline
	if got := send(t, start(t, options), "GET", "/x", nil); got.status != http.StatusServiceUnavailable {
		t.Errorf("%d, want 503", got.status)
	}
}

func TestDenialsArriveAsTheCheckWroteThem(t *testing.T) {
	check, endpoint := newCheck(t)
	options := nowhere()
	options.Clusters["sessiongate_authz"] = []string{endpoint}
	proxy := start(t, options)
	for _, status := range []int32{440, 503, 401, 302, 403} {
		denied := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(status)}, Body: "why"}
		for key, value := range map[string]string{"cache-control": "no-store, private", "retry-after": "7", "location": "/login"} {
			denied.Headers = append(denied.Headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: key, Value: value}})
		}
		check.say(&authv3.CheckResponse{
			Status:       &statuspb.Status{Code: int32(codes.PermissionDenied)},
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
		})
		got := send(t, proxy, "GET", "/x", nil)
		if got.status != int(status) || got.body != "why" {
			t.Errorf("%d %q, want %d %q", got.status, got.body, status, "why")
		}
		for name, want := range map[string]string{"Cache-Control": "no-store, private", "Retry-After": "7", "Location": "/login"} {
			if values := got.header[name]; !slices.Equal(values, []string{want}) {
				t.Errorf("%d: %s is %q, want %q", status, name, values, want)
			}
		}
		for name := range got.header {
			if strings.HasPrefix(name, "X-Envoy") || name == "Server" {
				t.Errorf("%d: %s tells about the inside", status, name)
			}
		}
	}
}

// TestWebSocketsAreCheckedAtTheUpgrade: they open on guarded routes only, where the check sees that they are upgrades.
func TestWebSocketsAreCheckedAtTheUpgrade(t *testing.T) {
	check, endpoint := newCheck(t)
	app := newUpstream(t, "app")
	options := nowhere()
	options.Clusters["app"], options.Clusters["sessiongate_authz"] = []string{app.address}, []string{endpoint}
	proxy := start(t, options)
	upgrade := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Version": {"13"}}

	check.say(&authv3.CheckResponse{Status: &statuspb.Status{Code: int32(codes.PermissionDenied)}})
	if got := send(t, proxy, "GET", "/api/socket", upgrade); got.status != http.StatusForbidden {
		t.Errorf("denied upgrade: %d, want 403", got.status)
	}
	if !slices.ContainsFunc(check.lastAsked().GetRequest().GetHttp().GetHeaderMap().GetHeaders(), func(h *corev3.HeaderValue) bool {
		return h.GetKey() == "upgrade" && string(h.GetRawValue()) == "websocket"
	}) {
		t.Error("the check does not see the upgrade")
	}
	if n := app.requests.Load(); n != 0 {
		t.Errorf("%d denied upgrades arrived", n)
	}
	check.say(removing())
	for target, want := range map[string]int{
		"/api/socket": http.StatusSwitchingProtocols, "/socket": http.StatusSwitchingProtocols,
		"/static/socket": http.StatusForbidden, "/login": http.StatusForbidden, "/auth/socket": http.StatusForbidden,
	} {
		if got := send(t, proxy, "GET", target, upgrade); got.status != want {
			t.Errorf("%s: %d, want %d", target, got.status, want)
		}
	}
}

func TestDenialsCannotSmuggleHeaders(t *testing.T) {
	check, endpoint := newCheck(t)
	options := nowhere()
	options.Clusters["sessiongate_authz"] = []string{endpoint}
	proxy := start(t, options)
	check.say(&authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode_Found},
			Headers: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "location", Value: "/x\r\nset-cookie: a=b"}}},
		}},
	})
	if got := send(t, proxy, "GET", "/x", nil); got.status != http.StatusInternalServerError || got.header.Get("Location") != "" {
		t.Errorf("%d %v, want 500 without a Location", got.status, got.header)
	}
}

func TestCheckIsAskedWithWhatItReads(t *testing.T) {
	check, endpoint := newCheck(t)
	app := newUpstream(t, "app")
	options := nowhere()
	options.Clusters["app"], options.Clusters["sessiongate_authz"] = []string{app.address}, []string{endpoint}
	proxy := start(t, options)
	check.say(removing())

	for target, want := range map[string]map[string]string{
		"/api/x":      {"session": "required", "on_unauthorised": "auto"},
		"/optional/x": {"session": "optional"},
		"/x":          {"session": "required"},
	} {
		got := send(t, proxy, "GET", target, http.Header{
			"Cookie": {"a=1", "b=2"}, "Sec-Fetch-Mode": {"cors"}, "Sec-Purpose": {"prefetch"}, "Referer": {"http://app.localhost:10000/"}, "X-Tenant": {"mine"},
		})
		if got.status != http.StatusOK {
			t.Fatalf("%s: %d", target, got.status)
		}
		attributes := check.lastAsked()
		if fmt.Sprint(attributes.GetContextExtensions()) != fmt.Sprint(want) {
			t.Errorf("%s: policy %v, want %v", target, attributes.GetContextExtensions(), want)
		}
		var lines []string
		for _, header := range attributes.GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
			if !strings.HasPrefix(header.GetKey(), ":") && header.GetKey() != "x-request-id" {
				lines = append(lines, header.GetKey()+": "+string(header.GetRawValue()))
			}
		}
		slices.Sort(lines)
		if want := []string{
			"cookie: a=1", "cookie: b=2", "referer: http://app.localhost:10000/", "sec-fetch-mode: cors", "sec-purpose: prefetch", "x-forwarded-proto: http",
		}; !slices.Equal(lines, want) {
			t.Errorf("%s: headers %q, want %q", target, lines, want)
		}
	}
}

func TestAccessLogNamesTheUserAndNoSecret(t *testing.T) {
	check, endpoint := newCheck(t)
	app := newUpstream(t, "app")
	lines, log := io.Pipe()
	defer func() { _ = lines.Close() }()
	options := nowhere()
	options.Clusters["app"], options.Clusters["sessiongate_authz"], options.Log = []string{app.address}, []string{endpoint}, log
	proxy := start(t, options)
	answer := removing()
	var err error
	if answer.DynamicMetadata, err = structpb.NewStruct(map[string]any{"user_id": "u1", "handle": "h1"}); err != nil {
		t.Fatal(err)
	}
	check.say(answer)
	send(t, proxy, "GET", "/api/x?token=secret-1", http.Header{
		"Cookie": {"sAccessToken=secret-2"}, "Authorization": {"Bearer secret-3"}, "Anti-Csrf": {"secret-4"}, "Referer": {"http://x/?secret-5"},
	})
	reader := bufio.NewReader(lines)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(line, "{") {
			continue
		}
		if strings.Contains(line, "secret") {
			t.Errorf("a secret is in %s", line)
		}
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{"user_id": "u1", "session_handle": "h1", "path": "/api/x", "status": 200.0, "route": "api"} {
			if entry[key] != want {
				t.Errorf("%s is %v, want %v", key, entry[key], want)
			}
		}
		if latency, err := strconv.Atoi(fmt.Sprint(entry["check_latency_us"])); err != nil || latency <= 0 {
			t.Errorf("no latency of the check in %s", line)
		}
		return
	}
}

// shippedParts are the connection manager of the shipped file and its clusters, by name.
func shippedParts(t *testing.T) (*hcmv3.HttpConnectionManager, map[string]*clusterv3.Cluster) {
	t.Helper()
	bootstrap, err := typed.Parse(envoy.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	clusters := map[string]*clusterv3.Cluster{}
	for _, cluster := range bootstrap.GetStaticResources().GetClusters() {
		clusters[cluster.GetName()] = cluster
	}
	manager := new(hcmv3.HttpConnectionManager)
	if err := typed.EditConnectionManager(bootstrap, "ingress", func(m *hcmv3.HttpConnectionManager) error {
		manager = m
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return manager, clusters
}

// TestOpenRoutes names the routes without a check, so that no other becomes one unseen.
func TestOpenRoutes(t *testing.T) {
	t.Parallel()
	manager, _ := shippedParts(t)
	var open []string
	for _, host := range manager.GetRouteConfig().GetVirtualHosts() {
		if host.GetTypedPerFilterConfig()["envoy.filters.http.ext_authz"] != nil {
			t.Errorf("the virtual host %s says something of the check, for every route", host.GetName())
		}
		for _, route := range host.GetRoutes() {
			packed := route.GetTypedPerFilterConfig()["envoy.filters.http.ext_authz"]
			off, policy := new(routev3.FilterConfig), new(extauthzv3.ExtAuthzPerRoute)
			var err error
			switch {
			case packed.MessageIs(off):
				if err = packed.UnmarshalTo(off); off.GetDisabled() {
					open = append(open, route.GetName())
				}
			case packed.MessageIs(policy):
				if err = packed.UnmarshalTo(policy); policy.GetDisabled() {
					t.Errorf("the route %s builds the check and skips it: FilterConfig costs nothing", route.GetName())
				}
			default:
				t.Errorf("the route %s says nothing of the check that this test understands: %v", route.GetName(), packed)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	if want := []string{"auth", "jwks", "login", "static"}; !slices.Equal(open, want) {
		t.Errorf("without a check are %q, want %q", open, want)
	}
}

// TestCheckHasTime holds the times of the check against each other: where they do not fit, a busy machine gets 503s that no one repeats.
func TestCheckHasTime(t *testing.T) {
	t.Parallel()
	manager, clusters := shippedParts(t)
	check := new(extauthzv3.ExtAuthz)
	for _, filter := range manager.GetHttpFilters() {
		if filter.GetTypedConfig().MessageIs(check) {
			if err := filter.GetTypedConfig().UnmarshalTo(check); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole := check.GetGrpcService().GetTimeout().AsDuration()
	if whole != time.Second {
		t.Errorf("a check has %s, want 1s", whole)
	}
	if check.GetGrpcService().GetRetryPolicy() != nil {
		t.Error("the filter has a policy for tries: it costs CPU there, and its longest pause is the timeout of each try, too")
	}
	protocol := new(upstreamhttpv3.HttpProtocolOptions)
	if err := clusters["sessiongate_authz"].GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].UnmarshalTo(protocol); err != nil {
		t.Fatal(err)
	}
	retry := protocol.GetRetryPolicy()
	if retry.GetNumRetries().GetValue() == 0 {
		t.Fatal("a check is tried once")
	}
	if retry.GetPerTryTimeout() != nil || retry.GetPerTryIdleTimeout() != nil {
		t.Error("a try is cut before the check")
	}
	connect, pause := clusters["sessiongate_authz"].GetConnectTimeout().AsDuration(), retry.GetRetryBackOff().GetBaseInterval().AsDuration()
	longest := connect
	for range retry.GetNumRetries().GetValue() {
		pause *= 2 // at most 2ⁿ - 1 times the base
		longest += pause + connect
	}
	if longest >= whole {
		t.Errorf("the tries to connect, %s each, may take %s: the check has %s", connect, longest, whole)
	}
	for name, cluster := range clusters { // such a policy takes the place of the route's, and a refresh must not come twice
		other := new(upstreamhttpv3.HttpProtocolOptions)
		if options := cluster.GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]; options != nil {
			if err := options.UnmarshalTo(other); err != nil {
				t.Fatal(err)
			}
		}
		if name != "sessiongate_authz" && other.GetRetryPolicy() != nil {
			t.Errorf("the cluster %s has a policy for tries", name)
		}
	}
}

// TestAuthPathHasTime: sessiongate answers before Envoy gives up, so that it is sessiongate that says when to come back.
func TestAuthPathHasTime(t *testing.T) {
	t.Parallel()
	manager, _ := shippedParts(t)
	ours, n := sessions.AnswerWithin(sessions.Defaults().RefreshAttemptMax), 0
	for _, r := range manager.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		if r.GetName() != "auth" {
			continue
		}
		n++
		if limit := r.GetRoute().GetTimeout().AsDuration(); ours >= limit {
			t.Errorf("sessiongate answers within %s, and Envoy waits for %s", ours, limit)
		}
	}
	if n != 1 {
		t.Errorf("%d auth routes", n)
	}
}

// TestIdleConnectionsOfTheApp: Envoy closes them before a server of Node would, whose keep-alive is 5 s.
func TestIdleConnectionsOfTheApp(t *testing.T) {
	t.Parallel()
	const ofNode = 5 * time.Second
	_, clusters := shippedParts(t)
	protocol := new(upstreamhttpv3.HttpProtocolOptions)
	if err := clusters["app"].GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].UnmarshalTo(protocol); err != nil {
		t.Fatal(err)
	}
	if idle := protocol.GetCommonHttpProtocolOptions().GetIdleTimeout().AsDuration(); idle <= 0 || idle >= ofNode {
		t.Fatalf("Envoy keeps idle connections for %s", idle)
	}

	closed := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed { // by Envoy: the server itself has no limit
			close(closed)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	options := nowhere()
	options.Clusters["app"] = []string{server.Listener.Addr().String()}
	if got := send(t, start(t, options), "GET", "/login", nil); got.status != http.StatusOK {
		t.Fatalf("%d", got.status)
	}
	<-closed
}
