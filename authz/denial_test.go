package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Each denial, by its code: the client's answer and header, the log line, what is counted and what Envoy is told.
func TestEachDenial(t *testing.T) {
	table := []Route{{Path: "/admin", Policy: map[string]string{"session": "required"}}, {Host: "app.example", Path: "/host", Policy: map[string]string{}}}
	// These denials need a request of their own. A Verifier gives the others.
	requests := map[string]func(*gate) ask{
		"legacy_cookie":  func(*gate) ask { return script.cookie(browser.LegacyCookie + "=x") },
		"anti_csrf":      func(g *gate) ask { return curl.cookie(access(g.alice)) },
		"foreign_origin": func(g *gate) ask { return script.with("origin", "https://evil.example").cookie(access(g.alice)) },
		"same_site_hop": func(*gate) ask {
			return ask{method: "GET", path: "/"}.with("sec-fetch-mode", "navigate", "sec-fetch-site", "cross-site")
		},
		"claim":         func(g *gate) ask { return script.cookie(access(g.alice)).under("require.role", "x") },
		"max_age":       func(g *gate) ask { return script.cookie(access(g.alice)).under("max_age", "60") },
		"unbound":       func(g *gate) ask { return script.cookie(access(g.alice)).under("bound", "true") },
		"policy":        func(*gate) ask { return script.under("sesion", "required") },
		"path_form":     func(*gate) ask { return ask{method: "GET", path: "/a/../admin"} },
		"path_spelling": func(*gate) ask { return ask{method: "GET", path: "/ADMIN"} },
		"host_form":     func(*gate) ask { return ask{method: "GET", path: "/", host: "a b"} },
		"header_lines": func(*gate) ask {
			return script.with(slices.Repeat([]string{"cookie", "a=1"}, linesMax+1)...)
		},
	}
	statuses := map[sessions.Outcome]int{sessions.TryRefresh: 440, sessions.Unauthorised: 302, sessions.Forbidden: 403, sessions.Unavailable: 503}
	for _, denial := range append(sessions.Denials(), Denials()...) {
		t.Run(denial.Code, func(t *testing.T) {
			var log bytes.Buffer
			var seen observed
			change := func(c *Config) {
				c.DenialHeader, c.Observe, c.Routes, c.Default.AntiCSRF = true, seen.see, table, AntiCSRFAttested
				c.Cookies.SameSite = map[bool]http.SameSite{true: http.SameSiteStrictMode, false: http.SameSiteLaxMode}[denial.Code == "same_site_hop"]
				c.Log = slog.New(slog.NewJSONHandler(&log, nil))
			}
			g := newGate(t, change)
			server, a := g.server, script.cookie("sAccessToken=x")
			cfg := testConfig()
			change(&cfg)
			var engine Verifier
			switch request, own := requests[denial.Code]; {
			case denial.Code == "max_age":
				engine, a = aged{g.engine, time.Hour, nil}, request(g)
			case denial.Code == "identity":
				engine = verifierFunc(func([]string) (*sessions.Access, *sessions.Denial) { return &sessions.Access{}, nil })
			case denial.Code == "panic":
				engine = verifierFunc(func([]string) (*sessions.Access, *sessions.Denial) { panic("hush") })
			case own:
				a = request(g)
			default:
				for _, d := range sessions.Denials() {
					if d.Code == denial.Code {
						engine = denying(d)
					}
				}
				if engine == nil {
					t.Fatal("nothing here makes it")
				}
			}
			if engine != nil {
				var err error
				if server, err = New(engine, cfg); err != nil {
					t.Fatal(err)
				}
			}
			response, err := server.Check(context.Background(), a.raw())
			if err != nil {
				t.Fatal(err)
			}
			r, status := read(t, response), statuses[denial.Outcome]
			if denial.Code == "same_site_hop" {
				status = 401
			}
			if denial.Code == "header_lines" {
				status = 431
			}
			if r.status != status || r.headers[browser.HeaderDenial] != denial.Code {
				t.Errorf("answered %d, header %q", r.status, r.headers[browser.HeaderDenial])
			}
			if len(seen) != 1 || seen[0].Code != denial.Code {
				t.Errorf("counted %+v", seen)
			}
			told := response.GetDynamicMetadata().AsMap()
			if told["code"] != denial.Code || told["rule"] != denial.Rule || told["outcome"] != denial.Outcome.String() {
				t.Errorf("Envoy is told %v", told)
			}
			var line struct {
				Msg, Level, Outcome, Rule, Code, Why, Session string

				User string `json:"user_id"`
			}
			for text := range strings.Lines(log.String()) {
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Fatal(err)
				}
			}
			level := map[bool]string{true: "WARN", false: "INFO"}[denial.Outcome == sessions.Unavailable]
			if denial.Code == "panic" {
				line.Msg, line.Why, level = strings.TrimSuffix(line.Msg, " panicked"), "in the panic's own words", "ERROR"
			}
			if line.Msg != "check" || line.Code != denial.Code || line.Rule != denial.Rule || line.Outcome != denial.Outcome.String() || line.Why == "" || line.Level != level {
				t.Errorf("logged %s", log.String())
			}
			named := slices.Contains([]string{"anti_csrf", "foreign_origin", "claim", "unbound", "max_age"}, denial.Code) // by a good token
			if named != (line.User == "alice" && line.Session == g.alice.Session.Handle.String()) {
				t.Errorf("names a user, or does not: %s", log.String())
			}
			if strings.Contains(log.String(), "hush") || strings.Contains(log.String(), g.alice.Access.Reveal()) {
				t.Errorf("a secret is logged: %s", log.String())
			}
		})
	}
}
