package doctor

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reading asks whether Envoy, sessiongate and your system read one path (D6).
func (e *examination) reading() {
	const why = "Envoy chooses the route, and with it the policy, by one path, and your system serves another: an open route leads to a guarded page"
	for _, m := range e.gated() {
		for _, setting := range []struct {
			name, means, cure string
			good              []string
		}{
			{"normalize_path", " (/static/../api).", "normalize_path: true", []string{"true"}},
			{"merge_slashes", " (//api).", "merge_slashes: true", []string{"true"}},
			{"path_with_escaped_slashes_action", " (/static/..%2Fapi).", "path_with_escaped_slashes_action: REJECT_REQUEST", []string{
				"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD", "2", "3", "4",
			}},
		} {
			at := m.config.field(setting.name)
			if slices.Contains(setting.good, strings.ToUpper(at.text())) || at.isTrue() {
				continue
			}
			what := setting.name + " is missing"
			if at.exists() {
				what = setting.name + " is " + at.text()
			} else {
				at = m.config
			}
			e.find("D6", inListener(m), at, fault{what, why + setting.means, "the connection manager", setting.cure})
		}
		changes := m.mutations(len(m.filters))
		for _, name := range rerouting {
			if removes(changes, name) || !removes(changes, identity[0]) && slices.ContainsFunc(m.filters, func(f filter) bool { return f.skips(identity[0]) && f.skips(name) }) {
				continue // D3 finds that filter
			}
			open := slices.IndexFunc(m.leads(), func(l lead) bool { return !e.isOurs(l.cluster) && !l.routeRemoves(name).exists() })
			if open < 0 {
				continue
			}
			at := m.config.field("http_filters")
			for _, f := range m.filters[:m.firstCheck()] {
				if f.kind == mutationType && !f.matched {
					at = f.config.field("mutations", "request_mutations")
				}
			}
			e.find("D6", inListener(m), at, fault{
				name + " of a client is passed on", "Some frameworks route by it, past the policy of the path that was checked.",
				"request_mutations of the filter header_mutation", "- remove: " + name,
			})
		}
	}
}

// isOurs says whether a cluster is sessiongate itself, and not your system.
func (e *examination) isOurs(cluster string) bool {
	return cluster == e.configuration.check || e.saysSessiongate(cluster) || e.serving()[cluster]
}

// serving are the clusters to which the auth path leads, unless they are your system's.
func (e *examination) serving() map[string]bool {
	if e.served == nil {
		e.served = map[string]bool{}
		guarded := e.guarded()
		for _, m := range e.managers {
			for _, h := range m.hosts {
				if r := h.resolve(e.authPath + refreshPath); r != nil {
					for _, l := range r.leads {
						e.served[l.cluster] = e.served[l.cluster] || !guarded[l.cluster]
					}
				}
			}
		}
	}
	return e.served
}

const (
	refreshPath = "/session/refresh"
	// attemptMax is the setting session.refresh_attempt_max: how long one refresh may take.
	attemptMax = 10 * time.Second
	// routeTimeoutDefault is Envoy's.
	routeTimeoutDefault = 15 * time.Second
)

func (e *examination) cureAuth() string {
	return `- name: auth
  match: { path_separated_prefix: ` + e.authPath + ` }
  route:
    cluster: sessiongate_public
    timeout: 5s
    retry_policy: { retry_on: connect-failure, num_retries: 2 }
  request_headers_to_add:
    - header: { key: x-sessiongate-peer, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" }
      append_action: OVERWRITE_IF_EXISTS_OR_ADD
  typed_per_filter_config:
    envoy.filters.http.ext_authz:
      "@type": type.googleapis.com/` + filterConfigType + `
      disabled: true`
}

// authPaths asks whether the auth path is sessiongate's, unchecked, and asked once (D7).
func (e *examination) authPaths() {
	guarded := e.guarded()
	for _, m := range e.gated() {
		e.internal(m)
		for _, h := range m.hosts {
			if !h.gated() {
				continue
			}
			var broken *route
			for _, path := range []string{refreshPath, "/signout", "/any"} {
				if !e.authPathOf(h, e.authPath+path, guarded) {
					broken = h.resolve(e.authPath + path)
					break // the same fault once
				}
			}
			for _, r := range h.below(e.authPath) {
				if r == broken {
					continue
				}
				if e.alone(r) && r.match.conditional && r.match.takes(e.authPath+refreshPath) {
					e.refreshes(r)
				}
			}
		}
	}
}

func (e *examination) authPathOf(h *host, path string, guarded map[string]bool) (sound bool) {
	const where = "the routes of the virtual host, before yours"
	r := h.resolve(path)
	if r == nil || len(r.leads) == 0 || slices.ContainsFunc(r.leads, func(l lead) bool { return guarded[l.cluster] && !e.saysSessiongate(l.cluster) }) {
		at, in := h.config.field("routes"), inHost(h)
		what := "no route takes " + path + " to sessiongate"
		if r != nil {
			at, in, what = r.config, inRoute(r), path+" does not lead to sessiongate"
		}
		e.find("D7", in, at, fault{
			what, "No session can be refreshed: users are signed out when their access token expires. And your system gets the refresh tokens.", where, e.cureAuth(),
		})
		return false
	}
	return e.refreshes(r)
}

// refreshes asks whether a route takes a refresh to sessiongate unchecked, once and in time.
func (e *examination) refreshes(r *route) (sound bool) {
	h, count := r.host, len(e.report.Findings)
	for _, l := range r.leads {
		if on, by := l.checked(); on && !l.unsure() {
			at := by
			if !at.exists() {
				at = r.config
			}
			check := h.manager.filters[h.manager.firstCheck()]
			where, cure := "the route", "typed_per_filter_config:\n  "+check.name+":\n    \"@type\": type.googleapis.com/"+filterConfigType+"\n    disabled: true"
			if _, reads := h.manager.shadow(check); reads.exists() {
				where, cure = "notPaths of Istio's AuthorizationPolicy", "- "+e.authPath+"\n- "+e.authPath+"/*"
			}
			e.find("D7", inRoute(r), at, fault{
				"the auth path is checked", "The check answers 440 to the very request that mends an expired access token.", where, cure,
			})
			return false
		}
		e.retries(r, l)
	}
	at := r.config.field("route", "timeout")
	if !at.exists() {
		at = r.config.field("route")
	}
	if timeout := at.duration(routeTimeoutDefault); timeout <= 0 || timeout > attemptMax {
		e.find("D7", inRoute(r), at, fault{
			fmt.Sprintf("a refresh may take %v, more than session.refresh_attempt_max (%v by default)", timeout, attemptMax),
			"An answer that comes later than sessiongate reckons with looks like a thief's.", "route of the route", "timeout: 5s",
		})
	}
	return len(e.report.Findings) == count
}

// private are the networks in which those may be who may steer Envoy, and the address that no client has.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128"),
}

// internal asks whether clients of the internet are internal callers: of these Envoy takes x-envoy-retry-on and
// the like, and a client has its refresh sent four times.
func (e *examination) internal(m *manager) {
	for _, item := range m.config.field("internal_address_config", "cidr_ranges").items() {
		address, err := netip.ParseAddr(item.field("address_prefix").text())
		if err != nil {
			continue // Envoy refuses it
		}
		bits := item.field("prefix_len").number(0)
		if slices.ContainsFunc(private, func(p netip.Prefix) bool { return p.Contains(address) && p.Bits() <= bits }) {
			continue
		}
		e.find("D7", inListener(m), item, fault{
			fmt.Sprintf("clients of %v/%d are internal callers, which steer Envoy by x-envoy-* headers", address, bits),
			"A client has Envoy repeat a refresh that was handled (x-envoy-retry-on): what comes twice looks like a thief's.",
			"internal_address_config of the connection manager", "cidr_ranges: [{ address_prefix: 255.255.255.255, prefix_len: 32 }]",
		})
	}
}

// within says whether a route's own words name the auth path, or what is below it.
func within(match value, auth string) bool {
	for _, field := range []string{"path", "prefix", "path_separated_prefix"} {
		if under(match.field(field).text(), auth) {
			return true
		}
	}
	return under(literal(match.field("safe_regex", "regex").text()), auth)
}

func under(path, auth string) bool { return path == auth || strings.HasPrefix(path, auth+"/") }

// literal is what every text begins with that an expression takes.
func literal(expression string) string {
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return ""
	}
	begins, _ := compiled.LiteralPrefix()
	return begins
}

// below are the routes that can get a request of the auth path, in their order. A route for all paths may have
// the auth path itself, where that of sessiongate has only what is below it, as some control planes make it.
func (h *host) below(auth string) (all []*route) {
	samples := []string{auth + "/", auth + "/any", auth + refreshPath, auth + "/signout"}
	for _, r := range h.routes {
		takesSome := slices.ContainsFunc(samples, r.match.takes)
		if takesSome || within(r.config.field("match"), auth) || r.match.takes(auth) && !r.match.everything() {
			all = append(all, r)
		}
		if !r.match.conditional && !slices.ContainsFunc(samples, func(path string) bool { return !r.match.takes(path) }) {
			break // the first that fits counts
		}
	}
	return all
}

// alone asks whether a route takes what it has of the auth path to sessiongate, and to no other: browsers send
// refresh cookies to all of it.
func (e *examination) alone(r *route) (sound bool) {
	const why = "Browsers send refresh tokens to every address of the auth path: another server than sessiongate gets them."
	for _, l := range r.leads {
		if !e.isOurs(l.cluster) {
			e.find("D7", inRoute(r), r.config, fault{
				describeMatch(r.config.field("match")) + " can lie below " + e.authPath + ", and leads to " + l.cluster, why,
				"the route: another path; or delete it", "# the whole of " + e.authPath + " is sessiongate's",
			})
			return false
		}
	}
	if len(r.leads) == 0 {
		return true
	}
	count := len(e.report.Findings)
	for _, level := range []value{r.config.field("route"), r.host.config, r.host.manager.routes} {
		if mirrors := level.field("request_mirror_policies"); mirrors.exists() {
			e.find("D7", inRoute(r), mirrors, fault{
				"requests of the auth path are sent to another cluster as well (request_mirror_policies)", why, "delete it", "# request_mirror_policies",
			})
			break // the most specific counts
		}
	}
	match := r.config.field("match")
	for _, field := range []string{"prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite"} {
		at := r.config.field("route", field)
		same := at.text() != "" && slices.Contains([]string{match.field("prefix").text(), match.field("path_separated_prefix").text(), match.field("path").text()}, at.text())
		if at.exists() && !same {
			e.find("D7", inRoute(r), at, fault{
				"another path than the browser's comes to sessiongate (" + field + ")",
				"It answers 404 to refreshes: users are signed out when their access token expires.", "delete it", "# " + field,
			})
		}
	}
	return len(e.report.Findings) == count
}

// retries looks for what sends a refresh twice.
func (e *examination) retries(r *route, l lead) {
	policy := r.config.field("route", "retry_policy")
	if !policy.exists() {
		policy = r.host.config.field("retry_policy")
	}
	if own := e.clusters[l.cluster].field("typed_extension_protocol_options").entry(upstreamType).field("retry_policy"); own.exists() {
		policy = own // it takes the place of the route's
	}
	const why = "A refresh that was handled is repeated. Whether to repeat one is for the client to decide."
	for on := range strings.SplitSeq(policy.field("retry_on").text(), ",") {
		if on = strings.TrimSpace(on); on != "" && on != "connect-failure" {
			e.find("D7", inRoute(r), policy.field("retry_on"), fault{"Envoy sends a refresh again on " + on, why, "retry_policy of the route, and none in the cluster", "retry_on: connect-failure"})
			return
		}
	}
	hedge := r.config.field("route", "hedge_policy")
	if !hedge.exists() {
		hedge = r.host.config.field("hedge_policy")
	}
	if hedge.exists() {
		e.find("D7", inRoute(r), hedge, fault{"Envoy may send a refresh to two replicas at once (hedge_policy)", why, "delete it", "# hedge_policy"})
	}
}

// loses says whether a header is gone then, or has another value. It reads what a filter does, and the lists of routes.
func (c change) loses(name string) bool {
	return strings.EqualFold(c.text(), name) || removes([]value{c.value}, name) || overwrites(c.value, name) || overwrites(c.field("append"), name)
}

// overwrites says whether a HeaderValueOption puts another value in the place of a header's.
func overwrites(option value, name string) bool {
	old := option.field("append")
	return strings.EqualFold(option.field("header", "key").text(), name) &&
		(option.field("append_action").is("OVERWRITE_IF_EXISTS_OR_ADD", "2", "OVERWRITE_IF_EXISTS", "3") || old.exists() && !old.isTrue())
}

// issued are the headers in which sessiongate, and your system for it, answers with a session.
var issued = append([]string{"set-cookie"}, exposed...)

func (e *examination) findIssued(in string, at value, name string) {
	e.find("D8", in, at, fault{
		name + " is removed from answers, or replaced", "No browser keeps a session: each sign-in and each refresh is lost.", "delete it", "# - " + name,
	})
}

// cookies looks for what takes the cookies, and what else makes a session, out of answers (D8).
func (e *examination) cookies() {
	for _, m := range e.gated() {
		seen := map[*yaml.Node]bool{}
		for _, l := range m.leads() {
			for _, c := range append(l.changes(m.filters, "response_mutations"), l.own("response")...) {
				if seen[c.node] {
					continue
				}
				seen[c.node] = true
				for _, name := range issued {
					if c.loses(name) {
						e.findIssued(c.in, c.value, name)
					}
				}
			}
		}
	}
}

// renewing are the headers of a refresh and a sign-out that sessiongate reads.
var renewing = []string{"cookie", "authorization", "origin", "st-auth-mode"}

// lost looks for headers that sessiongate reads and Envoy takes away first, from what the check is asked and
// from what comes to the auth path: cookies (D8), and others (D18).
func (e *examination) lost() {
	for _, m := range e.gated() {
		type asked struct {
			node *yaml.Node
			auth bool
		}
		seen := map[asked]bool{}
		var early []change
		for _, item := range m.mutations(0) {
			early = append(early, change{value: item, in: inListener(m)})
		}
		for _, l := range m.leads() {
			auth := e.isOurs(l.cluster) && l.route.match.takes(e.authPath+refreshPath)
			names, changes := read, early
			if on, _ := l.checked(); auth {
				names, changes = renewing, slices.Concat(early, l.changes(m.filters, "request_mutations"), l.own("request"))
			} else if on {
				changes = slices.Concat(early, l.changes(m.filters[:m.firstCheck()], "request_mutations"))
			}
			for _, c := range changes {
				key := asked{c.node, auth}
				if seen[key] {
					continue
				}
				seen[key] = true
				for _, name := range names {
					// The scheme may be set: where TLS ends before a proxy that does not say so.
					if c.loses(name) && name != "x-forwarded-proto" {
						e.findLost(c, name)
					}
				}
			}
		}
	}
}

func (e *examination) findLost(c change, name string) {
	if name == "cookie" {
		e.find("D8", c.in, c.value, fault{
			"the cookies of requests are removed before sessiongate gets them, or replaced",
			"It finds no session in any request: no browser is signed in, or none stays so.", "delete it", "# - cookie",
		})
		return
	}
	e.find("D18", c.in, c.value, fault{
		name + " of requests is removed before sessiongate gets it, or replaced",
		"It decides without what the client said, or by what it did not say.", "delete it, or do it behind the check", "# - " + name,
	})
}

// own are the changes of requests or responses that a route makes without a filter.
func (l lead) own(of string) (all []change) {
	for _, level := range l.levels() {
		for _, item := range level.field(of + "_headers_to_remove").items() {
			all = append(all, change{value: item, in: l.in(level)})
		}
		for _, add := range level.field(of + "_headers_to_add").items() {
			all = append(all, change{value: add, in: l.in(level)})
		}
	}
	return all
}

// peer asks whether sessiongate hears the client's own address, and no other (D11).
func (e *examination) peer() {
	const (
		header = "x-sessiongate-peer"
		// Exactly: with a port it differs by connection, and what a client says in another header it chooses.
		address = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
		cure    = "request_headers_to_add:\n  - header: { key: x-sessiongate-peer, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\" }\n    append_action: OVERWRITE_IF_EXISTS_OR_ADD"
	)
	for _, m := range e.gated() {
		if at := m.config.field("use_remote_address"); !at.isTrue() {
			if !at.exists() {
				at = m.config
			}
			e.find("D11", inListener(m), at, fault{
				"use_remote_address is not true", "A client chooses its own address in x-forwarded-for. With the address of a victim it may get the victim's late answers.",
				"the connection manager", "use_remote_address: true",
			})
		}
		for _, h := range m.hosts {
			r := h.resolve(e.authPath + refreshPath)
			if r == nil || !h.gated() {
				continue
			}
			for _, l := range r.leads {
				if e.guarded()[l.cluster] {
					continue // D7
				}
				at, right, overwritten := l.sets(header, address)
				switch {
				case !at.exists():
					e.find("D11", inRoute(r), r.config, fault{
						"the auth route does not tell sessiongate the client's address (" + header + ")",
						"Clients differ by their User-Agent alone. A client may choose that, and get a victim's late answers.", "the auth route", cure,
					})
				case !right:
					e.find("D11", inRoute(r), at, fault{
						header + " is " + at.field("header", "value").text() + ", and not the client's address",
						"sessiongate knows a client that asks twice by its address. By another value it knows none, or a client chooses it and gets a victim's late answers.", "the auth route, and nothing else that sets it", cure,
					})
				case !overwritten && !removes(m.mutations(m.firstCheck()), header):
					e.find("D11", inRoute(r), at, fault{
						header + " is added to what the client sent, and does not replace it",
						"A client chooses its own address. With the address of a victim it may get the victim's late answers.", "the auth route", cure,
					})
				}
			}
		}
	}
}

// sets finds what a lead adds to a request under a name, whether it is the value, and whether it takes the place
// of what was there. Of several, one with another value.
func (l lead) sets(header, wanted string) (at value, right, overwrites bool) {
	for _, level := range l.levels() {
		for _, add := range level.field("request_headers_to_add").items() {
			if !strings.EqualFold(add.field("header", "key").text(), header) {
				continue
			}
			if add.field("header", "value").text() != wanted {
				return add, false, false
			}
			old := add.field("append")
			if !at.exists() {
				at, right, overwrites = add, true, add.field("append_action").is("OVERWRITE_IF_EXISTS_OR_ADD", "2") || old.exists() && !old.isTrue()
			}
		}
	}
	return at, right, overwrites
}
