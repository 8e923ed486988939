package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

type doctorCmd struct {
	Envoy string `help:"Envoy's bootstrap file or config dump (YAML or JSON), - for standard input, or the address of its admin interface, such as http://127.0.0.1:9901 or unix:/run/envoy/admin.sock." placeholder:"FILE|URL"`

	URL string `help:"The address that browsers use, to probe it from outside: https://HOST." name:"url" placeholder:"URL"`

	API string `help:"Address of the sessions API, with --url: the doctor makes a session, and ends it." name:"api" placeholder:"URL"`

	APIKeyFile string `help:"File with the API key of a caller that may create and revoke; without it, SESSIONS_API_KEY." name:"api-key-file" placeholder:"FILE"`

	Page string `default:"/" help:"A page that requires a session and answers GET with 200 (${default})." placeholder:"PATH"`

	UserPage string `help:"A page that requires a session and shows the user id that it got, for D4." placeholder:"PATH"`

	OpenPath string `help:"A path without a check below which your app answers, such as /static/, for D6." placeholder:"PATH"`

	Origin string `help:"The origin of a frontend that CORS allows, for D9 and D10." placeholder:"ORIGIN"`

	Cluster string `help:"Envoy's cluster of the check, where several services are asked and none is named sessiongate." placeholder:"NAME"`

	Accept []string `help:"A probe whose findings you know, such as D5; may be repeated. They are shown and do not count." placeholder:"PROBE"`

	JSON bool `help:"Print the report as JSON."`
}

// Help implements [kong.HelpProvider].
func (doctorCmd) Help() string {
	return "Exit status: 0 where nothing was found; 1 where there are findings; 2 where it could not look at everything. " +
		"docs/doctor.md lists the probes. Of the configuration it takes paths and responses.session_expired_status."
}

// foundFaults is the error, and the exit status, of a configuration with faults.
type foundFaults int

// Error implements [error].
func (n foundFaults) Error() string {
	if n == 1 {
		return "1 finding (exit status 1)"
	}
	return fmt.Sprintf("%d findings (exit status 1)", int(n))
}

// ExitCode implements [kong.ExitCoder].
func (foundFaults) ExitCode() int { return 1 }

// notLooked is the error, and the exit status, of a look that saw nothing, or not all: it must not
// be taken for clean.
type notLooked struct{ cause error }

// Error implements [error].
func (e *notLooked) Error() string { return e.cause.Error() + " (exit status 2)" }

// Unwrap gives the cause.
func (e *notLooked) Unwrap() error { return e.cause }

// ExitCode implements [kong.ExitCoder].
func (*notLooked) ExitCode() int { return 2 }

var (
	errNoSource   = errors.New("give --envoy, or --url with --api: there is nothing to look at")
	errNoAPI      = errors.New("--url needs --api, and the key of a caller: --api-key-file, or SESSIONS_API_KEY")
	errIncomplete = errors.New("not everything could be looked at")
	errNoAddress  = errors.New("it is no address: want http://HOST:PORT, and a password in it escaped")
)

// Run implements the command.
func (k doctorCmd) Run(f *flags, p process) error {
	report, err := k.look(f, p)
	if err != nil {
		return &notLooked{err}
	}
	report.Accept(k.Accept...)
	write := writeReport
	if k.JSON {
		write = writeReportJSON
	}
	if err := write(p.stdout, shown(k.Envoy), report); err != nil {
		return &notLooked{fmt.Errorf("writing the report: %w", err)}
	}
	count := 0
	for _, finding := range report.Findings {
		if !finding.Accepted {
			count++
		}
	}
	switch {
	case count > 0:
		return foundFaults(count)
	case report.Incomplete():
		return &notLooked{errIncomplete}
	default:
		return nil
	}
}

func (k doctorCmd) look(f *flags, p process) (doctor.Report, error) {
	if k.Envoy == "" && k.URL == "" {
		return doctor.Report{}, errNoSource
	}
	for _, id := range k.Accept {
		if !slices.ContainsFunc(doctor.Probes(), func(p doctor.Probe) bool { return p.ID == id }) {
			return doctor.Report{}, fmt.Errorf("--accept: found %s; allowed: a probe, D1 to D20", settings.Quoted(id))
		}
	}
	config, _, err := load(f.ConfigFile, p.environ)
	if err != nil {
		return doctor.Report{}, err
	}
	report := doctor.Report{Findings: []doctor.Finding{}, Exceptions: []doctor.Exception{}, Skipped: []doctor.Skip{}}
	if k.Envoy != "" {
		text, err := readEnvoy(p, k.Envoy)
		if err != nil {
			return doctor.Report{}, err
		}
		if report, err = doctor.Examine(text, doctor.Options{Cluster: k.Cluster, AuthPath: config.HTTP.Cookies.AuthPath, SessionExpired: config.HTTP.SessionExpiredStatus}); err != nil {
			return doctor.Report{}, err
		}
	}
	if k.URL == "" {
		return report, nil
	}
	outside, err := k.outside(p, config)
	if err != nil {
		return doctor.Report{}, err
	}
	seen, err := doctor.Visit(p.ctx, outside)
	report.Findings = append(report.Findings, seen.Findings...)
	report.Skipped = append(report.Skipped, seen.Skipped...)
	return report, err
}

// outside is where to probe, and what sessiongate's own configuration says of it.
func (k doctorCmd) outside(p process, c Config) (doctor.Outside, error) {
	key := variable(p.environ, apiKeyVariable)
	if k.APIKeyFile != "" {
		text, err := readSecretFile(k.APIKeyFile)
		if err != nil {
			return doctor.Outside{}, fmt.Errorf("--api-key-file: %w", err)
		}
		key = text
	}
	if k.API == "" || key == "" {
		return doctor.Outside{}, errNoAPI
	}
	return doctor.Outside{
		URL: strings.TrimSuffix(k.URL, "/"), API: k.API, Key: key, Page: k.Page, UserPage: k.UserPage, OpenPath: k.OpenPath, Origin: k.Origin,
		AuthPath: c.HTTP.Cookies.AuthPath, RefreshPath: c.HTTP.RefreshPath, SignoutPath: c.HTTP.SignoutPath,
		EchoPath: sessionhttp.DoctorPath(c.HTTP.Cookies.AuthPath), Claim: sessionhttp.DoctorClaim, Expired: c.HTTP.SessionExpiredStatus,
	}, nil
}

const (
	// envoyTimeout is what an admin interface gets to write a large dump.
	envoyTimeout = time.Minute
	// envoyMax is more than doctor takes, so that it says which limit was passed.
	envoyMax = 65 << 20
)

// readEnvoy reads a configuration of Envoy from where it is.
func readEnvoy(p process, source string) ([]byte, error) {
	reader, closer, err := openEnvoy(p, source)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(reader, envoyMax))
	if err := errors.Join(err, closer.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", shown(source), err)
	}
	return text, nil
}

// shown is a source without the password that a URL may have: reports are stored, and pasted.
func shown(source string) string {
	if address, err := url.Parse(source); err == nil && isAddress(source) {
		return address.Redacted()
	}
	return source
}

func isAddress(source string) bool {
	return strings.Contains(source, "://") && !strings.HasPrefix(source, "unix:")
}

func openEnvoy(p process, source string) (io.Reader, io.Closer, error) {
	if source == "-" {
		return p.stdin, io.NopCloser(nil), nil
	}
	// Without a proxy: an admin interface is next to us, whatever HTTP_PROXY says.
	transport := &http.Transport{DisableKeepAlives: true}
	if socket, ok := strings.CutPrefix(source, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
		source = "http://localhost"
	}
	if !isAddress(source) {
		file, err := os.Open(source) //nolint:gosec // the user's own file is what the command is for
		return file, file, err
	}
	address, err := url.Parse(source)
	if err != nil {
		return nil, nil, errNoAddress // the cause has the address in it, and that may have a password
	}
	if address.Path == "" || address.Path == "/" {
		address.Path, address.RawQuery = "/config_dump", "include_eds"
	}
	ctx, cancel := context.WithTimeout(p.ctx, envoyTimeout)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		cancel()
		return nil, nil, errNoAddress
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("asking Envoy for its configuration: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		cancel()
		return nil, nil, errors.Join(fmt.Errorf("asking Envoy for its configuration: %s", response.Status), response.Body.Close())
	}
	return response.Body, closing{response.Body, cancel}, nil
}

// closing closes an answer, and then ends the request.
type closing struct {
	body   io.Closer
	cancel context.CancelFunc
}

// Close implements [io.Closer].
func (c closing) Close() error {
	defer c.cancel()
	return c.body.Close()
}

// writeReport prints a report for people.
func writeReport(w io.Writer, source string, r doctor.Report) error {
	var b strings.Builder
	for _, f := range r.Findings {
		place, accepted := f.In, ""
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d, %s", source, f.Line, f.In)
		}
		if f.Accepted {
			accepted = " (accepted)"
		}
		fmt.Fprintf(&b, "%s%s  %s\n  at    %s\n", f.Probe, accepted, f.Fault, place)
		if f.Path != "" {
			fmt.Fprintf(&b, "        %s\n", f.Path)
		}
		fmt.Fprintf(&b, "  why   %s\n", f.Why)
		if f.Cure != "" {
			fmt.Fprintf(&b, "  cure  %s:\n\n%s\n", f.Where, indented(f.Cure))
		}
		b.WriteString("\n")
	}
	if len(r.Exceptions) > 0 {
		b.WriteString("These routes are not checked. Are they meant to be open to all?\n")
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, x := range r.Exceptions {
			_, _ = fmt.Fprintf(t, "  %s\t%s\tto %s\tline %d\n", x.Listener, x.Route, x.Cluster, x.Line)
		}
		_ = t.Flush()
		b.WriteString("\n")
	}
	if len(r.Skipped) > 0 {
		b.WriteString("Not looked at:\n")
		for _, s := range r.Skipped {
			fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(s.Probe+" "+s.Why))
		}
		b.WriteString("\n")
	}
	if len(r.Findings) == 0 {
		b.WriteString("Nothing was found.\n")
	}
	_, err := io.WriteString(w, printable(b.String()))
	return err
}

func indented(lines string) string {
	return "        " + strings.ReplaceAll(lines, "\n", "\n        ") + "\n"
}

// printable takes out what would steer a terminal: names in a dump are chosen by others.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// writeReportJSON prints a report for programs.
func writeReportJSON(w io.Writer, source string, r doctor.Report) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		doctor.Report

		Source string `json:"source"`
	}{r, source})
}
