package envoy_test

// The demo's page on https, for a visitor whose own browser binds the session to its device.

import (
	"crypto/tls"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// newBoundDemo deploys the demo with TLS before its network, as a visitor would add it.
func newBoundDemo(t *testing.T, attempt time.Duration) *demoStack {
	t.Helper()
	needChromium(t)
	pair, err := boundCertificate()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(nil)
	front.EnableHTTP2 = true // as such proxies do
	front.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	t.Cleanup(front.Close)
	_, port, _ := strings.Cut(front.Listener.Addr().String(), ":")
	origin := "https://" + boundHost + ":" + port
	s, openNetwork := newDemo(t, attempt, "SESSIONGATE_ALLOWED_ORIGINS="+origin, followsFast)
	front.Config.Handler = &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: "127.0.0.1:" + s.network})
		p.Out.Host = p.In.Host
	}}
	front.StartTLS()
	s.front, s.host = origin, boundHost
	openNetwork()
	return s
}

// TestDemoBound: to a visitor whose browser binds, the page tells what is true of a bound session, and plays its story to the end.
func TestDemoBound(t *testing.T) {
	t.Parallel()
	s := newBoundDemo(t, demoAttempt)
	browser, err := boundChromium()
	if err != nil {
		t.Fatal(err)
	}
	d := s.newPage(s.newProfileIn(browser, t))
	b := d.binding()
	d.media("light", "reduce")
	d.goTo("/login")
	d.signIn("ada")
	b.eventually("the browser registers its key", func() bool { return b.told(registered) == 1 })
	d.press("call")
	handle := d.handle()
	if how := d.text("#bound-how"); !s.isBound(handle) || !strings.Contains(how, "has bound your own session, too") {
		t.Fatalf("the session is not bound, or the page says %q", how)
	}
	if now := d.text("#grace"); now != "proves your key" {
		t.Errorf("a refresh now %q", now)
	}

	// What the visitor breaks.
	n := len(d.entries())
	d.press("expire")
	d.press("call")
	d.wants(n, spoiling, entry{you, me, "440 TRY_REFRESH"}, entry{you, renew, "200 proven"}, entry{you, me, "200 ALLOW"})
	d.press("refresh") // soon after a proof it needs none
	if said := d.said(); !strings.Contains(said, "(B8)") && !strings.Contains(said, "(B9)") {
		t.Errorf("of a refresh the page says %q", said)
	}
	d.press("expire")
	d.press("lose")
	d.says("nothing with it")
	if access := d.text("#access"); !strings.HasPrefix(access, "good for") {
		t.Errorf("the access token that came with the proof is %q", access)
	}
	d.press("expire")
	d.press("tabs")
	d.says("20 answers, and your browser proved its key")

	// The thief gets nothing, and the visitor notices nothing.
	n = len(d.entries())
	d.press("thief-open")
	d.hints("no cookie has that")
	d.press("thief-refresh")
	d.pass(boundLife)
	b.expire()
	b.proves(t, func() { d.press("call") })
	d.press("thief-refresh")
	d.says("Your session goes on")
	d.press("refresh")
	d.wants(n, opening, entry{them, renew, "503 UNPROVEN"}, entry{you, me, "200 ALLOW"}, entry{them, renew, "440 key lost"}, entry{you, renew, "200 proven"})
	if why := d.off("thief-open"); why != "" {
		t.Errorf("another copy cannot be stolen: %s", why)
	}
	d.wantsChain("current you")
	if d.handle() != handle || b.told(terminated) != 0 || !eval[bool](d.tab, `document.getElementById("ended").hidden`) {
		t.Error("the session has ended")
	}

	// The story tells of rotation. It is read faster here.
	eval[bool](d.tab, `(((wait) => { window.setTimeout = (done, ms, ...more) => wait(done, ms === 50 ? 2 : ms, ...more); })(setTimeout), true)`)
	d.begin()
	d.awaitStory("done")
	for _, want := range []entry{{them, renew, "440 THEFT"}, {them, renew, "503 UNPROVEN"}, {you, renew, "200 new tokens"}} {
		if !slices.Contains(d.entries(), want) {
			t.Errorf("the story has no %v in %v", want, d.entries())
		}
	}
	d.press("call")
	if how := d.text("#bound-how"); s.isBound(d.handle()) || !strings.Contains(how, "has not bound") {
		t.Errorf("after the story the page says %q", how)
	}
	if turned := s.control.turned(); len(turned) > 0 {
		t.Errorf("switches %q from another host", turned)
	}
	d.clean()
}
