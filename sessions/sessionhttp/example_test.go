package sessionhttp_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// A plain net/http server with sessions of its own, without Envoy: the sign-in
// gives the cookies, a middleware verifies them, and [sessionhttp.Public] serves
// refresh and sign-out.
func Example() {
	engine, stop := startEngine()
	cfg := sessionhttp.Defaults()
	cfg.Cookies.Secure = false // this example has no TLS; leave it on
	cfg.Log = slog.New(slog.DiscardHandler)

	signIn := func(w http.ResponseWriter, r *http.Request) {
		// Here the password was checked.
		issued, err := engine.Create(r.Context(), sessions.NewSession{UserID: "alice", Transport: sessions.TransportCookie})
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		for _, line := range cfg.Cookies.Set(r.Host, issued) {
			w.Header().Add("Set-Cookie", line)
		}
		for _, h := range browser.Headers(issued) {
			w.Header().Set(h.Name, h.Value)
		}
	}

	guarded := func(next func(http.ResponseWriter, *http.Request, *sessions.Access)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var tokens []string
			for _, line := range r.Header.Values("Cookie") {
				tokens = browser.AppendCookies(tokens, line, cfg.Cookies.Access())
			}
			access, denial := engine.Verify(sessions.TransportCookie, tokens)
			switch {
			case denial != nil && denial.Outcome == sessions.TryRefresh:
				http.Error(w, browser.PleaseRefresh, cfg.SessionExpiredStatus)
			case denial != nil && denial.Outcome == sessions.Unauthorised:
				http.Error(w, "sign in", http.StatusUnauthorized)
			case denial != nil:
				http.Error(w, "try again", http.StatusServiceUnavailable)
			case r.Method != http.MethodGet && !access.MatchesAntiCSRF(r.Header.Get("Anti-Csrf")):
				// Another site's form sends cookies, but cannot send this header.
				http.Error(w, browser.PleaseRefresh, cfg.SessionExpiredStatus)
			default:
				next(w, r, access)
			}
		}
	}

	browsers, err := sessionhttp.Public(engine, cfg)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", signIn)
	mux.Handle(cfg.Cookies.AuthPath+"/", browsers)
	mux.HandleFunc("/", guarded(func(w http.ResponseWriter, _ *http.Request, access *sessions.Access) {
		_, _ = fmt.Fprintf(w, "hello, %s", access.UserID)
	}))
	server := httptest.NewServer(mux)

	// What a browser does.
	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	for _, request := range []struct{ method, path string }{
		{http.MethodGet, "/"},
		{http.MethodPost, "/login"},
		{http.MethodGet, "/"},
		{http.MethodPost, "/"}, // without the anti-CSRF token
		{http.MethodPost, cfg.RefreshPath},
		{http.MethodGet, "/"},
		{http.MethodPost, cfg.SignoutPath},
		{http.MethodGet, "/"},
	} {
		r, err := http.NewRequestWithContext(context.Background(), request.method, server.URL+request.path, nil)
		if err != nil {
			log.Fatal(err)
		}
		response, err := browser.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		_ = response.Body.Close()
		fmt.Println(request.method, request.path, response.StatusCode)
	}
	server.Close()
	stop()

	// Output:
	// GET / 401
	// POST /login 200
	// GET / 200
	// POST / 440
	// POST /auth/session/refresh 200
	// GET / 200
	// POST /auth/signout 200
	// GET / 401
}

// startEngine is what main does; package postgres has a store that lasts.
func startEngine() (engine *sessions.Engine, stop func()) {
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
	if engine, err = sessions.New(memory.New(), cfg); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	<-ready
	return engine, func() {
		cancel()
		if err := <-done; err != nil {
			log.Print(err)
		}
	}
}
