package envoy_test

// Cookies with SameSite=Strict, which the browser keeps back from a person who comes from another site.

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// alwaysCrossSite makes of each request of a route one that says so.
func alwaysCrossSite(r *routev3.Route) error {
	mutation, err := anypb.New(&headermutationv3.HeaderMutationPerRoute{Mutations: &headermutationv3.Mutations{
		RequestMutations: []*mutationrulesv3.HeaderMutation{{Action: &mutationrulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "sec-fetch-site", Value: "cross-site"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}}},
	}})
	if err == nil {
		r.TypedPerFilterConfig["envoy.filters.http.header_mutation"] = mutation
	}
	return err
}

// TestStrictCookies: a person who comes by a link of another site, or back from an SSO there, is signed in, by one page that asks for itself
// again; and no one goes round in circles.
func TestStrictCookies(t *testing.T) {
	t.Parallel()
	needChromium(t)
	s := newStack(t, stackOptions{processes: 1, settings: []string{"SESSIONGATE_COOKIES_SAME_SITE=strict"}, edit: editRoutes(func(v *routev3.VirtualHost) error {
		return errors.Join(
			addRoute(v, "default", "/sso", map[string]string{"session": "required", "login_url": "/static/sign-in", "return_to": "true"}),
			addRoute(v, "default", "/odd", map[string]string{"session": "required"}),
			alwaysCrossSite(named(v, "/odd")),
		)
	})})
	var asked atomic.Int64 // the SSO
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/authorize": // knows the user, and sends the browser back at once
			asked.Add(1)
			http.Redirect(w, r, s.site("/static/callback?return_to="+url.QueryEscape(r.FormValue("return_to"))), http.StatusFound)
		case "/ask":
			page(w, "SSO")
			_, _ = fmt.Fprintf(w, `<form method=post action=/authorize><input name=return_to value=%q></form>`, r.FormValue("return_to"))
		default:
			page(w, "other site")
		}
	}))
	t.Cleanup(other.Close)
	_, port, _ := strings.Cut(other.Listener.Addr().String(), ":")
	elsewhere := func(path string) string { return "http://other.localhost:" + port + path }

	for _, path := range []string{"/page", "/sso/page", "/optional/page"} {
		s.app.pages.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			page(w, "app")
			_, _ = fmt.Fprintf(w, `<h1 id=user>%s</h1>`, r.Header.Get("X-Session-User-Id"))
		})
	}
	s.app.pages.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) { page(w, "sign in") })
	var interactive atomic.Bool
	s.app.pages.HandleFunc("GET /static/sign-in", func(w http.ResponseWriter, r *http.Request) {
		path := "/authorize?"
		if interactive.Load() {
			path = "/ask?"
		}
		http.Redirect(w, r, elsewhere(path+r.URL.RawQuery), http.StatusFound)
	})
	s.app.pages.HandleFunc("GET /static/callback", func(w http.ResponseWriter, r *http.Request) {
		for _, line := range s.processes[0].create("alice").SetCookie {
			w.Header().Add("Set-Cookie", line)
		}
		http.Redirect(w, r, r.FormValue("return_to"), http.StatusSeeOther)
	})
	const address, isAlice = "?a=1&b=%20&a=2", ` && document.getElementById("user").textContent === "alice"`
	follow := func(p *profile, path string) *tab {
		tab := p.open(elsewhere("/"))
		eval[any](tab, fmt.Sprintf(`void Object.assign(document.createElement("a"), { href: %s }).click()`, quote(p.site(path))))
		return tab
	}
	// answers are those of the app's host to navigations, in order.
	answers := func(tab *tab, path string) (all []int) {
		for _, x := range tab.seen(func(x *exchange) bool { return x.kind == "Document" && strings.HasPrefix(x.path, path) }) {
			all = append(all, x.status)
		}
		return all
	}

	t.Run("a link of another site", func(t *testing.T) {
		p := s.newProfileFor(t)
		p.signedIn("alice")
		for _, path := range []string{"/page", "/optional/page", "/sso/page"} {
			tab := follow(p, path+address+"#here")
			tab.await(onApp + isAlice)
			tab.awaitPath(path + address + "#here")
			if got := answers(tab, path); !slices.Equal(got, []int{http.StatusUnauthorized, http.StatusOK}) {
				t.Errorf("%s: %v, want one hop", path, got)
			}
			if at, paths := tab.entries(); at != len(paths)-1 || paths[at] != path+address+"#here" || paths[at-1] != "/" {
				t.Errorf("%s: history: %d of %q", path, at, paths)
			}
			tab.quiet()
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("the SSO was asked %d times for a user who is signed in", n)
		}
	})

	// A browser might call the page's own request "cross-site". It would be sent back here for ever, if the page did not notice.
	t.Run("a browser that never says same-origin", func(t *testing.T) {
		tab := s.newProfileFor(t).open("/odd")
		tab.await(`document.getElementById("stuck")?.hidden === false`)
		if got := answers(tab, "/odd"); !slices.Equal(got, []int{http.StatusUnauthorized, http.StatusUnauthorized}) {
			t.Errorf("%v, want two answers and no third", got)
		}
	})

	t.Run("a link of another site, no session", func(t *testing.T) {
		tab := follow(s.newProfileFor(t), "/page"+address)
		tab.await(onLogin)
		if got := answers(tab, "/page"); !slices.Equal(got, []int{http.StatusUnauthorized, http.StatusFound}) {
			t.Errorf("%v, want one hop and the sign-in page", got)
		}
		tab = follow(s.newProfileFor(t), "/optional/page"+address)
		tab.await(onApp)
		if got := answers(tab, "/optional/page"); !slices.Equal(got, []int{http.StatusUnauthorized, http.StatusOK}) {
			t.Errorf("%v, want one hop", got)
		}
	})

	// Chains: the app, the SSO on another site, the app's callback, which sets the cookies, the page. Where the person does something at the
	// SSO, the browser takes what follows for the SSO's, and the page needs a hop.
	ownLink := func(p *profile, path string) *tab {
		tab := p.open("/login")
		eval[any](tab, fmt.Sprintf(`void Object.assign(document.createElement("a"), { href: %s }).click()`, quote(path)))
		return tab
	}
	const hop, signIn, ok = http.StatusUnauthorized, http.StatusFound, http.StatusOK
	for name, chain := range map[string]struct {
		start    func(*profile, string) *tab
		asks     bool
		answered []int
	}{
		"the address bar and an SSO":               {(*profile).open, false, []int{signIn, ok}},
		"the address bar and an SSO that asks":     {(*profile).open, true, []int{signIn, hop, ok}},
		"a link of the app and an SSO":             {ownLink, false, []int{signIn, ok}},
		"a link of the app and an SSO that asks":   {ownLink, true, []int{signIn, hop, ok}},
		"a link of another site and an SSO":        {follow, false, []int{hop, signIn, ok}},
		"a link of another site, an SSO that asks": {follow, true, []int{hop, signIn, hop, ok}},
	} {
		t.Run(name, func(t *testing.T) {
			interactive.Store(chain.asks)
			asked.Store(0)
			tab := chain.start(s.newProfileFor(t), "/sso/page"+address)
			if chain.asks {
				tab.await(`document.title === "SSO" && document.readyState === "complete"`)
				eval[any](tab, `void document.forms[0].submit()`)
			}
			tab.awaitPath("/sso/page" + address)
			tab.await(onApp + isAlice)
			if got := answers(tab, "/sso/page"); !slices.Equal(got, chain.answered) {
				t.Errorf("the page answered %v, want %v", got, chain.answered)
			}
			tab.goTo("/sso/page?again")
			tab.await(onApp + isAlice)
			if n := asked.Load(); n != 1 {
				t.Errorf("the SSO was asked %d times", n)
			}
			tab.quiet()
		})
	}
}
