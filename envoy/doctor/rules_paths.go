package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
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
		for _, h := range m.hosts {
			if !h.gated() {
				continue
			}
			for _, path := range []string{refreshPath, "/signout", "/any"} {
				if !e.authPathOf(h, e.authPath+path, guarded) {
					break // the same fault once
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
	count := len(e.report.Findings)
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

// cookies looks for what takes the cookies out of answers (D8).
func (e *examination) cookies() {
	f := fault{
		"Set-Cookie is removed from answers", "No browser keeps a session: each sign-in and each refresh is lost.", "delete it", "# - set-cookie",
	}
	for _, m := range e.gated() {
		for _, hm := range m.filters {
			if at := hm.config.field("mutations", "response_mutations"); hm.kind == mutationType && removes(at.items(), "set-cookie") {
				e.find("D8", inFilter(m, hm), at, f)
			}
		}
		for _, l := range m.leads() {
			for _, level := range l.levels() {
				for _, item := range level.field("response_headers_to_remove").items() {
					if strings.EqualFold(item.text(), "set-cookie") {
						e.find("D8", l.in(level), item, f)
					}
				}
			}
		}
	}
}

// peer asks whether sessiongate hears the client's own address, and no other (D11).
func (e *examination) peer() {
	const (
		header = "x-sessiongate-peer"
		cure   = "request_headers_to_add:\n  - header: { key: x-sessiongate-peer, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\" }\n    append_action: OVERWRITE_IF_EXISTS_OR_ADD"
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
				at, overwritten := l.sets(header)
				switch {
				case !at.exists():
					e.find("D11", inRoute(r), r.config, fault{
						"the auth route does not tell sessiongate the client's address (" + header + ")",
						"Clients differ by their User-Agent alone. A client may choose that, and get a victim's late answers.", "the auth route", cure,
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

// sets finds what a lead adds to a request under a name, and whether it takes the place of what was there.
func (l lead) sets(header string) (at value, overwrites bool) {
	for _, level := range l.levels() {
		for _, add := range level.field("request_headers_to_add").items() {
			if !strings.EqualFold(add.field("header", "key").text(), header) || !strings.Contains(add.field("header", "value").text(), "REMOTE_ADDRESS") {
				continue
			}
			old := add.field("append")
			return add, add.field("append_action").is("OVERWRITE_IF_EXISTS_OR_ADD", "2") || old.exists() && !old.isTrue()
		}
	}
	return value{}, false
}
