package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// TestMain lets this program be what the benchmark starts itself as.
func TestMain(m *testing.M) {
	if os.Getenv(selfEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestParts proves that every part runs, and that all answers in it are as they should be. What it
// measures in its short time means nothing.
func TestParts(t *testing.T) {
	if _, err := allCores(); err != nil {
		t.Skip(err)
	}
	binary := filepath.Join(t.TempDir(), "sessiongate")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/sessiongate")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building sessiongate: %v\n%s", err, text)
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			var out strings.Builder
			if err := run(t.Context(), []string{"-quick", "-only", p.name, "-sessiongate", binary}, &out); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "\n### ") {
				t.Errorf("the part printed no table:\n%s", &out)
			}
		})
	}
}

// TestWrongAnswer holds the load generator to its task: an answer that is not the expected one ends a
// turn, however fast it came.
func TestWrongAnswer(t *testing.T) {
	b := &bench{dir: t.TempDir(), turn: 20 * time.Millisecond}
	var err error
	if b.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	cores, err := allCores()
	if err != nil {
		t.Skip(err)
	}
	b.serverCore = cores[0]
	server, err := b.startAllowAll(t.Context(), plainAllowAll)
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	for name, check := range map[string]func(*authv3.CheckResponse) error{
		"an identity is missing": allows(true), "a denial is missing": denies(440),
	} {
		l, err := of(script, check, "a=b")
		if err != nil {
			t.Fatal(err)
		}
		p, err := newLoop(t.Context(), server, l, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		if _, err := p.play(b.turn); err == nil {
			t.Errorf("%s: a turn did not fail", name)
		}
	}
}

// TestRecorded holds the recorded requests against what the real Envoy sends today.
func TestRecorded(t *testing.T) {
	for _, k := range []kind{script, page, mapped} {
		t.Run(k.name, func(t *testing.T) {
			now, err := record(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			message, err := k.withCookie("theme=dark")
			if err != nil {
				t.Fatal(err)
			}
			var kept authv3.CheckRequest
			if err := proto.Unmarshal(message, &kept); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(shape(t, now), shape(t, &kept)); diff != "" {
				t.Errorf("Envoy sends another request than the recorded one; `go run ./internal/bench record` takes it again (- Envoy, + recorded):\n%s", diff)
			}
		})
	}
}

// shape is a request without what differs from one to the next.
func shape(t *testing.T, c *authv3.CheckRequest) string {
	t.Helper()
	c = proto.CloneOf(c)
	a := c.GetAttributes()
	for _, peer := range []*authv3.AttributeContext_Peer{a.GetSource(), a.GetDestination()} {
		peer.GetAddress().GetSocketAddress().PortSpecifier = nil
	}
	a.GetRequest().Time = nil
	http := a.GetRequest().GetHttp()
	http.Id = ""
	delete(http.GetHeaders(), "x-request-id")
	for _, h := range http.GetHeaderMap().GetHeaders() {
		if h.GetKey() == "x-request-id" {
			h.RawValue = nil
		}
	}
	return strings.ReplaceAll(protojson.Format(c), "  ", " ") // protojson varies its spaces on purpose
}

func TestContest(t *testing.T) {
	t.Parallel()
	turns := 0
	slow := func(context.Context) (measurement, error) {
		turns++
		return measurement{requests: 100 * turns, took: time.Second, cpu: time.Second}, nil // the machine gets faster
	}
	fast := func(context.Context) (measurement, error) {
		return measurement{requests: 200 * turns, took: time.Second, cpu: time.Second}, nil
	}
	r, err := contest{title: "a", unit: "b", contenders: []contender{{"slow", slow}, {"fast", fast}}, goal: map[string]float64{"fast": 3}}.run(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if turns != 4 {
		t.Errorf("%d turns, want 3 and one to warm up", turns)
	}
	// Both became twice as fast from the first round that counts to the last: the ratio is that of each round.
	want := []bar{{name: "slow", value: spread{1, 1, 1}}, {name: "fast", value: spread{2, 2, 2}, goal: 3}}
	if diff := cmp.Diff(want, r.bars, cmp.AllowUnexported(bar{}, spread{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"fast", "600 (500–700)", "100", "1666.7 (1458.3–2083.3)", "2.00", "≥ 3"}, r.rows[1]); diff != "" {
		t.Error(diff)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{4}, spread{4, 4, 4}},
		{[]float64{2, 1}, spread{1.25, 1.5, 1.75}},
		{[]float64{5, 1, 4, 2, 3}, spread{2, 3, 4}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("the spread of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// TestReport proves that a run replaces its own section and leaves the others.
func TestReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := filepath.Join(dir, "performance.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := report{machine: "a machine"}
	results := []result{{
		title: "A <title>", why: "Why.", head: []string{"", "ratio"}, rows: [][]string{{"x", "2"}},
		unit: "ratio", bars: []bar{{name: "x <", value: spread{1, 2, 3}}},
	}}
	write("before\n<!-- bench: one -->\nold\n<!-- /bench: one -->\n<!-- bench: two -->\nkept\n<!-- /bench: two -->\n")
	if err := r.write(dir, part{name: "one", page: "performance.md"}, results); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n<!-- bench: one -->\n\na machine.\n\n### A <title>\n\nWhy.\n\n|  | ratio |\n| --- | ---: |\n| x | 2 |\n\n" +
		"![A <title>: ratio](performance/one-a-title.svg)\n\n<!-- /bench: one -->\n<!-- bench: two -->\nkept\n<!-- /bench: two -->\n"
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "performance", "one-a-title.svg"))
	if err != nil || !strings.Contains(string(svg), "x &lt;") || strings.Contains(string(svg), "<title>A <title>") {
		t.Errorf("the plot is wrong (%v):\n%s", err, svg)
	}
	write("no markers")
	if err := r.write(dir, part{name: "one", page: "performance.md"}, results); err == nil {
		t.Error("a page without markers was written")
	}
}

func TestUnknownPart(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), []string{"-only", "check,cheque"}, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), `"cheque"`) {
		t.Errorf("an unknown part gave %v", err)
	}
}
