package authz

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
)

// observed remembers what a Server was seen to decide.
type observed []Verdict

func (o *observed) see(v *Verdict, took time.Duration) {
	if took < 0 {
		panic("a check ended before it began")
	}
	*o = append(*o, Verdict{v.Outcome, v.Rule, v.Why, nil})
}

// Each Check is counted once, and told to Envoy with the same words, whatever came of it.
func TestVerdict(t *testing.T) {
	var seen observed
	g := newGate(t, func(c *Config) { c.Observe = seen.see })
	strange := func(o sessions.Outcome) *Server {
		cfg := testConfig()
		cfg.Observe = seen.see
		s, err := New(denying(&sessions.Denial{Outcome: o, Rule: "V9", Why: "secret words"}), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	cfg := testConfig()
	cfg.Observe = seen.see
	panics, err := New(verifierFunc(func([]string) (*sessions.Access, *sessions.Denial) { panic("hush") }), cfg)
	if err != nil {
		t.Fatal(err)
	}
	alice := access(g.alice)
	for name, tt := range map[string]struct {
		server        *Server
		ask           ask
		outcome, rule string
		why           string
	}{
		"allow":            {g.server, navigation.cookie(alice), "ALLOW", "session", ""},
		"allow, stripped":  {g.server, navigation.cookie(alice + "; st-access-token=x"), "ALLOW", "session", ""},
		"auth path":        {g.server, ask{method: "POST", path: "/auth/session/refresh"}, "ALLOW", "pass", "auth path"},
		"preflight":        {g.server, ask{method: "OPTIONS", path: "/"}.with("origin", "https://x.example", "access-control-request-method", "PUT"), "ALLOW", "pass", "preflight"},
		"login page":       {g.server, ask{method: "GET", path: "/login"}, "ALLOW", "pass", "login page"},
		"optional":         {g.server, navigation.under("session", "optional"), "ALLOW", "pass", "optional"},
		"nobody":           {g.server, navigation, "UNAUTHORISED", "V0", "no access token"},
		"expired":          {g.server, script.cookie(access(g.expired)), "TRY_REFRESH", "V1", "access token has expired"},
		"expired, by page": {g.server, navigation.cookie(access(g.expired)), "TRY_REFRESH", "V1", "access token has expired"},
		"ended":            {g.server, script.cookie(access(g.ended)), "UNAUTHORISED", "V2", "session was ended"},
		"anti-CSRF":        {g.server, script.cookie(alice), "TRY_REFRESH", "anti-csrf", "anti-CSRF token is missing, wrong or repeated"},
		"origin":           {g.server, formPost.cookie(alice).with("origin", "https://evil.example"), "FORBIDDEN", "origin", "Origin is neither the request's own nor allowed"},
		"claim":            {g.server, navigation.cookie(alice).under("require.role", "hush"), "FORBIDDEN", "require", "a claim is not what the route requires"},
		"policy":           {g.server, navigation.cookie(alice).under("sesion", "hush"), "UNAVAILABLE", "policy", "the route's policy is not understood"},
		"panic":            {panics, navigation.cookie("sAccessToken=hush"), "UNAVAILABLE", "panic", "the check panicked"},
		"unknown":          {strange(sessions.Forbidden), navigation, "FORBIDDEN", "other", "a denial of another kind"},
		"denied as ALLOW":  {strange(sessions.Allow), navigation, "UNAVAILABLE", "other", "a denial of another kind"},
		"denied as 200":    {strange(200), navigation, "UNAVAILABLE", "other", "a denial of another kind"},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			response, _ := tt.server.Check(t.Context(), tt.ask.raw())
			told := response.GetDynamicMetadata().AsMap()
			if told["outcome"] != tt.outcome || told["rule"] != tt.rule || (told["user_id"] == nil) != (tt.rule != "session") || len(told) > 2 && tt.rule != "session" {
				t.Errorf("Envoy is told %v", told)
			}
			if (told["outcome"] == "ALLOW") != (read(t, response).status == 0) {
				t.Errorf("told %v, answered %d", told["outcome"], read(t, response).status)
			}
			if len(seen) != 1 || seen[0].Outcome.String() != tt.outcome || seen[0].Rule != tt.rule || seen[0].Why != tt.why {
				t.Errorf("counted %+v", seen)
			}
			if !counts(seen[0]) {
				t.Errorf("%+v is not in Verdicts", seen[0])
			}
		})
	}
}

func counts(seen Verdict) bool {
	for _, v := range Verdicts() {
		if v.Outcome == seen.Outcome && v.Rule == seen.Rule && v.Why == seen.Why {
			return true
		}
	}
	return false
}

// A denial that is not in the list would be counted as "other".
func TestDenialsAreAll(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") {
			made += strings.Count(string(source), "&sessions.Denial{")
		}
	}
	if made+len(sessions.Denials()) != len(denials) {
		t.Errorf("%d are made here, %d are listed", made, len(denials)-len(sessions.Denials()))
	}
	words := map[Verdict]bool{}
	for _, v := range Verdicts() {
		words[Verdict{v.Outcome, v.Rule, v.Why, nil}] = true
	}
	if len(words) != len(Verdicts()) {
		t.Error("two verdicts have the same words")
	}
}

// Telling who is who to whoever counts must not cost an allocation: a Check of a valid token has one, the cookies' slice.
func TestAllowAllocates(t *testing.T) {
	var counted int
	g := newGate(t, func(c *Config) { c.Observe = func(*Verdict, time.Duration) { counted++ } })
	request := navigation.cookie(access(g.alice)).with("traceparent", goodTrace).under("session", "required").mapped()
	const runs = 100
	if n := testing.AllocsPerRun(runs, func() { _, _ = g.server.Check(context.Background(), request) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
	if counted < runs {
		t.Errorf("counted %d", counted)
	}
}

const goodTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestLogNamesTheTrace(t *testing.T) {
	var log bytes.Buffer
	g := newGate(t, func(c *Config) {
		c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, a := range []ask{navigation, navigation.cookie(access(g.alice))} {
		log.Reset()
		_, _ = g.server.Check(t.Context(), a.with("traceparent", goodTrace).raw())
		if line := log.String(); !strings.Contains(line, `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"`) {
			t.Errorf("log: %s", line)
		}
		for _, garbage := range []string{"hush", "00-hushhushhushhushhushhushhushhush-00f067aa0ba902b7-01", goodTrace + "-hush", strings.ToUpper(goodTrace)} {
			for _, c := range []ask{a.with("traceparent", garbage), a.with("traceparent", goodTrace, "traceparent", garbage)} {
				log.Reset()
				_, _ = g.server.Check(t.Context(), c.raw())
				_, _ = g.server.Check(t.Context(), c.mapped())
				if line := log.String(); strings.Contains(line, "hush") || strings.Contains(line, "trace_id") || strings.Contains(line, "4BF92") {
					t.Errorf("%s: log: %s", garbage, line)
				}
			}
		}
	}
}

// The policy's fault is for the log, which says what to mend; it has no bounds, so nothing counts by it.
func TestPolicyFaultIsLogged(t *testing.T) {
	var log bytes.Buffer
	g := newGate(t, func(c *Config) { c.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
	_, _ = g.server.Check(t.Context(), navigation.under("sesion", "optional").raw())
	if want := (&PolicyError{"sesion", "optional"}).Error(); !strings.Contains(strings.ReplaceAll(log.String(), `\"`, `"`), want) {
		t.Errorf("no %s in %s", want, log.String())
	}
	if diff := cmp.Diff(1, strings.Count(log.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}
