package authz

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Route is one entry of a table of policies, for control planes that cannot give
// Envoy's routes context_extensions.
type Route struct {
	// Host is a host name, or "*.example.com" for every name below one, in lower
	// case and without a port. Empty: any. A client chooses its Host freely: an
	// entry guards a host only where Envoy sends nothing else to that upstream.
	Host string
	// Path is exactly one path, with or without a slash at its end. PathPrefix is
	// a path and everything below: /admin and /admin/x, never /administrator. Of
	// both at most one is set; neither is any path.
	Path, PathPrefix string
	// Methods are as in the request. nil: any. GET does not mean HEAD, too.
	Methods []string
	// Policy has the keys and values of context_extensions. What it does not name
	// is as by default, whatever less specific entries say. Empty, but not nil,
	// is the default policy.
	Policy map[string]string
}

// table is a table of policies, ready to be asked. It is safe for concurrent use;
// asking allocates nothing and takes no lock.
//
// Of the entries that fit a request the most specific one applies, by host, then
// path, then method:
//
//   - a host name before *.suffix, a longer suffix before a shorter one, any host last;
//   - a path before a prefix, a longer prefix before a shorter one, any path last;
//   - named methods before any.
//
// Two entries that tie for some request are refused. So are two that differ in
// the case of their paths alone.
type table struct {
	entries []Route
	// hosts has the entries by host name, ".suffix" and, for any host, "".
	hosts map[string]paths
	// byHost says whether any entry names a host.
	byHost bool
}

// paths has entries by path: in lower case, without a slash at the end.
type paths map[string]*pathIndex

// place has the indices of the entries for one path, those with methods first.
type pathIndex struct{ exact, prefix []int }

const routePathMax = 256 // bytes

// RouteFault is what is wrong with one entry of a table.
type RouteFault struct {
	// Index is the entry's, and With, for a tie, the earlier one's; else -1.
	Index, With int
	// Field is host, path, path_prefix, methods, policy or policy.KEY; empty for
	// the entry as a whole.
	Field          string
	Found, Allowed string
}

func (f RouteFault) Error() string {
	where := fmt.Sprintf("routes[%d]", f.Index)
	if f.Field != "" {
		where += "." + f.Field
	}
	return fmt.Sprintf("%s: found %s; allowed: %s", where, f.Found, f.Allowed)
}

// FoundUnknownKey is found where a policy has a key that there is not.
const FoundUnknownKey = "an unknown key"

// RouteFaults is everything that is wrong with a table.
type RouteFaults []RouteFault

func (all RouteFaults) Error() string {
	lines := make([]string, len(all))
	for i, f := range all {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// What an entry may say of requests, for faults.
const (
	AllowedRouteHost = "a host name in lower case, without a port or a dot at its end, or *.NAME for all names below one"
	AllowedRoutePath = "an absolute path of at most 256 letters, digits and -._~!$&'(),=:@/, without //, . or .. segments or a slash at its end"
	allowedPolicy    = "a policy; an empty one is the default"
	allowedTie       = "one entry for a host, path and method"
)

// RouteMethods are the methods that an entry may name (RFC 9110 §9.3, RFC 5789,
// RFC 4918). Another would be a slip, and would never meet a request.
var RouteMethods = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
}

// CheckRoutes says what is wrong with a table. An error is of type [RouteFaults]
// and holds all of it.
func CheckRoutes(entries []Route) error {
	_, err := newTable(entries)
	return err
}

func newTable(entries []Route) (*table, error) {
	t := &table{hosts: make(map[string]paths)}
	var faults RouteFaults
	for i, entry := range entries {
		entry.Methods, entry.Policy = slices.Clone(entry.Methods), maps.Clone(entry.Policy)
		t.entries = append(t.entries, entry)
		report := func(field, found, allowed string) {
			faults = append(faults, RouteFault{i, -1, field, found, allowed})
		}
		before := len(faults)
		entry.check(report)
		if len(faults) > before {
			continue
		}
		if other := t.add(i); other >= 0 {
			faults = append(faults, RouteFault{i, other, "", fmt.Sprintf("requests that routes[%d] has", other), allowedTie})
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return t, nil
}

func (e *Route) check(report func(field, found, allowed string)) {
	if name := strings.TrimPrefix(e.Host, "*."); e.Host != "" {
		var buf [browser.HostMax]byte
		if read, ok := browser.AppendHost(buf[:0], name); !ok || string(read) != name {
			report("host", fmt.Sprintf("%q", e.Host), AllowedRouteHost)
		}
	}
	if e.Path != "" && !isRoutePath(e.Path) {
		report("path", fmt.Sprintf("%q", e.Path), AllowedRoutePath)
	}
	if e.PathPrefix != "" && !isRoutePath(e.PathPrefix) {
		report("path_prefix", fmt.Sprintf("%q", e.PathPrefix), AllowedRoutePath)
	}
	if e.Path != "" && e.PathPrefix != "" {
		report("", "path and path_prefix", "one of them, or neither for any path")
	}
	allowedMethods := "a list, without repetition, of " + strings.Join(RouteMethods, ", ")
	if e.Methods != nil && len(e.Methods) == 0 {
		report("methods", "an empty list", allowedMethods+"; for any method, no list")
	}
	for i, m := range e.Methods {
		if !slices.Contains(RouteMethods, m) || slices.Contains(e.Methods[:i], m) {
			report("methods", fmt.Sprintf("%q", m), allowedMethods)
		}
	}
	if e.Policy == nil {
		report("policy", "none", allowedPolicy)
	}
	sound := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(e.Policy)) {
		sound[key] = e.Policy[key]
		_, err := Policy{}.With(map[string]string{key: e.Policy[key]})
		if err == nil {
			_, err = Policy{}.With(sound) // one requirement too many
		}
		if fault := (*PolicyError)(nil); errors.As(err, &fault) {
			delete(sound, key)
			found := fmt.Sprintf("%q", e.Policy[key])
			if policyKey(key) < 0 {
				found = FoundUnknownKey
			}
			report("policy."+key, found, fault.Allowed())
		}
	}
}

// isRoutePath refuses what no request can have as it stands, among it every
// character that a reading of paths may change.
func isRoutePath(path string) bool {
	const others = "-._~!$&'(),=:@/" // no +, which some servers take for a space
	if len(path) > routePathMax || path[0] != '/' || path != "/" && strings.HasSuffix(path, "/") || strings.Contains(path, "//") {
		return false
	}
	for i := range len(path) {
		c := path[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// add puts the entry into the index, unless it ties with another: that one's
// index, else -1.
func (t *table) add(i int) int {
	entry := &t.entries[i]
	host := strings.TrimPrefix(entry.Host, "*")
	t.byHost = t.byHost || host != ""
	if t.hosts[host] == nil {
		t.hosts[host] = make(paths)
	}
	key := strings.ToLower(strings.TrimSuffix(cmp.Or(entry.Path, entry.PathPrefix), "/"))
	at := t.hosts[host][key]
	if at == nil {
		at = new(pathIndex)
		t.hosts[host][key] = at
	}
	list := &at.prefix
	if entry.Path != "" {
		list = &at.exact
	}
	for _, j := range slices.Concat(at.exact, at.prefix) {
		if t.entries[j].spelling() != entry.spelling() {
			return j
		}
	}
	if k := slices.IndexFunc(*list, func(j int) bool { return shareMethod(t.entries[j].Methods, entry.Methods) }); k >= 0 {
		return (*list)[k]
	}
	if entry.Methods == nil {
		*list = append(*list, i)
	} else {
		*list = slices.Insert(*list, 0, i)
	}
	return -1
}

// shareMethod says whether two entries for a path tie. Named methods do not tie
// with any: they are more specific.
func shareMethod(a, b []string) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return slices.ContainsFunc(a, func(m string) bool { return slices.Contains(b, m) })
}

func (e *Route) spelling() string { return strings.TrimSuffix(cmp.Or(e.Path, e.PathPrefix), "/") }

// The denials of requests that a table cannot tell apart.
var (
	denyPathForm     = &sessions.Denial{Outcome: sessions.Forbidden, Rule: "path", Code: "path_form", Message: "the path is not absolute, or has a broken escape, a control character or a . or .. segment"}
	denyPathSpelling = &sessions.Denial{Outcome: sessions.Forbidden, Rule: "path", Code: "path_spelling", Message: "the path is that of an entry of routes to some servers, but is spelt otherwise"}
	denyHostForm     = &sessions.Denial{Outcome: sessions.Forbidden, Rule: "host", Code: "host_form", Message: "the host is no host name or address with an optional port"}
)

// find returns the index of the entry that applies to a request, or -1.
//
// Envoy, the upstream and whatever is between may read one path differently:
// /%61dmin, //admin, /admin;x, /ADMIN and /x%2F..%2Fadmin are all /admin to some
// server. So the entry is looked up for the loosest reading, which every entry
// fits that fits any reading, and it has to fit the path as it stands, too: then
// it is the most specific one of every reading. If it does not, an attacker wants
// one server to see another path than we do, and the request is denied.
func (t *table) find(method, host, path string) (int, *sessions.Denial) {
	found, denial := t.findLoosely(method, host, path)
	if found >= 0 && !t.entries[found].fitsPath(path) {
		return -1, denyPathSpelling
	}
	return found, denial
}

func (t *table) findLoosely(method, host, path string) (int, *sessions.Denial) {
	if len(t.entries) == 0 {
		return -1, nil
	}
	var hostBuf [browser.HostMax]byte
	name := hostBuf[:0]
	if t.byHost {
		var ok bool
		if name, ok = browser.AppendHost(name, host); !ok {
			return -1, denyHostForm
		}
	}
	var pathBuf [routePathMax + 3]byte // longer than any entry, also before it is folded
	loosest, whole, ok := loosestPath(pathBuf[:0], path)
	if !ok {
		return -1, denyPathForm
	}
	found := -1
	for suffix := name; found < 0; {
		if at := t.hosts[string(suffix)]; at != nil {
			found = t.findPath(at, loosest, whole, method)
		}
		if len(suffix) == 0 {
			break
		}
		suffix = suffix[1:]
		for len(suffix) > 0 && suffix[0] != '.' {
			suffix = suffix[1:]
		}
	}
	return found, nil
}

// findPath looks at the path itself, and then at one slash less each time.
func (t *table) findPath(at paths, path []byte, whole bool, method string) int {
	for {
		if here := at[string(path)]; here != nil {
			if whole {
				if i := t.findMethod(here.exact, method); i >= 0 {
					return i
				}
			}
			if i := t.findMethod(here.prefix, method); i >= 0 {
				return i
			}
		}
		if len(path) == 0 {
			return -1
		}
		whole = false
		for path = path[:len(path)-1]; len(path) > 0 && path[len(path)-1] != '/'; {
			path = path[:len(path)-1]
		}
		path = path[:max(0, len(path)-1)]
	}
}

func (t *table) findMethod(list []int, method string) int {
	for _, i := range list {
		if t.entries[i].fitsMethod(method) {
			return i
		}
	}
	return -1
}

// fitsMethod takes get for GET: to some servers it is.
func (e *Route) fitsMethod(method string) bool {
	return e.Methods == nil || slices.ContainsFunc(e.Methods, func(m string) bool { return strings.EqualFold(m, method) })
}

// fitsPath says whether a path fits as it stands, letter by letter.
func (e *Route) fitsPath(path string) bool {
	if e.Path != "" {
		return path == e.Path || e.Path != "/" && len(path) == len(e.Path)+1 && path[:len(e.Path)] == e.Path && path[len(e.Path)] == '/'
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(e.PathPrefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// loosestPath appends to buf, up to its capacity, the path as the most lenient of
// servers reads it: escapes decoded, also twice; \ taken for /; several slashes
// and one at the end taken for one and none; parameters behind ; and whatever is
// behind an escaped ? or # dropped; in lower case. Where buf is too short, whole is
// false; it is longer than any entry's path, so a segment cut short meets none.
//
// A . or .. segment, however written, is not read: it takes away what other
// readings keep, so no reading is loosest. Nor is an escaped slash after ;, which
// ends the parameters for some servers and is a part of them for others.
func loosestPath(buf []byte, path string) (read []byte, whole, ok bool) {
	if path == "" || path[0] != '/' {
		return buf, false, false
	}
	whole = true
	ended := false                          // behind an escaped ? or #
	parameters, length, dots := false, 0, 0 // of the segment
	for i := 0; i < len(path); {
		c, n := decoded(path[i:])
		if i += n; n == 0 || c < ' ' || c == 0x7f {
			return buf, false, false
		}
		if c == '\\' {
			c = '/'
		}
		ends := c == '/' || c == '?' || c == '#'
		if ends && (isDots(length, dots) || parameters && path[i-1] != '/') {
			return buf, false, false
		}
		switch {
		case ends:
			ended = ended || c != '/'
			parameters, length, dots = false, 0, 0
		case c == ';':
			parameters = true
		case !parameters:
			length++
			if c == '.' {
				dots++
			}
		}
		switch {
		case ended, parameters, !whole, c == '/' && len(buf) > 0 && buf[len(buf)-1] == '/':
		case len(buf) == cap(buf):
			whole = false
		default:
			buf = folded(append(buf, lowered(c)))
		}
	}
	if isDots(length, dots) {
		return buf, false, false
	}
	if len(buf) > 0 && buf[len(buf)-1] == '/' {
		buf = buf[:len(buf)-1]
	}
	return buf, whole, true
}

// asciiButForCase are the letters that equal ASCII ones but for case (Unicode
// CaseFolding and SpecialCasing): to a server that ignores case as Unicode has it,
// /adm%C4%B0n is /admin.
var asciiButForCase = [...]struct {
	other, ascii string
}{
	{"\u0130", "i"},
	{"\u0131", "i"},
	{"\u017f", "s"},
	{"\u212a", "k"},
	{"\u00df", "ss"},
	{"\u1e9e", "ss"},
	{"\ufb00", "ff"},
	{"\ufb01", "fi"},
	{"\ufb02", "fl"},
	{"\ufb03", "ffi"},
	{"\ufb04", "ffl"},
	{"\ufb05", "st"},
	{"\ufb06", "st"},
}

// folded ends in ASCII letters where buf ends in another that equals them. It is never
// longer.
func folded(buf []byte) []byte {
	if buf[len(buf)-1] < 0x80 {
		return buf
	}
	for _, letter := range asciiButForCase {
		if rest := len(buf) - len(letter.other); rest >= 0 && string(buf[rest:]) == letter.other {
			return append(buf[:rest], letter.ascii...)
		}
	}
	return buf
}

// isDots: a segment that is . or ..
func isDots(length, dots int) bool { return length == dots && (length == 1 || length == 2) }

// decoded is the first character of s, as whoever decodes twice reads it, and how
// many bytes stand for it: %61 is a, and so are %2561 and %25%36%31. It has no bytes
// where an escape is broken, or where somebody who decodes once more would read
// something else.
func decoded(s string) (c byte, n int) {
	c, n = unescaped(s)
	if c != '%' || n == 0 {
		return c, n
	}
	high, nh := unescaped(s[n:])
	low, nl := byte(0), 0
	if isHex(high) {
		low, nl = unescaped(s[n+nh:])
	}
	switch {
	case high == '%', low == '%':
		return 0, 0
	case nh == 0 || nl == 0 || !isHex(low):
		return c, n // the percent sign itself
	}
	c = unhex(high)<<4 | unhex(low)
	if c == '%' {
		return 0, 0
	}
	return c, n + nh + nl
}

// unescaped is the first character of s, which may be escaped, and how many bytes
// stand for it; none where there is none, or the escape is broken.
func unescaped(s string) (c byte, n int) {
	switch {
	case s == "":
		return 0, 0
	case s[0] != '%':
		return s[0], 1
	case len(s) < 3 || !isHex(s[1]) || !isHex(s[2]):
		return 0, 0
	default:
		return unhex(s[1])<<4 | unhex(s[2]), 3
	}
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || lowered(c) >= 'a' && lowered(c) <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return lowered(c) - 'a' + 10
}

func lowered(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
