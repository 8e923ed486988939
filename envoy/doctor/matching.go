package doctor

import (
	"regexp"
	"regexp/syntax"
	"slices"
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

// pathMatch is what a RouteMatch says of paths, and whether it asks for more.
type pathMatch struct {
	kind  string // path, prefix, path_separated_prefix or safe_regex; nothing, where it is not understood
	text  string
	regex *regexp.Regexp
	fold  bool
	// conditional says that a later route may get the request, chosen that a client decides it by what it sends.
	conditional, chosen bool
}

func readMatch(match value) (p pathMatch) {
	sensitive := match.field("case_sensitive")
	p.fold = sensitive.exists() && !sensitive.isTrue()
	for _, kind := range []string{"path", "prefix", "path_separated_prefix"} {
		if text := match.field(kind); text.exists() && p.kind == "" {
			p.kind, p.text = kind, p.folded(text.text())
		}
	}
	expression := match.field("safe_regex", "regex").text()
	if kind, template := match.field("path_match_policy", "typed_config").typed(); kind == templateType {
		expression = templateRegex(template.field("path_template").text())
	}
	if compiled, err := regexp.Compile("^(?:" + expression + ")$"); p.kind == "" && expression != "" && err == nil {
		p.kind, p.text, p.regex = "safe_regex", expression, compiled
	}
	keys, values := match.entries()
	p.chosen = true
	for i, key := range keys {
		switch key {
		case "path", "prefix", "path_separated_prefix", "pathSeparatedPrefix", "safe_regex", "safeRegex", "case_sensitive", "caseSensitive", "path_match_policy", "pathMatchPolicy":
			continue
		case "headers":
			p.chosen = p.chosen && !slices.ContainsFunc(values[i].items(), preflights)
		case "query_parameters", "queryParameters", "cookies", "grpc", "runtime_fraction", "runtimeFraction": // by chance: a client asks again
		default:
			p.chosen = false
		}
		p.conditional = true
	}
	return p
}

// preflights says whether a HeaderMatcher wants the method OPTIONS, which opens no page.
func preflights(header value) bool {
	return header.field("name").text() == ":method" && (header.field("exact_match").is("OPTIONS") || header.field("string_match", "exact").is("OPTIONS"))
}

// templateRegex is the expression for a path_template: * and {name} are a segment, ** any number of them.
func templateRegex(template string) string {
	var b strings.Builder
	at := 0
	for _, found := range templateParts.FindAllStringSubmatchIndex(template, -1) {
		b.WriteString(regexp.QuoteMeta(template[at:found[0]]))
		at = found[1]
		switch part := template[found[0]:found[1]]; {
		case part == "**":
			b.WriteString(".*")
		case found[2] >= 0:
			b.WriteString(templateRegex(template[found[2]:found[3]]))
		default:
			b.WriteString("[^/]+")
		}
	}
	return b.String() + regexp.QuoteMeta(template[at:])
}

var templateParts = regexp.MustCompile(`\*\*|\*|\{[^{}=]*(?:=([^{}]*))?\}`)

func (p pathMatch) folded(path string) string {
	if p.fold {
		return strings.ToLower(path)
	}
	return path
}

// takes says whether it is about a path, whatever else it asks for. The path has no query.
func (p pathMatch) takes(path string) bool {
	switch p.kind {
	case "path":
		return p.folded(path) == p.text
	case "prefix":
		return strings.HasPrefix(p.folded(path), p.text)
	case "path_separated_prefix":
		rest, ok := strings.CutPrefix(p.folded(path), p.text)
		return ok && (rest == "" || rest[0] == '/')
	default:
		return p.regex != nil && p.regex.MatchString(path)
	}
}

// resolve finds the route of a virtual host that gets a path, for sure: one that asks for more than a path may not.
func (h *host) resolve(path string) *route {
	for _, r := range h.routes {
		if r.match.takes(path) && !r.match.conditional {
			return r
		}
	}
	return nil
}

// everything says whether it is about any page at all. The home page alone may be another's.
func (p pathMatch) everything() bool {
	return p.takes("/any") && p.takes("/some/page") && p.takes("/x/b.c")
}

// samples are paths below it; those of an expression with its open parts filled in one way or another.
func (p pathMatch) samples(fill string) []string {
	switch p.kind {
	case "path":
		return []string{p.text}
	case "prefix", "path_separated_prefix":
		folder := strings.TrimSuffix(p.text, "/")
		return []string{folder + "/any", folder + "/x/b.c"}
	case "safe_regex":
		if parsed, err := syntax.Parse(p.text, syntax.Perl); err == nil {
			return slices.DeleteFunc(spelled(parsed, fill), func(path string) bool { return !p.takes(path) })
		}
	}
	return nil
}

const (
	oneFill, otherFill = "one/two", "six/nap"
	// samplesMax bounds the samples of an expression with many alternatives.
	samplesMax = 32
)

// anywhere says whether an expression fixes no folder, and no beginning of a name, in the paths that it takes: .*[.]css is such.
func (p pathMatch) anywhere() bool {
	one, other := p.samples(oneFill), p.samples(otherFill)
	for i := range min(len(one), len(other)) {
		a, b := strings.Split(strings.Trim(one[i], "/"), "/"), strings.Split(strings.Trim(other[i], "/"), "/")
		named := false
		for j := range min(len(a), len(b)) {
			named = named || a[j] == b[j] || a[j] != "" && b[j] != "" && a[j][0] == b[j][0]
		}
		if !named {
			return true
		}
	}
	return false
}

// spelled are texts that an expression takes.
func spelled(re *syntax.Regexp, fill string) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"a"}
	case syntax.OpCharClass:
		if in := ofClass(re, fill); in != "" {
			return []string{in[:1]}
		}
		if len(re.Rune) > 0 {
			return []string{string(re.Rune[0])}
		}
		return nil
	case syntax.OpStar, syntax.OpPlus:
		return repeated(re.Sub[0], fill)
	case syntax.OpRepeat:
		if re.Max < 0 && re.Min <= len(fill)/2 {
			return repeated(re.Sub[0], fill)
		}
		all := []string{""}
		for range re.Min {
			all = joined(all, spelled(re.Sub[0], fill))
		}
		return all
	case syntax.OpCapture, syntax.OpQuest:
		return spelled(re.Sub[0], fill)
	case syntax.OpConcat:
		all := []string{""}
		for _, part := range re.Sub {
			all = joined(all, spelled(part, fill))
		}
		return all
	case syntax.OpAlternate:
		var all []string
		for _, part := range re.Sub {
			all = append(all, spelled(part, fill)...)
		}
		return all[:min(len(all), samplesMax)]
	default:
		return []string{""}
	}
}

func repeated(part *syntax.Regexp, fill string) []string {
	switch part.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{fill}
	case syntax.OpCharClass:
		if in := ofClass(part, fill); in != "" {
			return []string{in}
		}
	default:
	}
	return spelled(part, fill)
}

// ofClass are the letters of a text that a class has.
func ofClass(class *syntax.Regexp, text string) string {
	return strings.Map(func(c rune) rune {
		for i := 0; i+1 < len(class.Rune); i += 2 {
			if class.Rune[i] <= c && c <= class.Rune[i+1] {
				return c
			}
		}
		return -1
	}, text)
}

func joined(heads, tails []string) (all []string) {
	for _, head := range heads {
		for _, tail := range tails {
			if len(all) < samplesMax {
				all = append(all, head+tail)
			}
		}
	}
	return all
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
