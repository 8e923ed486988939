package doctor

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	managerType      = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	tcpProxyType     = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
	checkType        = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
	perRouteType     = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
	filterConfigType = "envoy.config.route.v3.FilterConfig"
	mutationType     = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
	mutationRoute    = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
	earlyType        = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
	corsType         = "envoy.extensions.filters.http.cors.v3.Cors"
	corsPolicyType   = "envoy.extensions.filters.http.cors.v3.CorsPolicy"
	rbacType         = "envoy.extensions.filters.http.rbac.v3.RBAC"
	rbacPerRouteType = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
	matcherType      = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
	templateType     = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
	upstreamType     = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// configuration is what the rules need of an Envoy's configuration.
type configuration struct {
	doc       *document
	admin     value
	managers  []*manager
	tcp       []lead // network filters that pass bytes on to a cluster
	clusters  map[string]value
	endpoints map[string][]endpoint // of each cluster, as far as they are known
	unseen    []string              // what this source does not show
	// check is the cluster of the check that is ours, public the clusters that serve the auth path.
	check string
	// listenerCount counts the listeners, with and without a manager.
	listenerCount int
}

type endpoint struct {
	host string
	port int
}

// manager is an HTTP connection manager.
type manager struct {
	listener string
	config   value
	filters  []filter
	routes   value // the route configuration
	hosts    []*host
	checks   []int // the positions of the filters that ask sessiongate
	upgrades []upgrade
	asked    map[asking]answer
	known    map[way]answer // what checked found: the rules ask it often
}

// way is a lead as a key.
type way struct {
	route *route
	at    *yaml.Node
}

// upgrade has filters of its own, which take the place of the manager's where a request asks for it.
type upgrade struct {
	kind    string
	at      value
	filters []filter
}

// filter is an HTTP filter as it is in the chain.
type filter struct {
	name, kind string
	entry      value // the element of http_filters
	config     value
	disabled   bool // unless a route switches it on
	matched    bool // a matcher decides whether it works
}

// host is a virtual host.
type host struct {
	manager *manager
	name    string
	config  value
	routes  []*route
}

type route struct {
	host   *host
	config value
	match  pathMatch
	leads  []lead
}

// lead is one cluster to which a route leads; several share its requests by weight.
type lead struct {
	listener string // where there is no route
	route    *route
	cluster  string
	config   value // the element of weighted_clusters, with settings of its own
	at       value
}

var (
	errNoEnvoy    = errors.New("it is no configuration of Envoy: there are neither static_resources, as in a bootstrap file, nor configs, as in a config dump")
	errNoListener = errors.New("it has no listener")
)

// source is what a file says of the parts of a configuration, before they are joined.
type source struct {
	listeners  []value
	routes     map[string]value // route configurations, by name
	extensions map[string]value // configurations of filters that have their own discovery, by the filter's name
}

// view reads a bootstrap file or a config dump.
func view(d *document) (*configuration, error) {
	c := &configuration{doc: d, clusters: map[string]value{}, endpoints: map[string][]endpoint{}}
	s := source{routes: map[string]value{}, extensions: map[string]value{}}
	if top := d.top(); top.field("configs").exists() {
		for _, section := range top.field("configs").items() {
			c.section(&s, section)
		}
	} else if err := c.bootstrap(&s, top); err != nil {
		return nil, err
	}
	for _, l := range s.listeners {
		c.addListener(l, s.routes, s.extensions)
	}
	slices.Sort(c.unseen)
	if c.listenerCount == 0 && len(c.unseen) == 0 {
		return nil, errNoListener
	}
	if d.visits > d.visitsMax() {
		return nil, errTooLarge
	}
	return c, nil
}

// bootstrap reads what Envoy starts with.
func (c *configuration) bootstrap(s *source, b value) error {
	if !b.field("static_resources").exists() && !b.field("dynamic_resources").exists() {
		return errNoEnvoy
	}
	c.admin = b.field("admin")
	s.listeners = b.field("static_resources", "listeners").items()
	for _, cluster := range b.field("static_resources", "clusters").items() {
		c.addCluster(cluster)
	}
	for what, field := range map[string]string{"listeners": "lds_config", "clusters": "cds_config"} {
		if b.field("dynamic_resources", field).exists() {
			c.unseen = append(c.unseen, "the "+what+" come from a control plane (dynamic_resources."+field+"): give the config dump of the running Envoy")
		}
	}
	return nil
}

// section reads one section of a config dump.
func (c *configuration) section(s *source, section value) {
	kind := typeName(section.entry("@type").text())
	switch kind[strings.LastIndexByte(kind, '.')+1:] {
	case "BootstrapConfigDump":
		c.admin = section.field("bootstrap", "admin")
	case "ListenersConfigDump":
		s.listeners = append(s.listeners, each(section.field("static_listeners"), "listener")...)
		for _, state := range []string{"active_state", "warming_state"} {
			for _, l := range each(section.field("dynamic_listeners"), state) {
				s.listeners = append(s.listeners, l.field("listener"))
			}
		}
	case "ClustersConfigDump":
		for _, cluster := range slices.Concat(each(section.field("static_clusters"), "cluster"), each(section.field("dynamic_active_clusters"), "cluster")) {
			c.addCluster(cluster)
		}
	case "RoutesConfigDump":
		for _, config := range slices.Concat(each(section.field("static_route_configs"), "route_config"), each(section.field("dynamic_route_configs"), "route_config")) {
			s.routes[config.field("name").text()] = config
		}
	case "EcdsConfigDump":
		for _, e := range each(section.field("ecds_filters"), "ecds_filter") {
			s.extensions[e.field("name").text()] = e.field("typed_config")
		}
	case "EndpointsConfigDump":
		for _, config := range slices.Concat(each(section.field("static_endpoint_configs"), "endpoint_config"), each(section.field("dynamic_endpoint_configs"), "endpoint_config")) {
			name := config.field("cluster_name").text()
			c.endpoints[name] = append(c.endpoints[name], endpoints(config)...)
		}
	}
}

func each(list value, field string) (all []value) {
	for _, item := range list.items() {
		if config := item.field(field); config.exists() {
			all = append(all, config)
		}
	}
	return all
}

func (c *configuration) addCluster(config value) {
	name := config.field("name").text()
	c.clusters[name] = config
	c.endpoints[name] = append(c.endpoints[name], endpoints(config.field("load_assignment"))...)
}

func endpoints(assignment value) (all []endpoint) {
	for _, locality := range assignment.field("endpoints").items() {
		for _, e := range locality.field("lb_endpoints").items() {
			address := e.field("endpoint", "address")
			socket := address.field("socket_address")
			all = append(all, endpoint{
				host: socket.field("address").text() + address.field("pipe", "path").text(),
				port: socket.field("port_value").number(0),
			})
		}
	}
	return all
}

func (c *configuration) addListener(l value, routes, extensions map[string]value) {
	c.listenerCount++
	name := l.field("name").text()
	if name == "" {
		socket := l.field("address", "socket_address")
		name = net.JoinHostPort(socket.field("address").text(), socket.field("port_value").text())
	}
	chains := l.field("filter_chains").items()
	if last := l.field("default_filter_chain"); last.exists() {
		chains = append(chains, last)
	}
	for _, chain := range chains {
		for _, f := range chain.field("filters").items() {
			if f.field("config_discovery").exists() {
				c.unseen = append(c.unseen, fmt.Sprintf("listener %s has a network filter that comes from a control plane (%s)", name, f.field("name").text()))
				continue
			}
			switch kind, config := f.field("typed_config").typed(); kind {
			case managerType:
				c.addManager(name, config, routes, extensions)
			case tcpProxyType:
				if cluster := config.field("cluster"); cluster.exists() {
					c.tcp = append(c.tcp, lead{listener: name, cluster: cluster.text(), at: cluster})
				}
				for _, w := range config.field("weighted_clusters", "clusters").items() {
					c.tcp = append(c.tcp, lead{listener: name, cluster: w.field("name").text(), at: w})
				}
			}
		}
	}
}

func (c *configuration) addManager(listener string, config value, routes, extensions map[string]value) {
	m := &manager{listener: listener, config: config, asked: map[asking]answer{}, known: map[way]answer{}}
	c.managers = append(c.managers, m)
	for _, f := range config.field("http_filters").items() {
		m.filters = append(m.filters, c.filter(listener, f, extensions))
	}
	for _, u := range config.field("upgrade_configs").items() {
		own := upgrade{kind: u.field("upgrade_type").text(), at: u.field("filters")}
		if own.at.node == config.field("http_filters").node {
			continue // an alias of the manager's
		}
		for _, f := range own.at.items() {
			own.filters = append(own.filters, c.filter(listener, f, extensions))
		}
		if len(own.filters) > 0 { // Envoy takes the manager's, otherwise
			m.upgrades = append(m.upgrades, own)
		}
	}
	rds := config.field("rds", "route_config_name")
	switch found, ok := routes[rds.text()]; {
	case config.field("route_config").exists():
		m.routes = config.field("route_config")
	case rds.exists() && ok:
		m.routes = found
	case rds.exists():
		c.unseen = append(c.unseen, fmt.Sprintf("the routes of listener %s come from a control plane (%s): give the config dump of the running Envoy", listener, rds.text()))
	default:
		c.unseen = append(c.unseen, fmt.Sprintf("listener %s has neither route_config nor rds: scoped routes are not read", listener))
	}
	if m.routes.field("vhds").exists() {
		c.unseen = append(c.unseen, fmt.Sprintf("virtual hosts of listener %s come when they are asked for (vhds)", listener))
	}
	for _, v := range m.routes.field("virtual_hosts").items() {
		h := &host{manager: m, name: v.field("name").text(), config: v}
		m.hosts = append(m.hosts, h)
		if v.field("matcher").exists() {
			c.unseen = append(c.unseen, fmt.Sprintf("virtual host %s of listener %s finds its routes by a matcher, which is not read", h.name, listener))
		}
		for _, config := range v.field("routes").items() {
			h.routes = append(h.routes, newRoute(h, config))
		}
	}
}

func (c *configuration) filter(listener string, f value, extensions map[string]value) filter {
	name := f.field("name").text()
	packed := f.field("typed_config")
	if discovery := f.field("config_discovery"); discovery.exists() {
		var ok bool
		if packed, ok = extensions[name]; !ok {
			if packed = discovery.field("default_config"); !packed.exists() {
				c.unseen = append(c.unseen, fmt.Sprintf("filter %s of listener %s comes from a control plane: give the config dump of the running Envoy", name, listener))
			}
		}
	}
	kind, config := packed.typed()
	matched := kind == matcherType
	if matched {
		kind, config = config.field("extension_config", "typed_config").typed()
	}
	return filter{name: name, kind: kind, entry: f, config: config, disabled: f.field("disabled").isTrue(), matched: matched}
}

func newRoute(h *host, config value) *route {
	r := &route{host: h, config: config, match: readMatch(config.field("match"))}
	action := config.field("route")
	if name := action.field("cluster"); name.exists() {
		r.leads = append(r.leads, lead{route: r, cluster: name.text(), at: action})
	}
	for _, field := range []string{"cluster_header", "cluster_specifier_plugin"} {
		if chosen := action.field(field); chosen.exists() {
			r.leads = append(r.leads, lead{route: r, cluster: "(by " + field + " " + chosen.text() + ")", at: action})
		}
	}
	for _, w := range action.field("weighted_clusters", "clusters").items() {
		r.leads = append(r.leads, lead{route: r, cluster: w.field("name").text(), config: w, at: w})
	}
	return r
}

// name is how a route is called in what is printed.
func (r *route) name() string {
	if name := r.config.field("name").text(); name != "" {
		return name
	}
	return describeMatch(r.config.field("match"))
}

// levels are what may have settings for a lead, the most specific first.
func (l lead) levels() []value {
	return []value{l.config, l.route.config, l.route.host.config, l.route.host.manager.routes}
}

// perFilter is the setting of a filter that counts for a lead: its message and type, and the Any that it is in.
func (l lead) perFilter(name string) (kind string, message, packed value) {
	for _, level := range l.levels() {
		if packed := level.field("typed_per_filter_config").entry(name); packed.exists() {
			kind, message := packed.typed()
			return kind, message, packed
		}
	}
	return "", value{}, value{}
}

// setting is what one level says of a filter, out of the FilterConfig that it may be in.
func setting(level value, name string) (kind string, message value) {
	kind, message = level.field("typed_per_filter_config").entry(name).typed()
	if kind == filterConfigType {
		return message.field("config").typed()
	}
	return kind, message
}

// switched says whether a filter works for a lead, and what says so: nothing, if that is the filter itself.
func (l lead) switched(f filter) (on bool, by value) {
	if asked, by := l.shadowed(f); asked == no {
		return false, by
	}
	kind, message, packed := l.perFilter(f.name)
	if !packed.exists() {
		return !f.disabled, value{}
	}
	if kind == filterConfigType && message.field("disabled").isTrue() {
		return false, message.field("disabled")
	}
	if kind == filterConfigType {
		kind, message = message.field("config").typed()
	}
	if kind == perRouteType && message.field("disabled").isTrue() {
		return false, message.field("disabled")
	}
	return true, packed
}

// checked says whether sessiongate is asked about what takes this way, and if not, what says so.
func (l lead) checked() (on bool, by value) {
	known := l.route.host.manager.known
	found, ok := known[way{l.route, l.at.node}]
	if !ok {
		on, found.by = l.findChecked()
		if on {
			found.asked = yes
		}
		known[way{l.route, l.at.node}] = found
	}
	return found.asked == yes, found.by
}

func (l lead) findChecked() (on bool, by value) {
	m := l.route.host.manager
	for _, i := range m.checks {
		on, at := l.switched(m.filters[i])
		if on {
			return true, at
		}
		if at.exists() || !by.exists() {
			by = at
		}
	}
	return false, by
}

// leads are all ways of a manager to a cluster.
func (m *manager) leads() (all []lead) {
	for _, h := range m.hosts {
		all = append(all, h.leads()...)
	}
	return all
}

func (h *host) leads() (all []lead) {
	for _, r := range h.routes {
		all = append(all, r.leads...)
	}
	return all
}

// gated says whether the check is on for any way of the virtual host.
func (h *host) gated() bool {
	return slices.ContainsFunc(h.leads(), func(l lead) bool { on, _ := l.checked(); return on })
}

// firstCheck is the position of the first filter that asks sessiongate, or the end.
func (m *manager) firstCheck() int {
	if len(m.checks) > 0 {
		return m.checks[0]
	}
	return len(m.filters)
}

// guarded are the clusters to which any way leads that is checked: what sessiongate protects, also by another cluster's name.
func (e *examination) guarded() map[string]bool {
	if e.protected != nil {
		return e.protected
	}
	c, all := e.configuration, map[string]bool{}
	at := map[endpoint]bool{}
	for _, m := range c.managers {
		for _, l := range m.leads() {
			if on, _ := l.checked(); on && !all[l.cluster] {
				all[l.cluster] = true
				for _, x := range c.endpoints[l.cluster] {
					at[x.canonical()] = x.host != ""
				}
			}
		}
	}
	for name, known := range c.endpoints {
		if name != c.check && !c.saysSessiongate(name) && slices.ContainsFunc(known, func(x endpoint) bool { return at[x.canonical()] }) {
			all[name] = true
		}
	}
	e.protected = all
	return all
}

// canonical is one spelling of a host name.
func (x endpoint) canonical() endpoint {
	return endpoint{strings.ToLower(strings.TrimSuffix(x.host, ".")), x.port}
}

// asks is the cluster, or the address, that a filter of external authorisation asks.
func asks(config value) string {
	for _, path := range [][]string{
		{"grpc_service", "envoy_grpc", "cluster_name"}, {"grpc_service", "google_grpc", "target_uri"}, {"http_service", "server_uri", "cluster"},
	} {
		if name := config.field(path...).text(); name != "" {
			return name
		}
	}
	return ""
}

// AmbiguousError is returned where several services are asked by ext_authz and none says that it is sessiongate.
type AmbiguousError struct{ Clusters []string }

// Error implements error.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("ext_authz asks several services, and none is named sessiongate: %s. Name the cluster that is", strings.Join(e.Clusters, ", "))
}

// choose finds the filters that ask sessiongate.
func (c *configuration) choose(named string) error {
	asked := map[string]bool{}
	for _, m := range c.managers {
		for _, f := range m.filters {
			if f.kind == checkType {
				asked[asks(f.config)] = true
			}
		}
	}
	if len(asked) == 0 {
		return nil // D1 says so
	}
	chosen := named
	switch {
	case named == "":
		all := slices.Sorted(maps.Keys(asked))
		ours := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !c.saysSessiongate(name) })
		if len(ours) == 0 {
			ours = all
		}
		if len(ours) > 1 && !c.sameEndpoints(ours) {
			return &AmbiguousError{Clusters: all}
		}
		asked = map[string]bool{}
		for _, name := range ours {
			asked[name] = true
			chosen = name
		}
	case !asked[named]:
		return fmt.Errorf("no ext_authz filter asks the cluster %s, but: %s", named, strings.Join(slices.Sorted(maps.Keys(asked)), ", "))
	default:
		asked = map[string]bool{named: true}
	}
	c.check = chosen
	for _, m := range c.managers {
		for i, f := range m.filters {
			if f.kind == checkType && asked[asks(f.config)] {
				m.checks = append(m.checks, i)
			}
		}
	}
	return nil
}

func (c *configuration) saysSessiongate(cluster string) bool {
	return strings.Contains(cluster, "sessiongate") || slices.ContainsFunc(c.endpoints[cluster], func(e endpoint) bool {
		return strings.Contains(e.host, "sessiongate")
	})
}

// sameEndpoints says whether the clusters are one service: Envoy Gateway makes a cluster for each policy.
func (c *configuration) sameEndpoints(clusters []string) bool {
	first := c.endpoints[clusters[0]]
	return len(first) > 0 && !slices.ContainsFunc(clusters[1:], func(name string) bool { return !slices.Equal(c.endpoints[name], first) })
}
