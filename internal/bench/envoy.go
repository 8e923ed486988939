package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// starts is how many Envoys of each kind take turns: from one start to the next, what a request costs
// differs by a tenth.
const starts = 3

// keepAlive is how many connections browsers have to Envoy, with one request under way on each.
const keepAlive = 32

// front is one Envoy and the server that it asks, which may be none.
type front struct {
	proxy   *envoyrun.Proxy
	server  *child
	request []byte
	conns   []*browserConn
	// asked is the server's own CPU of a request in each turn, in microseconds.
	asked []float64
}

// startFront runs the shipped configuration with one worker on the server's core. So that the check is
// what is measured, the access log and all filters but check and router are left out, and one route
// that Envoy itself answers takes the place of all. edit changes the filters.
func (b *bench) startFront(ctx context.Context, server *child, cookie string, edit func(*hcmv3.HttpConnectionManager) error) (*front, error) {
	authz := "127.0.0.1:1" // no one asks it
	if server != nil {
		authz = server.at.Authz
	}
	f := &front{server: server}
	var err error
	if f.proxy, err = envoyrun.Start(ctx, envoyrun.Options{
		Listeners: map[string]string{"ingress": "127.0.0.1:0"}, Clusters: clusters(authz),
		Edit: typed.Edit(func(bootstrap *bootstrapv3.Bootstrap) error {
			return typed.EditConnectionManager(bootstrap, "ingress", func(m *hcmv3.HttpConnectionManager) error {
				m.AccessLog = nil
				m.HttpFilters = slices.DeleteFunc(m.GetHttpFilters(), func(f *hcmv3.HttpFilter) bool {
					return f.GetName() != authzFilter && f.GetName() != "envoy.filters.http.router"
				})
				if err := onlyRoute(m); err != nil {
					return err
				}
				return edit(m)
			})
		}),
	}); err != nil {
		return nil, fmt.Errorf("starting Envoy: %w", err)
	}
	if err := pin(f.proxy.PID(), b.serverCore); err != nil {
		return nil, errors.Join(err, f.stop())
	}
	var request bytes.Buffer
	_, _ = fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: shop.example.com\r\n", script.path)
	for _, h := range script.headers {
		_, _ = fmt.Fprintf(&request, "%s: %s\r\n", h[0], h[1])
	}
	_, _ = fmt.Fprintf(&request, "Cookie: theme=dark; %s\r\n\r\n", cookie)
	f.request = request.Bytes()
	address := strings.TrimPrefix(f.proxy.URL("ingress"), "http://")
	for range keepAlive {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connecting to Envoy: %w", err), f.stop())
		}
		f.conns = append(f.conns, &browserConn{conn, bufio.NewReader(conn)})
	}
	return f, nil
}

func (f *front) stop() error {
	for _, c := range f.conns {
		_ = c.Close()
	}
	return f.proxy.Stop()
}

// onlyRoute is answered by Envoy. Its check has the policy of the shipped route /api/.
func onlyRoute(m *hcmv3.HttpConnectionManager) error {
	policy, err := anypb.New(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{
		CheckSettings: &extauthzv3.CheckSettings{ContextExtensions: map[string]string{"session": "required", "on_unauthorised": "auto"}},
	}})
	if err != nil {
		return fmt.Errorf("writing the policy of the route: %w", err)
	}
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name: "ingress",
		VirtualHosts: []*routev3.VirtualHost{{Name: "default", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
				Status: http.StatusOK, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "ok"}},
			}},
			TypedPerFilterConfig: map[string]*anypb.Any{authzFilter: policy},
		}}}},
	}}
	return nil
}

// withFilter puts another filter into the place of the check's; none where it is nil.
func withFilter(filter *hcmv3.HttpFilter) func(*hcmv3.HttpConnectionManager) error {
	return func(m *hcmv3.HttpConnectionManager) error {
		var filters []*hcmv3.HttpFilter
		for _, f := range m.GetHttpFilters() {
			if f.GetName() != authzFilter {
				filters = append(filters, f)
			} else if filter != nil {
				filters = append(filters, filter)
			}
		}
		m.HttpFilters = filters
		m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()[0].TypedPerFilterConfig = nil
		return nil
	}
}

// asShipped leaves the filters as they are.
func asShipped(*hcmv3.HttpConnectionManager) error { return nil }

// jwtFilter verifies the same tokens, with the same keys, from the same cookie.
func jwtFilter(jwks, cookie string, cache bool) (*hcmv3.HttpFilter, error) {
	provider := &jwtv3.JwtProvider{
		Issuer: "sessiongate", Forward: true, FromCookies: []string{cookie},
		JwksSourceSpecifier: &jwtv3.JwtProvider_LocalJwks{LocalJwks: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: jwks}}},
	}
	if cache {
		provider.JwtCacheConfig = &jwtv3.JwtCacheConfig{}
	}
	config, err := anypb.New(&jwtv3.JwtAuthentication{
		Providers: map[string]*jwtv3.JwtProvider{"sessiongate": provider},
		Rules: []*jwtv3.RequirementRule{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			RequirementType: &jwtv3.RequirementRule_Requires{Requires: &jwtv3.JwtRequirement{
				RequiresType: &jwtv3.JwtRequirement_ProviderName{ProviderName: "sessiongate"},
			}},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("writing the filter jwt_authn: %w", err)
	}
	return &hcmv3.HttpFilter{Name: "envoy.filters.http.jwt_authn", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}}, nil
}

// browserConn is a client of HTTP/1.1 that costs next to nothing: it sends the same bytes, and reads of an
// answer the status and the length.
type browserConn struct {
	net.Conn

	in *bufio.Reader
}

// exchange sends one request and reads its answer, which must be 200.
func (c *browserConn) exchange(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return fmt.Errorf("asking Envoy: %w", err)
	}
	length := 0
	for line := 0; ; line++ {
		text, err := c.in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("reading Envoy's answer: %w", err)
		}
		if line == 0 && !bytes.HasPrefix(text, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("Envoy answered %s", bytes.TrimSpace(text)) //nolint:staticcheck // Envoy is a name
		}
		if len(text) == len("\r\n") {
			break
		}
		if value, ok := bytes.CutPrefix(text, []byte("content-length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return fmt.Errorf("reading Envoy's answer: %w", err)
			}
		}
	}
	if _, err := c.in.Discard(length); err != nil {
		return fmt.Errorf("reading Envoy's answer: %w", err)
	}
	return nil
}

// cpu is that of Envoy and of the server that it asks together, and of the server alone.
func (f *front) cpu() (all, server time.Duration, err error) {
	all, err = cpuOf(f.proxy.PID())
	if err == nil && f.server != nil {
		server, err = cpuOf(f.server.PID())
	}
	return all + server, server, err
}

// play is one turn of a closed loop.
func (f *front) play(turn time.Duration) (measurement, error) {
	before, serverBefore, err := f.cpu()
	if err != nil {
		return measurement{}, err
	}
	began := time.Now()
	end := began.Add(turn)
	var answered atomic.Int64
	errs := make([]error, len(f.conns))
	var all sync.WaitGroup
	for i, c := range f.conns {
		all.Go(func() {
			errs[i] = c.SetDeadline(end.Add(patience))
			for errs[i] == nil && time.Now().Before(end) {
				if errs[i] = c.exchange(f.request); errs[i] == nil {
					answered.Add(1)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	after, serverAfter, err := f.cpu()
	f.asked = append(f.asked, measurement{requests: int(answered.Load()), cpu: serverAfter - serverBefore}.cpuEach())
	return measurement{requests: int(answered.Load()), took: took, cpu: after - before}, errors.Join(err, errors.Join(errs...))
}

const (
	noCheck      = "no check"
	jwtPlain     = "jwt_authn, ES256"
	allowThrough = "ext_authz: allow-all, plain grpc-go"
)

// envoyPart measures what a request through the real Envoy costs.
func envoyPart(ctx context.Context, b *bench) (results []result, err error) {
	var stops []func() error
	defer func() {
		for _, stop := range slices.Backward(stops) {
			err = errors.Join(err, stop())
		}
	}()
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	byTCP, err := b.startGate(ctx, url)
	if err != nil {
		return nil, err
	}
	stops = append(stops, byTCP.stop)
	bySocket, err := b.startGate(ctx, url, "SESSIONGATE_LISTEN_AUTHZ=unix:"+filepath.Join(b.dir, "authz.sock"))
	if err != nil {
		return nil, err
	}
	stops = append(stops, bySocket.stop)
	plain, err := b.startAllowAll(ctx, plainAllowAll)
	if err != nil {
		return nil, err
	}
	stops = append(stops, plain.stop)
	like, err := b.startAllowAll(ctx, likeAllowAll)
	if err != nil {
		return nil, err
	}
	stops = append(stops, like.stop)
	untold, err := b.startAllowAll(ctx, untoldAllow)
	if err != nil {
		return nil, err
	}
	stops = append(stops, untold.stop)
	session, err := byTCP.signIn(ctx)
	if err != nil {
		return nil, err
	}
	jwks, err := ask(ctx, http.MethodGet, "http://"+byTCP.at.Public+"/.well-known/jwks.json", "", nil)
	if err != nil {
		return nil, err
	}
	cookie, _, _ := strings.Cut(session.cookie, "=")
	uncached, err := jwtFilter(string(jwks), cookie, false)
	if err != nil {
		return nil, err
	}
	cached, err := jwtFilter(string(jwks), cookie, true)
	if err != nil {
		return nil, err
	}

	c := contest{
		title: "Through Envoy", unit: "requests", byCPU: true, against: []string{allowThrough, jwtPlain},
		why: "CPU of Envoy (one worker) and of the server that it asks, for a request with a valid token that was seen before. " +
			"Both have one core together. The filter of the check is that of `envoy.yaml`, and no other filter is there; Envoy answers by itself in place of a system behind it. " +
			"Aims of sessiongate: at most 0.9 of allow-all, and at most 0.85 of jwt_authn without its cache.",
	}
	fronts := map[string][]*front{}
	for _, f := range []struct {
		name   string
		server *child
		edit   func(*hcmv3.HttpConnectionManager) error
	}{
		{noCheck, nil, withFilter(nil)},
		{"jwt_authn, ES256, with its cache", nil, withFilter(cached)},
		{jwtPlain, nil, withFilter(uncached)},
		{allowThrough, plain, asShipped},
		{"ext_authz: sessiongate by TCP", byTCP.child, asShipped},
		{"ext_authz: sessiongate by unix socket", bySocket.child, asShipped},
		{"ext_authz: sessiongate's answer from a server that reads nothing", like, asShipped},
		{"ext_authz: the same answer without its metadata", untold, asShipped},
	} {
		for range starts {
			front, err := b.startFront(ctx, f.server, session.cookie, f.edit)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
			stops, fronts[f.name] = append(stops, front.stop), append(fronts[f.name], front)
		}
		c.contenders = append(c.contenders, contender{f.name, inTurn(fronts[f.name], b.turn)})
	}
	together, err := b.apart()
	if err != nil {
		return nil, err
	}
	stops = append(stops, together)
	r, err := c.run(ctx, b.rounds)
	if err != nil {
		return nil, err
	}
	r.head = append(r.head, "of the CPU, the server's, µs")
	for i, contender := range c.contenders {
		var asked []float64
		for _, f := range fronts[contender.name] {
			asked = append(asked, f.asked...)
		}
		r.rows[i] = append(r.rows[i], spreadOf(asked).text(1))
	}
	return []result{r}, nil
}
