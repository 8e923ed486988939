package doctor

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Istio's AuthorizationPolicy with action CUSTOM switches no check off on routes. An RBAC filter before the check has shadow rules, which decide
// nothing but leave in the request's metadata which policy took it; and filter_enabled_metadata of the check reads that.

// verdict says whether something takes a request whose path alone is known. Their order makes "and" the least, "or" the greatest.
type verdict int

const (
	no verdict = iota
	maybe
	yes
)

// rulesMax bounds how deep rules are read: an alias may make a rule contain itself, and several times. Istio nests four.
const rulesMax = 12

func (v verdict) not() verdict { return yes - v }

// shadow is the RBAC filter whose shadow rules switch a check on, if there is one: the one before it that writes what the check reads.
func (m *manager) shadow(check filter) (rbac filter, reads value) {
	reads = check.config.field("filter_enabled_metadata")
	path := reads.field("path").items()
	if reads.field("filter").text() != "envoy.filters.http.rbac" || len(path) != 1 {
		return filter{}, value{}
	}
	for _, f := range m.filters {
		if f.entry == check.entry {
			break
		}
		key := f.config.field("shadow_rules_stat_prefix").text() + "shadow_effective_policy_id"
		if f.kind == rbacType && !f.matched && f.config.field("shadow_rules").exists() && path[0].field("key").text() == key {
			return f, reads
		}
	}
	return filter{}, value{}
}

// shadowed says whether shadow rules have a check asked about whatever takes this way, and which do. yes: about all of it, as far as samples tell.
// no: it is exempt. maybe: about a part of it, or what decides is no path. Without shadow rules it is yes.
func (l lead) shadowed(check filter) (asked verdict, by value) {
	key := asking{l.route, l.cluster, check.entry.node}
	known, ok := l.route.host.manager.asked[key]
	if !ok {
		known.asked, known.by = l.findShadowed(check)
		l.route.host.manager.asked[key] = known
	}
	return known.asked, known.by
}

// asking is a question of shadowed, and answer what it found: the rules ask it often.
type asking struct {
	route   *route
	cluster string
	check   *yaml.Node
}

type answer struct {
	asked verdict
	by    value
}

func (l lead) findShadowed(check filter) (asked verdict, by value) {
	rbac, reads := l.route.host.manager.shadow(check)
	if !reads.exists() {
		return yes, value{}
	}
	rules := rbac.config.field("shadow_rules")
	if on, at := l.switched(rbac); !on {
		if !at.exists() {
			at = rbac.entry
		}
		return no, at
	}
	if kind, message, packed := l.perFilter(rbac.name); kind == rbacPerRouteType {
		if rules = message.field("rbac", "shadow_rules"); !rules.exists() {
			return no, packed
		}
	}
	match := l.route.config.field("match")
	samples := []string{match.field("path").text()}
	if prefix := match.field("prefix").text(); prefix != "" {
		samples = []string{prefix, prefix + "any", prefix + "a/b.c"}
	}
	if prefix := match.field("path_separated_prefix").text(); prefix != "" {
		samples = []string{prefix, prefix + "/any", prefix + "/a/b.c"}
	}
	least, most := yes, no
	for _, path := range samples {
		taken := maybe
		if path != "" {
			taken = shadowTakes(rules, reads, path)
		}
		least, most = min(least, taken), max(most, taken)
	}
	if least == most {
		return least, rules
	}
	return maybe, rules
}

// unsure says that shadow rules decide whether sessiongate is asked about what takes this way, and that the route does not tell how.
func (l lead) unsure() bool {
	m := l.route.host.manager
	return slices.ContainsFunc(m.checks, func(i int) bool {
		asked, _ := l.shadowed(m.filters[i])
		return asked == maybe
	})
}

// shadowTakes says whether a policy takes a path whose name switches the check on. Envoy asks the policies in the order of their names, and the
// first that takes a request gives it its name.
func shadowTakes(rules, reads value, path string) verdict {
	if reads.field("invert").isTrue() {
		return maybe
	}
	names, policies := rules.field("policies").entries()
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	found, before := no, no // by ours, and by another's before it
	for _, i := range order {
		policy := policies[i]
		taken := min(anyOf(policy.field("permissions").items(), path, 0), anyOf(policy.field("principals").items(), path, 0))
		if policy.field("condition").exists() || policy.field("checked_condition").exists() {
			taken = min(taken, maybe)
		}
		if matches(reads.field("value", "string_match"), names[i]) {
			found = max(found, min(taken, before.not()))
		} else {
			before = max(before, taken)
		}
	}
	return found
}

func anyOf(rules []value, path string, depth int) verdict {
	found := no
	for _, rule := range rules {
		found = max(found, takesPath(rule, path, depth))
	}
	return found
}

// takesPath reads a permission or a principal of RBAC, as far as they are of paths. The names of the fields that combine others differ, no more.
func takesPath(rule value, path string, depth int) verdict {
	if depth > rulesMax {
		return maybe
	}
	for _, all := range []value{rule.field("and_rules", "rules"), rule.field("and_ids", "ids")} {
		if all.exists() {
			found := yes
			for _, r := range all.items() {
				found = min(found, takesPath(r, path, depth+1))
			}
			return found
		}
	}
	for _, some := range []value{rule.field("or_rules", "rules"), rule.field("or_ids", "ids")} {
		if some.exists() {
			return anyOf(some.items(), path, depth+1)
		}
	}
	for _, other := range []value{rule.field("not_rule"), rule.field("not_id")} {
		if other.exists() {
			return takesPath(other, path, depth+1).not()
		}
	}
	if rule.field("any").isTrue() {
		return yes
	}
	matcher := rule.field("url_path", "path")
	if kinds, _ := matcher.entries(); len(kinds) != 1 { // with ignore_case, or of no kind that is known
		return maybe
	}
	switch {
	case matches(matcher, path):
		return yes
	case matcher.field("exact").exists() || matcher.field("prefix").exists() || matcher.field("suffix").exists():
		return no
	default:
		return maybe
	}
}
