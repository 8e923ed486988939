package main

import (
	"context"
	"embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// The CheckRequests are those of a real Envoy with the shipped envoy.yaml, byte for byte but for the
// Cookie header. `bench record` takes them again; a test holds the files against the Envoy of today.

// kind is one recorded request of a browser.
type kind struct {
	name, path string
	mapped     bool // headers as a map, all that came: what Envoy sends without encode_raw_headers and allowed_headers
	headers    [][2]string
}

var (
	// script is what a page's script sends to its API.
	script = kind{name: "script", path: "/api/orders?page=2", headers: append(slices.Clip(chromium), [][2]string{
		{"Accept", "application/json"},
		{"Content-Type", "application/json"},
		{"Referer", "http://shop.example.com/orders"},
		{"Sec-Fetch-Dest", "empty"},
		{"Sec-Fetch-Mode", "cors"},
		{"Sec-Fetch-Site", "same-origin"},
	}...)}
	// page is what the address bar sends.
	page = kind{name: "page", path: "/orders", headers: append(slices.Clip(chromium), [][2]string{
		{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
		{"Upgrade-Insecure-Requests", "1"},
		{"Sec-Fetch-Dest", "document"},
		{"Sec-Fetch-Mode", "navigate"},
		{"Sec-Fetch-Site", "none"},
		{"Sec-Fetch-User", "?1"},
	}...)}
	// mapped is the script's request in the other form.
	mapped = kind{name: "mapped", path: script.path, mapped: true, headers: script.headers}

	chromium = [][2]string{
		{"Accept-Encoding", "gzip, deflate, br, zstd"},
		{"Accept-Language", "en-GB,en;q=0.9"},
		{"Cache-Control", "no-cache"},
		{"Pragma", "no-cache"},
		{"Priority", "u=1, i"},
		{"Sec-Ch-Ua", `"Chromium";v="142", "Not_A Brand";v="99"`},
		{"Sec-Ch-Ua-Mobile", "?0"},
		{"Sec-Ch-Ua-Platform", `"Linux"`},
		{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"},
	}
)

//go:embed testdata/*.json
var recorded embed.FS

// withCookie is the message of k with this Cookie header; without one where it is empty.
func (k kind) withCookie(cookie string) ([]byte, error) {
	text, err := recorded.ReadFile("testdata/" + k.name + ".json")
	if err != nil {
		return nil, fmt.Errorf("reading the recorded request: %w", err)
	}
	var c authv3.CheckRequest
	if err := protojson.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("reading the recorded request %s: %w", k.name, err)
	}
	http := c.GetAttributes().GetRequest().GetHttp()
	if k.mapped {
		delete(http.GetHeaders(), "cookie")
		if cookie != "" {
			http.Headers["cookie"] = cookie
		}
	} else {
		headers := http.GetHeaderMap()
		for i, h := range headers.GetHeaders() {
			if h.GetKey() == "cookie" {
				h.RawValue = []byte(cookie)
				if cookie == "" {
					headers.Headers = slices.Delete(headers.GetHeaders(), i, i+1)
				}
				break
			}
		}
	}
	message, err := proto.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("writing the recorded request %s: %w", k.name, err)
	}
	return message, nil
}

// recorder is a Check server that keeps what it is asked.
type recorder struct {
	authv3.UnimplementedAuthorizationServer
	healthv1.UnimplementedHealthServer

	seen chan *authv3.CheckRequest
}

func (r *recorder) Check(_ context.Context, c *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	r.seen <- c
	return &authv3.CheckResponse{Status: &status.Status{}}, nil
}

// health is SERVING.
type health struct {
	healthv1.UnimplementedHealthServer
}

func (health) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

// record is what the real Envoy asks about k.
func record(ctx context.Context, k kind) (_ *authv3.CheckRequest, err error) {
	r := &recorder{seen: make(chan *authv3.CheckRequest, 8)}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, r)
	healthv1.RegisterHealthServer(server, health{})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	proxy, err := envoyrun.Start(ctx, envoyrun.Options{
		Listeners: map[string]string{"ingress": "127.0.0.1:0"},
		Clusters:  clusters(listener.Addr().String()),
		Edit: typed.Edit(func(b *bootstrapv3.Bootstrap) error {
			if !k.mapped {
				return nil
			}
			return typed.EditConnectionManager(b, "ingress", func(m *hcmv3.HttpConnectionManager) error {
				return editFilter(m, func(e *extauthzv3.ExtAuthz) { e.EncodeRawHeaders, e.AllowedHeaders = false, nil })
			})
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	defer func() { _ = proxy.Stop() }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, proxy.URL("ingress")+k.path, nil)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	request.Host = "shop.example.com"
	for _, h := range k.headers {
		request.Header.Set(h[0], h[1])
	}
	request.Header.Set("Cookie", "theme=dark")
	response, err := new(http.Transport).RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	_ = response.Body.Close()
	select {
	case c := <-r.seen:
		return c, nil
	default:
		return nil, fmt.Errorf("recording: Envoy answered %d and did not ask", response.StatusCode)
	}
}

// clusters are the addresses of the shipped clusters. Only the check is asked.
func clusters(authz string) map[string][]string {
	const none = "127.0.0.1:1" // a port at which nothing listens
	return map[string][]string{"sessiongate_authz": {authz}, "sessiongate_public": {none}, "app": {none}}
}

// editFilter changes the filter of the check.
func editFilter(m *hcmv3.HttpConnectionManager, edit func(*extauthzv3.ExtAuthz)) error {
	for _, filter := range m.GetHttpFilters() {
		if filter.GetName() != authzFilter {
			continue
		}
		var e extauthzv3.ExtAuthz
		if err := filter.GetTypedConfig().UnmarshalTo(&e); err != nil {
			return fmt.Errorf("reading the filter of the check: %w", err)
		}
		edit(&e)
		if err := filter.GetTypedConfig().MarshalFrom(&e); err != nil {
			return fmt.Errorf("writing the filter of the check: %w", err)
		}
	}
	return nil
}

const authzFilter = "envoy.filters.http.ext_authz"

// recordAll writes the files.
func recordAll(ctx context.Context, dir string) error {
	for _, k := range []kind{script, page, mapped} {
		c, err := record(ctx, k)
		if err != nil {
			return err
		}
		text, err := protojson.MarshalOptions{Multiline: true}.Marshal(c)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, k.name+".json"), append(text, '\n'), 0o644) //nolint:gosec // no secret
		}
		if err != nil {
			return fmt.Errorf("recording %s: %w", k.name, err)
		}
	}
	return nil
}
