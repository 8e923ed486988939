package authz_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log"
	"log/slog"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/memory"
)

// Envoy's external authorization, answered by an engine in the same program:
// [authz.NewGRPCServer] serves it. Here it is asked without a wire between.
func ExampleNew() {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	key, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(secret))
	if err != nil {
		log.Fatal(err)
	}
	ready := make(chan struct{})
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = key
	cfg.Observe = func(e sessions.Event) {
		if e.Kind == sessions.EventReady {
			close(ready)
		}
	}
	engine, err := sessions.New(memory.New(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	running := make(chan error, 1)
	go func() { running <- engine.Run(ctx) }()
	<-ready

	server, err := authz.New(engine, authz.Config{
		Cookies: browser.DefaultCookies(), LoginURL: "/login", RefreshPath: "/auth/session/refresh", SignoutPath: "/auth/signout",
		SessionExpiredStatus: 440, RefreshAttemptMax: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	issued, err := engine.Create(ctx, sessions.NewSession{UserID: "alice", Transport: sessions.TransportCookie})
	if err != nil {
		log.Fatal(err)
	}
	for _, cookie := range []string{"", "sAccessToken=" + issued.Access.Reveal()} {
		response, err := server.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Path: "/", Host: "app.example", Scheme: "https",
				Headers: map[string]string{"sec-fetch-mode": "navigate", "cookie": cookie},
			}},
		}})
		if err != nil {
			log.Fatal(err)
		}
		if response.GetStatus().GetCode() != int32(codes.OK) {
			fmt.Println("denied:", int(response.GetDeniedResponse().GetStatus().GetCode()))
			continue
		}
		for _, h := range response.GetOkResponse().GetHeaders() {
			if h.GetHeader().GetKey() == "x-session-user-id" {
				fmt.Println("allowed:", h.GetHeader().GetValue())
			}
		}
	}
	stop()
	if err := <-running; err != nil {
		log.Print(err)
	}

	// Output:
	// denied: 302
	// allowed: alice
}
