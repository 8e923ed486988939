package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sessiongate/sessiongate/sessions"
)

func mustTable(tb testing.TB, entries ...Route) *table {
	tb.Helper()
	t, err := newTable(entries)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

var noPolicy = map[string]string{}

// The order of docs/policy.md: host before path before method.
func TestMostSpecificRoute(t *testing.T) {
	entries := []Route{
		0:  {Policy: noPolicy},
		1:  {PathPrefix: "/admin", Policy: noPolicy},
		2:  {Path: "/admin", Policy: noPolicy},
		3:  {PathPrefix: "/admin/users", Policy: noPolicy},
		4:  {PathPrefix: "/admin/users", Methods: []string{"GET", "HEAD"}, Policy: noPolicy},
		5:  {PathPrefix: "/admin/users", Methods: []string{"POST"}, Policy: noPolicy},
		6:  {Host: "*.example.com", PathPrefix: "/admin/users", Policy: noPolicy},
		7:  {Host: "*.eu.example.com", PathPrefix: "/", Policy: noPolicy},
		8:  {Host: "app.eu.example.com", PathPrefix: "/admin", Policy: noPolicy},
		9:  {Path: "/", Policy: noPolicy},
		10: {Host: "only.example.net", Path: "/one", Methods: []string{"PUT"}, Policy: noPolicy},
		11: {PathPrefix: "/Docs/v1.2", Policy: noPolicy},
	}
	table := mustTable(t, entries...)
	for _, tt := range []struct {
		method, host, path string
		want               int
	}{
		{"GET", "x", "/", 9},
		{"GET", "x", "/other", 0},
		{"GET", "x", "/admin", 2},
		{"GET", "x", "/admin/", 2},
		{"GET", "x", "/admin/x", 1},
		{"GET", "x", "/administrator", 0},
		{"GET", "x", "/admin/users", 4},
		{"HEAD", "x", "/admin/users/7", 4},
		{"get", "x", "/admin/users/7", 4},
		{"POST", "x", "/admin/users/", 5},
		{"DELETE", "x", "/admin/users/7/8", 3},
		{"GET", "x", "/admin/usersandgroups", 1},
		{"GET", "a.example.com", "/admin/users", 6},
		{"GET", "a.b.example.com", "/admin/users", 6},
		{"GET", "example.com", "/admin/users", 4},
		{"GET", "notexample.com", "/admin/users", 4},
		{"GET", "a.example.com", "/admin", 2},
		{"GET", "a.eu.example.com", "/admin/users", 7},
		{"GET", "app.eu.example.com", "/admin/users", 8},
		{"GET", "APP.EU.Example.com:8443", "/admin/users", 8},
		{"GET", "app.eu.example.com.", "/admin/users", 8},
		{"GET", "app.eu.example.com.:443", "/other", 7},
		{"GET", "x.app.eu.example.com", "/admin", 7},
		{"PUT", "only.example.net", "/one", 10},
		{"GET", "only.example.net", "/one", 0},
		{"PUT", "only.example.net", "/one/two", 0},
		{"GET", "[::1]:80", "/admin", 2},
		{"GET", "10.0.0.1:80", "/admin", 2},
		{"GET", "x", "/Docs/v1.2/a%20b/%C3%BC", 11},
		{"GET", "x", "/files/A;b=1/%2f//c%5Cd/100%25", 0},
		{"GET", "x", "/admin//x", 1},
		{"GET", "x", "/admin/;x", 1 - 3}, // the loosest reading is /admin, which has an entry of its own
		{"GET", "x", "/admin/users/..x/.well-known/...", 4},
		{"GET", "x", "/" + strings.Repeat("a", 300), 0},
		{"GET", "x", "/admin/" + strings.Repeat("a", 300), 1},
		{"GET", "x", "/admin/users/" + strings.Repeat("a/", 300), 4},
	} {
		got, denial := table.find(tt.method, tt.host, tt.path)
		if want := tt.want; want < -1 {
			if denial != denyPathSpelling {
				t.Errorf("%s %s%s: %d, %v", tt.method, tt.host, tt.path, got, denial)
			}
		} else if got != want || denial != nil {
			t.Errorf("%s %s%s: %d, %v, want %d", tt.method, tt.host, tt.path, got, denial, want)
		}
	}
}

// An attacker writes these paths to get past an entry for /admin. The default policy here
// admits every signed-in user.
func TestPathsThatEvade(t *testing.T) {
	table := mustTable(t,
		Route{PathPrefix: "/admin", Policy: noPolicy},
		Route{PathPrefix: "/public", Policy: noPolicy},
		Route{Path: "/health", Policy: noPolicy}, Route{PathPrefix: "/kept", Policy: noPolicy}, Route{Path: "/miss", Policy: noPolicy}, Route{PathPrefix: "/office", Policy: noPolicy}, Route{PathPrefix: "/ffix", Policy: noPolicy},
	)
	for _, p := range []string{
		"//admin", "///admin/x", "/%61dmin", "/%2561dmin", "/%252561dmin", "/%256%31dmin", "/%25%36%31dmin", "/%25%2536%31dmin", "/public/%25%32e%25%32e/admin", "/public%3f/..;/admin", "/public%23/..;x/admin", "/adm%69n/users", "/admin;x", "/admin;x/users", "/;x/admin", "/ADMIN", "/Admin/x", "/adm%C4%B0n", "/adm\u0131n", "/mi%C3%9F", "/mi\u1e9e", "/o%EF%AC%83ce", "/\ufb03x", "/publ%25C4%25B0c", "/%E2%84%AAept", "/\u212aept/x", "/mi\u017f%C5%BF",
		"/aDmin%3bx", "/%2fadmin", "/%5cadmin", `/\admin`, `\admin`, "/admin%2fx", "/admin%5Cx", `/admin\x`, "/admin%3Fx", "/admin%23x", "/admin#x", "/admin%00", "/admin\x00", "/admin%0a", "/%7fadmin",
		"/.", "/..", "/./admin", "/x/../admin", "/public/../admin", "/public/%2e%2e/admin", "/public/%2E./admin", "/public/.%2e/admin", "/public/%252e%252e/admin",
		"/public/..%2fadmin", "/public%2f..%2fadmin", `/public/..\admin`, "/public/..%5cadmin", "/public/..;/admin", "/public/..;x=1/admin", "/public/..%3b/admin", "/public/..%3F/admin", "/admin/..", "/admin/.", "/admin/./x",
		"/public/../admin//../public/x", "/public/a//../../admin", "/admin;%2fx", `/admin;\x`, "/health;%3f/x", "/health;#", "/health/;%2fx", `/health/;\x`, "/health/;%3fx",
		"//public", "/%70ublic", "/PUBLIC", "/public;x", "//health", "/health//", "/health;x", "/HEALTH", "/health%2f",
		"/%", "/%6", "/%zz", "/%u0061dmin", "/x%", "/public/%c", "", "*", "admin", "http://x/admin",
		"/" + strings.Repeat("a", 500) + "/../admin", "/" + strings.Repeat("/", 500) + "admin", strings.Repeat("/%2e", 300),
	} {
		if i, denial := table.find("GET", "x", p); denial == nil || denial.Outcome != sessions.Forbidden || i != -1 {
			t.Errorf("%q meets entry %d, %v", p, i, denial)
		}
	}
	if _, denial := mustTable(t).find("GET", "x", "/x/../%zz"); denial != nil {
		t.Errorf("without a table: %v", denial)
	}
}

func TestHostsThatEvade(t *testing.T) {
	table := mustTable(t, Route{Host: "admin.example.com", Policy: noPolicy}, Route{Host: "*.guarded.example", Policy: noPolicy})
	for _, host := range []string{
		"", ".", ":", ":80", "admin.example.com..", ".admin.example.com", "admin..example.com", "admin.example.com:x", "admin.example.com:80:80", "admin.example.com:",
		"u@admin.example.com", "admin.example.com,x", "admin.example.com x", "admin.example.com/", "admin.example.com%00", "admin.example.com\x00", "ädmin.example.com",
		"[::1", "[::1]x", "[::1]:", "[::1]:80x", "[admin.example.com]", "[", "[]]", strings.Repeat("a.", 127) + "aa",
	} {
		if i, denial := table.find("GET", host, "/"); denial != denyHostForm || i != -1 {
			t.Errorf("%q meets entry %d, %v", host, i, denial)
		}
	}
	for host, want := range map[string]int{
		"admin.example.com": 0, "ADMIN.example.com.:80": 0, "x.guarded.example": 1, "y.X.Guarded.Example.": 1, "guarded.example": -1, "other_1.example": -1, "[::1]:8080": -1, "[2001:DB8::1]": -1,
	} {
		if i, denial := table.find("GET", host, "/"); i != want || denial != nil {
			t.Errorf("%q meets entry %d, %v, want %d", host, i, denial, want)
		}
	}
	// Where no entry names a host, no host is looked at.
	if i, denial := mustTable(t, Route{Policy: noPolicy}).find("GET", "a..b", "/"); i != 0 || denial != nil {
		t.Errorf("%d, %v", i, denial)
	}
}

func TestRouteFaults(t *testing.T) {
	good := Route{Policy: noPolicy}
	with := func(change func(*Route)) Route {
		r := good
		change(&r)
		return r
	}
	for _, tt := range []struct {
		entry Route
		field string
	}{
		{Route{}, "policy"},
		{with(func(r *Route) { r.Host = "A.example" }), "host"},
		{with(func(r *Route) { r.Host = "a.example:80" }), "host"},
		{with(func(r *Route) { r.Host = "a.example." }), "host"},
		{with(func(r *Route) { r.Host = "*" }), "host"},
		{with(func(r *Route) { r.Host = "*." }), "host"},
		{with(func(r *Route) { r.Host = "*.*.example" }), "host"},
		{with(func(r *Route) { r.Host = "a*.example" }), "host"},
		{with(func(r *Route) { r.Host = ".example" }), "host"},
		{with(func(r *Route) { r.Host = "[::1]" }), "host"},
		{with(func(r *Route) { r.Path = "x" }), "path"},
		{with(func(r *Route) { r.Path = "/x/" }), "path"},
		{with(func(r *Route) { r.Path = "//x" }), "path"},
		{with(func(r *Route) { r.Path = "/x/../y" }), "path"},
		{with(func(r *Route) { r.Path = "/x/." }), "path"},
		{with(func(r *Route) { r.Path = "/x%20" }), "path"},
		{with(func(r *Route) { r.Path = "/x;y" }), "path"},
		{with(func(r *Route) { r.Path = "/x?y" }), "path"},
		{with(func(r *Route) { r.Path = "/ü" }), "path"},
		{with(func(r *Route) { r.PathPrefix = "/x/*" }), "path_prefix"},
		{with(func(r *Route) { r.PathPrefix = "/x/" }), "path_prefix"},
		{with(func(r *Route) { r.PathPrefix = "/" + strings.Repeat("x", 256) }), "path_prefix"},
		{with(func(r *Route) { r.Path, r.PathPrefix = "/a", "/b" }), ""},
		{with(func(r *Route) { r.Methods = []string{} }), "methods"},
		{with(func(r *Route) { r.Methods = []string{"GTE"} }), "methods"},
		{with(func(r *Route) { r.Methods = []string{"get"} }), "methods"},
		{with(func(r *Route) { r.Methods = []string{"GET", "GET"} }), "methods"},
		{with(func(r *Route) { r.Policy = map[string]string{"session": "no"} }), "policy.session"},
		{with(func(r *Route) { r.Policy = map[string]string{"sesion": "optional"} }), "policy.sesion"},
		{with(func(r *Route) { r.Policy = map[string]string{"require.sub": "x"} }), "policy.require.sub"},
	} {
		_, err := newTable([]Route{{Path: "/other", Policy: noPolicy}, tt.entry})
		var faults RouteFaults
		if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Index != 1 || faults[0].Field != tt.field || faults[0].Found == "" || faults[0].Allowed == "" || faults[0].With != -1 {
			t.Errorf("%+v: %v", tt.entry, err)
		}
	}
	many := map[string]string{}
	for i := range 17 {
		many[fmt.Sprintf("require.c%02d", i)] = "x"
	}
	_, err := newTable([]Route{{Host: "A", Path: "b", PathPrefix: "c", Methods: []string{"d", "e"}}, {Policy: many}, {Policy: noPolicy}, {Policy: noPolicy}})
	if got := strings.Count(err.Error(), "\n") + 1; got != 9 {
		t.Errorf("%d faults at once, want 9:\n%v", got, err)
	}
}

func TestTies(t *testing.T) {
	for _, tt := range []struct {
		a, b Route
		ties bool
	}{
		{Route{}, Route{}, true},
		{Route{}, Route{PathPrefix: "/"}, true},
		{Route{}, Route{Path: "/"}, false},
		{Route{Path: "/a"}, Route{PathPrefix: "/a"}, false},
		{Route{Path: "/a"}, Route{Path: "/a", Methods: []string{"GET"}}, false},
		{Route{Path: "/a", Methods: []string{"GET"}}, Route{Path: "/a", Methods: []string{"POST", "HEAD"}}, false},
		{Route{Path: "/a", Methods: []string{"GET", "POST"}}, Route{Path: "/a", Methods: []string{"HEAD", "POST"}}, true},
		{Route{Path: "/a"}, Route{Path: "/A"}, true},
		{Route{Path: "/a"}, Route{PathPrefix: "/A", Methods: []string{"GET"}}, true},
		{Route{Path: "/a"}, Route{Path: "/A/b"}, false},
		{Route{Host: "a.b"}, Route{Host: "*.b"}, false},
		{Route{Host: "*.b"}, Route{Host: "*.b", PathPrefix: "/"}, true},
		{Route{Host: "a.b", Path: "/x"}, Route{Host: "a.b", Path: "/x"}, true},
		{Route{Host: "a.b", Path: "/x"}, Route{Path: "/x"}, false},
	} {
		tt.a.Policy, tt.b.Policy = noPolicy, noPolicy
		for _, entries := range [][]Route{{tt.a, {Path: "/between", Policy: noPolicy}, tt.b}, {tt.b, {Path: "/between", Policy: noPolicy}, tt.a}} {
			err := CheckRoutes(entries)
			var faults RouteFaults
			if tied := errors.As(err, &faults); tied != tt.ties || tied && (len(faults) != 1 || faults[0].Index != 2 || faults[0].With != 0) {
				t.Errorf("%+v: %v", entries, err)
			}
		}
	}
}

// mostSpecific is what find should say of a path that has one reading: every
// entry is tried, and the best kept.
func mostSpecific(entries []Route, method, host string, segments []string, fold bool) int {
	best, rank := -1, [3]int{}
	for i, e := range entries {
		r := [3]int{}
		switch {
		case e.Host == "":
		case strings.HasPrefix(e.Host, "*"):
			if !strings.HasSuffix(host, e.Host[1:]) || len(host) < len(e.Host) {
				continue
			}
			r[0] = len(e.Host)
		case e.Host != host:
			continue
		default:
			r[0] = 10_000
		}
		spelt := e.Path + e.PathPrefix
		if fold {
			spelt = strings.ToLower(spelt)
		}
		want := strings.FieldsFunc(spelt, func(c rune) bool { return c == '/' })
		if len(segments) < len(want) || !slices.Equal(segments[:len(want)], want) || e.Path != "" && len(segments) != len(want) {
			continue
		}
		r[1] = 2 * len(want)
		if e.Path != "" {
			r[1]++
		}
		if e.Methods != nil {
			if !slices.Contains(e.Methods, method) {
				continue
			}
			r[2] = 1
		}
		if best < 0 || slices.Compare(r[:], rank[:]) > 0 {
			best, rank = i, r
		}
	}
	return best
}

// readings are ways in which servers are known to read a path, each beside and
// after any others. Some then take a and A for the same.
var readings = []func(string) string{
	func(p string) string { // what net/url decodes; a second time, what decodes twice
		if d, err := url.PathUnescape(p); err == nil {
			return d
		}
		return p
	},
	func(p string) string { return strings.ReplaceAll(p, `\`, "/") },
	func(p string) string { // Java's path parameters
		segments := strings.Split(p, "/")
		for i, s := range segments {
			segments[i], _, _ = strings.Cut(s, ";")
		}
		return strings.Join(segments, "/")
	},
	func(p string) string { // as if what is decoded was parsed again
		before, _, _ := strings.Cut(p, "?")
		return before
	},
	func(p string) string { return path.Clean("/" + p) },
	func(p string) string { // dots without merging slashes, RFC 3986 §5.2.4
		var out []string
		for s := range strings.SplitSeq(strings.TrimPrefix(p, "/"), "/") {
			switch s {
			case ".":
			case "..":
				out = out[:max(0, len(out)-1)]
			default:
				out = append(out, s)
			}
		}
		return "/" + strings.Join(out, "/")
	},
}

var (
	someHosts   = []string{"", "a.test", "b.a.test", "*.a.test", "*.test"}
	someMethods = [][]string{nil, {"GET"}, {"POST"}, {"GET", "HEAD"}}
)

func randomTable(t *rapid.T) []Route {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "A", "a.b"})
	var entries []Route
	for range rapid.IntRange(0, 12).Draw(t, "entries") {
		e := Route{Host: rapid.SampledFrom(someHosts).Draw(t, "host"), Methods: rapid.SampledFrom(someMethods).Draw(t, "methods"), Policy: noPolicy}
		p := "/" + strings.Join(rapid.SliceOfN(segment, 0, 3).Draw(t, "path"), "/")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			e.Path = p
		case 1:
			e.PathPrefix = p
		}
		if _, err := newTable(append(slices.Clone(entries), e)); err == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// No entry that find gives is another one in any reading of the path; and a
// plain path, which has one reading, is never denied.
func TestNoReadingMeetsAnotherRoute(t *testing.T) {
	plain := rapid.SampledFrom([]string{"a", "b", "ab", "abc", "c", "a.b", "a%20b", "%C3%BC"})
	nasty := rapid.SampledFrom([]string{
		"/", "/", "/", "a", "b", "a", "A", ".", "..", ";", "%61", "%2561", "%41", "%2f", "%2F", "%252f", "%5c", `\`, "%2e", "%2E", "%252e", "%3b", "%3f", "%23", "%25", "%", "x", "ab", "a.b",
		"6", "1", "2", "e", "5", "%36", "%31", "%32", "%65", "%35",
	})
	rapid.Check(t, func(t *rapid.T) {
		entries := randomTable(t)
		table, err := newTable(entries)
		if err != nil {
			t.Fatal(err)
		}
		method, host := rapid.SampledFrom([]string{"GET", "HEAD", "POST"}).Draw(t, "method"), rapid.SampledFrom([]string{"a.test", "b.a.test", "c.b.a.test", "test", "x"}).Draw(t, "host")
		if rapid.Bool().Draw(t, "plain") {
			segments := rapid.SliceOfN(plain, 0, 5).Draw(t, "path")
			// An entry that differs in case alone makes another reading.
			want := mostSpecific(entries, method, host, segments, false)
			got, denial := table.find(method, host, "/"+strings.Join(segments, "/"))
			if loose := mostSpecific(entries, method, host, segments, true); len(entries) > 0 && loose != want {
				if denial != denyPathSpelling {
					t.Fatalf("%v: %v: meets entry %d, by case %d", entries, segments, want, loose)
				}
			} else if got != want || denial != nil {
				t.Fatalf("%v: %v meets entry %d, %v, want %d", entries, segments, got, denial, want)
			}
			return
		}
		p := "/" + strings.Join(rapid.SliceOfN(nasty, 1, 10).Draw(t, "path"), "")
		got, denial := table.find(method, host, p)
		if denial != nil || len(entries) == 0 {
			return
		}
		read := []string{p}
		for i := 0; i < len(read) && len(read) < 300; i++ {
			for _, f := range readings {
				if q := f(read[i]); !slices.Contains(read, q) {
					read = append(read, q)
				}
			}
		}
		for _, q := range read {
			for fold, as := range map[bool]string{false: q, true: strings.ToLower(q)} {
				segments := strings.FieldsFunc(as, func(c rune) bool { return c == '/' })
				if other := mostSpecific(entries, method, host, segments, fold); other != got {
					t.Fatalf("%v: %q meets entry %d, but read as %q it is entry %d", entries, p, got, as, other)
				}
			}
		}
	})
}

func FuzzRoutes(f *testing.F) {
	table := mustTable(f,
		Route{PathPrefix: "/admin", Policy: noPolicy}, Route{Path: "/open", Policy: noPolicy}, Route{Host: "*.a.test", PathPrefix: "/admin/x", Policy: noPolicy},
		Route{Host: "a.test", Path: "/admin/x/y", Methods: []string{"GET"}, Policy: noPolicy})
	for _, p := range []string{"/admin", "/open/", "/%61dmin", "/open/..;/admin", "/" + strings.Repeat("a", 300), "/admin/x/y"} {
		f.Add("GET", "a.test", p)
		f.Add("POST", "x.A.test.:80", p)
	}
	f.Fuzz(func(t *testing.T, method, host, p string) {
		i, denial := table.find(method, host, p)
		if (i >= 0) && denial != nil {
			t.Fatalf("entry %d and %v", i, denial)
		}
		if decoded, err := url.PathUnescape(p); denial == nil && err == nil && strings.HasPrefix(path.Clean(decoded)+"/", "/admin/") && i != 0 && i != 2 && i != 3 {
			t.Fatalf("%q is /admin to Go's own server, but meets entry %d", p, i)
		}
	})
}

// Default policy, entry, context_extensions: each wins over the one before it.
func TestRoutePolicyIsBetweenDefaultAndExtensions(t *testing.T) {
	g := newGate(t, func(c *Config) {
		c.Default = Policy{AntiCSRF: AntiCSRFUnsafe, Require: []Requirement{{Claim: "plan"}}}
		c.Routes = []Route{
			{Path: "/open", Policy: map[string]string{"session": "optional", "on_unauthorised": "401", "return_to": "true"}},
			{Path: "/admin", Policy: map[string]string{"require.role": "admin", "require.plan": "gold", "max_age": "600"}},
		}
	})
	for _, tt := range []struct {
		path       string
		extensions map[string]string
		entry      int
		want       Policy
	}{
		{"/", nil, -1, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFUnsafe, Require: []Requirement{{Claim: "plan"}}}},
		{"/open", nil, 0, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFUnsafe, Optional: true, OnUnauthorised: Unauthorised401, ReturnTo: true, Require: []Requirement{{Claim: "plan"}}}},
		{"/open", map[string]string{"session": "required", "on_unauthorised": "403", "anti_csrf": "off"}, 0, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFOff, OnUnauthorised: Unauthorised403, ReturnTo: true, Require: []Requirement{{Claim: "plan"}}}},
		{"/open", map[string]string{"require.role": "x"}, 0, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFUnsafe, OnUnauthorised: Unauthorised401, ReturnTo: true, Require: []Requirement{{Claim: "plan"}, {"role", []string{"x"}}}}},
		{"/open", map[string]string{"require.role": "x", "session": "optional"}, 0, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFUnsafe, Optional: true, OnUnauthorised: Unauthorised401, ReturnTo: true, Require: []Requirement{{Claim: "plan"}, {"role", []string{"x"}}}}},
		{"/open", map[string]string{"return_to": "false"}, 0, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFUnsafe, Optional: true, OnUnauthorised: Unauthorised401, Require: []Requirement{{Claim: "plan"}}}},
		{"/admin", nil, 1, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFUnsafe, MaxAge: 600e9, Require: []Requirement{{"plan", []string{"gold"}}, {"role", []string{"admin"}}}}},
		{"/admin", map[string]string{"require.role": "owner", "require.team": "*"}, 1, Policy{LoginURL: "/login", AntiCSRF: AntiCSRFUnsafe, MaxAge: 600e9, Require: []Requirement{{"plan", []string{"gold"}}, {"role", []string{"owner"}}, {Claim: "team"}}}},
	} {
		for range 2 { // what one request adds is not there at the next
			policy, entry, err := g.server.policies.choose(&request{method: "GET", host: "x", path: tt.path}, tt.extensions)
			if diff := cmp.Diff(tt.want, policy); err != nil || entry != tt.entry || diff != "" {
				t.Errorf("%s %v: entry %d, %v\n%s", tt.path, tt.extensions, entry, err, diff)
			}
		}
	}
	if _, _, err := g.server.policies.choose(&request{path: "/open"}, map[string]string{"sesion": "x"}); err == nil || refused(err).denial != denyPolicy {
		t.Errorf("an unknown key on an open route: %v", err)
	}
}

func TestCheckWithRoutes(t *testing.T) {
	g := newGate(t, func(c *Config) {
		c.Routes = []Route{
			{PathPrefix: "/admin", Policy: map[string]string{"require.role": "admin", "on_unauthorised": "401"}},
			{PathPrefix: "/admin", Methods: []string{"DELETE"}, Policy: map[string]string{"require.role": "owner"}},
			{PathPrefix: "/open", Policy: map[string]string{"session": "optional"}},
			{Path: "/login", Policy: map[string]string{"on_unauthorised": "403"}},
			{Host: "status.example", Policy: map[string]string{"session": "optional"}},
		}
	})
	at := func(path string) ask { a := navigation; a.path = path; return a }
	deletes := at("/admin/x").with("anti-csrf", g.alice.AntiCSRF.Reveal())
	deletes.method = "DELETE"
	elsewhere := at("/admin")
	elsewhere.host = "Status.Example:443"
	badHost := at("/open")
	badHost.host = "status.example,app.example"
	alice, bob := access(g.alice), access(g.bob)
	for _, tt := range []struct {
		name   string
		ask    ask
		status int
		user   string
	}{
		{"open", at("/open/x?y=/admin"), 0, ""},
		{"open, signed in", at("/open").cookie(bob), 0, "bob"},
		{"guarded, no session", at("/admin/x"), 401, ""},
		{"guarded, claim missing", at("/admin").cookie(bob), 403, ""},
		{"guarded, claim met", at("/admin/x").cookie(alice), 0, "alice"},
		{"guarded, by method", deletes.cookie(alice), 403, ""},
		{"no entry, no session", at("/other"), 302, ""},
		{"no entry, signed in", at("/other").cookie(bob), 0, "bob"},
		{"host before path", elsewhere, 0, ""},
		{"evading", at("//admin").cookie(bob), 403, ""},
		{"evading, allowed to", at("/%61dmin").cookie(alice), 403, ""},
		{"evading by an open path", at("/open/..;/admin").cookie(alice), 403, ""},
		{"evading by host", badHost, 403, ""},
		{"login page, whatever the table says", at("/login"), 0, ""},
		{"refresh", ask{method: "POST", path: "/auth/session/refresh"}, 0, ""},
		{"sign-out", ask{method: "POST", path: "/auth/signout"}, 0, ""},
		{"preflight", ask{method: "OPTIONS", path: "/admin"}.with("origin", "https://x.example", "access-control-request-method", "PUT"), 0, ""},
		{"extensions win", at("/open").under("session", "required"), 302, ""},
		{"extensions that are not understood", at("/open").under("session", "x"), 503, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := check(t, g.server, tt.ask); r.status != tt.status || r.user != tt.user {
				t.Errorf("got %d %q", r.status, r.user)
			}
		})
	}
	if r := check(t, g.server, at("/open/../admin")); r.status != http.StatusForbidden || r.body != "Forbidden" {
		t.Errorf("got %d %q", r.status, r.body)
	}
}

// largeTable is as large as any that people write by hand.
func largeTable() []Route {
	var entries []Route
	for i := range 500 {
		entries = append(entries, Route{
			Host: []string{"", "app.example", "*.example", "*.b.example"}[i%4], PathPrefix: fmt.Sprintf("/page-%d/sub", i),
			Policy: map[string]string{"require.role": "admin", "on_unauthorised": "auto"},
		})
	}
	return append(entries, Route{PathPrefix: "/Page", Policy: map[string]string{"require.role": "admin"}})
}

func TestRoutesAllocateNothing(t *testing.T) {
	g := newGate(t, func(c *Config) { c.Routes = largeTable() })
	for _, p := range []string{"/Page/a/B%20c/;d", "/page-1/sub/x", "/other", "/" + strings.Repeat("a/", 400), "/page", "/x/../y"} {
		r := request{method: "GET", host: "A.b.c.example:80", path: p}
		if n := testing.AllocsPerRun(100, func() { _, _, _ = g.server.policies.choose(&r, nil) }); n > 0 {
			t.Errorf("%q: %v allocations", p, n)
		}
	}
	// A whole Check allocates as much as without a table.
	bare := newGate(t)
	for _, p := range []string{"/page-1/sub/x", "/Page/X"} {
		a := navigation
		a.path = p
		count := func(g *gate) float64 {
			c := a.cookie(access(g.alice)).raw()
			return testing.AllocsPerRun(100, func() {
				if r, _ := g.server.Check(context.Background(), c); r.GetStatus().GetCode() != 0 {
					t.Fatal("denied")
				}
			})
		}
		if with, without := count(g), count(bare); with > without {
			t.Errorf("%s: %v allocations, without a table %v", p, with, without)
		}
	}
}
