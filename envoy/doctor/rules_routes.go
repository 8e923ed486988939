package doctor

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/authz"
)

// policy reads what routes ask of a request, as sessiongate does (D13).
func (e *examination) policy() {
	for _, m := range e.gated() {
		for _, l := range m.leads() {
			if on, _ := l.checked(); !on {
				continue
			}
			for _, i := range m.checks {
				e.policyOf(l, m.filters[i])
			}
		}
	}
}

func (e *examination) policyOf(l lead, f filter) {
	if on, _ := l.switched(f); !on {
		return
	}
	settings, places := map[string]string{}, map[string]value{}
	levels := l.levels()
	for _, level := range slices.Backward(levels) { // Envoy joins the levels, key by key; the most specific counts
		kind, message := level.field("typed_per_filter_config").entry(f.name).typed()
		if kind == filterConfigType {
			kind, message = message.field("config").typed()
		}
		if kind != perRouteType {
			continue
		}
		keys, values := message.field("check_settings", "context_extensions").entries()
		for i, key := range keys {
			settings[key], places[key] = values[i].text(), values[i]
		}
	}
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if settings[key] == redacted {
			hidden := Skip{Probe: "D13", Why: "a config dump does not show context_extensions: give the file, too"}
			if !slices.Contains(e.report.Skipped, hidden) {
				e.report.Skipped = append(e.report.Skipped, hidden)
			}
			continue
		}
		one := map[string]string{key: settings[key]}
		var misspelt *authz.PolicyError
		if _, err := (authz.Policy{}).With(one); errors.As(err, &misspelt) {
			e.find("D13", inRoute(l.route), places[key], fault{
				"sessiongate knows no policy " + key + ": " + settings[key], "It denies every request of the route with 503, so that a typing error opens nothing.",
				"context_extensions; allowed: " + misspelt.Allowed(), "# docs/policy.md lists the keys",
			})
		}
	}
	if settings["anti_csrf"] == "off" {
		e.find("D13", inRoute(l.route), places["anti_csrf"], fault{
			"anti_csrf is off", "A page of any other site can make the user's browser send requests of theirs to this route.",
			"context_extensions of the route", "anti_csrf: attested",
		})
	}
}

// redacted is what a config dump has in place of a value that Envoy's API calls sensitive.
const redacted = "[redacted]"

const (
	authzPort    = 9001
	internalPort = 9003
)

// reach looks for ways from outside to what is for the inside (D14).
func (e *examination) reach() {
	for _, m := range e.managers {
		for _, l := range m.leads() {
			inside := slices.IndexFunc(e.endpoints[l.cluster], func(x endpoint) bool {
				return (x.port == internalPort || x.port == authzPort) && (e.saysSessiongate(l.cluster) || e.sharesHost(x))
			})
			if l.cluster != e.configuration.check && inside < 0 {
				continue
			}
			e.find("D14", inRoute(l.route), l.at, fault{
				"the route leads to the inside of sessiongate (" + l.cluster + ")",
				"The sessions API makes a session for any user; the check says who a token belongs to. Neither is for clients.", "delete the route", "# only sessiongate_public (9002) is for clients",
			})
		}
	}
	address := e.admin.field("address", "socket_address", "address")
	host := address.text()
	if host == "" || host == "localhost" {
		return
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return
	}
	e.find("D14", "admin", address, fault{
		"Envoy's admin interface listens on " + host, "It can stop Envoy, change its runtime and show its whole configuration, to any client that reaches it.",
		"admin", "address:\n  socket_address: { address: 127.0.0.1, port_value: 9901 }",
	})
}

// sharesHost says whether an endpoint is on a host of the check.
func (e *examination) sharesHost(x endpoint) bool {
	return slices.ContainsFunc(e.endpoints[e.configuration.check], func(c endpoint) bool { return c.host == x.host })
}

// exceptions lists the ways to a cluster that are not checked, and finds those that open more than they say (D16).
func (e *examination) exceptions() {
	guarded := e.guarded()
	if len(guarded) == 0 {
		return // D1
	}
	for _, m := range e.managers {
		if !slices.ContainsFunc(m.hosts, (*host).gated) {
			e.without(m, guarded)
			continue
		}
		for _, h := range m.hosts {
			for _, r := range h.routes {
				for _, l := range r.leads {
					e.exception(l, guarded)
				}
			}
		}
	}
	for _, l := range e.tcp {
		if guarded[l.cluster] {
			e.find("D16", "listener "+l.listener, l.at, fault{
				"the listener passes connections to " + l.cluster + " without a check", "Any client that reaches it takes any identity.",
				"delete it, or bind it where no client is", "# tcp_proxy",
			})
		}
	}
}

// without is about a listener that asks sessiongate about nothing.
func (e *examination) without(m *manager, guarded map[string]bool) {
	for _, l := range m.leads() {
		if !guarded[l.cluster] {
			continue
		}
		e.find("D16", inListener(m), m.config.field("http_filters"), fault{
			"the listener leads to " + l.cluster + " without a check, and another one with it",
			"Any client that reaches this listener takes any identity.", "http_filters, before router; or delete the route", e.cureCheck(),
		})
		return
	}
}

func (e *examination) exception(l lead, guarded map[string]bool) {
	r := l.route
	match, in := r.config.field("match"), inRoute(r)
	for _, i := range r.host.manager.checks {
		_, message, _ := l.perFilter(r.host.manager.filters[i].name)
		settings := message.field("check_settings")
		for _, service := range []string{"grpc_service", "http_service"} {
			if other := settings.field(service); other.exists() && asks(settings) != e.configuration.check {
				e.find("D16", in, other, fault{
					"another service (" + asks(settings) + ") is asked about this route", "It decides in sessiongate's place, and your system believes what it says.",
					"delete it", "# " + service,
				})
			}
		}
	}
	if l.unsure() {
		e.report.Skipped = append(e.report.Skipped, Skip{
			Probe: "D16", Why: "whether " + in + " is checked is decided by shadow rules of RBAC (Istio: an AuthorizationPolicy) that are about a part of its paths, or not about paths", Needed: true,
		})
		return
	}
	on, by := l.checked()
	if on {
		return
	}
	if !by.exists() {
		by = r.config
	}
	e.report.Exceptions = append(e.report.Exceptions, Exception{
		Listener: r.host.manager.listener, Route: r.name() + " (" + describeMatch(match) + ")", Cluster: l.cluster, Line: r.config.line(),
	})
	if !guarded[l.cluster] {
		return
	}
	const where = "typed_per_filter_config of the route: delete the exception, or narrow the match"
	if everything(match) {
		e.find("D16", in, by, fault{
			"the check is off for every path (" + describeMatch(match) + ")", "Whatever no other route names reaches your system without a session, pages that are added later as well.",
			where, "# disabled: true",
		})
		return
	}
	if prefix := match.field("prefix"); prefix.exists() && !strings.HasSuffix(prefix.text(), "/") && !within(match, e.authPath) { // D7
		e.find("D16", in, prefix, fault{
			"the check is off for whatever begins with " + prefix.text(), "Not only " + prefix.text() + " is open, but also " + prefix.text() + "-and-more, if that is a page.",
			"match of the route", "path: " + prefix.text() + "                     # or, with what is below it:\npath_separated_prefix: " + prefix.text(),
		})
	}
	e.hidden(l, by)
}

// hidden looks for checked routes that an unchecked one before them makes unreachable.
func (e *examination) hidden(l lead, by value) {
	h := l.route.host
	for _, later := range h.routes[slices.Index(h.routes, l.route)+1:] {
		if !slices.ContainsFunc(later.leads, func(l lead) bool { on, _ := l.checked(); return on }) {
			continue
		}
		match := later.config.field("match")
		samples := []string{match.field("path").text()}
		for _, field := range []string{"prefix", "path_separated_prefix"} {
			if prefix := match.field(field).text(); prefix != "" {
				samples = []string{prefix, strings.TrimSuffix(prefix, "/") + "/any"}
			}
		}
		if samples[0] == "" || slices.ContainsFunc(samples, func(path string) bool { return h.resolve(path) != l.route }) {
			continue
		}
		e.find("D16", inRoute(l.route), by, fault{
			"the route " + later.name() + " behind it is checked and never reached", "Its pages are open: the first route that fits counts.",
			"the routes of the virtual host: the checked one first", "# route " + later.name(),
		})
	}
}

// upgrades says whether a lead lets a client open a WebSocket, or a stream of another type, and what says so.
func (l lead) upgrades() (on bool, at value) {
	said := map[string]bool{} // by the route, which counts
	for _, list := range []value{l.route.config.field("route", "upgrade_configs"), l.route.host.manager.config.field("upgrade_configs")} {
		for _, u := range list.items() {
			kind := strings.ToLower(u.field("upgrade_type").text())
			if enabled := u.field("enabled"); !said[kind] && (!enabled.exists() || enabled.isTrue()) {
				return true, u
			}
			said[kind] = true
		}
	}
	return false, value{}
}

// streamMost is how long a stream may be open after its check, in a system that has its own reasons.
const streamMost = 24 * time.Hour

// streams looks for connections that are checked once and then stay open for ever (D19).
func (e *examination) streams() {
	for _, m := range e.gated() {
		for _, l := range m.leads() {
			open, at := l.upgrades()
			if on, _ := l.checked(); !on || !open {
				continue
			}
			in, limit := inListener(m), l.route.config.field("route", "max_stream_duration", "max_stream_duration")
			if limit.exists() {
				in = inRoute(l.route)
			} else {
				limit = m.config.field("common_http_protocol_options", "max_stream_duration")
			}
			longest := limit.duration(0)
			if longest > 0 && longest <= streamMost {
				continue
			}
			kind, what := at.field("upgrade_type").text(), " has no max_stream_duration"
			if longest > streamMost {
				what = fmt.Sprintf(" may stay open for %v", longest)
			}
			switch {
			case limit.exists():
				at = limit
			case m.config.field("common_http_protocol_options").exists():
				at = m.config.field("common_http_protocol_options")
			}
			e.find("D19", in, at, fault{
				"a stream (" + kind + ")" + what, "It is checked when it opens. After a sign-out, or after theft was found, it stays open.",
				"common_http_protocol_options of the connection manager", "max_stream_duration: 3600s",
			})
		}
	}
}
