package envoy_test

// The story of the demo's page, played to its end in a real browser.

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	gocmp "github.com/google/go-cmp/cmp"
)

// demoAttempt is refresh_attempt_max of the demo (cmd/demo): the story waits for each grace.
const demoAttempt = 3 * time.Second

// storyWatch is run in the page before the story: it notes each caption, and where the chain was when it was told.
const storyWatch = `(() => {
	window.told = [];
	const caption = document.getElementById("caption");
	const note = () => {
		const [chain, words] = [document.querySelector(".links"), caption].map((e) => e.getBoundingClientRect());
		told.push({ caption: caption.textContent, at: chain.top, seen: words.top >= 0 && words.bottom <= innerHeight && chain.top >= 0 && chain.bottom <= innerHeight });
	};
	new MutationObserver(note).observe(caption, { childList: true });
	document.getElementById("play").addEventListener("click", () => requestAnimationFrame(() => { window.begun = document.querySelector(".links").getBoundingClientRect().top; }), { once: true });
	return true;
})()`

type toldCaption struct {
	Caption string  `json:"caption"`
	At      float64 `json:"at"`
	Seen    bool    `json:"seen"`
}

func TestDemoStory(t *testing.T) {
	t.Parallel()
	needChromium(t)
	demo := func(t *testing.T) *demoStack {
		t.Helper()
		s, openNetwork := newDemo(t, demoAttempt)
		openNetwork()
		return s
	}

	for name, view := range map[string]struct {
		width, height  int64
		scheme, motion string
	}{
		"at 1280 px":            {1280, 800, "light", "no-preference"},
		"at 390 px, less moved": {390, 844, "dark", "reduce"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := demo(t)
			d := openDemo(t, s, "eve")
			d.media(view.scheme, view.motion)
			d.viewport(view.width, view.height, 1)
			eval[bool](d.tab, storyWatch)
			before := len(s.control.turned())
			d.begin()
			d.reasons() // while it plays, each control says that it does
			if file := filmFile(); file != "" && view.motion == "no-preference" {
				d.viewport(filmWidth, filmHeight, filmScale)
				d.film(file)
			}
			d.awaitStory("done")
			s.reconnect()

			steps := eval[[]string](d.tab, `import("/static/story.js").then(({ steps, epilogue }) => [...steps.map(({ caption }) => caption), epilogue])`)
			told := eval[[]toldCaption](d.tab, `told`)
			begun := eval[float64](d.tab, `begun`)
			var captions []string
			for _, c := range told {
				captions = append(captions, c.Caption)
				if filmFile() == "" && c.At != begun && c.Caption != steps[len(steps)-1] {
					t.Errorf("the chain is at %g px, and was at %g: %q", c.At, begun, c.Caption)
				}
				if !c.Seen && filmFile() == "" { // a film has a size of its own
					t.Errorf("out of view: %q", c.Caption)
				}
			}
			if diff := gocmp.Diff(steps, captions); diff != "" {
				t.Errorf("captions (-want +got):\n%s", diff)
			}
			if turned := s.control.turned()[before:]; !slices.Equal(turned, []string{"/parts/postgres false", "/parts/postgres true"}) {
				t.Errorf("switches %q", turned)
			}
			happened := eval[[]string](d.tab, `[...document.querySelectorAll("#log li")].reverse().map((li) => li.querySelector(".who").textContent + " " + (li.querySelector(".chip")?.textContent ?? ""))`)
			for _, want := range []string{"You 440 TRY_REFRESH", "You 200 new tokens", "Thief 440 THEFT", "You 401 UNAUTHORISED", "Laptop 200 proven", "Thief 503 UNPROVEN", "You 503 UNAVAILABLE"} {
				if !slices.Contains(happened, want) {
					t.Errorf("no %q in %q", want, happened)
				}
			}
			// What the stage did is none of the user's requests.
			for _, e := range d.entries() {
				if e.Who != prop && strings.Contains(e.Request, "/stage/") {
					t.Errorf("%s is told as a request of %s", e.Request, e.Who)
				}
			}
			// The page is the user's again, with a session that lives.
			d.remember()
			d.press("call")
			if user := eval[string](d.tab, `fetch("/api/me").then((answer) => answer.json()).then((said) => said.user_id)`); user != "ada" {
				t.Errorf("signed in as %q, want ada", user)
			}
			d.clean()
		})
	}

	t.Run("from the sign-in page, paused by a key, and stopped", func(t *testing.T) {
		t.Parallel()
		s := demo(t)
		d := s.newPage(s.newProfileFor(t))
		d.media("light", "reduce")
		d.goTo("/login")
		if err := chromedp.Do(d.ctx, chromedp.Click("#story")); err != nil {
			t.Fatal(err)
		}
		d.await(`location.pathname === "/" && document.getElementById("demo").dataset.story === "playing" && document.querySelector("#chapters [aria-current]")`)
		d.remember()
		if err := chromedp.Do(d.ctx, chromedp.KeyEvent(kb.Escape)); err != nil {
			t.Fatal(err)
		}
		d.awaitStory("paused")
		d.await(`document.getElementById("demo").dataset.busy === "false"`)
		// Nothing happens in the time that the story needs for more than one step.
		const state = `JSON.stringify([document.getElementById("caption").textContent, document.querySelectorAll("#log li").length])`
		before := eval[string](d.tab, state)
		if after := eval[string](d.tab, `new Promise((later) => setTimeout(() => later(`+state+`), 2500))`); after != before {
			t.Errorf("while it pauses, %s became %s", before, after)
		}
		if name := eval[string](d.tab, `document.getElementById("play-name").textContent`); name != "Go on" {
			t.Errorf("the button says %q", name)
		}
		// By its button, with the keyboard alone.
		eval[bool](d.tab, `(document.getElementById("play").focus(), true)`)
		if err := chromedp.Do(d.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
			t.Fatal(err)
		}
		d.awaitStory("playing")
		d.await(`JSON.stringify([document.getElementById("caption").textContent, document.querySelectorAll("#log li").length]) !== ` + quote(before))
		if err := chromedp.Do(d.ctx, chromedp.Click("#stop")); err != nil {
			t.Fatal(err)
		}
		d.awaitStory("idle")
		d.await(`document.getElementById("caption").textContent.includes("You stopped the story")`)
		d.remember()
		d.press("call")
		d.clean()
	})
}

// begin presses the button as a mouse does.
func (d demoPage) begin() {
	d.Helper()
	if err := chromedp.Do(d.ctx, chromedp.Click("#play")); err != nil {
		d.Fatal(err)
	}
	d.await(`document.getElementById("demo").dataset.story === "playing" && document.querySelector("#chapters [aria-current]")`)
}

// awaitStory waits for as long as the story goes on: it may take longer than any one step.
func (d demoPage) awaitStory(state string) {
	d.Helper()
	for last := ""; ; {
		const now = `[document.getElementById("demo").dataset.story, document.getElementById("caption").textContent, String(document.querySelectorAll("#log li").length)]`
		seen := eval[[]string](d.tab, now)
		d.remember()
		if seen[0] == state {
			return
		}
		if seen[0] != "playing" && state == "done" {
			d.Fatalf("the story is %s: %s; the log: %v", seen[0], seen[1], d.entries())
		}
		if seen[1]+seen[2] != last {
			last = seen[1] + seen[2]
			continue
		}
		d.await(`JSON.stringify(` + now + `) !== ` + quote(asJSON(seen)))
	}
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
