package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
)

type configExplainCmd struct {
	Method string `arg:"" help:"The request's method, such as GET."`

	URL string `arg:"" help:"The request's address, such as https://app.example.com/admin?x=1, or its path alone, for the host localhost. The path is taken as it stands."`

	Extension []string `help:"A context_extension of Envoy's route, as KEY=VALUE; may be repeated." placeholder:"KEY=VALUE" sep:"none"`
}

// deniedToAll is the error, and the exit status, of a request that is denied to
// every client: a script that tries a configuration must notice.
type deniedToAll struct{}

// Error implements [error].
func (deniedToAll) Error() string {
	return "sessiongate denies this request to every client (exit status 3)"
}

// ExitCode implements [kong.ExitCoder].
func (deniedToAll) ExitCode() int { return 3 }

// Help implements [kong.HelpProvider].
func (configExplainCmd) Help() string {
	return "Exit status: 0 where the request passes, or may; 3 where it is denied to every client; another where the command line, the configuration or the request is faulty."
}

// Run implements the command.
func (k configExplainCmd) Run(f *flags, p process) error {
	config, from, err := load(f.ConfigFile, p.environ)
	if err != nil {
		return err
	}
	q, err := k.request()
	if err != nil {
		return err
	}
	x, err := authz.Explain(authzConfig(config, slog.New(slog.DiscardHandler)), q.method, q.host, q.path, q.extensions)
	if err != nil {
		return err
	}
	if err := writeExplanation(p.stdout, config, from, q, x); err != nil {
		return err
	}
	if x.Denial != nil {
		return deniedToAll{}
	}
	return nil
}

// anyHost is the host of a request that is given by its path alone.
const anyHost = "localhost"

// asked is the request that is to be explained.
type asked struct {
	method, url, host, path string
	extensions              map[string]string
}

// request takes the URL apart as a client does that sends it as it stands:
// net/url would refuse, or tidy up, what an attacker sends.
func (k configExplainCmd) request() (asked, error) {
	q := asked{method: k.Method, url: k.URL, extensions: make(map[string]string)}
	var faults []error
	if !onlyOf(k.Method, upper+"-") || k.Method == "" {
		faults = append(faults, fmt.Errorf("METHOD: found %s; allowed: a method in capitals, such as GET", settings.Quoted(k.Method)))
	}
	address := k.URL
	if strings.HasPrefix(address, "/") {
		address = "http://" + anyHost + address
	}
	scheme, rest, ok := strings.Cut(address, "://")
	end := strings.IndexAny(rest+"/", `/?#\`)
	q.host = rest[:end]
	q.path, _, _ = strings.Cut(rest[end:], "?")
	if q.path == "" {
		q.path = "/" // RFC 9112 §3.2.1
	}
	if !ok || scheme != "http" && scheme != "https" || q.host == "" || strings.Contains(q.host, "@") || strings.Contains(k.URL, "#") || !isVisible(k.URL) || q.path[0] != '/' {
		faults = append(faults, fmt.Errorf("URL: found %s; allowed: a path, or http or https, a host and a path, in visible ASCII as it is sent, without a user or a fragment, such as https://app.example.com/admin?x=1", settings.Quoted(k.URL)))
	}
	for _, e := range k.Extension {
		key, value, ok := strings.Cut(e, "=")
		if _, again := q.extensions[key]; again || !ok || key == "" {
			faults = append(faults, fmt.Errorf("--extension: found %s; allowed: KEY=VALUE, each key once", settings.Quoted(e)))
		}
		q.extensions[key] = value
	}
	return q, errors.Join(faults...)
}

func writeExplanation(w io.Writer, c Config, from settings.Origins, q asked, x authz.Explanation) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n\n", q.method, q.url)
	writeEntries(&b, c, from, x)
	if x.Denial == nil {
		b.WriteString("\nPolicy:\n")
		writePolicy(&b, c, from, q, x)
	}
	b.WriteString("\nSo:\n")
	for _, line := range consequences(c, q, x) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if len(q.extensions) == 0 {
		b.WriteString("\nThe context_extensions of Envoy's route, if it has any, come on top, key by key: give them with --extension KEY=VALUE.\n")
	}
	if x.Denial == nil {
		writePolicyKeys(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeEntries(b *strings.Builder, c Config, from settings.Origins, x authz.Explanation) {
	if len(x.Entries) == 0 {
		b.WriteString("There are no entries in routes: the default policy holds.\n")
		return
	}
	b.WriteString("Entries of routes, the most specific first:\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, e := range x.Entries {
		why := e.Why
		if why == "" {
			why = "APPLIES: it is the most specific that fits"
		}
		_, _ = fmt.Fprintf(t, "  %s\t%s\t%s\n", entryPosition(from, e.Index), routeWords(c.Check.Routes[e.Index]), why)
	}
	_ = t.Flush()
	if x.Entry < 0 && x.Denial == nil {
		b.WriteString("None applies: the default policy holds.\n")
	}
}

// entryPlace is where an entry stands; several of one variable have numbers.
func entryPosition(from settings.Origins, i int) string {
	name := fmt.Sprintf("routes[%d]", i)
	at := from[name]
	if at.Env != "" {
		return name + " of " + at.Env
	}
	return settings.QuoteUnlessPlain(at.String())
}

// writePolicy prints each setting of the policy and where it comes from: Envoy's route
// before the entry before the default.
func writePolicy(b *strings.Builder, c Config, from settings.Origins, q asked, x authz.Explanation) {
	defaults := map[string]string{"anti_csrf": "anti_csrf", "on_unauthorised": "responses.on_unauthorised", "login_url": "login_url"}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, s := range everyKey(x.Policy) {
		position := "default"
		if key := defaults[s.Key]; key != "" && from[key] != (settings.Origin{}) {
			position = fmt.Sprintf("default, from %s in %s", key, settings.QuoteUnlessPlain(from[key].String()))
		}
		if x.Entry >= 0 {
			if value, ok := c.Check.Routes[x.Entry].Policy[s.Key]; ok && value == s.Value {
				position = entryPosition(from, x.Entry)
				if at := from[fmt.Sprintf("routes[%d].policy.%s", x.Entry, s.Key)]; at.Env == "" {
					position = settings.QuoteUnlessPlain(at.String())
				}
			} else if _, said := q.extensions[s.Key]; ok && !said { // Only optional gives way unasked.
				position = "the context_extensions ask for a session, so optional in " + entryPosition(from, x.Entry) + " does not count"
			}
		}
		if _, ok := q.extensions[s.Key]; ok {
			position = "context_extensions (--extension)"
		}
		_, _ = fmt.Fprintf(t, "  %s\t%s\t%s\n", s.Key, settings.QuoteUnlessPlain(s.Value), position)
	}
	_ = t.Flush()
}

// writePolicyKeys says what each key of a policy is for.
func writePolicyKeys(b *strings.Builder) {
	b.WriteString("\nThe keys of a policy:\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, key := range authz.PolicyKeys() {
		_, _ = fmt.Fprintf(t, "  %s\t%s\n", key, authz.AboutPolicyKey(key))
	}
	_ = t.Flush()
}

// unset is the value of a key that a policy does not have.
const unset = "none"

// everyKey are the settings of a policy, and the keys that it does not have.
func everyKey(p authz.Policy) []authz.PolicySetting {
	all := p.Settings()
	for _, key := range authz.PolicyKeys() {
		prefix, _, _ := strings.Cut(key, "<") // require.<claim> stands for several
		if !slices.ContainsFunc(all, func(s authz.PolicySetting) bool {
			return s.Key == key || prefix != key && strings.HasPrefix(s.Key, prefix)
		}) {
			all = append(all, authz.PolicySetting{Key: key, Value: unset})
		}
	}
	return all
}

// consequences says what the policy means, and what passes in spite of it.
func consequences(c Config, q asked, x authz.Explanation) []string {
	if x.Denial != nil {
		status := http.StatusForbidden
		if x.Denial.Outcome == sessions.Unavailable {
			status = http.StatusServiceUnavailable
		}
		return []string{fmt.Sprintf("Denied with %d to every client: %s (rule %q in the log).", status, x.Denial.Message, x.Denial.Rule)}
	}
	settings := make(map[string]string)
	for _, s := range x.Policy.Settings() {
		settings[s.Key] = s.Value
	}
	var lines []string
	switch x.Passes {
	case authz.PassesRefresh, authz.PassesSignout, authz.PassesBind, authz.PassesBound:
		return []string{fmt.Sprintf("It is the %s (POST): it passes whatever the policy, without identity, to where sessiongate answers it.", x.Passes)}
	case authz.PassesLogin:
		lines = append(lines, "It is the login page: it passes whatever the outcome, without identity unless the policy allows it.")
	case "":
		answer := map[string]string{"redirect": "is sent to " + settings["login_url"], "auto": "is sent to " + settings["login_url"] + "; a script gets 401", "401": "gets 401", "403": "gets 403", "440": fmt.Sprintf("gets %d", c.HTTP.SessionExpiredStatus)}[settings["on_unauthorised"]]
		if settings["session"] == "optional" {
			answer = "passes, without identity"
		}
		lines = append(lines, "A client without a session "+answer+".")
	}
	if settings["bound"] == "true" && x.Passes == "" {
		line := "A session that its browser has not bound to the device gets 403."
		if !c.Engine.Binding.Offer {
			line += " binding.mode is off: no new session will be bound."
		}
		lines = append(lines, line)
	}
	if cookies := c.HTTP.Cookies; q.path == cookies.AuthPath || cookies.IsBelowAuth(q.path) {
		binding := c.HTTP.Binding.At(cookies)
		lines = append(lines, fmt.Sprintf("It is under %s, which Envoy should route to sessiongate without a check; POST %s, %s, %s and %s would pass one.",
			cookies.AuthPath, c.HTTP.RefreshPath, c.HTTP.SignoutPath, binding.BindPath, binding.BoundPath))
	}
	if q.method == "OPTIONS" {
		lines = append(lines, "A CORS preflight passes whatever the policy, without identity.")
	}
	return lines
}
