// Package doctor owns what makes an Envoy in front of sessiongate unsafe: twenty faults, the probes that find
// them, and the lines that cure each. Half of them are found in Envoy's configuration, a bootstrap file or the
// dump of a running Envoy; half show in what comes back through the proxy. It promises that the shipped
// envoy.yaml has none, and that each finding says where, why and how to cure it.
//
// It reads configuration as a tree and knows of Envoy's types only what the faults are made of. So it sees
// the lines of the file, reads versions of Envoy that it was not made for, and takes unknown filters as they are.
// It judges nothing that it does not see: what comes from a control plane and is not in the file is named as unseen.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Finding is one fault.
type Finding struct {
	// Probe is the id of the probe that found it, D1 to D20.
	Probe string `json:"probe"`
	// In is the listener, and the route or the filter; or the request that was sent.
	In string `json:"in"`
	// Path and Line say where in the configuration. Line is 0 where there is no file.
	Path string `json:"path,omitempty"`
	Line int    `json:"line,omitempty"`
	// Fault says what is wrong, Why what an attacker or a user makes of it.
	Fault string `json:"fault"`
	Why   string `json:"why"`
	// Cure are lines of YAML, and Where says where to put them.
	Where string `json:"where,omitempty"`
	Cure  string `json:"cure,omitempty"`
	// Accepted says that the user knows it.
	Accepted bool `json:"accepted,omitempty"`
}

// Exception is a way to a cluster that is not checked. It is no fault by itself: a login page is one.
type Exception struct {
	Listener string `json:"listener"`
	Route    string `json:"route"`
	Cluster  string `json:"cluster"`
	Line     int    `json:"line,omitempty"`
}

// Skip is what could not be looked at.
type Skip struct {
	Probe string `json:"probe,omitempty"`
	Why   string `json:"why"`
	// Needed says that the answer is not complete without it.
	Needed bool `json:"needed,omitempty"`
}

// Report is what was found.
type Report struct {
	// Check is the cluster of sessiongate's check, as Envoy calls it.
	Check      string      `json:"check,omitempty"`
	Findings   []Finding   `json:"findings"`
	Exceptions []Exception `json:"exceptions"`
	Skipped    []Skip      `json:"skipped"`
}

// Options say what a configuration does not.
type Options struct {
	// Cluster is the cluster of sessiongate's check. Empty: the one that is named sessiongate, or the only one.
	Cluster string
	// AuthPath is the setting paths.auth. Empty: /auth.
	AuthPath string
	// SessionExpired is the setting responses.session_expired_status. 0: 440.
	SessionExpired int
}

// Examine looks for the faults that show in Envoy's configuration: a bootstrap file or a config dump,
// YAML or JSON. An error says that there was nothing to look at.
func Examine(text []byte, o Options) (Report, error) {
	d, err := readDocument(text)
	if err != nil {
		return Report{}, fmt.Errorf("reading Envoy's configuration: %w", err)
	}
	c, err := view(d)
	if err != nil {
		return Report{}, fmt.Errorf("reading Envoy's configuration: %w", err)
	}
	if err := c.choose(o.Cluster); err != nil {
		return Report{}, fmt.Errorf("looking for sessiongate's check: %w", err)
	}
	e := &examination{configuration: c, authPath: cmp.Or(o.AuthPath, "/auth"), expired: cmp.Or(o.SessionExpired, 440), report: Report{Check: c.check, Findings: []Finding{}, Exceptions: []Exception{}, Skipped: []Skip{}}}
	for _, why := range c.unseen {
		e.report.Skipped = append(e.report.Skipped, Skip{Why: why, Needed: true})
	}
	for _, rule := range rules {
		d.visits = 0 // the rules of a large file look at much, each
		rule(e)
		if d.visits > d.visitsMax() {
			return Report{}, fmt.Errorf("reading Envoy's configuration: %w", errTooLarge)
		}
	}
	e.report.sort()
	return e.report, nil
}

// rules are the examinations, each of one idea.
var rules = []func(*examination){
	(*examination).check, (*examination).answers, (*examination).identity, (*examination).reading, (*examination).authPaths,
	(*examination).cookies, (*examination).lost, (*examination).cors, (*examination).peer, (*examination).policy, (*examination).reach,
	(*examination).failOpen, (*examination).exceptions, (*examination).hardening, (*examination).headers, (*examination).streams,
}

// examination is the work on one configuration.
type examination struct {
	*configuration

	authPath  string
	expired   int
	report    Report
	served    map[string]bool // see serving
	protected map[string]bool // see guarded
	places    map[place]bool  // where something was found
}

// place is what a probe found, and where.
type place struct {
	probe, what string
	node        *yaml.Node
}

// fault is what a rule says of a place.
type fault struct{ what, why, where, cure string }

func (e *examination) find(probe, in string, at value, f fault) {
	// What an anchor shares is one fault. An exception is one for each of its routes.
	here := place{probe, f.what, at.node}
	if e.places == nil {
		e.places = map[place]bool{}
	}
	if probe != "D16" && at.node != nil && e.places[here] {
		return
	}
	e.places[here] = true
	found := Finding{Probe: probe, In: in, Path: at.path, Line: at.line(), Fault: f.what, Why: f.why, Where: f.where, Cure: f.cure}
	if !slices.Contains(e.report.Findings, found) { // several routes of one anchor have one fault
		e.report.Findings = append(e.report.Findings, found)
	}
}

// sort orders findings by probe, D2 before D10.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(len(a.Probe), len(b.Probe)), strings.Compare(a.Probe, b.Probe), cmp.Compare(a.Line, b.Line))
	})
}

// Accept says of the findings of some probes that they are known. They stay in the report and do not count.
func (r *Report) Accept(probes ...string) {
	for i := range r.Findings {
		r.Findings[i].Accepted = r.Findings[i].Accepted || slices.Contains(probes, r.Findings[i].Probe)
	}
}

// Faulty says whether there is a finding that is not accepted.
func (r *Report) Faulty() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Accepted })
}

// Incomplete says whether something that matters could not be looked at.
func (r *Report) Incomplete() bool {
	return slices.ContainsFunc(r.Skipped, func(s Skip) bool { return s.Needed })
}

func inListener(m *manager) string         { return "listener " + m.listener }
func inFilter(m *manager, f filter) string { return "listener " + m.listener + ", filter " + f.name }

func inHost(h *host) string {
	return "listener " + h.manager.listener + ", virtual host " + h.name
}
func inRoute(r *route) string { return inHost(r.host) + ", route " + r.name() }

// in says where a level of a lead is, so that what is said once for many routes is found once.
func (l lead) in(level value) string {
	switch level {
	case l.route.host.manager.routes:
		return inListener(l.route.host.manager)
	case l.route.host.config:
		return inHost(l.route.host)
	default:
		return inRoute(l.route)
	}
}

// gated are the connection managers that ask sessiongate about some request.
func (e *examination) gated() (all []*manager) {
	for _, m := range e.managers {
		if slices.ContainsFunc(m.hosts, (*host).gated) {
			all = append(all, m)
		}
	}
	return all
}
