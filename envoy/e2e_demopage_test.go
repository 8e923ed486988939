package envoy_test

// The demo's page, in a real browser: the demo app is the existing system behind Envoy.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	pixels "image"
	"image/color"
	"image/png"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/internal/process"
)

var demoProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sessiongate-demoapp-")
	if err != nil {
		return "", err
	}
	afterAllTests(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "demoapp")
	if output, err := exec.Command("go", "build", "-race", "-o", file, "../cmd/demoapp").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building demoapp: %w\n%s", err, output)
	}
	return file, nil
})

// demoStack is the demo app behind Envoy, and the network that browsers come by.
type demoStack struct {
	*stack

	network string // its port
	front   string // where browsers come instead, behind TLS; "" for none
	urlFile string
	attempt time.Duration // refresh_attempt_max
	control *demoControl
}

// newDemo deploys it. It learns where Envoy is, so that it can play, by openNetwork. Its Postgres is its own: the page kills it.
func newDemo(t *testing.T, attempt time.Duration, settings ...string) (s *demoStack, openNetwork func()) {
	t.Helper()
	c, err := cluster.Start(t.Context(), clusterOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	s = &demoStack{attempt: attempt, urlFile: filepath.Join(t.TempDir(), "url"), control: newDemoControl(t, c)}
	s.stack = newStack(t, stackOptions{
		cluster: c,
		// As in the demo.
		settings: append(settings, "SESSIONGATE_RESPONSES_DENIAL_HEADER=true", "SESSIONGATE_SESSION_REFRESH_ATTEMPT_MAX="+attempt.String(), "SESSIONGATE_BINDING_MODE=offer"),
		existing: func(inner *stack) string { s.stack = inner; return s.startDemoApp() },
	})
	return s, func() {
		t.Helper()
		if err := os.WriteFile(s.urlFile, []byte(s.proxy.URL("ingress")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *demoStack) startDemoApp() (address string) {
	s.Helper()
	file, err := demoProgram()
	if err != nil {
		s.Fatal(err)
	}
	log := s.logFile("demoapp")
	addressFile, networkFile := filepath.Join(s.dir, "demoapp.address"), filepath.Join(s.dir, "network.address")
	command := exec.Command(file)
	command.Env = []string{
		"GORACE=atexit_sleep_ms=0",
		"DEMOAPP_LISTEN=127.0.0.1:0",
		"DEMOAPP_ADDRESS_FILE=" + addressFile,
		"DEMOAPP_NETWORK_LISTEN=127.0.0.1:0",
		"DEMOAPP_NETWORK_ADDRESS_FILE=" + networkFile,
		"DEMOAPP_CONTROL_URL=" + s.control.url,
		"DEMOAPP_CONTROL_SECRET=" + s.control.secret,
		"DEMOAPP_PUBLIC_URL_FILE=" + s.urlFile,
		"DEMOAPP_REFRESH_ATTEMPT_MAX=" + s.attempt.String(),
		"SESSIONS_URL=http://" + s.processes[0].internal,
		"SESSIONS_API_KEY=" + s.apiKey,
	}
	command.Stdout, command.Stderr = log, log
	run, err := process.Start(command, syscall.SIGKILL)
	_ = log.Close() // the child has its own
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		err := run.Stop(syscall.SIGTERM, patience)
		if err == nil {
			err = run.Err()
		}
		if err != nil {
			s.Errorf("demoapp: %v", err)
		}
	})
	s.eventually("the demo app and its network listen", func() bool {
		text, err := os.ReadFile(addressFile)
		network, networkErr := os.ReadFile(networkFile)
		address = string(text)
		_, s.network, _ = strings.Cut(string(network), ":")
		return err == nil && networkErr == nil
	})
	return address
}

// demoControl stands for cmd/demo, which owns the processes: it kills Postgres and starts it again. TestSwitches of cmd/demo holds the
// real one to the same calls.
type demoControl struct {
	url, secret string

	mu    sync.Mutex
	state string // of Postgres
	turns []string
}

func newDemoControl(t *testing.T, c *cluster.Cluster) *demoControl {
	t.Helper()
	d := &demoControl{secret: newSecret(), state: "on"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+d.secret {
			t.Errorf("the control is asked by another")
		}
		if r.Method == http.MethodPost {
			var want struct{ On bool }
			if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
				t.Errorf("the control is asked for %v", err)
			}
			d.turns = append(d.turns, fmt.Sprintf("%s %t", r.URL.Path, want.On))
			d.state = "off"
			if !want.On {
				c.Kill()
			} else if err := c.Restart(context.Background()); err != nil {
				t.Error(err)
			} else {
				d.state = "on"
			}
		}
		_ = json.NewEncoder(w).Encode([]map[string]string{{"name": "postgres", "state": d.state}, {"name": "replica", "reason": "This replica is the app’s own."}})
	}))
	t.Cleanup(server.Close)
	d.url = server.URL
	return d
}

// turned are the switches that were turned, in order.
func (d *demoControl) turned() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.turns)
}

// demoPage is the page in one tab of a browser of its own.
type demoPage struct {
	*tab

	demo *demoStack
}

// page is the address of a path, by way of the network.
func (s *demoStack) page(path string) string {
	return cmp.Or(s.front, "http://app.localhost:"+s.network) + path
}

// goTo opens a path by way of the network.
func (d demoPage) goTo(path string) {
	d.Helper()
	d.tab.goTo(d.demo.page(path))
}

// openDemo signs a user in by the page's own script. Motion is off, so that a test need not wait for it.
func openDemo(t *testing.T, s *demoStack, user string) demoPage {
	t.Helper()
	d := s.newPage(s.newProfileFor(t))
	d.media("light", "reduce")
	d.goTo("/login")
	d.signIn(user)
	return d
}

func (s *demoStack) newPage(p *profile) demoPage { p.Helper(); return demoPage{p.newTab(), s} }

// another is a second tab of the same browser.
func (d demoPage) another() demoPage {
	d.Helper()
	other := d.demo.newPage(d.profile)
	other.media("light", "reduce")
	return other
}

func (d demoPage) signIn(user string) {
	d.Helper()
	eval[bool](d.tab, fmt.Sprintf(`(() => { document.getElementById("user").value = %s; document.querySelector("#login button").click(); return true })()`, quote(user)))
	d.await(`location.pathname === "/" && document.querySelector("#log li") && document.getElementById("demo").dataset.busy === "false"`)
	d.remember()
}

// media sets what the person at the browser prefers.
func (d demoPage) media(scheme, motion string) {
	d.Helper()
	d.do(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
		}})
		return err
	})
}

func (d demoPage) do(act func(ctx context.Context, t *chromedp.Target) error) {
	d.Helper()
	if err := chromedp.Do(d.ctx, chromedp.Func(act)); err != nil {
		d.Fatal(err)
	}
}

// remember makes the logs be held against the tokens that the browser has.
func (d demoPage) remember() {
	d.Helper()
	d.do(func(ctx context.Context, t *chromedp.Target) error {
		held, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{URLs: []string{d.demo.page(refreshPath)}})
		if err != nil {
			return err
		}
		for _, c := range held.Cookies {
			d.secrets.add(c.Value)
		}
		return nil
	})
}

// press clicks a button as a mouse does, and waits until what it started has ended. The name is an id, perhaps with what is in it.
func (d demoPage) press(name string) {
	d.Helper()
	d.await(fmt.Sprintf(`document.getElementById("demo").dataset.busy === "false" && document.querySelector("#%s").getAttribute("aria-disabled") !== "true"`, name))
	if err := chromedp.Do(d.ctx, chromedp.Click("#"+name)); err != nil {
		d.Fatalf("pressing %s: %v", name, err)
	}
	d.await(`document.getElementById("demo")?.dataset.busy !== "true"`)
	d.remember()
}

// entry is a line of the page's log.
type entry struct{ Who, Request, Chip string }

// entries are the log, oldest first.
func (d demoPage) entries() []entry {
	d.Helper()
	all := eval[[]entry](d.tab, `[...document.querySelectorAll("#log li")].reverse().map((li) => ({ who: li.querySelector(".who").textContent,
		request: li.querySelector("code").textContent, chip: li.querySelector(".chip")?.textContent ?? "" }))`)
	return all
}

// since are the entries after the first n.
func (d demoPage) since(n int) []entry { d.Helper(); return d.entries()[n:] }

// said is the sentence that a screen reader hears.
func (d demoPage) said() string {
	d.Helper()
	return eval[string](d.tab, `document.getElementById("event").textContent`)
}

func (d demoPage) says(words string) {
	d.Helper()
	if said := d.said(); !strings.Contains(said, words) {
		d.Errorf("the page says %q, want %q in it", said, words)
	}
}

// wants compares what was logged since n.
func (d demoPage) wants(n int, want ...entry) {
	d.Helper()
	if diff := gocmp.Diff(append([]entry{}, want...), d.since(n)); diff != "" {
		d.Errorf("log (-want +got):\n%s", diff)
	}
}

// wantsEnd compares how a session ended. The other replica may not have heard of it at once, and allow a call or two more.
func (d demoPage) wantsEnd(n int, first, last entry) {
	d.Helper()
	late := last
	late.Chip = "200 ALLOW"
	got := slices.DeleteFunc(d.since(n), func(e entry) bool { return e == late })
	if diff := gocmp.Diff([]entry{first, last}, got); diff != "" {
		d.Errorf("log (-want +got):\n%s", diff)
	}
}

// chain is the token chain as the page shows it, oldest first: each token's state, and its holders.
func (d demoPage) chain() []string {
	d.Helper()
	return eval[[]string](d.tab, `[...document.querySelectorAll("#chain .token")].map((li) => (li.dataset.state + " " + (li.dataset.held ?? "")).trim())`)
}

func (d demoPage) wantsChain(want ...string) {
	d.Helper()
	if diff := gocmp.Diff(want, d.chain()); diff != "" {
		d.Errorf("chain (-want +got):\n%s", diff)
	}
}

// pass moves the database's clock, and what the page remembers by its browser's.
func (d demoPage) pass(by time.Duration) {
	d.Helper()
	d.advance(by)
	d.shift(by)
}

// shift makes the page believe that what it saw was longer ago.
func (d demoPage) shift(by time.Duration) {
	d.Helper()
	eval[bool](d.tab, fmt.Sprintf(`(() => { const chain = JSON.parse(localStorage.getItem("demo.chain"));
		if (chain.movedAt) chain.movedAt -= %[1]d; if (chain.accessEnds) chain.accessEnds -= %[1]d;
		localStorage.setItem("demo.chain", JSON.stringify(chain)); dispatchEvent(new Event("storage")); return true })()`, by.Milliseconds()))
}

func (d demoPage) handle() string {
	d.Helper()
	return eval[string](d.tab, `document.getElementById("handle").textContent`)
}

func (d demoPage) wantsLane(id, want string) {
	d.Helper()
	if got := eval[string](d.tab, fmt.Sprintf(`(({ outcome, at }) => outcome + " at " + at)(document.getElementById("lane-%s").dataset)`, id)); got != want {
		d.Errorf("lane %s shows %q, want %q", id, got, want)
	}
}

func (d demoPage) clean() {
	d.Helper()
	if faults := d.mishaps(); len(faults) > 0 {
		d.Error(faults)
	}
}

const (
	you    = "You"
	them   = "Thief"
	prop   = "Stage"
	laptop = "Laptop"
	me     = "GET /api/me"
	renew  = "POST " + refreshPath
)

// What the stage does is no request of the user.
var (
	opening  = entry{prop, "copy the refresh token", ""}
	spoiling = entry{prop, "expire the access token", ""}
)

func TestDemoPage(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s, openNetwork := newDemo(t, attempt)

	t.Run("at Envoy itself, what needs the network has its reason", func(t *testing.T) {
		d := s.newPage(s.newProfileFor(t))
		d.media("light", "reduce")
		d.tab.goTo("/login")
		d.signIn("ada")
		for _, id := range []string{"play", "thief-open", "thief-refresh", "thief-call", "bound", "expire", "lose", "power-postgres", "power-replica"} {
			if why := d.off(id); !strings.Contains(why, "http://127.0.0.1:"+s.network+"/") {
				t.Errorf("%s is off because of %q, want the network's address in it", id, why)
			}
		}
		d.press("call")
		d.wants(1, entry{you, me, "200 ALLOW"})
		d.press("refresh")
		d.clean()
	})
	openNetwork()

	t.Run("a call, and the page itself, pass", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.wants(0, entry{you, "GET /", "200 ALLOW"})
		d.press("call")
		d.wants(1, entry{you, me, "200 ALLOW"})
		d.wantsLane("you", "ALLOW at app")
		d.wantsChain("current you")
		d.clean()
	})

	t.Run("a spoiled access token", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.press("expire")
		d.wants(1, spoiling)
		d.press("call")
		d.wants(2, entry{you, me, "440 TRY_REFRESH"}, entry{you, renew, "200 access token"}, entry{you, me, "200 ALLOW"})
		if told := eval[string](d.tab, `document.getElementById("log").textContent`); !strings.Contains(told, "(malformed)") {
			t.Errorf("the page does not tell the denial's code: %q", told)
		}
		d.wantsChain("current you")
		d.clean()
	})

	t.Run("an expired access token", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.pass(accessLife)
		d.press("call")
		d.wants(1, entry{you, me, "440 TRY_REFRESH"}, entry{you, renew, "200 new tokens"}, entry{you, me, "200 ALLOW"})
		d.says("first use")
		d.wantsChain("retired", "current you")
		s.awaitPromoted(d.handle())

		d.pass(accessLife)
		d.goTo("/") // by way of the page that the 440 shows
		d.await(`document.querySelector("#log li") && document.getElementById("demo").dataset.busy === "false"`)
		d.says("Refreshed on the way")
		d.wantsChain("retired", "retired", "current you")
		d.clean()
	})

	t.Run("a refresh whose answer gets lost", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.press("lose")
		d.says("(R3)")
		d.wantsLane("you", "access token at gate")
		d.wantsChain("current you")

		d.advance(grace)
		d.shift(grace - 700*time.Millisecond) // the page waits for the rest by itself
		d.press("wait")
		if id := eval[string](d.tab, `document.activeElement.id`); id != "refresh" {
			t.Errorf("the pressed button is gone and the focus at %q, want refresh", id)
		}
		d.says("(R4)")
		d.wantsLane("you", "new tokens at gate")
		d.wantsChain("current you", "child")
		if n := s.issues(d.handle()); n != 1 {
			t.Errorf("%d issues, want the one that got lost", n)
		}

		d.press("refresh")
		d.says("(R5)")
		d.wantsChain("current", "child you")
		if n := s.issues(d.handle()); n != 1 {
			t.Errorf("%d issues, want the same one again", n)
		}
		d.press("call")
		d.says("(V4)")
		d.wantsChain("retired", "current you")
		s.awaitPromoted(d.handle())

		// At any time: in the grace, with a token that is not the sign-in's, with a child, without an access token.
		d.press("lose")
		d.says("(R3)")
		d.wantsChain("retired", "current you")
		d.pass(grace)
		d.press("lose")
		d.says("(R4)")
		d.wantsChain("retired", "current you", "child")
		d.press("lose")
		d.says("(R5)")
		d.press("refresh")
		d.wantsChain("retired", "current", "child you")
		d.press("lose") // the first use of the child, by a refresh
		d.says("first use")
		d.wantsChain("retired", "retired", "current you")
		d.pass(grace)
		d.press("expire")
		d.press("lose")
		d.says("(R4)")
		d.press("call")
		d.wantsChain("retired", "retired", "retired", "current you")
		d.clean()
	})

	t.Run("an answer that gets lost is the user's own request", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.pass(grace)
		before := d.seen(func(x *exchange) bool { return strings.HasPrefix(x.path, "/auth/") })
		d.press("lose")
		d.wants(1, entry{you, renew, "200 new tokens"})
		after := d.seen(func(x *exchange) bool { return strings.HasPrefix(x.path, "/auth/") })
		if len(after) != len(before)+1 || after[len(after)-1].status != 504 || after[len(after)-1].headers["set-cookie"] != "" {
			t.Errorf("%d requests more, the last with the status %d", len(after)-len(before), after[len(after)-1].status)
		}
		d.clean()
	})

	t.Run("twenty tabs", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.pass(grace)
		d.press("tabs")
		d.wants(1, entry{you, renew + " ×20", "200 new tokens"})
		d.says("one and the same child")
		// The later ones may have carried the child, which is its first use.
		if chain := d.chain(); !slices.Equal(chain, []string{"current", "child you"}) && !slices.Equal(chain, []string{"retired", "current you"}) {
			t.Errorf("chain %q", chain)
		}
		if n := d.sent("POST", refreshPath); n != 20 {
			t.Errorf("%d refreshes, want 20", n)
		}
		d.press("call")
		d.wantsChain("retired", "current you")
		d.clean()
	})

	t.Run("a thief of a user whose access token is no good", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.pass(accessLife)
		d.press("thief-open")
		d.wants(1, opening)
		d.press("call")
		d.wants(2, entry{you, me, "440 TRY_REFRESH"}, entry{you, renew, "200 new tokens"}, entry{you, me, "200 ALLOW"})
		d.wantsChain("retired thief", "current you")
		d.hints("After the grace, reusing it is theft")
		s.awaitPromoted(d.handle())
		d.pass(grace)
		d.hints("is retired: reusing it is theft")

		// The grace is the parent's alone.
		d.press("refresh")
		d.press("call")
		d.wantsChain("retired thief", "retired", "current you")
		d.hints("is retired: reusing it is theft")
		s.awaitPromoted(d.handle())
		d.press("thief-refresh")
		d.wantsLane("thief", "THEFT at gate")
		d.ended("for you and for the thief")
		d.clean()
	})

	t.Run("a thief who comes second", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		handle := d.handle()
		d.press("thief-open")
		d.wantsChain("current you thief")
		d.press("thief-refresh") // R3 of another client
		d.pass(grace)
		d.press("refresh")
		d.press("thief-refresh") // R5 of another client
		d.press("call")
		d.wantsChain("retired thief", "current you")
		s.awaitPromoted(handle)
		d.press("thief-refresh") // R7 of another client
		d.wants(1, opening, entry{them, renew, "409 superseded"}, entry{you, renew, "200 new tokens"}, entry{them, renew, "409 superseded"},
			entry{you, me, "200 ALLOW"}, entry{them, renew, "409 superseded"})
		d.pass(grace)
		before := len(d.entries())
		d.press("thief-refresh")
		d.wantsLane("thief", "THEFT at gate")
		d.wantsLane("you", "UNAUTHORISED at gate")
		d.says("Theft (R8)") // the sentence that decides stays, though the owner's own call came after it
		d.wantsEnd(before, entry{them, renew, "440 THEFT"}, entry{you, me, "401 UNAUTHORISED"})
		d.ended("for you and for the thief")
		if n := s.endedFor(handle, "theft"); n != 1 {
			t.Errorf("%d ends as theft, want 1", n)
		}
		d.clean()
	})

	t.Run("a thief, while the owner's own access token is no good", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.pass(grace)
		d.press("thief-open")
		d.press("refresh")
		d.press("call")
		s.awaitPromoted(d.handle())
		d.pass(grace)
		d.press("expire")
		before := len(d.entries())
		d.press("thief-refresh")
		d.wants(before, entry{them, renew, "440 THEFT"}, entry{you, me, "440 TRY_REFRESH"}, entry{you, renew, "440 ended"})
		d.ended("for you and for the thief")
		d.clean()
	})

	t.Run("a thief who comes first", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		handle := d.handle()
		d.pass(grace)
		d.press("thief-open")
		d.press("thief-refresh") // R4
		d.wantsChain("current you", "child thief")
		d.press("refresh") // R5 of another client
		d.press("thief-call")
		d.wantsChain("retired you", "current thief")
		s.awaitPromoted(handle)
		d.press("call")
		d.press("refresh") // R7 of another client
		d.wantsChain("retired you", "current thief")
		d.wants(1, opening, entry{them, renew, "200 new tokens"}, entry{you, renew, "409 superseded"}, entry{them, me, "200 ALLOW"},
			entry{you, me, "200 ALLOW"}, entry{you, renew, "409 superseded"})
		d.pass(grace)
		before := len(d.entries())
		d.press("refresh")
		d.wantsLane("you", "THEFT at gate")
		d.wantsLane("thief", "UNAUTHORISED at gate")
		d.wantsEnd(before, entry{you, renew, "440 THEFT"}, entry{them, me, "401 UNAUTHORISED"})
		d.ended("for you and for the thief")
		if n := s.endedFor(handle, "theft"); n != 1 {
			t.Errorf("%d ends as theft, want 1", n)
		}
		d.clean()
	})

	t.Run("a thief with all cookies of a bound session", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.press("bound")
		d.wants(1,
			entry{laptop, "POST /login", "200 not checked"}, entry{laptop, "POST /auth/session/bind", "200 key kept"}, entry{laptop, "POST /auth/session/bound", "200 proven"},
			entry{prop, "copy every cookie of the laptop", ""}, entry{them, me, "200 ALLOW"}, entry{prop, "let the copied access token end", ""},
			entry{them, renew, "503 UNPROVEN"}, entry{laptop, "POST /auth/session/bound", "200 proven"},
		)
		d.says("No token (B10)")
		d.wantsLane("thief", "UNPROVEN at gate")
		d.wantsLane("laptop", "proven at gate")
		if hint := eval[string](d.tab, `document.querySelector("#window-laptop .hint").textContent`); !strings.Contains(hint, "cannot bind a session on plain HTTP") {
			t.Errorf("the page says %q, and not who the laptop is", hint)
		}
		// The page's own session is another one.
		d.wantsChain("current you")
		d.press("call")
		d.wants(9, entry{you, me, "200 ALLOW"})
		// Once more: another laptop, another thief.
		d.press("bound")
		d.wantsLane("thief", "UNPROVEN at gate")
		d.clean()
	})

	t.Run("signing out, here and everywhere", func(t *testing.T) {
		desk, phone := openDemo(t, s, "grace"), openDemo(t, s, "grace")
		phone.press("signout button")
		phone.awaitPath("/login")
		desk.press("call")
		desk.wants(1, entry{you, me, "200 ALLOW"})

		phone.signIn("grace")
		phone.press("everywhere button")
		phone.awaitPath("/login")
		s.eventually("the desk is out", func() bool {
			desk.press("call")
			return eval[bool](desk.tab, `!document.getElementById("ended").hidden`)
		})
		desk.ended("Your session has ended")
		desk.clean()
		phone.clean()
	})

	t.Run("signing out in another tab", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		other := d.another()
		other.goTo("/")
		other.await(`document.querySelector("#log li") && document.getElementById("demo").dataset.busy === "false"`)
		other.press("signout button")
		d.await(`!document.getElementById("ended").hidden`)
		d.ended("Your session has ended")
		d.wants(1, entry{you, me, "401 UNAUTHORISED"})
		if why := eval[string](d.tab, `document.querySelector("#log li p").textContent`); !strings.Contains(why, "this browser was signed out") {
			t.Errorf("the log says %q", why)
		}
		d.clean()
		other.clean()
	})

	// What the page then does must neither break the other's session nor tell of it as its own.
	for _, action := range []string{"call", "refresh", "expire", "lose", "thief-open"} {
		t.Run("another user signed in: "+action, func(t *testing.T) {
			d := openDemo(t, s, "ada")
			const memory = `localStorage.getItem("demo.chain")`
			before := eval[string](d.tab, memory)
			// Not by the page's own script, so that the page does not hear of it.
			eval[bool](d.tab, `fetch("/login", { method: "POST", headers: { "content-type": "application/json" }, body: '{"user":"eve"}' })
				.then((answer) => (localStorage.setItem("anti-csrf", answer.headers.get("anti-csrf")), answer.ok))`)
			chain := d.chain()
			d.press(action)
			d.endedForOther()
			d.wantsChain(chain...)
			if after := eval[string](d.tab, memory); after != before {
				t.Error("the chain of ada's session was told what eve's has done")
			}
			if user := eval[string](d.tab, `fetch("/api/me", { headers: { "anti-csrf": localStorage.getItem("anti-csrf") } }).then((answer) => answer.json()).then((said) => said.user_id)`); user != "eve" {
				t.Errorf("the browser is signed in as %q, want eve as before", user)
			}
			d.clean()
		})
	}

	t.Run("another user signs in, in another tab", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		other := d.another()
		other.goTo("/login")
		other.signIn("eve")
		d.await(`!document.getElementById("ended").hidden`)
		d.endedForOther()
		other.press("call")
		other.wants(1, entry{you, me, "200 ALLOW"})
		other.wantsChain("current you")
		if err := chromedp.Do(d.ctx, chromedp.Click("#ended-link")); err != nil {
			t.Fatal(err)
		}
		d.await(`document.getElementById("user")?.textContent === "eve" && document.querySelector("#log li") && document.getElementById("demo").dataset.busy === "false"`)
		d.press("call")
		d.wants(1, entry{you, me, "200 ALLOW"})
		d.clean()
		other.clean()
	})

	t.Run("on a small screen the lane comes into view", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.viewport(390, 640, 1)
		d.press("thief-open")
		if top := eval[float64](d.tab, `(document.getElementById("log").scrollIntoView({ block: "start" }), document.getElementById("lane-thief").getBoundingClientRect().top)`); top >= 0 {
			t.Fatalf("the lane begins at %g: nothing to bring into view", top)
		}
		eval[bool](d.tab, `(document.getElementById("thief-refresh").focus({ preventScroll: true }), true)`)
		if err := chromedp.Do(d.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
			t.Fatal(err)
		}
		d.await(`document.getElementById("demo").dataset.busy === "false" && document.getElementById("lane-thief").dataset.outcome`)
		if !eval[bool](d.tab, `(({ top, bottom }) => top >= 0 && bottom <= innerHeight)(document.getElementById("lane-thief").getBoundingClientRect())`) {
			t.Error("the lane is out of view")
		}
		d.clean()
	})

	t.Run("calls on a timer", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.press("refresh")
		said := d.said()
		if err := chromedp.Do(d.ctx, chromedp.Click("#timer")); err != nil {
			t.Fatal(err)
		}
		d.await(`document.querySelectorAll("#log li").length >= 3`)
		for _, e := range d.since(2) {
			if e != (entry{you, me, "200 ALLOW"}) {
				t.Errorf("the timer made %v", e)
			}
		}
		if now := d.said(); now != said {
			t.Errorf("the timer announces %q, though the user did nothing", now)
		}
		d.clean()
	})

	t.Run("without scripts", func(t *testing.T) {
		d := s.newPage(s.newProfileFor(t))
		d.scripts(false)
		d.goTo("/login")
		if err := chromedp.Do(d.ctx, chromedp.SendKeys("#user", "ada"+kb.Enter)); err != nil {
			t.Fatal(err)
		}
		d.awaitPath("/")
		if said := eval[string](d.tab, `document.body.innerText`); !strings.Contains(said, "Hello, ada") || !strings.Contains(said, "Scripts are off") {
			t.Errorf("the page says %q", said)
		}

		// From there on with scripts: they have no anti-CSRF token, and need none, for the browser says whose they are.
		d.scripts(true)
		d.media("light", "reduce")
		d.goTo("/")
		d.await(`document.querySelector("#log li")`)
		d.press("call")
		d.wants(1, entry{you, me, "200 ALLOW"})

		d.scripts(false)
		d.goTo("/")
		handle := d.handle()
		if err := chromedp.Do(d.ctx, chromedp.Click("#signout button")); err != nil {
			t.Fatal(err)
		}
		d.awaitPath("/login")
		if n := s.endedFor(handle, "revoked"); n != 1 {
			t.Errorf("%d ends of the session, want 1", n)
		}
		d.clean()
	})

	t.Run("motion only for those who like it", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		eval[bool](d.tab, `(() => { window.moves = 0; const animate = Element.prototype.animate;
			Element.prototype.animate = function (...how) { window.moves++; return animate.apply(this, how); }; return true })()`)
		d.press("call")
		if n := eval[int](d.tab, `moves`); n != 0 {
			t.Errorf("%d moves for a user who wants none", n)
		}
		const slow = `getComputedStyle(document.querySelector("#chain .token")).transitionDuration`
		if how := eval[string](d.tab, slow); how != "0s" {
			t.Errorf("a token moves in %s for a user who wants none", how)
		}
		d.media("light", "no-preference")
		if how := eval[string](d.tab, slow); how == "0s" {
			t.Error("a promotion is no movement")
		}
		d.press("call")
		if n := eval[int](d.tab, `moves`); n == 0 {
			t.Error("nothing moves")
		}
		d.clean()
	})

	t.Run("on the wire", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.press("call")
		d.await(`document.querySelectorAll("#wire-shown .message").length === 3`)
		if ours := eval[[]string](d.tab, `[...document.querySelectorAll("#wire-shown .ours")].map((row) => row.textContent)`); !slices.Contains(ours, "x-session-user-id: sessiongateada") {
			t.Errorf("the marked headers are %q, want the user's identity among them", ours)
		}
		eval[bool](d.tab, `(navigator.clipboard.writeText = async (text) => { window.copied = text }, true)`)
		d.press("copy")
		d.await(`window.copied`)
		if command := eval[string](d.tab, `copied`); !strings.HasPrefix(command, "curl -i -X GET 'http://app.localhost:") || !strings.Contains(command, "sAccessToken=$ACCESS_TOKEN") {
			t.Errorf("the command is %q", command)
		}
		d.press("refresh")
		d.await(`document.getElementById("wire-which").textContent.includes("refresh") && document.querySelectorAll("#wire-shown .message").length === 3`)
		shown := eval[string](d.tab, `document.documentElement.outerHTML`)
		if n := d.secrets.in([]byte(shown)); n > 0 {
			t.Errorf("the page shows %d tokens", n)
		}
		if !strings.Contains(shown, "sRefreshToken=sgr1_") || !strings.Contains(shown, "the app never sees a refresh token") {
			t.Error("the page shows no refresh on the wire")
		}
		// Another one is chosen by key.
		eval[bool](d.tab, `(document.querySelector("#log li:last-child .pick, #log li:nth-child(2) .pick").focus(), true)`)
		if err := chromedp.Do(d.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
			t.Fatal(err)
		}
		d.await(`document.getElementById("wire-which").textContent === "You: GET /api/me" && document.querySelector("#log li:nth-child(2)").getAttribute("aria-current") === "true"`)
		d.clean()
	})

	t.Run("no control is off without its reason", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		for id, want := range map[string]string{"thief-refresh": "steal a copy first", "thief-call": "steal a copy first", "power-replica": "the app’s own"} {
			if why := d.off(id); !strings.Contains(why, want) {
				t.Errorf("%s is off because of %q, want %q in it", id, why, want)
			}
		}
		if err := chromedp.Do(d.ctx, chromedp.Click("#thief-refresh")); err != nil {
			t.Fatal(err)
		}
		d.says("steal a copy first") // where there is no pointer to hover with
		d.reasons()
		d.press("thief-open")
		d.reasons()
		if why := d.off("thief-open"); !strings.Contains(why, "a copy already") {
			t.Errorf("stealing is off because of %q", why)
		}
		d.advance(accessLife)
		d.pass(grace)
		d.press("refresh")
		d.press("call")
		s.awaitPromoted(d.handle())
		d.pass(grace)
		d.press("thief-refresh")
		d.ended("for you")
		d.reasons()
		if why := d.off("call"); !strings.Contains(why, "Sign in again") {
			t.Errorf("calling is off because of %q", why)
		}
		d.clean()
	})

	t.Run("the thief's lane is red, whatever the answer is", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		const colours = `["lane-thief", "window-thief"].map((id) => getComputedStyle(document.getElementById(id)).getPropertyValue(id === "lane-thief" ? "--tone" : "--frame"))`
		const bad = `getComputedStyle(document.documentElement).getPropertyValue("--bad")`
		red := eval[string](d.tab, bad)
		wantRed := func(when string) {
			t.Helper()
			for _, colour := range eval[[]string](d.tab, colours) {
				if colour != red {
					t.Errorf("%s: the thief's colour is %s, want %s", when, colour, red)
				}
			}
		}
		wantRed("at first")
		d.pass(grace)
		d.press("thief-open")
		d.press("thief-refresh")
		d.wantsLane("thief", "new tokens at gate")
		wantRed("with new tokens")
		d.press("thief-call")
		d.wantsLane("thief", "ALLOW at app")
		wantRed("allowed")
		d.clean()
	})

	t.Run("the chain is above the fold of a phone", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.viewport(390, 844, 1)
		if bottom := eval[float64](d.tab, `(scrollTo(0, 0), document.querySelector(".links").getBoundingClientRect().bottom)`); bottom > 844 {
			t.Errorf("the chain ends at %g", bottom)
		}
		d.clean()
	})

	t.Run("pictures", func(t *testing.T) { takePictures(t, s) })

	t.Run("light to load, and fit for all", func(t *testing.T) {
		d := openDemo(t, s, "a-user-name-as-long-as-they-come.and-longer@example.com")
		const transferred = `[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].filter((e) => !e.name.includes("/api/")).reduce((sum, e) => sum + e.transferSize, 0)`
		eval[bool](d.tab, `(document.querySelectorAll("img, script, link").length > 0)`)
		if n := eval[int](d.tab, transferred); n == 0 || n > 100_000 {
			t.Errorf("the page takes %d bytes, want at most 100,000", n)
		}
		d.press("thief-open")
		d.press("thief-refresh")
		d.press("expire")
		d.press("call")
		d.press("lose")
		d.clean()
		for _, scheme := range []string{"light", "dark"} {
			d.media(scheme, "reduce")
			d.legible(scheme)
		}
		d.labelled()
		d.reachable()
		d.viewport(320, 640, 1)
		d.fits()

		d.advance(accessLife)
		d.pass(grace)
		d.press("refresh")
		d.press("call")
		s.awaitPromoted(d.handle()) // the grace begins with it
		d.pass(grace)
		d.press("thief-refresh")
		d.ended("for you")
		d.fits()
		for _, scheme := range []string{"light", "dark"} {
			d.media(scheme, "reduce")
			d.legible(scheme + ", ended")
		}
		d.goTo("/login")
		d.fits()
		d.labelled()
		for _, scheme := range []string{"light", "dark"} {
			d.media(scheme, "reduce")
			d.legible(scheme + ", sign-in")
		}
	})

	t.Run("Postgres is killed and brought back", func(t *testing.T) {
		d := openDemo(t, s, "ada")
		d.press("power-postgres")
		d.says("Postgres was killed")
		d.await(`document.getElementById("state-postgres").textContent === "was killed" && !document.getElementById("power-postgres").checked`)
		before := len(d.entries())
		d.press("call")
		d.press("refresh")
		d.wants(before, entry{you, me, "200 ALLOW"}, entry{you, renew, "503 UNAVAILABLE"})
		d.says("no one is signed out")
		d.press("power-postgres")
		d.says("Postgres is back")
		s.reconnect()
		s.eventually("a refresh passes", func() bool {
			d.press("refresh")
			return d.since(before + 3)[0].Chip != "" && d.entries()[len(d.entries())-1].Chip == "200 access token"
		})
		if turned := s.control.turned(); !slices.Equal(turned, []string{"/parts/postgres false", "/parts/postgres true"}) {
			t.Errorf("switches %q", turned)
		}
		d.clean()
	})
}

// off is why a control is off, as a screen reader is told; "" where it is on.
func (d demoPage) off(id string) string {
	d.Helper()
	d.await(`document.getElementById("demo").dataset.busy === "false"`)
	return eval[string](d.tab, fmt.Sprintf(`((control) => control.getAttribute("aria-disabled") !== "true" ? ""
		: control.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).textContent).join(" "))(document.getElementById(%s))`, quote(id)))
}

// reasons fails where a control is off without words for it, to hear and to hover.
func (d demoPage) reasons() {
	d.Helper()
	d.await(`document.getElementById("demo").dataset.busy === "false"`)
	if silent := eval[[]string](d.tab, `[...document.querySelectorAll('[aria-disabled="true"], :disabled')].filter((control) => control.title.length < 8 ||
		!control.getAttribute("aria-describedby")?.split(" ").some((id) => document.getElementById(id).textContent === control.title)).map(({ id, textContent }) => id || textContent)`); len(silent) > 0 {
		d.Errorf("off without a reason: %q", silent)
	}
}

func (d demoPage) scripts(on bool) {
	d.Helper()
	d.do(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

// ended is the page's last word, with the way to a new session.
func (d demoPage) ended(words string) {
	d.Helper()
	// Whatever a test pressed is done: a session that has not ended now never will.
	if eval[bool](d.tab, `document.getElementById("ended").hidden`) {
		d.Fatalf("the session has not ended; the log: %v", d.entries())
	}
	d.await(`document.activeElement.id === "ended-link"`)
	if title := eval[string](d.tab, `document.getElementById("ended").hidden ? "" : document.getElementById("ended-title").textContent`); !strings.Contains(title, words) {
		d.Errorf("the page ends with %q, want %q in it", title, words)
	}
	if path := eval[string](d.tab, `document.activeElement.getAttribute("href")`); path != "/login" {
		d.Errorf("the way on leads to %q", path)
	}
}

// endedForOther is the page's last word where its browser has another user's session.
func (d demoPage) endedForOther() {
	d.Helper()
	if title := eval[string](d.tab, `document.getElementById("ended").hidden ? "" : document.getElementById("ended-title").textContent`); title != "This browser is now signed in as another user." {
		d.Fatalf("the page ends with %q; the log: %v", title, d.entries())
	}
	d.await(`document.activeElement.id === "ended-link" && document.activeElement.getAttribute("href") === "/"`)
	// The story signs in again, and the wire only shows what was.
	if able := eval[int](d.tab, `document.querySelectorAll('.window button:not([aria-disabled="true"])').length`); able > 0 {
		d.Errorf("%d buttons can still be pressed", able)
	}
	if !eval[bool](d.tab, `localStorage.getItem("anti-csrf") !== null`) {
		d.Error("the other's anti-CSRF token is gone")
	}
}

// hints is what the page says that the thief's token is worth.
func (d demoPage) hints(words string) {
	d.Helper()
	if hint := eval[string](d.tab, `document.getElementById("thief-how").textContent`); !strings.Contains(hint, words) {
		d.Errorf("the page hints %q, want %q in it", hint, words)
	}
}

// fits fails where the page is wider than the screen.
func (d demoPage) fits() {
	d.Helper()
	if wide := eval[[]string](d.tab, `[...document.querySelectorAll("body, body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1)
		.map((e) => e.tagName + "." + e.className + "#" + e.id)`); len(wide) > 0 || eval[bool](d.tab, `document.documentElement.scrollWidth > innerWidth`) {
		d.Errorf("wider than the screen: %q", wide)
	}
}

// labelled asks the accessibility tree for the name of whatever can be used.
func (d demoPage) labelled() {
	d.Helper()
	d.do(func(ctx context.Context, t *chromedp.Target) error {
		tree, err := cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			return err
		}
		controls := 0
		for _, node := range tree.Nodes {
			if node.Ignored || node.Role == nil {
				continue
			}
			role, name := strings.Trim(string(node.Role.Value), `"`), ""
			if node.Name != nil {
				name = strings.Trim(string(node.Name.Value), `"`)
			}
			switch role {
			case "button", "link", "switch", "textbox", "region", "group", "heading", "image":
				controls++
				if name == "" {
					d.Errorf("a %s has no name", role)
				}
			}
		}
		if controls == 0 {
			d.Error("the accessibility tree has no controls")
		}
		return nil
	})
}

// reachable goes through the page by the Tab key. The order must be that of reading, and the focus be seen.
func (d demoPage) reachable() {
	d.Helper()
	want := []string{
		"Play the story", "Sign out", "Everywhere", "Call the API", "Refresh now", "Expire the access token", "Lose an answer",
		"Refresh in twenty tabs", "timer", "Steal your refresh token", "Refresh with it", "Call the API", "Bind a session, and let all its cookies be stolen", "power-postgres", "power-replica",
	}
	if eval[bool](d.tab, `!document.getElementById("wait").hidden`) {
		want = slices.Insert(want, 1, "wait")
	}
	eval[bool](d.tab, `((start) => { start.tabIndex = -1; start.focus(); return true; })(document.querySelector("h1"))`)
	var got []string
	for range want {
		if err := chromedp.Do(d.ctx, chromedp.KeyEvent(kb.Tab)); err != nil {
			d.Fatal(err)
		}
		got = append(got, eval[string](d.tab, `document.activeElement.id === "wait" ? "wait" : document.activeElement.textContent || document.activeElement.id`))
		if !eval[bool](d.tab, `[document.activeElement, document.activeElement.closest("label") ?? document.activeElement].some((e) => parseFloat(getComputedStyle(e).outlineWidth) >= 2 && getComputedStyle(e).outlineStyle !== "none")`) {
			d.Errorf("the focus cannot be seen on %s", got[len(got)-1])
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		d.Errorf("focus order (-want +got):\n%s", diff)
	}
}

// legible computes the contrast of every text with what is behind it (WCAG 2, 1.4.3).
func (d demoPage) legible(where string) {
	d.Helper()
	poor := eval[[]string](d.tab, `(() => {
		const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
		const paint = (colours) => {
			context.clearRect(0, 0, 1, 1);
			for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
			return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255);
		};
		const luminance = (rgb) => rgb.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
		const behind = (e) => { const layers = []; for (; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor); return ["white", ...layers]; };
		const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest("svg");
		const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		const poor = new Set();
		let n = 0;
		for (let node; (node = texts.nextNode()); ) {
			const e = node.parentElement;
			if (!node.data.trim() || !seen(e) || e.closest("noscript")) continue;
			n++;
			const ground = behind(e);
			const [a, b] = [luminance(paint(ground)), luminance(paint([...ground, getComputedStyle(e).color]))].sort((x, y) => x - y);
			const ratio = (b + 0.05) / (a + 0.05);
			if (ratio < 4.5) poor.add(ratio.toFixed(2) + " " + node.data.trim().slice(0, 40) + " ." + e.className);
		}
		return n < 4 ? ["only " + n + " texts"] : [...poor];
	})()`)
	if len(poor) > 0 {
		d.Errorf("%s: too little contrast:\n%s", where, strings.Join(poor, "\n"))
	}
}

// takePictures takes those of the README. SESSIONGATE_SCREENSHOTS names the folder that gets them (make screenshots).
func takePictures(t *testing.T, s *demoStack) {
	d := openDemo(t, s, "ada")
	d.viewport(1280, 800, 1)
	d.press("call")
	d.pass(grace)
	d.press("refresh")
	d.press("call")
	d.press("expire")
	d.press("call")
	d.pass(grace)
	d.press("refresh")
	d.shoot("demo")

	d.press("call")
	s.awaitPromoted(d.handle())
	d.pass(grace)
	d.press("thief-open")
	d.press("thief-refresh")
	d.ended("for you and for the thief")
	d.shoot("demo-theft")
	d.clean()

	phone := openDemo(t, s, "grace")
	phone.media("dark", "reduce")
	phone.viewport(390, 844, 2)
	phone.pass(grace)
	phone.press("lose")
	phone.press("refresh")
	phone.shoot("demo-phone")

	// Another tab holds the lock, as one that is refreshing does: this one waits.
	other := phone.another()
	other.goTo("/static/icon.svg")
	eval[bool](other.tab, `new Promise((held) => navigator.locks.request("sessiongate.refresh", () => { held(true); return new Promise(() => {}); }))`)
	phone.media("light", "reduce")
	phone.viewport(720, 360, 1)
	s.advance(accessLife)
	phone.goTo("/")
	phone.await(`getComputedStyle(document.querySelector("main")).opacity === "1"`) // it is shown to those who have to wait
	phone.shoot("refresh-page")
}

func (d demoPage) viewport(width, height int64, scale float64) {
	d.Helper()
	if err := chromedp.Do(d.ctx, chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale))); err != nil {
		d.Fatal(err)
	}
}

// shoot takes a picture of what is in view.
func (d demoPage) shoot(name string) {
	d.Helper()
	eval[bool](d.tab, `(document.activeElement?.blur(), scrollTo(0, 0), new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(() => painted(true)))))`)
	shot, err := chromedp.Run(d.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		d.Fatal(err)
	}
	dir := os.Getenv("SESSIONGATE_SCREENSHOTS")
	if dir == "" {
		return // it could be taken; making the file small takes long
	}
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		d.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, inFewColours(picture)); err != nil {
		d.Fatal(err)
	}
	if n := small.Len(); n > 150_000 {
		d.Errorf("%s has %d bytes, want at most 150,000", name, n)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), small.Bytes(), 0o644); err != nil {
		d.Fatal(err)
	}
}

// inFewColours keeps the 256 most frequent colours of a picture, which is flat but for the edges of its letters.
func inFewColours(picture pixels.Image) *pixels.Paletted {
	bounds := picture.Bounds()
	frequency := map[color.Color]int{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			frequency[picture.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(frequency), func(a, b color.Color) int {
		return cmp.Or(frequency[b]-frequency[a], strings.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	palette := color.Palette(colours[:min(len(colours), 256)])
	nearest := make(map[color.Color]uint8, len(colours))
	for _, c := range colours {
		nearest[c] = uint8(palette.Index(c))
	}
	flat := pixels.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			flat.SetColorIndex(x, y, nearest[picture.At(x, y)])
		}
	}
	return flat
}
