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

// mutations are the changes of requests that surely come before a position in the filter chain: where a matcher decides, a client may.
func (m *manager) mutations(before int) (all []value) {
	for _, extension := range m.config.field("early_header_mutation_extensions").items() {
		if kind, config := extension.field("typed_config").typed(); kind == earlyType {
			all = append(all, config.field("mutations").items()...)
		}
	}
	for i, f := range m.filters {
		if i < before && f.kind == mutationType && !f.disabled && !f.matched {
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
		late := e.removedLate(m)
		if !late {
			e.ownClaims(m)
		}
		for _, l := range m.leads() {
			if on, _ := l.checked(); on && !l.unsure() {
				e.identityOf(l)
			}
		}
		e.configured(m, late)
	}
}

// change is one change of the headers of a request or of an answer: an entry of a header_mutation, or of a route's lists.
type change struct {
	value

	in    string
	entry value // the filter; nothing, where a route says it
	sure  bool  // no matcher decides
}

// changes are what filters do to what takes this way, in Envoy's order: their own mutations, and those that the route gives them.
func (l lead) changes(filters []filter, list string) (all []change) {
	for _, f := range filters {
		if on, _ := l.switched(f); f.kind != mutationType || !on {
			continue
		}
		for _, item := range f.config.field("mutations", list).items() {
			all = append(all, change{item, inFilter(l.route.host.manager, f), f.entry, !f.matched})
		}
		levels := l.levels()
		if f.config.field("most_specific_header_mutations_wins").isTrue() {
			slices.Reverse(levels) // the last one wins
		}
		for _, level := range levels {
			if kind, message := setting(level, f.name); kind == mutationRoute {
				for _, item := range message.field("mutations", list).items() {
					all = append(all, change{item, l.in(level), value{}, !f.matched})
				}
			}
		}
	}
	return all
}

// upstream are the changes by the filters of a cluster, which come last of all.
func (e *examination) upstream(cluster string) (all []change) {
	for _, f := range e.clusters[cluster].field("typed_extension_protocol_options").entry(upstreamType).field("http_filters").items() {
		if kind, config := f.field("typed_config").typed(); kind == mutationType && !f.field("disabled").isTrue() {
			for _, item := range config.field("mutations", "request_mutations").items() {
				all = append(all, change{item, "cluster " + cluster, f, true})
			}
		}
	}
	return all
}

// claimed is the identity header that your system may read a header as, which may only look like it; or nothing.
func claimed(header string) string {
	dashed := strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(header))
	if slices.Contains(identity, dashed) {
		return dashed
	}
	return ""
}

// setBy finds the identity headers that changes of a request leave in it. What is overwritten if it is there, is not, where a client's is removed.
func setBy(changes []change, absent bool) (all []change) {
	for i, c := range changes {
		appended := c.field("append")
		key := appended.field("header", "key")
		if claimed(key.text()) == "" || absent && appended.field("append_action").is("OVERWRITE_IF_EXISTS", "3") {
			continue
		}
		if !slices.ContainsFunc(changes[i+1:], func(later change) bool { return later.sure && removes([]value{later.value}, key.text()) }) {
			all = append(all, change{value: key, in: c.in})
		}
	}
	return all
}

// configured looks for identity that the configuration itself sets or removes: behind the check (D4), and where there is none (D3).
// late says that D3 has found the filter behind the check already.
func (e *examination) configured(m *manager, late bool) {
	found := map[string]bool{}
	for _, l := range m.leads() {
		if on, _ := l.checked(); !on || l.unsure() || e.isOurs(l.cluster) {
			continue
		}
		behind := slices.Concat(l.changes(m.filters[m.firstCheck():], "request_mutations"), e.upstream(l.cluster))
		for _, c := range behind {
			at, what := c.value, "the route removes "
			if c.entry.exists() {
				at, what = c.entry, "a filter behind the check removes "
			}
			gone := slices.DeleteFunc(slices.Clone(identity), func(name string) bool { return !removes([]value{c.value}, name) })
			if len(gone) > 0 && (!late || !c.entry.exists()) {
				e.find("D4", c.in, at, fault{
					what + strings.Join(gone, ", "), "Your system sees no user, though the request was allowed.",
					"http_filters: this filter before ext_authz", cureMutation,
				})
			}
		}
		for _, c := range setBy(behind, false) {
			found[c.path] = true
			e.find("D4", c.in, c.value, fault{
				c.text() + " is set behind the check", "Your system sees two users, or always the same, or who a client says it is.",
				"request_mutations: delete the entry", "# - append: { header: { key: " + c.text() + " } }",
			})
		}
		for _, level := range l.levels() {
			for _, add := range level.field("request_headers_to_add").items() {
				found[add.field("header", "key").path] = true
			}
		}
	}
	for _, l := range m.leads() {
		if on, _ := l.checked(); on && !l.unsure() || e.isOurs(l.cluster) {
			continue
		}
		sets := setBy(slices.Concat(l.changes(m.filters, "request_mutations"), e.upstream(l.cluster)), true)
		for _, level := range l.levels() {
			for _, add := range level.field("request_headers_to_add").items() {
				if key := add.field("header", "key"); claimed(key.text()) != "" {
					sets = append(sets, change{value: key, in: l.in(level)})
				}
			}
		}
		for _, c := range sets {
			if !found[c.path] { // of checked routes, D4 says it
				e.find("D3", c.in, c.value, fault{
					"the configuration sets " + c.text() + " where no check replaces it",
					"Your system takes a client for whom that names, without a session. Where the value is of the request, a client names itself root.",
					"delete the entry", "# { key: " + c.text() + " }",
				})
			}
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
				if at := add.field("header", "key"); claimed(at.text()) == name {
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
	if e.removedSometimes(m, before) {
		return
	}
	at := m.config.field("http_filters")
	for _, f := range m.filters[:m.firstCheck()] {
		if f.kind == mutationType && !f.matched {
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
func (e *examination) removedLate(m *manager) bool {
	before := m.mutations(m.firstCheck())
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

// skips says whether a filter removes a header, but where a matcher says so.
func (f filter) skips(header string) bool {
	return f.kind == mutationType && f.matched && removes(f.config.field("mutations", "request_mutations").items(), header)
}

// removedSometimes looks for the filter that would remove a client's claims, in a matcher: a client sends what has it skipped.
func (e *examination) removedSometimes(m *manager, before []value) bool {
	for _, f := range m.filters {
		if f.skips(identity[0]) && !removes(before, identity[0]) {
			e.find("D3", inFilter(m, f), f.entry, fault{
				"a matcher decides whether a client's own identity headers are removed", "A client sends what the matcher skips, and names itself root.",
				"http_filters: the filter without ExtensionWithMatcher around it, before every other filter", cureMutation,
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
