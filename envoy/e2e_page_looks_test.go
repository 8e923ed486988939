package envoy_test

// The page under test as it is read: without script, in the dark, on a phone, aloud.

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// contrasts is the least contrast (WCAG 2.2, 1.4.3) of the texts that are shown, and the colours of the page.
const contrasts = `(() => {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = rgb(colour).slice(0, 3).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor, [, , , opacity = 1] = rgb(colour);
    return opacity === 1 ? colour : ground(element.parentElement);
  };
  const texts = [...document.querySelectorAll("h1, p, a, button")].filter((element) => element.checkVisibility() && element.textContent.trim());
  const ratios = texts.map((element) => {
    const [dark, light] = [luminance(getComputedStyle(element).color), luminance(ground(element))].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  });
  return { texts: texts.map((element) => element.tagName), least: Math.min(...ratios), colours: ["body", "main", "h1"].map((name) => {
    const style = getComputedStyle(document.querySelector(name));
    return style.color + " on " + style.backgroundColor;
  }) };
})()`

func testLooks(t *testing.T, s *stack) {
	// awaiting is a tab with a page that stays: it has its title, its words and a button.
	awaiting := func(t *testing.T, user string) *tab {
		tab := s.newProfileFor(t).expired(one, user)
		tab.onEveryPage(stopClock)
		tab.outage()
		t.Cleanup(tab.recovery)
		tab.goTo("/page")
		tab.await(told + `.includes("cannot be reached")`)
		return tab
	}
	// bare is a tab whose page cannot run its script.
	bare := func(t *testing.T, user string) *tab {
		tab := s.newProfileFor(t).expired(one, user)
		if _, err := chromedp.Call(tab.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
			t.Fatal(err)
		}
		tab.goTo("/page")
		return tab
	}
	readable := func(tab *tab) {
		t := tab.T
		t.Helper()
		if text := eval[string](tab, `document.body.innerText`); !strings.Contains(text, "Session expired") || !strings.Contains(text, "needs JavaScript") || !strings.Contains(text, "Sign in again") || strings.Contains(text, "Try") {
			t.Errorf("the person reads %q", text)
		}
		if title := eval[string](tab, `document.title`); title != "Session expired" {
			t.Errorf("the title is %q", title)
		}
		if n := refreshes(tab); n != 0 {
			t.Errorf("%d refreshes without a script", n)
		}
		tab.do(chromedp.Click("#login a"))
		tab.await(onLogin)
	}
	t.Run("without JavaScript", func(t *testing.T) { readable(bare(t, "scriptless")) })
	t.Run("under a stricter policy of the operator's", func(t *testing.T) {
		tab := s.newProfileFor(t).expired(strictHost, "strict")
		tab.goTo(s.siteAt(strictHost, "/page"))
		readable(tab)
	})
	t.Run("beside a strict policy of the app's", func(t *testing.T) {
		s.app.pages.HandleFunc("GET /locked", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox allow-scripts allow-same-origin")
			_, _ = io.WriteString(w, "<!doctype html><title>app</title>")
		})
		p := s.newProfileFor(t)
		tab := p.signedIn("policy")
		tab.goTo("/locked")
		p.advance(accessLife)
		tab.goTo("/locked?a=1")
		tab.awaitPath("/locked?a=1")
		tab.await(onApp)
		tab.want(1, 4)
		tab.quiet()
	})

	t.Run("in light and dark", func(t *testing.T) {
		type look struct {
			Texts   []string
			Least   float64
			Colours []string
		}
		for name, open := range map[string]func(*testing.T, string) *tab{"waiting": awaiting, "scriptless": bare} {
			t.Run(name, func(t *testing.T) {
				tab := open(t, "look-"+name)
				looks := map[string]look{}
				for _, scheme := range []string{"light", "dark"} {
					if _, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
						Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
					}); err != nil {
						t.Fatal(err)
					}
					looks[scheme] = eval[look](tab, contrasts)
					if l := looks[scheme]; l.Least < 4.5 || !slices.Contains(l.Texts, "H1") || !slices.Contains(l.Texts, map[string]string{"waiting": "BUTTON", "scriptless": "A"}[name]) {
						t.Errorf("%s: %v has a contrast of %.2f, want 4.5", scheme, l.Texts, l.Least)
					}
				}
				for i, colour := range looks["light"].Colours {
					if colour == looks["dark"].Colours[i] {
						t.Errorf("%s, light and dark", colour)
					}
				}
			})
		}
	})

	t.Run("on a phone", func(t *testing.T) {
		for name, open := range map[string]func(*testing.T, string) *tab{"waiting": awaiting, "scriptless": bare} {
			t.Run(name, func(t *testing.T) {
				tab := open(t, "phone-"+name)
				if _, err := chromedp.Call(tab.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 320, Height: 480, DeviceScaleFactor: 2, Mobile: true}); err != nil {
					t.Fatal(err)
				}
				sizes := eval[[]int](tab, `[innerWidth, document.documentElement.scrollWidth, document.documentElement.scrollHeight]`)
				if sizes[0] != 320 || sizes[1] > 320 || sizes[2] > 480 {
					t.Errorf("%d wide and %d high, on a screen of %d by 480", sizes[1], sizes[2], sizes[0])
				}
			})
		}
	})

	t.Run("aloud", func(t *testing.T) {
		tab := awaiting(t, "aloud")
		// The region that is read when it changes must be the same one before and after.
		eval[any](tab, `void (window.region = document.getElementById("status"))`)
		before := eval[string](tab, told)
		var roles []string
		tree, err := chromedp.Call(tab.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range tree.Nodes {
			if !node.Ignored {
				roles = append(roles, spoken(node.Role)+" "+spoken(node.Name))
			}
		}
		for _, want := range []string{"RootWebArea One moment", "main ", "heading One moment", "status ", "button Try now"} {
			if !slices.Contains(roles, want) {
				t.Errorf("no %q in %q", want, roles)
			}
		}
		if slices.Contains(roles, "link Sign in again") {
			t.Error("a link that is not shown is read")
		}
		if lang := eval[string](tab, `document.documentElement.lang`); lang != "en" {
			t.Errorf("lang is %q", lang)
		}
		// By keyboard alone.
		tab.do(chromedp.KeyEvent("\t"))
		if label := eval[string](tab, `document.activeElement.textContent + " " + getComputedStyle(document.activeElement).outlineStyle`); label != "Try now solid" {
			t.Errorf("the first stop of the Tab key is %q", label)
		}
		eval[any](tab, `new Promise((done) => { new MutationObserver(() => done(0)).observe(region, { childList: true }); document.activeElement.click(); })`)
		if after := eval[string](tab, `region.isConnected ? region.textContent : ""`); after == "" {
			t.Errorf("the live region went from %q to nothing", before)
		}
	})
}

func spoken(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	var text string
	_ = json.Unmarshal([]byte(v.Value), &text)
	return text
}
