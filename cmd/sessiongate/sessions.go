package main

import (
	"fmt"
	"time"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
)

type sessionsCmd struct {
	End sessionsEndCmd `cmd:"" help:"End sessions: one, those of a user, or all that were created before a time (exactly one of the three flags). Of use after a restore of the database, which brings ended sessions back."`
}

type sessionsEndCmd struct {
	Handle        string  `help:"End the session of this handle."                                                             placeholder:"HANDLE"  required:"" xor:"which"`
	User          string  `help:"End all sessions of this user."                                                              placeholder:"USER_ID" required:"" xor:"which"`
	CreatedBefore instant `help:"End all sessions created before this time (RFC 3339, such as 2026-01-31T13:00:00Z, or now)." placeholder:"TIME"    required:"" xor:"which"`

	Actor string `default:"operator" help:"Name of the actor in the audit events." placeholder:"NAME"`
}

// Run implements the command. It needs the database and no key.
func (k sessionsEndCmd) Run(f *flags, p process) error {
	if !isAPIName(k.Actor) {
		return fmt.Errorf("--actor: found %s; allowed: 1 to 64 of a-z, 0-9, - and _", settings.Quoted(k.Actor))
	}
	config, store, err := openDatabase(f, p)
	if err != nil {
		return err
	}
	defer store.Close()

	ending := sessions.Ending{Reason: sessions.ReasonRevoked, Actor: k.Actor}
	ended := 0
	switch {
	case k.Handle != "":
		handle, err := sessions.ParseHandle(k.Handle)
		if err != nil {
			return fmt.Errorf("--handle: found %s; allowed: 22 characters of base64url", settings.Quoted(k.Handle))
		}
		done, err := store.End(p.ctx, handle, ending)
		if err != nil {
			return err
		}
		if done {
			ended = 1
		}
	case k.User != "":
		handles, err := store.EndUser(p.ctx, k.User, ending)
		if err != nil {
			return err
		}
		ended = len(handles)
	default:
		if ended, err = store.EndCreatedBefore(p.ctx, time.Time(k.CreatedBefore), ending); err != nil {
			return fmt.Errorf("after %d sessions were ended: %w", ended, err)
		}
	}
	noun := "sessions"
	if ended == 1 {
		noun = "session"
	}
	_, err = fmt.Fprintf(p.stdout, "ended %d %s; every replica that hears the feed denies within %s\n", ended, noun, settings.FormatDuration(config.Engine.FeedBound))
	return err
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
