package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

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

// FoundUnknownKey is the fault of a policy key that does not exist.
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

// What an entry may say, for faults.
const (
	AllowedRouteHost = "a host name in lower case, without a port or a dot at its end, or *.NAME for all names below one"
	AllowedRoutePath = "an absolute path of at most 256 letters, digits and -._~!$&'(),=:@/, without //, . or .. segments or a slash at its end"
	allowedPolicy    = "a policy; an empty one is the default"
	allowedTie       = "one entry for a host, path and method"
)

// RouteMethods are the methods that an entry may name (RFC 9110 §9.3, RFC 5789,
// RFC 4918). Another one would be a typo: no request would ever fit the entry.
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
			if known, _ := findPolicyKey(key); known == nil {
				found = FoundUnknownKey
			}
			report("policy."+key, found, fault.Allowed())
		}
	}
}

// isRoutePath refuses a path that no request can have as it stands. It refuses every
// character that some server's reading of a path may change.
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
