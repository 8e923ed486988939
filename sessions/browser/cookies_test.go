package browser

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
)

const (
	expired  = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
	inAnHour = "; Expires=Tue, 24 Nov 2026 13:00:00 GMT" // from testEpoch
)

var testEpoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestSetCookies(t *testing.T) {
	// The end that comes first counts, and whole seconds.
	end := testEpoch.Add(time.Hour + 999*time.Millisecond)
	both := sessions.Issued{
		Access: "a.b.c", Refresh: "sgr1_x", RefreshLife: time.Hour + 999*time.Millisecond,
		Session: sessions.Record{Row: sessions.Row{ExpiresAt: end.In(time.FixedZone("east", 3600)), AbsoluteExpiresAt: end.Add(time.Hour)}},
	}
	kept := sessions.Issued{Access: "a.b.c", RefreshLife: time.Hour, Session: sessions.Record{Row: sessions.Row{ExpiresAt: end.Add(time.Hour), AbsoluteExpiresAt: end}}}
	for _, tc := range []struct {
		name   string
		edit   func(*Cookies)
		host   string
		issued sessions.Issued
		want   []string
	}{
		{"defaults", func(*Cookies) {}, "localhost:10000", both, []string{
			"sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
			"sRefreshToken=sgr1_x; Path=/auth" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"the refresh token stays", func(*Cookies) {}, "localhost", kept, []string{
			"sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"planted on parent domains", func(*Cookies) {}, "App.Example.com.:443", kept, []string{
			"sAccessToken=; Path=/; Domain=app.example.com" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=; Path=/; Domain=example.com" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"with a domain", func(c *Cookies) { c.Domain = "example.com" }, "app.example.com", kept, []string{
			"sAccessToken=; Path=/" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=; Path=/; Domain=app.example.com" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=a.b.c; Path=/; Domain=example.com" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"former path", func(c *Cookies) { c.FormerPaths = []string{"/refresh"} }, "localhost", both, []string{
			"sAccessToken=; Path=/refresh" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
			"sRefreshToken=; Path=/refresh" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
			"sRefreshToken=sgr1_x; Path=/auth" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"__Host- exists nowhere else", func(c *Cookies) { c.HostPrefix, c.FormerPaths = true, []string{"/old"} }, "app.example.com", kept, []string{
			"__Host-sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"plain HTTP, other names", func(c *Cookies) {
			*c = Cookies{AccessName: "at", RefreshName: "rt", SameSite: http.SameSiteStrictMode, AuthPath: "/"}
		}, "10.0.0.1:80", both, []string{
			"at=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; SameSite=Strict",
			"rt=sgr1_x; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; SameSite=Strict",
		}},
		{"partitioned, and what was there without", func(c *Cookies) { c.SameSite, c.Partitioned = http.SameSiteNoneMode, true }, "localhost", both, []string{
			"sAccessToken=; Path=/" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=None",
			"sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=None; Partitioned",
			"sRefreshToken=; Path=/auth" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=None",
			"sRefreshToken=sgr1_x; Path=/auth" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=None; Partitioned",
		}},
		{"partitioned, for a domain", func(c *Cookies) { c.SameSite, c.Partitioned, c.Domain = http.SameSiteNoneMode, true, "example.com" }, "example.com", kept, []string{
			"sAccessToken=; Path=/" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=None",
			"sAccessToken=; Path=/" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=None; Partitioned",
			"sAccessToken=; Path=/; Domain=example.com" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=None",
			"sAccessToken=a.b.c; Path=/; Domain=example.com" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=None; Partitioned",
		}},
		{"partitioned __Host-", func(c *Cookies) { c.SameSite, c.Partitioned, c.HostPrefix = http.SameSiteNoneMode, true, true }, "example.com", kept, []string{
			"__Host-sAccessToken=; Path=/" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=None",
			"__Host-sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=None; Partitioned",
		}},
		{"no longer partitioned", func(c *Cookies) { c.SameSite = http.SameSiteNoneMode }, "localhost", kept, []string{
			"sAccessToken=; Path=/" + expired + "; Max-Age=0; HttpOnly; Secure; SameSite=None; Partitioned",
			"sAccessToken=a.b.c; Path=/" + inAnHour + "; Max-Age=3600; HttpOnly; Secure; SameSite=None",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := DefaultCookies()
			tc.edit(&c)
			if diff := cmp.Diff(tc.want, c.Set(tc.host, tc.issued)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// The browser's view: after Clear no cookie of ours is left on any host, domain
// or path where Set, today's or a former one, may have put it.
func TestClearCookies(t *testing.T) {
	t.Run("defaults", func(t *testing.T) { testClear(t, DefaultCookies(), "plain") })
	both := DefaultCookies()
	both.SameSite = http.SameSiteNoneMode
	t.Run("for all sites", func(t *testing.T) { testClear(t, both, "plain", "partitioned") })
	both.Partitioned = true
	t.Run("partitioned", func(t *testing.T) { testClear(t, both, "plain", "partitioned") })
}

func testClear(t *testing.T, c Cookies, kinds ...string) {
	t.Helper()
	c.FormerPaths = []string{"/refresh"}
	deleted := map[string]bool{}
	for _, line := range append(c.Clear("app.example.com"), c.ClearLegacy("app.example.com")...) {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if cookie.MaxAge >= 0 || cookie.Expires.Unix() != 0 || cookie.Value != "" {
			t.Errorf("%q does not delete", line)
		}
		deleted[cookie.Name+" "+cookie.Domain+" "+cookie.Path+" "+kindOf(cookie)] = true
	}
	for _, domain := range []string{"", "app.example.com", "example.com"} {
		for _, where := range []string{"sAccessToken DOMAIN /", "sAccessToken DOMAIN /refresh", "sRefreshToken DOMAIN /auth", "sRefreshToken DOMAIN /refresh", "sIdRefreshToken DOMAIN /"} {
			for _, kind := range kinds {
				if where := strings.Replace(where, "DOMAIN", domain, 1) + " " + kind; !deleted[where] {
					t.Errorf("%q is left", where)
				}
			}
		}
	}
}

func kindOf(c *http.Cookie) string {
	if c.Partitioned {
		return "partitioned"
	}
	return "plain"
}

// The web SDKs' cookies have the attributes that these give them themselves
// (supertokens-website, setIDToCookie of 4.2.0 and storeInCookies of 20.1.6): else
// both a cookie of ours and one of theirs would be there.
func TestSDKCookies(t *testing.T) {
	i := sessions.Issued{
		Access: "a.b.c", AntiCSRF: "csrf", Payload: []byte(`{"sub":"alice"}`), RefreshLife: time.Hour, AccessExpires: testEpoch,
		Session: sessions.Record{Row: sessions.Row{UserID: "alice", CreatedAt: testEpoch, ExpiresAt: testEpoch.Add(time.Hour), AbsoluteExpiresAt: testEpoch.Add(2 * time.Hour)}}, Marker: "m1",
	}
	front := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"uid":"alice","ate":%d,"up":{"sub":"alice"}}`, testEpoch.UnixMilli()))
	for _, tc := range []struct {
		name, host, domain, marker, others string
		edit                               func(*Cookies)
	}{
		{name: "a host", host: "App.example.com:443", marker: "; Domain=app.example.com"},
		{name: "localhost", host: "localhost:10000"},
		{name: "below localhost", host: "app.localhost:10000", marker: "; Domain=app.localhost"},
		{name: "an address", host: "10.0.0.1:80"},
		{name: "unknown"},
		{name: "no host", host: "a b; Domain=x"},
		{name: "the SDKs' domain", host: "app.example.com", domain: "example.com", marker: "; Domain=example.com", others: "; Domain=example.com"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := DefaultCookies()
			c.FrontendDomain = tc.domain
			want := []string{
				"sIRTFrontend=m1; Path=/" + tc.marker + inAnHour + "; Max-Age=3600; SameSite=Lax",
				"sFrontToken=" + front + "; Path=/" + tc.others + inAnHour + "; Max-Age=3600; SameSite=Lax",
				fmt.Sprintf("st-last-access-token-update=%d; Path=/%s; Max-Age=3600; SameSite=Lax", testEpoch.UnixMilli(), tc.others+inAnHour),
				"sAntiCsrf=csrf; Path=/" + tc.others + inAnHour + "; Max-Age=3600; SameSite=Lax",
			}
			if diff := cmp.Diff(want, c.SetSDK(tc.host, i)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			deleted := map[string]bool{}
			for _, line := range c.ClearSDK(tc.host, SDKCookieNames()...) {
				cookie, err := http.ParseSetCookie(line)
				if err != nil || cookie.MaxAge >= 0 {
					t.Errorf("%q does not delete", line)
				}
				deleted[cookie.Name+cookie.Domain] = true
			}
			for _, line := range want {
				if cookie, _ := http.ParseSetCookie(line); cookie.Name != "st-last-access-token-update" && !deleted[cookie.Name+cookie.Domain] {
					t.Errorf("%s is left", cookie.Name)
				}
			}
		})
	}
	c := DefaultCookies()
	c.SameSite = http.SameSiteNoneMode
	plain, partitioned := "; Secure; SameSite=None", "; Secure; SameSite=None; Partitioned"
	for _, c.Partitioned = range []bool{false, true} {
		set, deleted := plain, partitioned
		if c.Partitioned {
			set, deleted = partitioned, plain
		}
		lines := c.SetSDK("a.example", i)
		if len(lines) != 8 {
			t.Fatalf("%d lines, want one of each kind of four cookies", len(lines))
		}
		for n, line := range lines {
			want := set
			if n%2 == 0 { // first: a client that knows no Partitioned takes both for one cookie
				want = deleted
			}
			if !strings.HasSuffix(line, want) || strings.Contains(line, "Max-Age=0") != (n%2 == 0) {
				t.Errorf("partitioned %t: line %d is %q", c.Partitioned, n, line)
			}
		}
		kinds := map[string]int{}
		for _, line := range c.ClearSDK("a.example", SDKCookieNames()...) {
			cookie, _ := http.ParseSetCookie(line)
			kinds[kindOf(cookie)]++
		}
		if kinds["plain"] != 6 || kinds["partitioned"] != 6 {
			t.Errorf("partitioned %t: deleted are %v, want three cookies at two domains, of each kind", c.Partitioned, kinds)
		}
	}
}

// The lines that delete a parent's cookies are those of net/http.
func TestWithDomain(t *testing.T) {
	for _, c := range []Cookies{
		DefaultCookies(), {SameSite: http.SameSiteNoneMode, Secure: true}, {SameSite: http.SameSiteNoneMode, Secure: true, Partitioned: true}, {},
	} {
		for _, domain := range append(parentDomains("a.b.eu.example.com"), "") {
			for _, path := range []string{"/", "/auth", "/a b;Expires=/"} {
				hostOnly := c.cookie("name", "", path, deleted).String()
				if got, want := withDomain(hostOnly, domain), c.cookie("name", domain, path, deleted).String(); got != want {
					t.Errorf("%s; net/http writes %s", got, want)
				}
			}
		}
	}
}

// A line with a token is that of net/http.
func TestWithValue(t *testing.T) {
	l := life{length: time.Hour, until: time.Unix(1_800_000_000, 0)}
	for _, c := range []Cookies{DefaultCookies(), {SameSite: http.SameSiteNoneMode, Secure: true, Partitioned: true}, {}} {
		for _, value := range []string{"", "sgr1_AZaz09-_", "eyJ.eyJ.AZaz09-_", "AZaz09+/=="} {
			for _, name := range []string{"sAccessToken", "__Host-sAccessToken", "no name"} {
				valued := c.cookie(name, "example.com", "/auth", l)
				valued.Value = value
				if got, want := withValue(c.cookie(name, "example.com", "/auth", l), value), valued.String(); got != want {
					t.Errorf("%s; net/http writes %s", got, want)
				}
			}
		}
	}
}

// A writer's lines are those of its Cookies, at whichever host it was asked before.
func TestCookieWriter(t *testing.T) {
	c := DefaultCookies()
	w := NewCookieWriter(c)
	issued := sessions.Issued{Access: "eyJ.eyJ.AZ", Refresh: "sgr1_AZ", RefreshLife: time.Hour}
	for _, host := range []string{"a.example.com", "a.example.com", "b.example.com", "a.example.com", "", "localhost"} {
		if diff := cmp.Diff(c.Set(host, issued), w.Set(host, issued)); diff != "" {
			t.Errorf("%s, set (-want +got):\n%s", host, diff)
		}
		cleared := w.Clear(host)
		if diff := cmp.Diff(c.Clear(host), cleared); diff != "" {
			t.Errorf("%s, cleared (-want +got):\n%s", host, diff)
		}
		clear(cleared) // a caller's own
	}
}

// TestParentDomains: what a client sends as Host becomes part of a Set-Cookie line only if it is
// the name of a host.
func TestParentDomains(t *testing.T) {
	for _, tc := range []struct {
		host string
		want []string
	}{
		{"", nil},
		{"localhost", nil},
		{"localhost:8080", nil},
		{"example.com", []string{"example.com"}},
		{"A.Example.COM:443", []string{"a.example.com", "example.com"}},
		{"example.com.", []string{"example.com"}},
		{"10.1.2.3", nil},
		{"10.1.2.3:80", nil},
		{"[::1]:80", nil},
		{"::1", nil},
		{"example.com; Domain=evil.com", nil},
		{"example.com\r\nSet-Cookie: a=b", nil},
		{"example.com, evil.com", nil},
		{"exämple.com", nil},
		{"exa_mple.com", nil},
		{strings.Repeat("a.", 200) + "com", nil},
		{"a.b.c.d.e.f.g.h.i.j", []string{
			"a.b.c.d.e.f.g.h.i.j", "b.c.d.e.f.g.h.i.j", "c.d.e.f.g.h.i.j", "d.e.f.g.h.i.j",
			"e.f.g.h.i.j", "f.g.h.i.j", "g.h.i.j", "h.i.j",
		}},
	} {
		t.Run(tc.host, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, parentDomains(tc.host)); diff != "" {
				t.Errorf("domains (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzHostInCookies(f *testing.F) {
	for _, host := range []string{
		"app.example.com:443", "a;b.c", "a.b\r\nX: y", "..", ".a", "a..b", "[::1]", "a..example.com", "-a.example.com", "a-.example.com", "1-2.3-4",
		strings.Repeat("a", 64) + ".example.com", "a.10.0.0.1", "example.com.",
	} {
		f.Add(host)
	}
	var logged bytes.Buffer // net/http logs what it drops
	log.SetOutput(&logged)
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	f.Fuzz(func(t *testing.T, host string) {
		c := DefaultCookies()
		i := sessions.Issued{Access: "a", Refresh: "r", RefreshLife: time.Hour, Session: sessions.Record{Row: sessions.Row{ExpiresAt: time.Unix(0, 0), AbsoluteExpiresAt: time.Unix(0, 0)}}}
		logged.Reset()
		lines := slices.Concat(c.Set(host, i), c.Clear(host), c.SetSDK(host, i), c.ClearSDK(host, SDKCookieNames()...))
		if logged.Len() > 0 {
			t.Fatalf("host %q: logged %s", host, logged.String())
		}
		for _, line := range lines {
			cookie, err := http.ParseSetCookie(line)
			if err != nil || len(cookie.Unparsed) > 0 || strings.ContainsAny(strings.Replace(line, "; Expires=Thu, 01 Jan", "", 1), "\r\n,\x00") {
				t.Fatalf("host %q: %q: %v", host, line, err)
			}
			if cookie.Domain != "" && !strings.Contains(strings.ToLower(host), cookie.Domain) {
				t.Fatalf("host %q: domain %q", host, cookie.Domain)
			}
		}
	})
}

func TestAppendCookies(t *testing.T) {
	for _, tc := range []struct {
		name, header string
		want         []string
	}{
		{"none", "", nil},
		{"others", "a=b; c=d", nil},
		{"one", "a=b; s=1; c=d", []string{"1"}},
		{"without spaces", "a=b;s=1;c=d", []string{"1"}},
		{"several", "s=1; s=2", []string{"1", "2"}},
		{"the same twice", "s=1; s=1", []string{"1"}},
		{"with equals signs", "s=a=b==", []string{"a=b=="}},
		{"empty", "s=", []string{""}},
		{"no equals sign", "s", nil},
		{"longer and shorter names", "ss=1; xs=2; =3", nil},
		{"other case", "S=1", nil},
		{"quoted", `s="1"`, []string{"1"}},
		{"quoted, and blanks", `a=b; s="1" ; c=d`, []string{"1"}},
		{"blanks after it", "a=b; s=1 ; s=2\t; s=3 \t", []string{"1 ", "2\t", "3 \t"}},
		{"blanks before it", "s= 1; s=\t2; s= \"3\"", []string{" 1", "\t2", ` "3"`}},
		{"blanks in quotes", `s="1 "; s=" 2"`, []string{"1 ", " 2"}},
		{"quoted and not", `s="1"; s=1`, []string{"1"}},
		{"quoted, and another", `s="1"; s=2`, []string{"1", "2"}},
		{"one pair of quotes goes", `s=""1""`, []string{`"1"`}},
		{"quoted twice and once", `s=""1""; s="1"`, []string{`"1"`, "1"}},
		{"nothing, quoted", `s=""`, []string{""}},
		{"one quote", `s="`, []string{`"`}},
		{"half a pair", `s="1; s=2"`, []string{`"1`, `2"`}},
		{"other quotes", `s='1'`, []string{`'1'`}},
		{"RFC 2965", `$Version="1"; a="b";$Path="/"; s="1";$Path="/";$Domain="h";$Port="80"; c="d"`, []string{"1"}},
		{"attributes are no cookies", `$s=1; s=2; $Path=s; $s="3"`, []string{"2"}},
		{"broken neighbours", "==; ;;;\x00=; s=1;", []string{"1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, AppendCookies(nil, tc.header, "s")); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStripCookies(t *testing.T) {
	for _, tc := range []struct {
		header, want string
		stripped     bool
	}{
		{"", "", false},
		{"a=b; c=d", "a=b; c=d", false},
		{"a=b;;  c=d", "a=b;;  c=d", false}, // nothing of ours: not a byte changes
		{"s=1", "", true},
		{"s", "", true},
		{"s =1", "", true}, // some parsers trim
		{"s=1; a=b", "a=b", true},
		{"a=b; s=1", "a=b", true},
		{"a=b; s=1; t=2; s=3; c=\"d e\"", "a=b; c=\"d e\"", true},
		{"ss=1; s=1; xs=2", "ss=1; xs=2", true},
		{"a=s=1; s=2", "a=s=1", true},
		// Joined header lines.
		{"a=b,s=1; c=d", "a=b; c=d", true},
		{"a=b , s=1; c=d", "a=b; c=d", true},
		{"a=1,2; s=1", "a=1,2", true},
		{"a=1,ss=2; c=d", "a=1,ss=2; c=d", false},
		// Planted: what stands in a value does not become a cookie.
		{"s=x,__Host-id=evil; c=d", "c=d", true},
		{"c=d; s=x,evil", "c=d", true},
		{"a=b,s=x,__Host-id=evil; c=d", "a=b; c=d", true},
		// RFC 2965: a cookie's attributes go with it, those of others and the version stay.
		{`$Version="1"; s="1";$Path="/"; a="b";$Path="/"`, `$Version="1"; a="b";$Path="/"`, true},
		{`$Version="1"; a="b";$Path="/"; s="1";$Path="/";$Domain="h";$Port="80"; t="2" ; $path = "/" ;c=d`, `$Version="1"; a="b";$Path="/"; c=d`, true},
		{`$Version=1; s=1; $Path=/; $Version=1; c=d; $Path=/`, `$Version=1; $Version=1; c=d; $Path=/`, true},
		{"s=1; $Path", "", true},
		{"s=1; $Path; ", "", true},
		{"s=1; $Paths=/; $Path=/", "$Paths=/; $Path=/", true},
		{"s=1; c=d; $Path=/", "c=d; $Path=/", true},
		{"$Path=/; c=d", "$Path=/; c=d", false},
		{"c=d; $Path=/,s=1; $Path=/; e=f", "c=d; $Path=/; e=f", true},
		{"c=d; s=1; $Path=/,__Host-id=evil; e=f", "c=d; e=f", true},
	} {
		t.Run(tc.header, func(t *testing.T) {
			got, stripped := StripCookies(tc.header, "s", "t")
			if got != tc.want || stripped != tc.stripped {
				t.Errorf("%q, %v; want %q, %v", got, stripped, tc.want, tc.stripped)
			}
		})
	}
}

// FuzzCookies: what is stripped is not there any more, for net/http's parser
// either, and what else is there keeps its value.
func FuzzCookies(f *testing.F) {
	for _, header := range []string{"", "s=1; a=b", "a=b;s=1;s=2; t=\"x\"", "s =1", "\ts\t=1", "a=s=1; =s; s; ;=", "a=\"b; s=1\"", "s=x,u=1; a=b,s=2,c; u=2", `$Version="1"; s="1";$Path="/"; a="b";$Path="/";$Port`, "s ;0= ", "a=1 ;s=2 ; b=3 ", "s=1;$Path;;$domain=x; a=\"\"b\"\""} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if strings.ContainsAny(header, "\r\n\x00") {
			t.Skip() // no header value
		}
		stripped, did := StripCookies(header, "s", "t")
		for _, name := range []string{"s", "t"} {
			if left := AppendCookies(nil, stripped, name); left != nil {
				t.Fatalf("%q: %s is left: %q", header, name, left)
			}
		}
		if !did && stripped != header {
			t.Fatalf("%q became %q", header, stripped)
		}
		r := http.Request{Header: http.Header{"Cookie": {stripped}}}
		for _, c := range r.Cookies() {
			if c.Name == "s" || c.Name == "t" {
				t.Fatalf("%q: net/http sees %s in %q", header, c.Name, stripped)
			}
		}
		had := map[string]bool{}
		for pair := range strings.SplitSeq(header, ";") {
			name, _, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			had[strings.Trim(name, " \t")] = true
		}
		for pair := range strings.SplitSeq(stripped, ";") {
			name, _, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if ok && !had[strings.Trim(name, " \t")] {
				t.Fatalf("%q: a cookie %q came to be in %q", header, name, stripped)
			}
		}
		for pair := range strings.SplitSeq(header, ";") {
			name, _, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if !ok || strings.Contains(header, ",") || isAttribute(strings.Trim(name, " \t")) || slices.Contains([]string{"s", "t"}, strings.Trim(name, " \t")) {
				continue
			}
			if diff := cmp.Diff(AppendCookies(nil, header, name), AppendCookies(nil, stripped, name)); diff != "" {
				t.Fatalf("%q: cookie %q changed (-before +after):\n%s", header, name, diff)
			}
		}
	})
}

// A header of thousands of our cookies costs no comparison of each with each.
func TestAppendCookiesIsBounded(t *testing.T) {
	var header strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&header, "s=%d; ", i)
	}
	if got := AppendCookies(nil, header.String(), "s"); len(got) != sessions.TokensMax+1 {
		t.Errorf("%d values are kept, want one more than are looked at", len(got))
	}
}

// FuzzQuotedCookies: a pair of quotes around a value and the attributes of RFC 2965
// change nothing about what is judged, and of two values both are.
func FuzzQuotedCookies(f *testing.F) {
	for _, value := range []string{"", "1", `"`, `""`, `"1"`, "a=b", " 1 ", "$Path"} {
		f.Add(value, "/auth")
	}
	f.Fuzz(func(t *testing.T, value, path string) {
		if strings.ContainsAny(value+path, ";,\r\n\x00") {
			t.Skip() // they end a pair, a line, or are no header value
		}
		for _, header := range []string{`s="` + value + `"`, fmt.Sprintf(`$Version="1"; s="%s";$Path="%s"; a="b"`, value, path)} {
			if diff := cmp.Diff([]string{value}, AppendCookies(nil, header, "s")); diff != "" {
				t.Fatalf("%q (-want +got):\n%s", header, diff)
			}
			if left, _ := StripCookies(header, "s"); strings.Contains(strings.ToLower(left), "$path") {
				t.Fatalf("%q became %q", header, left)
			}
			if got := AppendCookies(nil, header+`; s="`+value+`x"`, "s"); len(got) != 2 {
				t.Fatalf("%q, twice: %d values", header, len(got))
			}
		}
	})
}
