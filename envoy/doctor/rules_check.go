package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// check looks for a check that is asked at all (D1). Single routes are for exceptions (D16).
func (e *examination) check() {
	const why = "Every request reaches your system without a session, and with whatever the client says of itself."
	for _, m := range e.managers {
		for _, i := range m.checks {
			if at := m.filters[i].config.field("http_service"); at.exists() {
				e.find("D1", inFilter(m, m.filters[i]), at, fault{
					"sessiongate is asked by HTTP (http_service), and knows gRPC alone", "No check gets an answer, and no request of a signed-in user passes.",
					"typed_config of the filter, in place of http_service; docs/guides/envoy.md has the cluster", "grpc_service:\n  envoy_grpc: { cluster_name: " + asks(m.filters[i].config) + " }\n  timeout: 1s",
				})
			}
		}
	}
	if gated := e.gated(); len(gated) > 0 {
		e.caches(gated)
		return
	}
	if !slices.ContainsFunc(e.managers, func(m *manager) bool { return len(m.leads()) > 0 }) {
		e.unasked(why)
		return
	}
	for _, m := range e.managers {
		leads := m.leads()
		switch {
		case len(leads) == 0:
		case len(m.checks) == 0:
			e.find("D1", inListener(m), m.config.field("http_filters"), fault{
				"no ext_authz filter asks sessiongate", why, "http_filters, before router; docs/guides/envoy.md has all of it", e.cureCheck(),
			})
		default:
			for _, i := range m.checks {
				f, at := m.filters[i], m.filters[i].entry
				if f.disabled {
					e.find("D1", inFilter(m, f), at.field("disabled"), fault{
						"the filter of the check is disabled, and no route enables it", why, "the filter", "disabled: false",
					})
					continue
				}
				_, by := leads[0].checked()
				e.find("D1", inFilter(m, f), by, fault{
					"no route is checked", why, "delete it, on all routes but the exceptions", "# disabled: true",
				})
			}
		}
	}
}

// unasked is about a configuration without a route to a cluster: where it passes on connections alone, no one is asked.
func (e *examination) unasked(why string) {
	for _, l := range e.tcp {
		e.find("D1", "listener "+l.listener, l.at, fault{
			"the listener passes connections to " + l.cluster + ", and nothing asks sessiongate", why,
			"an HTTP connection manager in the place of tcp_proxy; docs/guides/envoy.md has all of it", e.cureCheck(),
		})
	}
	if len(e.tcp) == 0 && len(e.unseen) == 0 {
		e.report.Skipped = append(e.report.Skipped, Skip{Probe: "D1", Why: "no route of an HTTP connection manager leads to a cluster: there is nothing to check", Needed: true})
	}
}

// caches looks for what answers before sessiongate is asked, with a page that was made for another user.
func (e *examination) caches(gated []*manager) {
	for _, m := range gated {
		for _, f := range m.filters[:m.firstCheck()] {
			if strings.Contains(f.kind, ".filters.http.cache") && slices.ContainsFunc(m.leads(), func(l lead) bool {
				checked, _ := l.checked()
				cached, _ := l.switched(f)
				return checked && cached
			}) {
				e.find("D1", inFilter(m, f), f.entry, fault{
					"a cache answers before sessiongate is asked", "A page that one user got is served to every client, without a session.",
					"http_filters: this filter behind ext_authz", "# - name: " + f.name,
				})
			}
		}
	}
}

func (e *examination) cureCheck() string {
	return `- name: envoy.filters.http.ext_authz
  typed_config:
    "@type": type.googleapis.com/` + checkType + `
    transport_api_version: V3
    grpc_service:
      envoy_grpc: { cluster_name: sessiongate_authz }
      timeout: 1s
    status_on_error: { code: ServiceUnavailable }
    encode_raw_headers: true
    validate_mutations: true
    ` + strings.ReplaceAll(mutationRules, "\n", "\n    ")
}

// failOpen looks for what lets requests pass where sessiongate gives no answer or is not asked (D15).
func (e *examination) failOpen() {
	for _, m := range e.managers {
		for _, i := range m.checks {
			e.failOpenFilter(m, m.filters[i])
		}
	}
}

func (e *examination) failOpenFilter(m *manager, f filter) {
	in, where := inFilter(m, f), "typed_config of the filter"
	if at := f.config.field("failure_mode_allow"); at.isTrue() {
		e.find("D15", in, at, fault{
			"failure_mode_allow is true", "While sessiongate does not answer, every client is let in. An attacker only has to make it slow.",
			where, "failure_mode_allow: false",
		})
	}
	if at := f.config.field("filter_enabled"); at.exists() && !isAll(at.field("default_value")) {
		e.find("D15", in, at, fault{
			"filter_enabled asks sessiongate about a part of the requests only", "The others pass without a check: a client just asks again.",
			where, "filter_enabled:\n  default_value: { numerator: 100, denominator: HUNDRED }",
		})
	} else if at.exists() && at.field("runtime_key").exists() && !f.config.field("deny_at_disable", "default_value").isTrue() {
		e.find("D15", in, at.field("runtime_key"), fault{
			"the runtime key " + at.field("runtime_key").text() + " can switch the check off, and then all passes",
			"A change of the runtime, which no review of this file sees, opens every route.",
			where, "# delete filter_enabled, or deny where it is off:\ndeny_at_disable:\n  default_value: true\n  runtime_key: " + at.field("runtime_key").text() + ".deny",
		})
	}
	if at := f.config.field("filter_enabled_metadata"); at.exists() {
		if rbac, reads := m.shadow(f); reads.exists() && !rbac.disabled {
			e.report.Skipped = append(e.report.Skipped, Skip{
				Probe: "D16", Why: in + " is asked where the shadow rules of an RBAC filter say so, as Istio's AuthorizationPolicy has it: exceptions that are a part of a route are not listed",
			})
		} else {
			e.find("D15", in, at, fault{
				"filter_enabled_metadata decides whether sessiongate is asked", "Where no filter sets that metadata, all passes without a check.",
				where, "# delete filter_enabled_metadata",
			})
		}
	}
	if f.matched {
		e.find("D15", in, f.entry, fault{
			"a matcher decides whether sessiongate is asked", "What the matcher does not think of passes without a check.",
			"http_filters", "# the filter without ExtensionWithMatcher around it",
		})
	}
}

// isAll says whether a FractionalPercent is the whole. Its denominator is HUNDRED by default.
func isAll(fraction value) bool {
	whole := 100
	switch d := fraction.field("denominator"); {
	case d.is("TEN_THOUSAND", "1"):
		whole = 10_000
	case d.is("MILLION", "2"):
		whole = 1_000_000
	}
	return fraction.field("numerator").number(0) >= whole
}

// answers looks for what turns sessiongate's answers into others (D2), and joins what it is asked (D5).
func (e *examination) answers() {
	for _, m := range e.managers {
		for _, i := range m.checks {
			f := m.filters[i]
			if at := f.config.field("status_on_error", "code"); !at.is("ServiceUnavailable", "503") {
				if !at.exists() {
					at = f.config
				}
				e.find("D2", inFilter(m, f), at, fault{
					"without an answer of sessiongate clients get " + orDefault(at, f.config, "Forbidden"),
					"An outage looks like a verdict: clients sign their users out, where 503 makes them wait.",
					"typed_config of the filter", "status_on_error: { code: ServiceUnavailable }",
				})
			}
			if at := f.config.field("encode_raw_headers"); !at.isTrue() {
				if !at.exists() {
					at = f.config
				}
				e.find("D5", inFilter(m, f), at, fault{
					"encode_raw_headers is not true", "Two Cookie lines come to sessiongate as one: the second hides in a value of the first, and the upstream sees it.",
					"typed_config of the filter", "encode_raw_headers: true",
				})
			}
		}
		if len(m.checks) > 0 {
			e.mappers(m)
		}
	}
}

func orDefault(at, absent value, otherwise string) string {
	if at == absent || at.text() == "" {
		return otherwise
	}
	return at.text()
}

// denial is an answer of the check, as Envoy's local replies see it.
type denial struct {
	code int
	read bool // its text is read, by scripts or by browsers
}

// denials are the answers of the check. 503 is Envoy's own where there is none of sessiongate: its text is yours.
func (e *examination) denials() []denial {
	all := []denial{{e.expired, true}}
	for _, other := range []denial{{401, true}, {403, true}, {302, false}, {503, false}} {
		if other.code != e.expired {
			all = append(all, other)
		}
	}
	return all
}

// replaces is what in a mapper of local replies makes another answer of one of the check.
func (d denial) replaces(mapper value) value {
	if at := mapper.field("status_code"); at.exists() && at.number(-1) != d.code {
		return at
	}
	for _, field := range []string{"body", "body_format_override"} {
		if at := mapper.field(field); at.exists() && d.read {
			return at
		}
	}
	return value{}
}

// mappers looks for local replies that replace what the check answers: a denial of ext_authz is a local reply, too.
func (e *examination) mappers(m *manager) {
	replies := m.config.field("local_reply_config")
	mappers := replies.field("mappers").items()
	taken := make([][]int, len(mappers))
	places := make([]value, len(mappers))
	for _, d := range e.denials() {
		for i, mapper := range mappers {
			takes := takesDenial(mapper.field("filter"), d.code, 0)
			if takes != no {
				e.mapperAdds(m, mapper)
			}
			if at := d.replaces(mapper); takes != no && at.exists() {
				taken[i] = append(taken[i], d.code)
				if !places[i].exists() {
					places[i] = at
				}
			}
			if takes == yes {
				break // the first that fits counts
			}
		}
	}
	for i, codes := range taken {
		if len(codes) > 0 {
			e.find("D2", inListener(m), places[i], fault{
				"a mapper of local replies replaces the answer " + words(codes),
				e.whyReplaced(codes), "the mapper: let its filter leave out " + words(codes) + ", by and_filter", notOf(codes),
			})
		}
	}
	if at := replies.field("body_format"); at.exists() {
		var codes []int
		for _, d := range e.denials() {
			if d.read {
				codes = append(codes, d.code)
			}
		}
		e.find("D2", inListener(m), at, fault{
			"body_format replaces the text of every local reply, those of sessiongate as well",
			e.whyReplaced(codes), "local_reply_config: no body_format, but as the last mapper",
			"mappers:\n  - filter:\n      and_filter:\n        filters:\n          " + strings.ReplaceAll(notOf(codes), "\n", "\n          ") + "\n    body_format_override: # what body_format was",
		})
	}
}

// mapperAdds looks for headers of a mapper in the place of those in which the check answers (D8): denials take cookies back.
func (e *examination) mapperAdds(m *manager, mapper value) {
	for _, add := range mapper.field("headers_to_add").items() {
		for _, name := range issued {
			if overwrites(add, name) {
				e.findIssued(inListener(m), add, name)
			}
		}
	}
}

func (e *examination) whyReplaced(codes []int) string {
	if codes[0] == 503 {
		return "An outage looks like a verdict: clients sign their users out, where 503 makes them wait."
	}
	if codes[0] == e.expired {
		return fmt.Sprintf("%d and its text tell a script to refresh and to repeat its request. Without them every session seems to end with its access token.", e.expired)
	}
	return "Scripts and browsers act by the answer of sessiongate: they sign in, refresh, or tell their user why. By another they do not."
}

func words(codes []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(codes), "[]"), " ", ", ")
}

func notOf(codes []int) string {
	lines := make([]string, len(codes))
	for i, code := range codes {
		lines[i] = fmt.Sprintf("- status_code_filter: { comparison: { op: NE, value: { default_value: %d, runtime_key: unused } } }", code)
	}
	return strings.Join(lines, "\n")
}

// takesDenial says whether an access log filter takes an answer of the check. Some do where headers or chance
// decide. What is not known takes none.
func takesDenial(f value, answer, depth int) verdict {
	if depth > nestingMax {
		return no
	}
	if comparison := f.field("status_code_filter", "comparison"); comparison.exists() {
		code := comparison.field("value", "default_value").number(0)
		var takes bool
		switch op := comparison.field("op"); {
		case op.is("GE", "1"):
			takes = code <= answer
		case op.is("LE", "2"):
			takes = code >= answer
		case op.is("NE", "3"):
			takes = code != answer
		default:
			takes = code == answer
		}
		if takes {
			return yes
		}
		return no
	}
	if flags := f.field("response_flag_filter"); flags.exists() { // Envoy flags all that the check denies with UAEX
		all := flags.field("flags").items()
		if len(all) == 0 || slices.ContainsFunc(all, func(flag value) bool { return flag.is("UAEX") }) {
			return yes
		}
		return no
	}
	if all := f.field("and_filter", "filters").items(); len(all) > 0 {
		takes := yes
		for _, part := range all {
			takes = min(takes, takesDenial(part, answer, depth+1))
		}
		return takes
	}
	takes := no
	for _, part := range f.field("or_filter", "filters").items() {
		takes = max(takes, takesDenial(part, answer, depth+1))
	}
	switch {
	case f.field("not_health_check_filter").exists():
		return yes
	case f.field("header_filter").exists(), f.field("runtime_filter").exists(), f.field("duration_filter").exists():
		return maybe
	}
	return takes
}

const (
	// checkTimeoutLeast is what a check needs on a busy machine: with Envoy's default of 200 ms there were false 503s.
	checkTimeoutLeast = time.Second
	// checkTimeoutMost is when waiting is worse than an answer 503.
	checkTimeoutMost = 30 * time.Second
	// checkTimeoutDefault is Envoy's.
	checkTimeoutDefault = 200 * time.Millisecond

	mutationRules = `decoder_header_mutation_rules:
  disallow_all: true
  disallow_is_error: true
  allow_expression:
    regex: "^(x-session-user-id|x-session-handle|x-session-claims|cookie|authorization)$"`
)

// set are the headers that sessiongate sets or takes out.
var set = []string{"x-session-user-id", "x-session-handle", "x-session-claims", "cookie", "authorization"}

// hardening holds the filter against what envoy.yaml says of it (D17).
func (e *examination) hardening() {
	for _, m := range e.managers {
		for _, i := range m.checks {
			f := m.filters[i]
			in, where := inFilter(m, f), "typed_config of the filter"
			if at := f.config.field("clear_route_cache"); at.isTrue() {
				e.find("D17", in, at, fault{
					"clear_route_cache is true", "Envoy chooses the route again after the check. A request can be sent down another route than the one that was checked.",
					where, "clear_route_cache: false",
				})
			}
			if at := f.config.field("validate_mutations"); !at.isTrue() {
				if !at.exists() {
					at = f.config
				}
				e.find("D17", in, at, fault{
					"validate_mutations is not true", "Bytes that are no header value can become a second header of the request.",
					where, "validate_mutations: true",
				})
			}
			e.mutationRules(m, f)
			e.bodies(m, f)
			if !f.config.field("http_service").exists() { // of D1
				e.checkTime(in, f.config.field("grpc_service"))
			}
		}
	}
}

// checkTime asks how long a check may take.
func (e *examination) checkTime(in string, service value) {
	at := service.field("timeout")
	if !at.exists() {
		at = service
	}
	if timeout := at.duration(checkTimeoutDefault); timeout < checkTimeoutLeast || timeout > checkTimeoutMost {
		what := fmt.Sprintf("the check may take %v", timeout)
		why := "A busy machine lets a check wait: clients get 503 although all is well, and browsers do not repeat it."
		if timeout <= 0 {
			what = "the check may take for ever"
		}
		if timeout <= 0 || timeout > checkTimeoutMost {
			why = "Where sessiongate hangs, every request hangs with it instead of being answered 503."
		}
		e.find("D17", in, at, fault{what, why, "grpc_service", "timeout: 1s"})
	}
}

// bodies asks whether the check gets what it does not read. A request with more than the limit is answered 413.
func (e *examination) bodies(m *manager, f filter) {
	found := func(in string, settings value) {
		if at := settings.field("with_request_body"); at.exists() {
			e.find("D17", in, at, fault{
				"the check gets the bodies of requests (with_request_body)",
				"sessiongate reads none. Envoy holds each back, answers 413 to those above max_request_bytes, and what is sent can leak.",
				"delete it", "# with_request_body",
			})
		}
	}
	found(inFilter(m, f), f.config)
	for _, l := range m.leads() {
		for _, level := range l.levels() {
			_, message := setting(level, f.name)
			found(l.in(level), message.field("check_settings"))
		}
	}
}

// mutationRules asks what an answer of the check may do to a request: identity, and no more.
func (e *examination) mutationRules(m *manager, f filter) {
	in, where := inFilter(m, f), "typed_config of the filter"
	at := f.config.field("decoder_header_mutation_rules")
	if !at.exists() {
		e.find("D17", in, f.config, fault{
			"decoder_header_mutation_rules is missing", "A broken or taken-over check could set any header, those of other systems as well.", where, mutationRules,
		})
		return
	}
	expression := at.field("allow_expression", "regex").text()
	allows := func(name string) bool {
		if denied := at.field("disallow_expression", "regex").text(); matchesWhole(denied, name) {
			return false
		}
		return matchesWhole(expression, name) || !at.field("disallow_all").isTrue()
	}
	if missing := slices.DeleteFunc(slices.Clone(set), allows); len(missing) > 0 {
		e.find("D4", in, at, fault{
			"decoder_header_mutation_rules forbid " + strings.Join(missing, ", "),
			"Requests of signed-in users come to your system without identity, or with their tokens, or they fail with 500.", where, mutationRules,
		})
	}
	for _, other := range []string{"x-forwarded-for", "x-other-system"} {
		if allows(other) {
			e.find("D17", in, at, fault{
				"decoder_header_mutation_rules allow headers that sessiongate never sets, such as " + other,
				"A broken or taken-over check could set any header, those of other systems as well.", where, mutationRules,
			})
			return
		}
	}
}

// read are the headers by which sessiongate decides. Those for its log alone may be missing.
var read = []string{
	"cookie", "authorization", "anti-csrf", "origin", "access-control-request-method", "accept", "sec-fetch-mode", "sec-fetch-site",
	"sec-fetch-dest", "sec-fetch-user", "sec-purpose", "referer", "rid", "st-auth-mode", "supertokens-sdk-name", "x-requested-with", "upgrade", "x-forwarded-proto",
}

// headers asks whether sessiongate gets the headers by which it decides (D18). Without a list it gets all.
func (e *examination) headers() {
	for _, m := range e.managers {
		for _, i := range m.checks {
			f := m.filters[i]
			contains := func(list value, name string) bool {
				return slices.ContainsFunc(list.items(), func(p value) bool { return matches(p, name) })
			}
			allowed, disallowed := f.config.field("allowed_headers", "patterns"), f.config.field("disallowed_headers", "patterns")
			var missing, lines []string
			for _, name := range read {
				if allowed.exists() && !contains(allowed, name) || contains(disallowed, name) {
					missing, lines = append(missing, name), append(lines, "- exact: "+name)
				}
			}
			if len(missing) == 0 {
				continue
			}
			at := allowed
			if !at.exists() || contains(disallowed, missing[0]) {
				at = disallowed
			}
			e.find("D18", inFilter(m, f), at, fault{
				"sessiongate does not get " + strings.Join(missing, ", "),
				"It decides without them. Without sec-fetch-* and origin it cannot tell the user's own request from one that another site caused, and refuses both; without the tokens, all.",
				"allowed_headers.patterns of the filter, and not in disallowed_headers", strings.Join(lines, "\n"),
			})
		}
	}
}
