package doctor

// Istio's AuthorizationPolicy with action CUSTOM switches no check off on routes. An RBAC filter before the check has shadow rules, which decide
// nothing but leave in the request's metadata which policy took it; and filter_enabled_metadata of the check reads that.

// verdict says whether something takes a request whose path alone is known. Their order makes "and" the least, "or" the greatest.
type verdict int

const (
	no verdict = iota
	maybe
	yes
)

func (v verdict) not() verdict { return yes - v }

// shadow are the shadow rules that switch a check on, if there are any.
func (m *manager) shadow(check filter) (rules, reads value) {
	reads = check.config.field("filter_enabled_metadata")
	if reads.field("filter").text() != "envoy.filters.http.rbac" {
		return value{}, value{}
	}
	for _, f := range m.filters {
		if f.entry == check.entry {
			break
		}
		if found := f.config.field("shadow_rules"); f.kind == rbacType && found.exists() {
			return found, reads
		}
	}
	return value{}, value{}
}

// shadowed says whether shadow rules exempt from a check whatever takes this way, and which do. In doubt the way counts as checked, and the report
// says that parts of it may not be (Skip).
func (l lead) shadowed(check filter) (exempt bool, by value) {
	rules, reads := l.route.host.manager.shadow(check)
	if !rules.exists() {
		return false, value{}
	}
	match := l.route.config.field("match")
	samples := []string{match.field("path").text()}
	if prefix := match.field("prefix").text(); prefix != "" {
		samples = []string{prefix, prefix + "any", prefix + "a/b.c"}
	}
	if prefix := match.field("path_separated_prefix").text(); prefix != "" {
		samples = []string{prefix, prefix + "/any", prefix + "/a/b.c"}
	}
	for _, path := range samples {
		if path == "" || shadowTakes(rules, reads, path) != no {
			return false, value{}
		}
	}
	return true, rules
}

// shadowTakes says whether a policy takes a path whose name switches the check on.
func shadowTakes(rules, reads value, path string) verdict {
	if reads.field("invert").isTrue() {
		return maybe
	}
	found := no
	names, policies := rules.field("policies").entries()
	for i, policy := range policies {
		taken := min(anyOf(policy.field("permissions").items(), path), anyOf(policy.field("principals").items(), path))
		if policy.field("condition").exists() || policy.field("checked_condition").exists() {
			taken = min(taken, maybe)
		}
		if !matches(reads.field("value", "string_match"), names[i]) {
			taken = min(taken, maybe) // its name may stand where ours would
		}
		found = max(found, taken)
	}
	return found
}

func anyOf(rules []value, path string) verdict {
	found := no
	for _, rule := range rules {
		found = max(found, takesPath(rule, path))
	}
	return found
}

// takesPath reads a permission or a principal of RBAC, as far as they are of paths. The names of the fields that combine others differ, no more.
func takesPath(rule value, path string) verdict {
	for _, all := range []value{rule.field("and_rules", "rules"), rule.field("and_ids", "ids")} {
		if all.exists() {
			found := yes
			for _, r := range all.items() {
				found = min(found, takesPath(r, path))
			}
			return found
		}
	}
	for _, some := range []value{rule.field("or_rules", "rules"), rule.field("or_ids", "ids")} {
		if some.exists() {
			return anyOf(some.items(), path)
		}
	}
	for _, other := range []value{rule.field("not_rule"), rule.field("not_id")} {
		if other.exists() {
			return takesPath(other, path).not()
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
