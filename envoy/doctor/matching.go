package doctor

import (
	"regexp"
	"strings"
)

// matches says whether an envoy.type.matcher.v3.StringMatcher takes a text. One that is not understood does not.
func matches(m value, text string) bool {
	fold := func(s string) string { return s }
	if m.field("ignore_case").isTrue() {
		fold = strings.ToLower
	}
	text = fold(text)
	for _, kind := range []string{"exact", "prefix", "suffix", "contains"} {
		pattern := m.field(kind)
		if !pattern.exists() {
			continue
		}
		p := fold(pattern.text())
		switch kind {
		case "exact":
			return text == p
		case "prefix":
			return strings.HasPrefix(text, p)
		case "suffix":
			return strings.HasSuffix(text, p)
		default:
			return strings.Contains(text, p)
		}
	}
	return matchesWhole(m.field("safe_regex", "regex").text(), text)
}

// matchesWhole says whether an expression takes all of a text, as Envoy's RegexMatcher does. Both are RE2.
func matchesWhole(expression, text string) bool {
	if expression == "" {
		return false
	}
	compiled, err := regexp.Compile("^(?:" + expression + ")$")
	return err == nil && compiled.MatchString(text)
}

// takes says whether a RouteMatch is about a path, whatever else it asks for. The path has no query.
func takes(match value, path string) bool {
	fold := func(s string) string { return s }
	if sensitive := match.field("case_sensitive"); sensitive.exists() && !sensitive.isTrue() {
		fold = strings.ToLower
	}
	if exact := match.field("path"); exact.exists() {
		return fold(path) == fold(exact.text())
	}
	if prefix := match.field("prefix"); prefix.exists() {
		return strings.HasPrefix(fold(path), fold(prefix.text()))
	}
	if prefix := match.field("path_separated_prefix"); prefix.exists() {
		rest, ok := strings.CutPrefix(fold(path), fold(prefix.text()))
		return ok && (rest == "" || rest[0] == '/')
	}
	return matchesWhole(match.field("safe_regex", "regex").text(), path)
}

// conditional says whether a RouteMatch asks for more than a path, so that a later route may get the request.
func conditional(match value) bool {
	keys, _ := match.entries()
	for _, key := range keys {
		switch key {
		case "path", "prefix", "path_separated_prefix", "pathSeparatedPrefix", "safe_regex", "safeRegex", "case_sensitive", "caseSensitive":
		default:
			return true
		}
	}
	return false
}

// resolve finds the route of a virtual host that gets a path, for sure: one that asks for more than a path may not.
func (h *host) resolve(path string) *route {
	for _, r := range h.routes {
		if match := r.config.field("match"); takes(match, path) && !conditional(match) {
			return r
		}
	}
	return nil
}

// everything says whether a RouteMatch is about any path at all.
func everything(match value) bool {
	return takes(match, "/") && takes(match, "/any") && takes(match, "/a/b.c")
}

func describeMatch(match value) string {
	keys, values := match.entries()
	for i, key := range keys {
		switch key {
		case "path", "prefix", "path_separated_prefix", "pathSeparatedPrefix":
			return key + " " + values[i].text()
		case "safe_regex", "safeRegex":
			return "safe_regex " + values[i].field("regex").text()
		}
	}
	return "a route"
}
