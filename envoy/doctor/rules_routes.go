package doctor

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
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
		kind, message := setting(level, f.name)
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

const whereException = "typed_per_filter_config of the route: delete the exception, or narrow the match"

const (
	authzPort    = 9001
	internalPort = 9003
)

// reach looks for ways from outside to what is for the inside (D14).
func (e *examination) reach() {
	for _, m := range e.managers {
		for _, l := range m.leads() {
			e.inside(inRoute(l.route), "route", l)
		}
	}
	for _, l := range e.tcp {
		e.inside("listener "+l.listener, "listener", l)
	}
	address := e.admin.field("address", "socket_address", "address")
	host := address.text()
	if host == "" || onLoopback(host) {
		return
	}
	e.find("D14", "admin", address, fault{
		"Envoy's admin interface listens on " + host, "It can stop Envoy, change its runtime and show its whole configuration, to any client that reaches it.",
		"admin", "address:\n  socket_address: { address: 127.0.0.1, port_value: 9901 }",
	})
}

// inside looks where a way leads.
func (e *examination) inside(in, way string, l lead) {
	if slices.ContainsFunc(e.endpoints[l.cluster], e.isAdmin) {
		e.find("D14", in, l.at, fault{
			"the " + way + " leads to Envoy's admin interface (" + l.cluster + ")", "It can stop Envoy, change its runtime and show its whole configuration, to any client.",
			"delete the " + way, "# the admin interface is for this host alone",
		})
		return
	}
	if l.cluster != e.configuration.check && !slices.ContainsFunc(e.endpoints[l.cluster], func(x endpoint) bool {
		return (x.port == internalPort || x.port == authzPort) && (e.saysSessiongate(l.cluster) || e.sharesHost(x))
	}) {
		return
	}
	e.find("D14", in, l.at, fault{
		"the " + way + " leads to the inside of sessiongate (" + l.cluster + ")",
		"The sessions API makes a session for any user; the check says who a token belongs to. Neither is for clients.", "delete the " + way, "# only sessiongate_public (9002) is for clients",
	})
}

// isAdmin says whether an endpoint is the admin interface. One that listens on every address is on loopback, too.
func (e *examination) isAdmin(x endpoint) bool {
	if path := e.admin.field("address", "pipe", "path").text(); path != "" {
		return x.host == path
	}
	socket := e.admin.field("address", "socket_address")
	if x.host == "" || x.port != socket.field("port_value").number(-1) {
		return false
	}
	host := endpoint{host: socket.field("address").text()}.canonical().host
	return x.canonical().host == host || onLoopback(x.host) && (onLoopback(host) || host == "0.0.0.0" || host == "::")
}

func onLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
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
		e.upgraded(m)
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
		e.asked(l, r.host.manager.filters[i])
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
	if r.match.kind == "" {
		e.report.Skipped = append(e.report.Skipped, Skip{Probe: "D16", Why: in + " is not checked, and what paths it takes is not understood", Needed: true})
		return
	}
	if r.match.everything() {
		e.find("D16", in, by, fault{
			"the check is off for every path (" + describeMatch(match) + ")", "Whatever no other route names reaches your system without a session, pages that are added later as well.",
			whereException, "# disabled: true",
		})
		return
	}
	if prefix := match.field("prefix"); prefix.exists() && !strings.HasSuffix(prefix.text(), "/") && !within(match, e.authPath) { // D7
		e.find("D16", in, prefix, fault{
			"the check is off for whatever begins with " + prefix.text(), "Not only " + prefix.text() + " is open, but also " + prefix.text() + "-and-more, if that is a page.",
			"match of the route", "path: " + prefix.text() + "                     # or, with what is below it:\npath_separated_prefix: " + prefix.text(),
		})
	}
	if r.match.regex != nil && r.match.anywhere() {
		e.find("D16", in, match, fault{
			"the check is off in every folder (" + describeMatch(match) + ")",
			"A page of your system may answer to /account/x.css as to /account: a client sends what fits.", "match of the route: name the folder", "prefix: /assets/",
		})
		return
	}
	e.rewritten(l)
	e.hidden(l, by)
}

// rewritten looks for an exception whose paths become others before they are sent: pages that are checked under their own name (D16).
func (e *examination) rewritten(l lead) {
	r, action := l.route, l.route.config.field("route")
	change := func(path string) string { return path }
	var at value
	switch prefix, regex := action.field("prefix_rewrite"), action.field("regex_rewrite"); {
	case r.match.kind == "path": // one page becomes one page
		return
	case prefix.exists() && r.match.regex == nil: // of an expression it takes the place of the whole path
		at = prefix
		change = func(path string) string { return prefix.text() + path[len(r.match.text):] }
	case regex.exists():
		at = regex
		if compiled, err := regexp.Compile(regex.field("pattern", "regex").text()); err == nil {
			groups := backReference.ReplaceAllString(strings.ReplaceAll(regex.field("substitution").text(), "$", "$$"), "$${$1}")
			change = func(path string) string { return compiled.ReplaceAllString(path, groups) }
		}
	default:
		for _, field := range []string{"path_rewrite", "path_rewrite_policy"} {
			if action.field(field).exists() {
				at = action.field(field)
			}
		}
	}
	if !at.exists() {
		return
	}
	paths := r.match.samples(oneFill)
	for _, other := range r.host.routes { // what is below their own names, too
		if folder := strings.TrimSuffix(r.match.text, "/"); r.match.regex == nil && (other.match.kind == "path" || other.match.kind == "prefix" || other.match.kind == "path_separated_prefix") {
			paths = append(paths, folder+"/"+strings.TrimPrefix(strings.TrimPrefix(other.match.text, action.field("prefix_rewrite").text()), "/"))
		}
	}
	understood := false
	for _, path := range paths {
		sent := strings.ReplaceAll(change(path), "//", "/")
		understood = understood || sent != path
		to := r.host.resolve(sent)
		if to == nil || to == r || !slices.ContainsFunc(to.leads, func(other lead) bool { on, _ := other.checked(); return on && other.cluster == l.cluster }) {
			continue
		}
		e.find("D16", inRoute(r), at, fault{
			"the route sends " + path + " as " + sent + ", which is checked (route " + to.name() + ")",
			"Under its own name a page asks for a session, and by this route it is open.", "route of the route: delete it, or make the paths that it sends an exception of their own", "# " + at.path[strings.LastIndexByte(at.path, '.')+1:],
		})
		return
	}
	if !understood {
		e.report.Skipped = append(e.report.Skipped, Skip{Probe: "D16", Why: "what paths " + inRoute(r) + " sends is not understood (" + at.path + "), and it is not checked", Needed: true})
	}
}

var backReference = regexp.MustCompile(`\\([0-9])`)

// asked looks for another service that a route's settings have asked (D16), and how long that may take (D17).
func (e *examination) asked(l lead, f filter) {
	if on, _ := l.switched(f); !on {
		return
	}
	for _, level := range l.levels() { // Envoy joins the levels; the most specific that names a service counts
		kind, message := setting(level, f.name)
		settings := message.field("check_settings")
		for _, name := range []string{"grpc_service", "http_service"} {
			service := settings.field(name)
			if kind != perRouteType || !service.exists() {
				continue
			}
			if asks(settings) != e.configuration.check {
				e.find("D16", l.in(level), service, fault{
					"another service (" + asks(settings) + ") is asked about this route", "It decides in sessiongate's place, and your system believes what it says.",
					"delete it", "# " + name,
				})
			} else if name == "grpc_service" {
				e.checkTime(l.in(level), service)
			}
			return
		}
	}
}

// hidden looks for checked routes that an unchecked one before them makes unreachable.
func (e *examination) hidden(l lead, by value) {
	h := l.route.host
	for _, later := range h.routes[slices.Index(h.routes, l.route)+1:] {
		if !slices.ContainsFunc(later.leads, func(l lead) bool { on, _ := l.checked(); return on }) {
			continue
		}
		samples := later.match.samples(oneFill)
		if len(samples) == 0 || slices.ContainsFunc(samples, func(path string) bool { return !l.route.opens(path, later) }) {
			continue
		}
		if l.route.match.conditional {
			e.find("D16", inRoute(l.route), by, fault{
				"a client chooses whether the route " + later.name() + " behind it is checked", "It sends what the match asks for, and every page of that route is open.",
				whereException, "# disabled: true",
			})
			continue
		}
		e.find("D16", inRoute(l.route), by, fault{
			"the route " + later.name() + " behind it is checked and never reached", "Its pages are open: the first route that fits counts.",
			"the routes of the virtual host: the checked one first", "# route " + later.name(),
		})
	}
}

// opens says whether it takes a path from a later route, at least where a client wants it to.
func (r *route) opens(path string, later *route) bool {
	if !r.match.takes(path) {
		return false
	}
	first := r.host.resolve(path)
	return first == r || r.match.conditional && r.match.chosen && first == later
}

// upgrades says whether a lead lets a client open a WebSocket, or a stream of another type, and what says so.
func (l lead) upgrades() (on bool, at value) { return l.upgradesTo("") }

// upgradesTo is upgrades for one type; "" is any.
func (l lead) upgradesTo(kind string) (on bool, at value) {
	said := map[string]bool{} // by the route, which counts
	for _, list := range []value{l.route.config.field("route", "upgrade_configs"), l.route.host.manager.config.field("upgrade_configs")} {
		for _, u := range list.items() {
			of := strings.ToLower(u.field("upgrade_type").text())
			if kind != "" && of != strings.ToLower(kind) {
				continue
			}
			if enabled := u.field("enabled"); !said[of] && (!enabled.exists() || enabled.isTrue()) {
				return true, u
			}
			said[of] = true
		}
	}
	return false, value{}
}

// upgraded looks for upgrades whose own filters leave the check out: a client asks for one, and any page is open to it (D16).
func (e *examination) upgraded(m *manager) {
	for _, u := range m.upgrades {
		if !slices.ContainsFunc(m.leads(), func(l lead) bool {
			checked, _ := l.checked()
			open, _ := l.upgradesTo(u.kind)
			return checked && open
		}) {
			continue
		}
		if slices.ContainsFunc(u.filters, func(f filter) bool {
			return f.kind == checkType && !f.disabled && asks(f.config) == e.configuration.check
		}) {
			e.report.Skipped = append(e.report.Skipped, Skip{
				Probe: "D16", Why: "upgrades to " + u.kind + " of " + inListener(m) + " have filters of their own (upgrade_configs), which are not read: write them as an alias of http_filters", Needed: true,
			})
			continue
		}
		e.find("D16", inListener(m), u.at, fault{
			"upgrades to " + u.kind + " have filters of their own, and none asks sessiongate",
			"A client that sends upgrade: " + u.kind + " gets every page without a session, with whatever it says of itself.",
			"upgrade_configs of the connection manager: delete it, so that the upgrade has all filters", "# filters",
		})
	}
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
