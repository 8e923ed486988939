package envoy_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
)

// accessLog is the last line of Envoy's access log for each path.
func (s *stack) accessLog() map[string]map[string]any {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "envoy.log"))
	if err != nil {
		s.Fatal(err)
	}
	lines := map[string]map[string]any{}
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &fields) == nil {
			path, _ := fields["path"].(string)
			lines[path] = fields
		}
	}
	return lines
}

// TestAccessLogSaysWhy: Envoy's access log has of each request what sessiongate decided and by which rule, whatever came of it. That it
// holds no token and no query, the stack checks of every log.
func TestAccessLogSaysWhy(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{processes: 1, edit: editRoutes(func(v *routev3.VirtualHost) error {
		return addRoute(v, "default", "/closed", map[string]string{"sesion": "required"})
	})})
	b, none := s.newBrowser(networkV), s.newBrowser(networkX)
	handle := b.signIn("alice")
	const query = "secret-in-the-query-string"
	s.secrets.add(query)

	type line struct {
		Status              float64
		Details             string
		Outcome, Rule       any
		UserID, SessionName any
	}
	const denied = "ext_authz_denied"
	requests := []struct {
		line

		path string
		from *browser
		how  []option
	}{
		{line{200, "via_upstream", "ALLOW", "session", "alice", handle}, "/log/allow", b, nil},
		{line{440, denied, "TRY_REFRESH", "V1", nil, nil}, "/log/broken", none, []option{with("Cookie", "sAccessToken=rubbish")}},
		{line{440, denied, "TRY_REFRESH", "anti-csrf", nil, nil}, "/log/forged", b, []option{without("Anti-Csrf"), without("Sec-Fetch-Site"), without("Sec-Fetch-Mode")}},
		{line{302, denied, "UNAUTHORISED", "V0", nil, nil}, "/log/no-session", none, nil},
		{line{401, denied, "UNAUTHORISED", "V0", nil, nil}, "/api/no-session", none, nil},
		{line{403, denied, "FORBIDDEN", "origin", nil, nil}, "/log/foreign", b, []option{with("Accept", "text/event-stream"), with("Origin", "https://evil.example")}},
		{line{503, denied, "UNAVAILABLE", "policy", nil, nil}, "/closed", b, nil},
		{line{200, "via_upstream", "ALLOW", "pass", nil, nil}, "/optional/x", none, nil},
		// Not asked.
		{line{200, "via_upstream", nil, nil, nil, nil}, "/static/x", b, nil},
		{line{404, "via_upstream", nil, nil, nil, nil}, "/auth/nothing", b, nil},
		{line{503, "ext_authz_error", nil, nil, nil, nil}, "/log/silent", b, nil}, // the last: sessiongate is gone
	}
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, r := range requests {
		if r.Details == "ext_authz_error" {
			s.processes[0].stop()
		}
		how := append([]option{script, with("Traceparent", "00-"+trace+"-"+span+"-01")}, r.how...)
		if a := r.from.send(http.MethodGet, r.path+"?"+query, how...); a.status != int(r.Status) {
			t.Errorf("%s: %d, want %v", r.path, a.status, r.Status)
		}
	}
	last := requests[len(requests)-1].path
	s.eventually("Envoy writes its access log", func() bool { return s.accessLog()[last] != nil })
	log := s.accessLog()
	ids := map[string]bool{}
	for _, r := range requests {
		fields := log[r.path]
		got := line{UserID: fields["user_id"], SessionName: fields["session_handle"], Outcome: fields["outcome"], Rule: fields["rule"]}
		got.Status, _ = fields["status"].(float64)
		got.Details, _, _ = strings.Cut(strings.TrimSpace(toText(fields["details"])), "{")
		if diff := cmp.Diff(r.line, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.path, diff)
		}
		ids[toText(fields["request_id"])] = true
	}

	// sessiongate's own line of a denial joins Envoy's, and the caller's trace.
	text, err := os.ReadFile(s.processes[0].log)
	if err != nil {
		t.Fatal(err)
	}
	joined := 0
	for l := range strings.Lines(string(text)) {
		var fields map[string]any
		if json.Unmarshal([]byte(l), &fields) == nil && fields["trace_id"] == trace && fields["span_id"] == span && ids[toText(fields["request_id"])] {
			joined++
		}
	}
	if want := 9; joined < want { // eight checks, and the auth path's 404 with its line of the request
		t.Errorf("%d lines name the trace and the id of Envoy's request, want %d", joined, want)
	}
}

func toText(v any) string {
	text, _ := v.(string)
	return text
}
