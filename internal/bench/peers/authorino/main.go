// Command authorino runs Authorino's authorization server as `make bench-peers` needs it: one
// AuthConfig for every host, and no Kubernetes.
//
// It does what Authorino's own main does with an AuthConfig that has one JWT identity, read from a
// cookie, and one response, the user's id in a header. Its request log is off, though Authorino writes
// two lines for each check by default.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	envoy_auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	grpc_prometheus "github.com/grpc-ecosystem/go-grpc-prometheus"
	"github.com/kuadrant/authorino/pkg/auth"
	"github.com/kuadrant/authorino/pkg/evaluators"
	"github.com/kuadrant/authorino/pkg/evaluators/identity"
	"github.com/kuadrant/authorino/pkg/evaluators/response"
	"github.com/kuadrant/authorino/pkg/index"
	authjson "github.com/kuadrant/authorino/pkg/json"
	"github.com/kuadrant/authorino/pkg/jsonexp"
	"github.com/kuadrant/authorino/pkg/log"
	"github.com/kuadrant/authorino/pkg/service"
	otel_grpc "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "authorino:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	addresses := flag.String("addresses", "", "file that gets the address, as JSON")
	jwks := flag.String("jwks", "", "file with the public keys, as a JWKS")
	cookie := flag.String("cookie", "", "name of the cookie with the token")
	header := flag.String("header", "", "name of the header that gets the token's subject")
	cached := flag.Bool("cached", false, "let Authorino cache a verified identity, for a minute")
	flag.Parse()

	options := log.Options{Level: log.ToLogLevel("error"), Mode: log.ToLogMode("production")}
	log.SetLogger(log.NewLogger(options), options)

	issuer, err := serveKeys(ctx, *jwks)
	if err != nil {
		return err
	}
	evaluators.EvaluatorCacheSize = 1 // MB, Authorino's default
	configs := index.NewIndex()
	if err := configs.Set("bench/all", "*", authConfig(ctx, issuer, *cookie, *header, *cached), false); err != nil {
		return fmt.Errorf("setting the AuthConfig: %w", err)
	}

	// The server's options are those of Authorino's main.
	server := grpc.NewServer(
		grpc.MaxConcurrentStreams(10000),
		grpc.ChainStreamInterceptor(grpc_prometheus.StreamServerInterceptor, otel_grpc.StreamServerInterceptor()),
		grpc.ChainUnaryInterceptor(grpc_prometheus.UnaryServerInterceptor, otel_grpc.UnaryServerInterceptor()),
	)
	envoy_auth.RegisterAuthorizationServer(server, &service.AuthService{Index: configs})
	grpc_prometheus.Register(server)
	grpc_prometheus.EnableHandlingTimeHistogram()

	listener, err := listen(ctx)
	if err != nil {
		return err
	}
	if err := tell(*addresses, listener.Addr()); err != nil {
		return err
	}
	context.AfterFunc(ctx, server.Stop)
	if err := server.Serve(listener); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// authConfig is what Authorino's reconciler makes of such an AuthConfig.
func authConfig(ctx context.Context, issuer, cookie, header string, cached bool) evaluators.AuthConfig {
	always := jsonexp.All()
	user := &evaluators.IdentityConfig{
		Name: "user", Conditions: always,
		OIDC: identity.NewOIDC(issuer, auth.NewAuthCredential(cookie, "cookie"), 0, ctx),
	}
	if cached {
		user.Cache = evaluators.NewEvaluatorCache(authjson.JSONValue{Pattern: "context.request.http.headers.cookie"}, 60)
	}
	id := evaluators.NewResponseConfig(header, 0, always, evaluators.HTTP_HEADER_WRAPPER, header, false)
	id.Plain = &response.Plain{JSONValue: authjson.JSONValue{Pattern: "auth.identity.sub"}}
	return evaluators.AuthConfig{
		Conditions:      always,
		IdentityConfigs: []auth.AuthConfigEvaluator{user},
		ResponseConfigs: []auth.AuthConfigEvaluator{id},
	}
}

// serveKeys is the OpenID Connect discovery that Authorino asks for the keys. It returns the issuer.
func serveKeys(ctx context.Context, file string) (issuer string, err error) {
	keys, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the keys: %w", err)
	}
	listener, err := listen(ctx)
	if err != nil {
		return "", err
	}
	issuer = "http://" + listener.Addr().String()
	discovery, err := json.Marshal(map[string]any{
		"issuer":                                issuer,
		"jwks_uri":                              issuer + "/keys",
		"authorization_endpoint":                issuer + "/none",
		"token_endpoint":                        issuer + "/none",
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
	if err != nil {
		return "", fmt.Errorf("writing the discovery: %w", err)
	}
	pages := http.NewServeMux()
	answer := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "max-age=86400") // the keys stay: no turn shall fetch them
			_, _ = w.Write(body)
		}
	}
	pages.Handle("/.well-known/openid-configuration", answer(discovery))
	pages.Handle("/keys", answer(keys))
	server := &http.Server{Handler: pages, ReadHeaderTimeout: time.Minute}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			_, _ = fmt.Fprintln(os.Stderr, "authorino: serving the keys:", err)
		}
	}()
	return issuer, nil
}

func listen(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

// tell writes the address for the benchmark. It comes into being whole.
func tell(file string, at net.Addr) error {
	text, err := json.Marshal(map[string]string{"authz": at.String()})
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("telling the address: %w", err)
	}
	return nil
}
