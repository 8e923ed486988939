package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

type sessionsCmd struct {
	List sessionsListCmd `cmd:"" help:"List the sessions of a user."`
	Show sessionsShowCmd `cmd:"" help:"Show one session."`
	End  sessionsEndCmd  `cmd:"" help:"End sessions: one, those of a user, or all that were created before a time (exactly one of the three flags). Of use after a restore of the database, which brings ended sessions back."`
}

// listMax bounds what one list shows.
const listMax = 10_000

type sessionsListCmd struct {
	User string `help:"Whose sessions." placeholder:"USER_ID" required:""`
}

// Run implements the command. It needs the database and no key.
func (k sessionsListCmd) Run(f *flags, p process) error {
	_, store, err := openDatabase(f, p)
	if err != nil {
		return err
	}
	defer store.Close()
	all, err := store.ListUser(p.ctx, k.User, listMax)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		_, err := fmt.Fprintf(p.stdout, "%s has no session\n", settings.QuoteUnlessPlain(k.User))
		return err
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "HANDLE\tCREATED\tLAST SEEN\tEXPIRES\tADDRESS\tUSER AGENT")
	for _, s := range all {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Handle, inUTC(s.CreatedAt), inUTC(s.LastSeen()), inUTC(s.ExpiresAt),
			orDash(s.Device.AddressText()), orDash(s.Device.UserAgent))
	}
	return t.Flush()
}

// orDash is a text as a terminal shows it, or a dash where nothing is kept.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return settings.QuoteUnlessPlain(text)
}

func inUTC(t time.Time) string { return t.UTC().Format(time.RFC3339) }

type sessionsShowCmd struct {
	Handle string `arg:"" help:"The session's handle: x-session-handle, or the claim sid."`
}

// Run implements the command.
func (k sessionsShowCmd) Run(f *flags, p process) error {
	handle, err := parseHandle("HANDLE", k.Handle)
	if err != nil {
		return err
	}
	_, store, err := openDatabase(f, p)
	if err != nil {
		return err
	}
	defer store.Close()
	s, now, err := store.Get(p.ctx, handle)
	if errors.Is(err, sessions.ErrNotFound) {
		return fmt.Errorf("there is no session %s: it has ended, or expired and was swept", k.Handle)
	}
	if err != nil {
		return err
	}
	expires := inUTC(s.ExpiresAt)
	if !now.Before(s.ExpiresAt) {
		expires += " (expired)"
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"handle", s.Handle.String()},
		{"user", settings.QuoteUnlessPlain(s.UserID)},
		{"created", inUTC(s.CreatedAt)},
		{"last seen", inUTC(s.LastSeen())},
		{"expires", expires},
		{"expires at the latest", inUTC(s.AbsoluteExpiresAt)},
		{"address", orDash(s.Device.AddressText())},
		{"user agent", orDash(s.Device.UserAgent)},
		{"device key proved", provedAt(s.Row)},
		{"claims", plainJSON(s.Claims)},
		{"data", plainJSON(s.Data)},
	} {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
	}
	return t.Flush()
}

// plainJSON is JSON on one line that a terminal shows as it is.
func plainJSON(text []byte) string {
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return "{}"
	}
	return settings.QuoteUnlessPlain(line.String())
}

type sessionsEndCmd struct {
	Handle        string  `help:"End the session of this handle."                                                             placeholder:"HANDLE"  required:"" xor:"which"`
	User          string  `help:"End all sessions of this user."                                                              placeholder:"USER_ID" required:"" xor:"which"`
	CreatedBefore instant `help:"End all sessions created before this time (RFC 3339, such as 2026-01-31T13:00:00Z, or now)." placeholder:"TIME"    required:"" xor:"which"`

	DryRun bool   `help:"Say how many would end, and end none."`
	Yes    bool   `help:"Do not ask before more than one session ends."`
	Actor  string `default:"operator"                                   help:"Name of the actor in the audit events." placeholder:"NAME"`
}

// errNotConfirmed is where a person, or a script without --yes, does not confirm.
var errNotConfirmed = errors.New("no session was ended")

// Run implements the command. It needs the database and no key.
func (k sessionsEndCmd) Run(f *flags, p process) error {
	if !isAPIName(k.Actor) {
		return fmt.Errorf("--actor: found %s; allowed: 1 to 64 of a-z, 0-9, - and _", settings.Quoted(k.Actor))
	}
	var handle sessions.Handle
	if k.Handle != "" {
		var err error
		if handle, err = parseHandle("--handle", k.Handle); err != nil {
			return err
		}
	}
	config, store, err := openDatabase(f, p)
	if err != nil {
		return err
	}
	defer store.Close()

	if k.DryRun || !k.Yes && k.Handle == "" {
		n, err := k.count(p, store, handle)
		if err != nil {
			return err
		}
		if k.DryRun {
			_, err = fmt.Fprintf(p.stdout, "would end %s\n", count(n))
			return err
		}
		if n > 1 {
			if err := confirm(p, "End "+count(n)+"?"); err != nil {
				return err
			}
		}
	}
	ended, err := k.end(p, store, handle)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "ended %s; every replica that hears the feed denies within %s\n", count(ended), settings.FormatDuration(config.Engine.FeedBound))
	return err
}

// count is how many sessions would end now.
func (k sessionsEndCmd) count(p process, store *postgres.Store, handle sessions.Handle) (int, error) {
	switch {
	case k.Handle != "":
		_, _, err := store.Get(p.ctx, handle)
		if errors.Is(err, sessions.ErrNotFound) {
			return 0, nil
		}
		return 1, err
	case k.User != "":
		all, err := store.ListUser(p.ctx, k.User, listMax)
		return len(all), err
	default:
		return store.CountCreatedBefore(p.ctx, time.Time(k.CreatedBefore))
	}
}

func (k sessionsEndCmd) end(p process, store *postgres.Store, handle sessions.Handle) (int, error) {
	ending := sessions.Ending{Reason: sessions.ReasonRevoked, Actor: k.Actor}
	switch {
	case k.Handle != "":
		done, err := store.End(p.ctx, handle, ending)
		if done {
			return 1, err
		}
		return 0, err
	case k.User != "":
		handles, err := store.EndUser(p.ctx, k.User, ending)
		return len(handles), err
	default:
		ended, err := store.EndCreatedBefore(p.ctx, time.Time(k.CreatedBefore), ending)
		if err != nil {
			return 0, fmt.Errorf("after %s ended: %w", count(ended), err)
		}
		return ended, nil
	}
}

func count(n int) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}

// confirm asks the person at the terminal, or fails where there is none.
func confirm(p process, question string) error {
	if _, err := fmt.Fprintf(p.stderr, "%s [y/N] ", question); err != nil {
		return err
	}
	answer, err := bufio.NewReader(p.stdin).ReadString('\n')
	switch {
	case strings.EqualFold(strings.TrimSpace(answer), "y"), strings.EqualFold(strings.TrimSpace(answer), "yes"):
		return nil
	case errors.Is(err, io.EOF) && answer == "":
		return fmt.Errorf("%w: there was no answer; give --yes where no person can", errNotConfirmed)
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %w", errNotConfirmed, err)
	default:
		return errNotConfirmed
	}
}

func parseHandle(where, text string) (sessions.Handle, error) {
	handle, err := sessions.ParseHandle(text)
	if err != nil {
		return handle, fmt.Errorf("%s: found %s; allowed: 22 characters of base64url", where, settings.Quoted(text))
	}
	return handle, nil
}

// instant is a point in time, or now: that of the store, for this machine's clock may
// be late.
type instant time.Time

// UnmarshalText implements [encoding.TextUnmarshaler].
func (i *instant) UnmarshalText(text []byte) error {
	if string(text) == "now" {
		*i = instant(time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC))
		return nil
	}
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("found %s; allowed: a time with its zone (RFC 3339), such as 2026-01-31T13:00:00Z, or now", settings.Quoted(string(text)))
	}
	*i = instant(t)
	return nil
}

// provedAt is the last proof of the device's key that was written.
func provedAt(r sessions.Row) string {
	if !r.Bound() {
		return orDash("")
	}
	return inUTC(r.BoundAt)
}
