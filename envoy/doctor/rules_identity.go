package doctor

import (
	"slices"
	"strings"
)

// identity are the headers by which your system knows the user, and spellings that some servers take for them.
var (
	identity   = []string{"x-session-user-id", "x-session-handle", "x-session-claims"}
	lookAlikes = []string{"x-session.user.id", "x.session-user-id", "x-session.handle", "x-session.claims"}
	rerouting  = []string{"x-original-url", "x-rewrite-url"}
)

const (
	cureMutation = `- name: envoy.filters.http.header_mutation
  typed_config:
    "@type": type.googleapis.com/` + mutationType + `
    mutations:
      request_mutations:
        - remove_on_match:
            key_matcher:
              safe_regex: { regex: "x[^a-z0-9]session[^a-z0-9](user[^a-z0-9]id|handle|claims)" }
        - remove: x-original-url
        - remove: x-rewrite-url
        - remove: x-sessiongate-peer
        - append:
            header: { key: connection, value: Upgrade }
            append_action: OVERWRITE_IF_EXISTS`
	whereMutation = "http_filters, before every other filter"
)

// mutations are the changes of requests that come before a position in the filter chain.
func (m *manager) mutations(before int) (all []value) {
	for _, extension := range m.config.field("early_header_mutation_extensions").items() {
		if kind, config := extension.field("typed_config").typed(); kind == earlyType {
			all = append(all, config.field("mutations").items()...)
		}
	}
	for i, f := range m.filters {
		if i < before && f.kind == mutationType && !f.disabled {
			all = append(all, f.config.field("mutations", "request_mutations").items()...)
		}
	}
	return all
}

// removes says whether changes of requests take a header out.
func removes(mutations []value, name string) bool {
	return slices.ContainsFunc(mutations, func(change value) bool {
		return strings.EqualFold(change.field("remove").text(), name) || matches(change.field("remove_on_match", "key_matcher"), name)
	})
}

// routeRemoves is the entry by which the route of a lead takes a header out. That happens last of all.
func (l lead) routeRemoves(name string) value {
	for _, level := range l.levels() {
		for _, item := range level.field("request_headers_to_remove").items() {
			if strings.EqualFold(item.text(), name) {
				return item
			}
		}
	}
	return value{}
}

// identity looks for a client's own identity headers that arrive (D3), and for sessiongate's that do not (D4).
func (e *examination) identity() {
	for _, m := range e.gated() {
		e.ownClaims(m)
		for _, l := range m.leads() {
			if on, _ := l.checked(); on && !l.unsure() {
				e.identityOf(l)
			}
		}
		for _, f := range m.filters[m.firstCheck():] {
			late := f.config.field("mutations", "request_mutations").items()
			if f.kind != mutationType || !removes(late, identity[0]) || !removes(m.mutations(m.firstCheck()), identity[0]) {
				continue
			}
			e.find("D4", inFilter(m, f), f.entry, fault{
				"a filter behind the check removes " + identity[0], "Your system sees no user, though the request was allowed.",
				"http_filters: this filter before ext_authz", cureMutation,
			})
		}
	}
}

// identityOf asks what a checked route does to what the check has set.
func (e *examination) identityOf(l lead) {
	for _, name := range identity {
		if at := l.routeRemoves(name); at.exists() {
			e.find("D4", inRoute(l.route), at, fault{
				"the route removes " + name + " after the check has set it", "Your system sees no user, though the request was allowed.",
				"delete it from request_headers_to_remove, and remove it before the check", cureMutation,
			})
		}
		for _, level := range l.levels() {
			for _, add := range level.field("request_headers_to_add").items() {
				if at := add.field("header", "key"); strings.EqualFold(at.text(), name) {
					e.find("D4", l.in(level), at, fault{
						"the route sets " + name + " itself", "Your system sees two users, or always the same.",
						"delete the entry from request_headers_to_add", "# - header: { key: " + name + " }",
					})
				}
			}
		}
	}
}

const whyClaims = "A client names itself root. On routes without a check, and where a session is optional, your system believes it."

func (e *examination) ownClaims(m *manager) {
	before := m.mutations(m.firstCheck())
	if e.removedLate(m, before) {
		return
	}
	at := m.config.field("http_filters")
	for _, f := range m.filters[:m.firstCheck()] {
		if f.kind == mutationType {
			at = f.config.field("mutations", "request_mutations")
		}
	}
	if early := m.config.field("early_header_mutation_extensions"); early.exists() {
		at = early
	}
	// On a checked route sessiongate's answer replaces the headers or removes them. On the others the route may.
	arrive := slices.DeleteFunc(slices.Clone(identity), func(name string) bool {
		return removes(before, name) || !slices.ContainsFunc(m.leads(), func(l lead) bool {
			on, _ := l.checked()
			return (!on || l.unsure()) && !e.isOurs(l.cluster) && !l.routeRemoves(name).exists()
		})
	})
	if len(arrive) > 0 {
		e.find("D3", inListener(m), at, fault{"a client's own " + strings.Join(arrive, ", ") + " is not removed before the check", whyClaims, whereMutation, cureMutation})
		return
	}
	if slices.ContainsFunc(lookAlikes, func(name string) bool { return !removes(before, name) }) {
		e.find("D3", inListener(m), at, fault{
			"headers that look like x-session-user-id, such as x-session.user.id, are not removed",
			"Servers with CGI's names read them as the same header.", whereMutation, cureMutation,
		})
	}
	if action := m.config.field("common_http_protocol_options", "headers_with_underscores_action"); !action.is("REJECT_REQUEST", "DROP_HEADER", "1", "2") {
		e.underscores(m, action)
	}
	for _, l := range m.leads() {
		for i, f := range m.filters[:m.firstCheck()] {
			if on, by := l.switched(f); f.kind == mutationType && !on && by.exists() && !removes(m.mutations(i), identity[0]) {
				e.find("D3", inRoute(l.route), by, fault{"the route switches off the filter that removes a client's own identity headers", whyClaims, "delete it", "# disabled: true"})
			}
		}
	}
	e.connection(m, before, at)
}

func (e *examination) underscores(m *manager, action value) {
	if !action.exists() {
		action = m.config.field("common_http_protocol_options")
	}
	if !action.exists() {
		action = m.config
	}
	e.find("D3", inListener(m), action, fault{
		"headers with underscores pass", "Many servers read x_session_user_id as x-session-user-id.",
		"the connection manager", "common_http_protocol_options:\n  headers_with_underscores_action: REJECT_REQUEST",
	})
}

// removedLate looks for the filter that would remove a client's claims, behind the check.
func (e *examination) removedLate(m *manager, before []value) bool {
	for _, f := range m.filters[m.firstCheck():] {
		late := f.config.field("mutations", "request_mutations").items()
		if f.kind == mutationType && removes(late, identity[0]) && !removes(before, identity[0]) {
			e.find("D3", inFilter(m, f), f.entry, fault{
				"the filter that removes a client's own identity headers is behind the check", "It removes what sessiongate has set, and what a client says is there while sessiongate decides.",
				"http_filters: before every other filter", cureMutation,
			})
			return true
		}
	}
	return false
}

// connection: Envoy passes on the Connection header of an upgrade, and a proxy behind it drops what that names.
func (e *examination) connection(m *manager, before []value, at value) {
	if !slices.ContainsFunc(m.leads(), func(l lead) bool { on, _ := l.upgrades(); return on }) {
		return
	}
	if slices.ContainsFunc(before, func(change value) bool {
		appended := change.field("append")
		return strings.EqualFold(appended.field("header", "key").text(), "connection") &&
			appended.field("append_action").is("OVERWRITE_IF_EXISTS", "OVERWRITE_IF_EXISTS_OR_ADD", "2", "3")
	}) {
		return
	}
	e.find("D3", inListener(m), at, fault{
		"the Connection header of an upgrade is passed on as it came",
		"A client of a WebSocket names x-session-user-id in it, and a proxy behind Envoy drops that header.",
		"request_mutations of the filter header_mutation", "- append:\n    header: { key: connection, value: Upgrade }\n    append_action: OVERWRITE_IF_EXISTS",
	})
}
