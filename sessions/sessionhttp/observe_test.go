package sessionhttp

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestObserve: each answer is counted once, and each label has few values.
func TestObserve(t *testing.T) {
	var mu sync.Mutex
	var seen []Observation
	b := newBench(t, func(c *Config) {
		c.Observe = func(_ context.Context, o Observation) {
			mu.Lock()
			defer mu.Unlock()
			if o.Took < 0 {
				t.Error("an answer ended before it began")
			}
			o.Took = 0
			seen = append(seen, o)
		}
	})
	public, internal := handlers(t, b.engine, b.cfg)
	for _, tt := range []struct {
		handler http.Handler
		call    call
		want    Observation
	}{
		{public, refreshCall(), Observation{Route: "/auth/session/refresh", Method: "POST", Status: 440, Code: "no_token"}},
		{public, call{method: "GET", path: "/auth/session/refresh"}, Observation{Route: "/auth/session/refresh", Method: "GET", Status: 405, Code: "method"}},
		{public, call{method: "hush", path: "/auth/signout"}, Observation{Route: "/auth/signout", Method: "other", Status: 405, Code: "method"}},
		{public, call{method: "GET", path: "/hush"}, Observation{Route: "other", Method: "GET", Status: 404, Code: "no_route"}},
		{public, call{method: "GET", path: JWKSPath}, Observation{Route: JWKSPath, Method: "GET", Status: 200}},
		{internal, apiCall("GET", "/v1/sessions/hush", ""), Observation{Route: "/v1/sessions/{handle}", Method: "GET", Status: 404, Code: "no_session"}},
		{internal, apiCall("GET", "/hush", ""), Observation{Route: "other", Method: "GET", Status: 404, Code: "no_route"}},
		{internal, apiCall("POST", "/v1/sessions", `{"user_id":"alice"}`), Observation{Route: "/v1/sessions", Method: "POST", Status: 201}},
		{internal, call{method: "POST", path: "/v1/sessions"}, Observation{Route: "/v1/sessions", Method: "POST", Status: 401, Code: "no_api_key"}},
	} {
		seen = nil
		do(tt.handler, tt.call)
		if !slices.Equal(seen, []Observation{tt.want}) {
			t.Errorf("%s %s: %+v, want %+v", tt.call.method, tt.call.path, seen, tt.want)
		}
	}
	seen = nil
	s := b.server(t)
	do(s.wrap(func(http.ResponseWriter, *http.Request) error { panic("hush") }), post("/"))
	if !slices.Equal(seen, []Observation{{Route: "other", Method: "POST", Status: 500, Code: "internal"}}) {
		t.Errorf("a panic: %+v", seen)
	}
}

// TestLogNamesTheTrace: on both listeners, and nothing of what is no trace.
func TestLogNamesTheTrace(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	const named = `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"`
	const id = "0af76519-16cd-43dd-8448-eb211c80319c"
	for name, test := range map[string]struct {
		lines []string
		want  bool
	}{
		"good":    {[]string{good}, true},
		"garbage": {[]string{"hush"}, false},
		"longer":  {[]string{good + "-hush"}, false},
		"twice":   {[]string{good, "hush"}, false},
		"none":    {nil, false},
	} {
		b := newBench(t)
		for listener, h := range map[string]http.Handler{"public": b.public, "internal": b.internal} {
			before := len(b.log.String())
			do(h, call{method: "GET", path: "/nothing"}.with("Traceparent", test.lines...).with("X-Request-Id", id))
			log := b.log.String()[before:]
			if got := strings.Count(log, named); got != 2 && test.want || got != 0 && !test.want { // refused, request
				t.Errorf("%s, %s: %s", name, listener, log)
			}
			if strings.Contains(log, "hush") || strings.Count(log, `"request_id":"`+id+`"`) != 2 {
				t.Errorf("%s, %s: %s", name, listener, log)
			}
		}
	}
}
