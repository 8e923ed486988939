package doctor

import (
	"slices"
	"strings"
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
			for _, l := range m.leads() {
				for _, level := range l.levels() {
					if kind, policy := level.field("typed_per_filter_config").entry(f.name).typed(); kind == corsPolicyType {
						e.corsPolicy(l.in(level), policy)
						break // the most specific counts
					}
				}
			}
		}
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

// tooMany says what else a pattern of origins lets in.
func tooMany(origin value) string {
	prefix, suffix := origin.field("prefix").text(), origin.field("suffix").text()
	for _, foreign := range []string{evil, "null"} {
		if matches(origin, foreign) || origin.field("exact").text() == "*" {
			return "every origin may act as the signed-in user"
		}
	}
	switch {
	case prefix != "" && matches(origin, prefix+".evil.example"):
		return "an origin that begins like yours may act as the signed-in user: " + prefix + ".evil.example"
	case suffix != "" && !strings.HasPrefix(suffix, ".") && !strings.Contains(suffix, "://"):
		return "an origin that ends like yours may act as the signed-in user: https://evil" + suffix
	case origin.field("contains").exists():
		return "an origin that contains the name of yours may act as the signed-in user: https://" + strings.TrimPrefix(origin.field("contains").text(), "https://") + ".evil.example"
	}
	return ""
}
