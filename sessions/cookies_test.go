package sessions

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const expired = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT"

func TestSetCookies(t *testing.T) {
	both := Issued{Access: "a.b.c", Refresh: "sgr1_x", RefreshLife: time.Hour + 999*time.Millisecond}
	kept := Issued{Access: "a.b.c", RefreshLife: time.Hour}
	for _, tc := range []struct {
		name   string
		edit   func(*Cookies)
		host   string
		issued Issued
		want   []string
	}{
		{"defaults", func(*Cookies) {}, "localhost:10000", both, []string{
			"sAccessToken=a.b.c; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
			"sRefreshToken=sgr1_x; Path=/auth; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"the refresh token stays", func(*Cookies) {}, "localhost", kept, []string{
			"sAccessToken=a.b.c; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"planted on parent domains", func(*Cookies) {}, "App.Example.com.:443", kept, []string{
			"sAccessToken=; Path=/; Max-Age=0" + expired + "; Domain=app.example.com; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=; Path=/; Max-Age=0" + expired + "; Domain=example.com; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=a.b.c; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"with a domain", func(c *Cookies) { c.Domain = "example.com" }, "app.example.com", kept, []string{
			"sAccessToken=; Path=/; Max-Age=0" + expired + "; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=; Path=/; Max-Age=0" + expired + "; Domain=app.example.com; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=a.b.c; Path=/; Max-Age=3600; Domain=example.com; HttpOnly; Secure; SameSite=Lax",
		}},
		{"former path", func(c *Cookies) { c.FormerPaths = []string{"/refresh"} }, "localhost", both, []string{
			"sAccessToken=; Path=/refresh; Max-Age=0" + expired + "; HttpOnly; Secure; SameSite=Lax",
			"sAccessToken=a.b.c; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
			"sRefreshToken=; Path=/refresh; Max-Age=0" + expired + "; HttpOnly; Secure; SameSite=Lax",
			"sRefreshToken=sgr1_x; Path=/auth; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"__Host- exists nowhere else", func(c *Cookies) { c.HostPrefix, c.FormerPaths = true, []string{"/old"} }, "app.example.com", kept, []string{
			"__Host-sAccessToken=a.b.c; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax",
		}},
		{"plain HTTP, other names", func(c *Cookies) {
			*c = Cookies{AccessName: "at", RefreshName: "rt", SameSite: "Strict", AuthPath: "/"}
		}, "10.0.0.1:80", both, []string{
			"at=a.b.c; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict",
			"rt=sgr1_x; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict",
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
	c := DefaultCookies()
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
		deleted[cookie.Name+" "+cookie.Domain+" "+cookie.Path] = true
	}
	for _, domain := range []string{"", "app.example.com", "example.com"} {
		for _, where := range []string{"sAccessToken DOMAIN /", "sAccessToken DOMAIN /refresh", "sRefreshToken DOMAIN /auth", "sRefreshToken DOMAIN /refresh", "sIdRefreshToken DOMAIN /"} {
			if where = strings.Replace(where, "DOMAIN", domain, 1); !deleted[where] {
				t.Errorf("%q is left", where)
			}
		}
	}
}

// The web SDKs' cookies have the attributes that these give them themselves
// (supertokens-website, setIDToCookie of 4.2.0 and storeInCookies of 20.1.6): else
// both a cookie of ours and one of theirs would be there.
func TestSDKCookies(t *testing.T) {
	i := Issued{
		Access: "a.b.c", AntiCSRF: "csrf", Payload: []byte(`{"sub":"alice"}`), RefreshLife: time.Hour, AccessExpires: testEpoch,
		Session: Record{Row: Row{UserID: "alice", CreatedAt: testEpoch}}, marker: "m1",
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
				"sIRTFrontend=m1; Path=/; Max-Age=3600" + tc.marker + "; SameSite=Lax",
				"sFrontToken=" + front + "; Path=/; Max-Age=3600" + tc.others + "; SameSite=Lax",
				fmt.Sprintf("st-last-access-token-update=%d; Path=/; Max-Age=3600%s; SameSite=Lax", testEpoch.UnixMilli(), tc.others),
				"sAntiCsrf=csrf; Path=/; Max-Age=3600" + tc.others + "; SameSite=Lax",
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
	c.SameSite = "None"
	for _, line := range c.SetSDK("a.example", i) {
		if !strings.HasSuffix(line, "; Secure; SameSite=None") {
			t.Errorf("browsers refuse %q", line)
		}
	}
}

// TestParentDomains: what a client sends as Host becomes part of a Set-Cookie
// line only where it is the name of a host.
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
	for _, host := range []string{"app.example.com:443", "a;b.c", "a.b\r\nX: y", "..", ".a", "a..b", "[::1]"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		c := DefaultCookies()
		lines := append(c.Set(host, Issued{Access: "a", Refresh: "r", RefreshLife: time.Hour}), c.Clear(host)...)
		for _, line := range lines {
			cookie, err := http.ParseSetCookie(line)
			if err != nil || len(cookie.Unparsed) > 0 || strings.ContainsAny(line, "\r\n,\x00") && !strings.Contains(line, "Thu, 01 Jan") {
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
		{"quoted", `s="1"`, []string{`"1"`}},
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
		// Lines that came joined.
		{"a=b,s=1; c=d", "a=b; c=d", true},
		{"a=b , s=1; c=d", "a=b; c=d", true},
		{"a=1,2; s=1", "a=1,2", true},
		{"a=1,ss=2; c=d", "a=1,ss=2; c=d", false},
		// Planted: what stands in a value does not become a cookie.
		{"s=x,__Host-id=evil; c=d", "c=d", true},
		{"c=d; s=x,evil", "c=d", true},
		{"a=b,s=x,__Host-id=evil; c=d", "a=b; c=d", true},
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
	for _, header := range []string{"", "s=1; a=b", "a=b;s=1;s=2; t=\"x\"", "s =1", "\ts\t=1", "a=s=1; =s; s; ;=", "a=\"b; s=1\"", "s=x,u=1; a=b,s=2,c; u=2"} {
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
			if !ok || strings.Contains(header, ",") || slices.Contains([]string{"s", "t"}, strings.Trim(name, " \t")) {
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
	if got := AppendCookies(nil, header.String(), "s"); len(got) != tokensMax+1 {
		t.Errorf("%d values are kept, want one more than are looked at", len(got))
	}
}
