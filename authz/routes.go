package authz

import (
	"cmp"
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

// routePathMax bounds an entry's path.
const routePathMax = 256 // bytes

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
// Two entries that tie for some request are refused. So are two that differ only in
// the case of their paths.
type table struct {
	entries []Route
	// hosts has the entries by host name, ".suffix" and, for any host, "".
	hosts map[string]paths
	// byHost says whether any entry names a host.
	byHost bool
}

// paths has entries by path: in lower case, without a slash at the end.
type paths map[string]*pathIndex

// pathIndex has the indices of the entries for one path, those with methods first.
type pathIndex struct{ exact, prefix []int }

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

// add puts the entry into the index and returns -1. Where the entry ties with another, add
// returns that one's index instead.
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

// shareMethod says whether two entries for a path tie. Named methods do not tie with an
// entry for any method: they are more specific.
func shareMethod(a, b []string) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return slices.ContainsFunc(a, func(m string) bool { return slices.Contains(b, m) })
}

func (e *Route) spelling() string { return strings.TrimSuffix(cmp.Or(e.Path, e.PathPrefix), "/") }

// find returns the index of the entry that applies to a request, or -1.
//
// Envoy, the upstream and the proxies between them may read one path differently:
// /%61dmin, //admin, /admin;x, /ADMIN and /x%2F..%2Fadmin are all /admin to some
// server. So the entry is looked up for the loosest reading ([loosestPath]): an entry
// that fits any reading fits that one. The entry must fit the path as it stands, too:
// then it is the most specific one of every reading. If it does not, an attacker may
// want one server to see another path than this package does, and the request is denied.
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

// fitsMethod takes get for GET: some servers do.
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
