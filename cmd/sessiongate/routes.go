package main

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/authz"
)

const allowedRoutes = "a list (in the environment: the same text, as YAML or JSON) of mappings of policy and, each at most once, of host, path or path_prefix, methods"

// routes is the kind of a table of route policies. It is a list of mappings, so
// it reads nodes of YAML, in the environment too.
func routes(p *[]authz.Route) kind {
	return kind{
		allowed: allowedRoutes,
		list:    true,
		reset:   func() { *p = nil },
		read:    func(r *reader, key string, list *yaml.Node) { *p = r.readRoutes(key, list) },
		texts: func() []string {
			texts := make([]string, len(*p))
			for i, route := range *p {
				texts[i] = routeYAML(route)
			}
			return texts
		},
	}
}

// readYAML reads the value of a variable as it would stand in the file.
func (r *reader) readYAML(s setting, variable, value string) {
	r.variable = variable
	defer func() { r.variable = "" }()
	documents := yaml.NewDecoder(strings.NewReader(value))
	var document, second yaml.Node
	err := documents.Decode(&document)
	if errors.Is(err, io.EOF) { // empty
		s.kind.reset()
		return
	}
	if err == nil {
		err = documents.Decode(&second)
	}
	if !errors.Is(err, io.EOF) {
		r.report(origin{env: variable}, s.key, "the text "+quoted(value), s.kind.allowed)
		return
	}
	s.kind.read(r, s.key, document.Content[0])
}

// entryKeys are the keys of a route, in the order in which they are printed.
var entryKeys = []string{"host", "path", "path_prefix", "methods", "policy"}

// readRoutes reads what YAML says, and leaves it to authz what that means.
func (r *reader) readRoutes(key string, list *yaml.Node) []authz.Route {
	maps.DeleteFunc(r.origins, func(k string, _ origin) bool { return strings.HasPrefix(k, key+"[") })
	before := len(r.faults)
	if !r.plain(list, key) {
		return nil
	}
	if list.Kind != yaml.SequenceNode {
		r.report(r.at(list), key, describe(list, false), allowedRoutes)
		return nil
	}
	if len(list.Content) == 0 {
		return nil
	}
	entries := make([]authz.Route, len(list.Content))
	unread := make(map[string]bool) // of entries and fields with a fault of their own
	for i, node := range list.Content {
		name := fmt.Sprintf("%s[%d]", key, i)
		r.origins[name] = r.at(node)
		known := len(r.faults)
		r.readRoute(&entries[i], name, node)
		for _, f := range r.faults[known:] {
			unread[name], unread[f.key] = true, true
		}
	}
	var wrong authz.RouteFaults
	_ = errors.As(authz.CheckRoutes(entries), &wrong)
	for _, w := range wrong {
		name := fmt.Sprintf("%s[%d]", key, w.Index)
		field, at := name, r.origins[name]
		if w.Field != "" {
			field = name + "." + w.Field
			if o, ok := r.origins[field]; ok {
				at = o
			}
		}
		switch {
		case unread[field], w.Field == "" && unread[name]:
			continue // said already, or a tie of what is not known
		case w.With >= 0:
			other := fmt.Sprintf("%s[%d]", key, w.With)
			if unread[other] {
				continue
			}
			w.Found = fmt.Sprintf("requests that %s has (%s: %s)", other, r.origins[other], routeWords(entries[w.With]))
		case w.Found == authz.FoundUnknownKey:
			if near := nearest(strings.TrimPrefix(w.Field, "policy."), authz.PolicyKeys()); near != "" {
				w.Found += fmt.Sprintf(" (did you mean %s?)", near)
			}
		}
		r.report(at, field, w.Found, w.Allowed)
	}
	if len(r.faults) > before {
		r.unsound[key] = true
	}
	return entries
}

func (r *reader) readRoute(route *authz.Route, name string, node *yaml.Node) {
	route.Policy = map[string]string{} // one fault is enough
	if !r.plain(node, name) {
		return
	}
	if node.Kind != yaml.MappingNode {
		r.report(r.at(node), name, describe(node, false), "a mapping of "+strings.Join(entryKeys, ", "))
		return
	}
	route.Policy = nil
	for key, value := range r.pairs(node, name, entryKeys) {
		field := name + "." + key
		r.origins[field] = r.at(value)
		switch key {
		case "host":
			route.Host = r.readText(value, field, authz.AllowedRouteHost)
		case "path":
			route.Path = r.readText(value, field, authz.AllowedRoutePath)
		case "path_prefix":
			route.PathPrefix = r.readText(value, field, authz.AllowedRoutePath)
		case "methods":
			route.Methods = r.readMethods(value, field)
		case "policy":
			route.Policy = r.readPolicy(value, field)
		}
	}
}

// pairs are the keys and values of a mapping, but for those that are faults. A
// key that is not among names is one, if there are any.
func (r *reader) pairs(mapping *yaml.Node, at string, names []string) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		first := make(map[string]int) // lines
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			key, value := mapping.Content[i], mapping.Content[i+1]
			if !r.plain(key, at) {
				continue
			}
			allowed := "keys among " + strings.Join(names, ", ")
			if names == nil {
				allowed = "keys of a policy"
			}
			if key.Kind != yaml.ScalarNode || key.ShortTag() != tagText {
				r.report(r.at(key), at, "a key that is no text", allowed)
				continue
			}
			if names != nil && !slices.Contains(names, key.Value) {
				r.report(r.at(key), at, foundUnknown(key.Value, nearest(key.Value, names)), allowed)
				continue
			}
			if line, again := first[key.Value]; again {
				r.report(r.at(key), at+"."+key.Value, fmt.Sprintf("a second value (the first is in line %d)", line), "one value")
				continue
			}
			first[key.Value] = key.Line
			if !yield(key.Value, value) {
				return
			}
		}
	}
}

func (r *reader) readText(node *yaml.Node, field, allowed string) string {
	if !r.plain(node, field) {
		return ""
	}
	if node.Kind != yaml.ScalarNode || node.ShortTag() != tagText || node.Value == "" {
		r.report(r.at(node), field, describe(node, false), allowed)
		return ""
	}
	return node.Value
}

func (r *reader) readMethods(node *yaml.Node, field string) []string {
	allowed := "a list of methods, such as [GET, HEAD]; for any method, none"
	if !r.plain(node, field) {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		r.report(r.at(node), field, describe(node, false), allowed)
		return nil
	}
	methods := []string{}
	for _, item := range node.Content {
		methods = append(methods, r.readText(item, field, allowed))
	}
	return methods
}

// policyKeyMax keeps keys printable: a longer one YAML takes only behind "?".
const policyKeyMax = 128 // bytes

func (r *reader) readPolicy(node *yaml.Node, field string) map[string]string {
	policy := make(map[string]string)
	if !r.plain(node, field) {
		return policy
	}
	if node.Kind != yaml.MappingNode {
		r.report(r.at(node), field, describe(node, false), "a mapping of the keys and values of context_extensions")
		return policy
	}
	for key, value := range r.pairs(node, field, nil) {
		at := field + "." + key
		if len(key) > policyKeyMax || !isText(key) {
			r.report(r.at(value), field, "the key "+quoted(key), fmt.Sprintf("keys of at most %d printable bytes", policyKeyMax))
			continue
		}
		r.origins[at] = r.at(value)
		if !r.plain(value, at) {
			continue
		}
		text, ok := scalarText(value)
		if !ok {
			r.report(r.at(value), at, describe(value, false), "a text, in quotes where YAML reads something else")
			continue
		}
		policy[key] = text
	}
	return policy
}

// scalarText is what a scalar of YAML says, where that is the same to every
// reader: off, 600 and true are what they look like; 0x10, 1_0 and 1e3, True and
// nothing at all are not.
func scalarText(node *yaml.Node) (string, bool) {
	text := node.Value
	if node.Kind != yaml.ScalarNode {
		return "", false
	}
	switch node.ShortTag() {
	case tagText:
		return text, true
	case tagBoolean:
		return text, text == "true" || text == "false"
	case tagInteger:
		n, err := strconv.ParseInt(text, 10, 64)
		return text, err == nil && strconv.FormatInt(n, 10) == text
	case "!!float":
		f, err := strconv.ParseFloat(text, 64)
		return text, err == nil && strconv.FormatFloat(f, 'f', -1, 64) == text
	default:
		return "", false
	}
}

// routesReference is the section on routes of the reference page.
const routesReference = "\n## `routes`\n" + `
A table of policies for control planes that cannot give Envoy's routes ` + "`context_extensions`" + `, such as Istio's. Each entry says for which
requests it is, and their policy:

` + "```yaml" + `
routes:
  - path_prefix: /admin                   # /admin, /admin/ and /admin/x; not /administrator
    policy: {require.role: admin, max_age: 600}
  - path_prefix: /admin/reports
    methods: [GET, HEAD]
    policy: {require.role: admin|auditor}
  - path: /                               # this path alone
    policy: {session: optional}
  - host: "*.api.example.com"             # every name below api.example.com; comes before all entries without a host
    path_prefix: /v1
    policy: {on_unauthorised: "401"}
` + "```" + `

| Key | Says |
|---|---|
| ` + "`host`" + ` | a host name in lower case, or ` + "`*.NAME`" + ` for all names below one; none: any. Compared without port, case and a dot at the end |
| ` + "`path`, `path_prefix`" + ` | one of them: exactly this path, or this path and what is below it; none: any. A slash at the end makes no difference |
| ` + "`methods`" + ` | a list; none: any. GET does not mean HEAD, too |
| ` + "`policy`" + ` | the keys and values of ` + "`context_extensions`" + ` ([Route policy](policy.md#the-keys)); ` + "`{}`" + ` is the default policy |

Of the entries that fit a request one applies, the most specific by host, then path, then method, wherever it stands in the list: a name before
a longer ` + "`*.suffix`" + ` before a shorter one before any; a path before a longer prefix before a shorter one before any; named methods before any.
Nothing is inherited from less specific entries. Two entries that tie for some request are refused. Where none fits, the default policy holds.

In the environment the list is the same text, as YAML or JSON: ` + "`SESSIONGATE_ROUTES='[{path: /, policy: {session: optional}}]'`" + `. What numbers and truth values
look like, they are: ` + "`600`, `off`, `true`" + ` need no quotes here. ` + "`sessiongate config explain GET https://app.example.com/admin`" + ` says which entry applies to a request, and why; its exit status is 3 where the request is denied whoever sends it.
[How a path is read](policy.md#how-a-path-is-read) says what becomes of ` + "`//admin` and `/%61dmin`" + `.
`

// routeYAML is a route as readRoute reads it.
func routeYAML(e authz.Route) string {
	var b strings.Builder
	b.WriteString("{")
	for _, s := range []struct{ key, value string }{{"host", e.Host}, {"path", e.Path}, {"path_prefix", e.PathPrefix}} {
		if s.value != "" {
			fmt.Fprintf(&b, "%s: %q, ", s.key, s.value)
		}
	}
	if e.Methods != nil {
		fmt.Fprintf(&b, "methods: [%s], ", strings.Join(e.Methods, ", "))
	}
	b.WriteString("policy: {")
	for i, key := range slices.Sorted(maps.Keys(e.Policy)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s: %s", quoteKey(key), strconv.Quote(e.Policy[key]))
	}
	b.WriteString("}}")
	return b.String()
}

func quoteKey(key string) string {
	if onlyOf(key, lower+"_.") {
		return key
	}
	return strconv.Quote(key)
}

// routeWords says which requests a route is for.
func routeWords(e authz.Route) string {
	var words []string
	if e.Methods != nil {
		words = append(words, strings.Join(e.Methods, ", "))
	}
	if e.Host != "" {
		words = append(words, "host "+e.Host)
	}
	switch {
	case e.Path != "":
		words = append(words, "path "+e.Path)
	case e.PathPrefix != "":
		words = append(words, "path_prefix "+e.PathPrefix)
	default:
		words = append(words, "any path")
	}
	return strings.Join(words, ", ")
}

// writeRoutes prints one route a line, each with its place.
func writeRoutes(b *strings.Builder, s setting, from origins) {
	fmt.Fprintf(b, "%s: ", s.key)
	texts := s.kind.texts()
	if len(texts) == 0 {
		b.WriteString("[] ")
	}
	fmt.Fprintf(b, "# %s\n", quoteUnlessPlain(from[s.key].String()))
	for i, text := range texts {
		fmt.Fprintf(b, "  - %s # %s\n", text, quoteUnlessPlain(from[fmt.Sprintf("%s[%d]", s.key, i)].String()))
	}
}
