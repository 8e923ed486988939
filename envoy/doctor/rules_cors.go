package doctor

import (
	"net"
	"net/url"
	"regexp/syntax"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/publicsuffix"
)

// What browsers let scripts of other origins send and read, of what sessions need.
var (
	sent    = []string{"anti-csrf", "authorization", "content-type", "rid", "st-auth-mode"}
	exposed = []string{"front-token", "anti-csrf", "id-refresh-token", "st-access-token", "st-refresh-token"}
)

const evil = "https://evil.example"

// cors asks whether frontends of other origins can keep a session (D9, D10), and no others (D9).
// Without a cors filter there are no such frontends.
func (e *examination) cors() {
	for _, m := range e.gated() {
		for _, l := range m.leads() {
			e.echoes(l)
		}
		for i, f := range m.filters {
			if f.kind != corsType {
				continue
			}
			if i > m.firstCheck() {
				e.find("D9", inFilter(m, f), f.entry, fault{
					"cors is behind the check", "Preflights carry no cookies and end at the check, and no script of another origin can read a 440.",
					"http_filters: before ext_authz", "- name: envoy.filters.http.cors\n  typed_config:\n    \"@type\": type.googleapis.com/" + corsType,
				})
			}
			seen := map[*yaml.Node]bool{}
			for _, l := range m.leads() {
				if in, policy := l.cors(f); policy.exists() && !seen[policy.node] {
					seen[policy.node] = true
					e.corsPolicy(in, policy)
				}
			}
		}
	}
}

// cors is the policy that counts for a lead: the most specific, or where there is none for the filter, the
// field of the route or the virtual host that Envoy had before.
func (l lead) cors(f filter) (in string, policy value) {
	for _, level := range l.levels() {
		if kind, policy := setting(level, f.name); kind == corsPolicyType {
			return l.in(level), policy
		}
	}
	if policy := l.route.config.field("route", "cors"); policy.exists() {
		return inRoute(l.route), policy
	}
	return inHost(l.route.host), l.route.host.config.field("cors")
}

// echoes looks for an answer that allows whichever origin asks, past the cors filter. It does harm with
// credentials, of the same place or of your system.
func (e *examination) echoes(l lead) {
	if on, _ := l.checked(); !on && !e.isOurs(l.cluster) {
		return
	}
	var echo change
	credentials, removed := false, false
	for _, c := range append(l.changes(l.route.host.manager.filters, "response_mutations"), l.own("response")...) {
		header := c.field("header")
		if !header.exists() {
			header = c.field("append", "header")
		}
		switch key := header.field("key").text(); {
		case strings.EqualFold(key, "access-control-allow-origin") && strings.Contains(header.field("value").text(), "%"):
			echo = c
		case strings.EqualFold(key, "access-control-allow-credentials"):
			credentials = true
		case strings.EqualFold(c.text(), "access-control-allow-credentials") || removes([]value{c.value}, "access-control-allow-credentials"):
			removed = true
		}
	}
	if echo.exists() && (credentials || !removed) {
		e.find("D9", echo.in, echo.value, fault{
			"every origin may act as the signed-in user: answers allow whichever asks", "Any site reads your pages with the session of the user who visits it.",
			"delete it; the cors filter with exact origins", "- exact: https://frontend.example.com",
		})
	}
}

func (e *examination) corsPolicy(in string, policy value) {
	origins := policy.field("allow_origin_string_match")
	for _, origin := range origins.items() {
		if what := tooMany(origin); what != "" {
			e.find("D9", in, origin, fault{
				what, "With credentials, every origin that is allowed may act as the signed-in user.",
				"allow_origin_string_match: exact origins", "- exact: https://frontend.example.com",
			})
		}
	}
	if len(origins.items()) == 0 {
		return
	}
	if at := policy.field("filter_enabled"); at.exists() && !isAll(at.field("default_value")) {
		e.find("D9", in, at, fault{
			"filter_enabled leaves CORS out for a part of the requests", "Browsers refuse those of your frontends: they never have a session, or lose it.", "the CorsPolicy", "# delete filter_enabled",
		})
	}
	if at := policy.field("allow_credentials"); !at.isTrue() {
		if !at.exists() {
			at = policy
		}
		e.find("D9", in, at, fault{
			"allow_credentials is not true", "Browsers send no cookies for frontends of other origins: they never have a session.", "the CorsPolicy", "allow_credentials: true",
		})
	}
	e.corsWords("D9", in, policy, "allow_headers", sent, "Browsers let no script of another origin send them: its requests and refreshes are refused.")
	e.corsWords("D10", in, policy, "expose_headers", exposed, "No script of another origin can read them: it cannot keep a session or prove that it is its own.")
}

func (e *examination) corsWords(probe, in string, policy value, field string, need []string, why string) {
	at := policy.field(field)
	var has []string
	for word := range strings.SplitSeq(at.text(), ",") {
		has = append(has, strings.ToLower(strings.TrimSpace(word)))
	}
	missing := slices.DeleteFunc(slices.Clone(need), func(name string) bool { return slices.Contains(has, name) })
	if len(missing) == 0 {
		return
	}
	if !at.exists() {
		at, has = policy, nil
	}
	e.find(probe, in, at, fault{field + " has no " + strings.Join(missing, ", "), why, "the CorsPolicy", field + ": " + strings.Join(slices.Concat(has, missing), ", ")})
}

// tooMany says what else a pattern of origins lets in: of what it is made for, the neighbours are tried.
func tooMany(origin value) string {
	for _, foreign := range []string{evil, "null"} {
		if matches(origin, foreign) || origin.field("exact").text() == "*" {
			return "every origin may act as the signed-in user"
		}
	}
	for _, own := range owners(origin) {
		for _, foreign := range neighbours(own) {
			if matches(origin, foreign) {
				return "another's origin may act as the signed-in user: " + foreign
			}
		}
	}
	return ""
}

// owners are origins for which a pattern is made.
func owners(origin value) []string {
	suffix := origin.field("suffix").text()
	switch {
	case strings.HasPrefix(suffix, "."):
		suffix = "https://a" + suffix
	case suffix != "" && !strings.Contains(suffix, "://"):
		suffix = "https://" + suffix
	case strings.HasPrefix(suffix, "://"):
		suffix = "https" + suffix
	}
	contained := origin.field("contains").text()
	if contained != "" && !strings.Contains(contained, "://") {
		contained = "https://" + contained
	}
	all := []string{origin.field("prefix").text(), suffix, contained}
	if expression, err := syntax.Parse(origin.field("safe_regex", "regex").text(), syntax.Perl); err == nil {
		all = append(all, examples(expression, '.')...)
	}
	return all
}

// neighbours are origins that anyone may have, and that a careless pattern takes for one of yours.
func neighbours(own string) (all []string) {
	u, err := url.Parse(own)
	if err != nil || u.Scheme == "" || strings.HasPrefix(u.Host, ".") || strings.Contains(u.Host, "..") {
		return nil
	}
	host, port := u.Hostname(), ""
	if u.Port() != "" {
		port = ":" + u.Port()
	}
	hosts := []string{host + ".evil.example", host + "evil.example", "evil" + host}
	if site, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil && net.ParseIP(host) == nil {
		hosts = hosts[:len(hosts)-1] // below the site all is yours
		// Where anyone registers: .com, .github.io. A name that is on no list, such as .internal, is your own.
		if suffix, listed := publicsuffix.PublicSuffix(host); listed || strings.Contains(suffix, ".") {
			hosts = append(hosts, "evil"+site, "evil."+suffix)
			if sub, ok := strings.CutSuffix(host, "."+site); ok {
				hosts = append(hosts, sub+"x"+site) // "." of an expression is any sign
			}
		}
	}
	for _, foreign := range hosts {
		if u, err := url.Parse(u.Scheme + "://" + foreign + port); err == nil && u.Path == "" {
			all = append(all, u.String())
		}
		if port == "" {
			continue
		}
		if u, err := url.Parse(u.Scheme + "://" + foreign); err == nil && u.Path == "" {
			all = append(all, u.String())
		}
	}
	return all
}

// examplesMax bounds the examples of an expression: its alternatives multiply.
const examplesMax = 64

// examples are texts that an expression takes: the shortest, of each alternative. What stands for any sign is
// meant as a dot, in the middle of names.
func examples(re *syntax.Regexp, anySign rune) []string {
	switch re.Op {
	case syntax.OpNoMatch:
		return nil
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return []string{""}
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= 'a' && 'a' <= re.Rune[i+1] {
				return []string{"a"}
			}
		}
		if len(re.Rune) == 0 {
			return nil
		}
		return []string{string(re.Rune[0])}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{string(anySign)}
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		some := examples(re.Sub[0], 'a')
		if re.Op == syntax.OpRepeat && re.Min > 1 {
			for i := range some {
				some[i] = strings.Repeat(some[i], re.Min)
			}
		}
		if re.Op == syntax.OpPlus || re.Op == syntax.OpRepeat && re.Min > 0 {
			return some
		}
		return append([]string{""}, some...)
	case syntax.OpQuest:
		return append([]string{""}, examples(re.Sub[0], anySign)...)
	case syntax.OpCapture:
		return examples(re.Sub[0], anySign)
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			all = append(all, examples(sub, anySign)...)
		}
		return all[:min(len(all), examplesMax)]
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			var longer []string
			for _, begin := range all {
				for _, end := range examples(sub, anySign) {
					longer = append(longer, begin+end)
				}
			}
			all = longer[:min(len(longer), examplesMax)]
		}
		return all
	default:
		return nil
	}
}
