package authz

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/sessions"
)

// observed remembers what a Server was seen to decide.
type observed []Observation

func (o *observed) see(seen Observation) {
	if seen.Took < 0 {
		panic("a check ended before it began")
	}
	seen.Took = 0
	*o = append(*o, seen)
}

// Each Check is counted once, and told to Envoy with the same words, whatever its result.
func TestReport(t *testing.T) {
	var seen observed
	g := newGate(t, func(c *Config) { c.Observe = seen.see })
	unlisted := func(o sessions.Outcome) *Server {
		cfg := testConfig()
		cfg.Observe = seen.see
		s, err := New(denying(&sessions.Denial{Outcome: o, Rule: "V9", Message: "secret words"}), cfg)
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
		code          string
	}{
		"allow":            {g.server, navigation.cookie(alice), "ALLOW", "session", "session"},
		"allow, stripped":  {g.server, navigation.cookie(alice + "; st-access-token=x"), "ALLOW", "session", "session"},
		"auth path":        {g.server, ask{method: "POST", path: "/auth/session/refresh"}, "ALLOW", "pass", "auth_path"},
		"preflight":        {g.server, ask{method: "OPTIONS", path: "/"}.with("origin", "https://x.example", "access-control-request-method", "PUT"), "ALLOW", "pass", "preflight"},
		"login page":       {g.server, ask{method: "GET", path: "/login"}, "ALLOW", "pass", "login_page"},
		"optional":         {g.server, navigation.under("session", "optional"), "ALLOW", "pass", "optional"},
		"no session":       {g.server, navigation, "UNAUTHORISED", "V0", "no_token"},
		"expired":          {g.server, script.cookie(access(g.expired)), "TRY_REFRESH", "V1", "expired"},
		"expired, by page": {g.server, navigation.cookie(access(g.expired)), "TRY_REFRESH", "V1", "expired"},
		"ended":            {g.server, script.cookie(access(g.ended)), "UNAUTHORISED", "V2", "ended"},
		"anti-CSRF":        {g.server, script.cookie(alice), "TRY_REFRESH", "anti-csrf", "anti_csrf"},
		"origin":           {g.server, formPost.cookie(alice).with("origin", "https://evil.example"), "FORBIDDEN", "origin", "foreign_origin"},
		"claim":            {g.server, navigation.cookie(alice).under("require.role", "hush"), "FORBIDDEN", "require", "claim"},
		"policy":           {g.server, navigation.cookie(alice).under("sesion", "hush"), "UNAVAILABLE", "policy", "policy"},
		"panic":            {panics, navigation.cookie("sAccessToken=hush"), "UNAVAILABLE", "panic", "panic"},
		"unknown":          {unlisted(sessions.Forbidden), navigation, "FORBIDDEN", "other", "other"},
		"denied as ALLOW":  {unlisted(sessions.Allow), navigation, "UNAVAILABLE", "other", "other"},
		"denied as 200":    {unlisted(200), navigation, "UNAVAILABLE", "other", "other"},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			response, _ := tt.server.Check(t.Context(), tt.ask.raw())
			told := response.GetDynamicMetadata().AsMap()
			if told["outcome"] != tt.outcome || told["rule"] != tt.rule || (told["user_id"] == nil) != (tt.rule != "session") || len(told) > 3 && tt.rule != "session" {
				t.Errorf("Envoy is told %v", told)
			}
			if (told["outcome"] == "ALLOW") != (read(t, response).status == 0) {
				t.Errorf("told %v, answered %d", told["outcome"], read(t, response).status)
			}
			if len(seen) != 1 || seen[0].Outcome.String() != tt.outcome || seen[0].Rule != tt.rule || seen[0].Code != tt.code || told["code"] != tt.code {
				t.Errorf("counted %+v", seen)
			}
			if !slices.Contains(Observations(), seen[0]) {
				t.Errorf("%+v is not in Observations", seen[0])
			}
		})
	}
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
	if made != len(Denials()) {
		t.Errorf("%d are made here, %d are listed", made, len(Denials()))
	}
	if len(reports) != len(Denials())+len(sessions.Denials()) {
		t.Errorf("%d denials have a report", len(reports))
	}
	observations, codes, messages := map[Observation]bool{}, map[string]bool{}, map[string]bool{}
	for _, o := range Observations() {
		if observations[o] {
			t.Errorf("%+v is listed twice", o)
		}
		observations[o] = true
		if codes[o.Code] && o.Code != "other" {
			t.Errorf("two have the code %q", o.Code)
		}
		codes[o.Code] = true
		if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(o.Code) {
			t.Errorf("%q is no code", o.Code)
		}
	}
	for _, d := range append(sessions.Denials(), Denials()...) {
		if messages[d.Message] {
			t.Errorf("two denials have the message %q", d.Message)
		}
		messages[d.Message] = true
	}
}

// Beside what gRPC allocates, a Check of a valid token has one: what gRPC is given the answer in.
func TestAllowAllocates(t *testing.T) {
	var counted int
	g := newGate(t, func(c *Config) { c.Observe = func(Observation) { counted++ } })
	request := navigation.cookie(access(g.alice)).with("traceparent", goodTrace)
	for name, c := range map[string]*authv3.CheckRequest{"raw": request.raw(), "mapped": request.mapped()} {
		wire, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		message, codec := mem.BufferSlice{mem.SliceBuffer(wire)}, newCodec()
		read := func(v any) error { return codec.Unmarshal(message, v) }
		const runs = 1000
		counted = 0
		if n := testing.AllocsPerRun(runs, func() {
			a, err := handleCheck(g.server, t.Context(), read, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := codec.Marshal(a); err != nil {
				t.Fatal(err)
			}
		}); n > 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if counted < runs {
			t.Errorf("%s: counted %d", name, counted)
		}
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

// The policy's fault is for the log, which says what to mend. Its values have no bound, so it is no label of a metric.
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
