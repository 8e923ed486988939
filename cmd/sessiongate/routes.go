package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/nearest"
	"github.com/sessiongate/sessiongate/internal/settings"
)

const allowedRoutes = "a list (in the environment: the same text, as YAML or JSON) of mappings of policy and, each at most once, of host, path or path_prefix, methods"

// routes is the kind of a table of route policies. It is a list of mappings, so
// it reads nodes of YAML, in the environment too.
func routes(p *[]authz.Route) settings.Kind {
	return settings.Kind{
		Allowed: allowedRoutes,
		List:    true,
		Schema:  routesSchema(),
		Reset:   func() { *p = nil },
		Read: func(r *settings.Reader, key string, list *yaml.Node) {
			*p = routesReader{r}.readRoutes(key, list)
		},
		Texts: func() []string {
			texts := make([]string, len(*p))
			for i, route := range *p {
				texts[i] = routeYAML(route)
			}
			return texts
		},
	}
}

// routesSchema describes the table to editors.
func routesSchema() map[string]any {
	text := map[string]any{"type": "string", "minLength": 1}
	return map[string]any{"type": "array", "items": map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"policy"},
		"not": map[string]any{"required": []string{"path", "path_prefix"}},
		"properties": map[string]any{
			"host": text, "path": text, "path_prefix": text,
			"methods": map[string]any{"type": "array", "items": text, "minItems": 1, "uniqueItems": true},
			"policy": map[string]any{
				"type": "object", "additionalProperties": map[string]any{"type": []string{"string", "number", "boolean"}},
				"description": "The keys and values of context_extensions.",
			},
		},
	}}
}

// routesReader reads a table of routes, as a part of what a reader reads.
type routesReader struct{ *settings.Reader }

// entryKeys are the keys of a route, in the order in which they are printed.
var entryKeys = []string{"host", "path", "path_prefix", "methods", "policy"}

// readRoutes reads what YAML says, and leaves it to authz what that means.
func (r routesReader) readRoutes(key string, list *yaml.Node) []authz.Route {
	maps.DeleteFunc(r.Origins, func(k string, _ settings.Origin) bool { return strings.HasPrefix(k, key+"[") })
	before := len(r.Faults)
	if !r.Plain(list, key) {
		return nil
	}
	if list.Kind != yaml.SequenceNode {
		r.Report(r.At(list), key, settings.Describe(list, false), allowedRoutes)
		return nil
	}
	if len(list.Content) == 0 {
		return nil
	}
	entries := make([]authz.Route, len(list.Content))
	unread := make(map[string]bool) // of entries and fields with a fault of their own
	for i, node := range list.Content {
		name := fmt.Sprintf("%s[%d]", key, i)
		r.Origins[name] = r.At(node)
		known := len(r.Faults)
		r.readRoute(&entries[i], name, node)
		for _, f := range r.Faults[known:] {
			unread[name], unread[f.Key] = true, true
		}
	}
	var wrong authz.RouteFaults
	_ = errors.As(authz.CheckRoutes(entries), &wrong)
	for _, w := range wrong {
		name := fmt.Sprintf("%s[%d]", key, w.Index)
		field, at := name, r.Origins[name]
		if w.Field != "" {
			field = name + "." + w.Field
			if o, ok := r.Origins[field]; ok {
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
			w.Found = fmt.Sprintf("requests that %s has (%s: %s)", other, r.Origins[other], routeWords(entries[w.With]))
		case w.Found == authz.FoundUnknownKey:
			if near := nearest.Name(strings.TrimPrefix(w.Field, "policy."), authz.PolicyKeys()); near != "" {
				w.Found += fmt.Sprintf(" (did you mean %s?)", near)
			}
		}
		r.Report(at, field, w.Found, w.Allowed)
	}
	if len(r.Faults) > before {
		r.Unsound(key)
	}
	return entries
}

func (r routesReader) readRoute(route *authz.Route, name string, node *yaml.Node) {
	route.Policy = map[string]string{} // one fault is enough
	if !r.Plain(node, name) {
		return
	}
	if node.Kind != yaml.MappingNode {
		r.Report(r.At(node), name, settings.Describe(node, false), "a mapping of "+strings.Join(entryKeys, ", "))
		return
	}
	route.Policy = nil
	for key, value := range r.Pairs(node, name, entryKeys, "") {
		field := name + "." + key
		r.Origins[field] = r.At(value)
		switch key {
		case "host":
			route.Host = r.Text(value, field, authz.AllowedRouteHost)
		case "path":
			route.Path = r.Text(value, field, authz.AllowedRoutePath)
		case "path_prefix":
			route.PathPrefix = r.Text(value, field, authz.AllowedRoutePath)
		case "methods":
			route.Methods = r.readMethods(value, field)
		case "policy":
			route.Policy = r.readPolicy(value, field)
		}
	}
}

func (r routesReader) readMethods(node *yaml.Node, field string) []string {
	allowed := "a list of methods, such as [GET, HEAD]; for any method, none"
	if !r.Plain(node, field) {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		r.Report(r.At(node), field, settings.Describe(node, false), allowed)
		return nil
	}
	methods := []string{}
	for _, item := range node.Content {
		methods = append(methods, r.Text(item, field, allowed))
	}
	return methods
}

// policyKeyMax keeps keys printable: a longer one YAML takes only after "?".
const policyKeyMax = 128 // bytes

func (r routesReader) readPolicy(node *yaml.Node, field string) map[string]string {
	policy := make(map[string]string)
	if !r.Plain(node, field) {
		return policy
	}
	if node.Kind != yaml.MappingNode {
		r.Report(r.At(node), field, settings.Describe(node, false), "a mapping of the keys and values of context_extensions")
		return policy
	}
	for key, value := range r.Pairs(node, field, nil, "keys of a policy") {
		at := field + "." + key
		if len(key) > policyKeyMax || !settings.IsText(key) {
			r.Report(r.At(value), field, "the key "+settings.Quoted(key), fmt.Sprintf("keys of at most %d printable bytes", policyKeyMax))
			continue
		}
		r.Origins[at] = r.At(value)
		if !r.Plain(value, at) {
			continue
		}
		text, ok := settings.ScalarText(value)
		if !ok {
			r.Report(r.At(value), at, settings.Describe(value, false), "a text, in quotes where YAML reads something else")
			continue
		}
		policy[key] = text
	}
	return policy
}

// routesReference is the section on routes of the reference page.
const routesReference = `
## The routes table

` + "`routes`" + ` is a table of policies for control planes that cannot give Envoy's routes
` + "`context_extensions`" + `, such as Istio's. Each entry says for which requests it is, and their policy:

` + "```yaml" + `
routes:
  - path_prefix: /admin          # /admin, /admin/ and /admin/x; not /administrator
    policy: {require.role: admin, max_age: 600}
  - path_prefix: /admin/reports
    methods: [GET, HEAD]
    policy: {require.role: admin|auditor}
  - path: /                      # this path alone
    policy: {session: optional}
  - host: "*.api.example.com"    # every name below api.example.com; more specific than no host
    path_prefix: /v1
    policy: {on_unauthorised: "401"}
` + "```" + `

- ` + "`host`" + `: a host name in lower case, or ` + "`*.NAME`" + ` for all names below one. Without it: any host.
  It is compared without port, case and a dot at the end.
- ` + "`path` or `path_prefix`" + `: exactly this path, or this path and what is below it. Without both: any
  path. A slash at the end makes no difference.
- ` + "`methods`" + `: a list. Without it: any method. GET does not include HEAD.
- ` + "`policy`" + `: the keys and values of ` + "`context_extensions`" + ` ([Route policy](policy.md#the-keys)).
  ` + "`{}`" + ` is the default policy.

One entry applies to a request: the most specific one that fits, wherever it stands in the list.
The host counts first, then the path, then the method:

- A name is more specific than ` + "`*.suffix`" + `, a longer suffix more than a shorter one, and each of them
  more than any host.
- A path is more specific than a prefix, a longer prefix more than a shorter one, and each of them
  more than any path.
- Named methods are more specific than any method.

An entry inherits nothing from less specific entries. Two entries that tie for some request are
refused. Where no entry fits, the default policy holds.

In the environment the list is the same text, as YAML or JSON:
` + "`SESSIONGATE_ROUTES='[{path: /, policy: {session: optional}}]'`" + `. Numbers and truth values are
what they look like: ` + "`600`, `off` and `true`" + ` need no quotes here.

` + "`sessiongate config explain GET https://app.example.com/admin`" + ` says which entry applies to a
request, and why. Its exit status is 3 where the request is denied to every client.
[How a path is read](policy.md#how-a-path-is-read) says what becomes of
` + "`//admin` and `/%61dmin`" + `.
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
