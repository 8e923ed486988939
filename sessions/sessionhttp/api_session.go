package sessionhttp

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// session is a session as its owner sees it, without its token chain.
type session struct {
	Handle            string         `json:"handle"`
	UserID            string         `json:"user_id"`
	Claims            jsontext.Value `json:"claims"`
	Data              jsontext.Value `json:"data"`
	CreatedAt         time.Time      `json:"created_at"`
	LastSeen          time.Time      `json:"last_seen"`
	ExpiresAt         time.Time      `json:"expires_at"`
	AbsoluteExpiresAt time.Time      `json:"absolute_expires_at"`
	Device            *device        `json:"device,omitempty"`   // nil: nothing is kept of it
	BoundAt           *time.Time     `json:"bound_at,omitempty"` // nil: to no device
}

// device is what is kept of a session's device.
type device struct {
	Address   string `json:"address,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

func newDevice(d sessions.Device) *device {
	if d == (sessions.Device{}) {
		return nil
	}
	return &device{d.AddressText(), d.UserAgent}
}

func newSession(r sessions.Record) session {
	return session{
		Handle: r.Handle.String(), UserID: r.UserID, Claims: r.Claims, Data: r.Data,
		CreatedAt: r.CreatedAt.UTC(), LastSeen: r.LastSeen().UTC(), ExpiresAt: r.ExpiresAt.UTC(), AbsoluteExpiresAt: r.AbsoluteExpiresAt.UTC(),
		Device: newDevice(r.Device), BoundAt: boundAt(r.Row),
	}
}

func boundAt(r sessions.Row) *time.Time {
	if !r.Bound() {
		return nil
	}
	at := r.BoundAt.UTC()
	return &at
}

type tokens struct {
	Access        string    `json:"access_token"`
	AccessExpires time.Time `json:"access_token_expires_at"`
	Refresh       string    `json:"refresh_token,omitempty"`
	AntiCSRF      string    `json:"anti_csrf,omitempty"` // cookie transport only
}

func newTokens(i sessions.Issued) tokens {
	t := tokens{Access: i.Access.Reveal(), AccessExpires: i.AccessExpires.UTC(), Refresh: i.Refresh.Reveal()}
	if i.Transport == sessions.TransportCookie {
		t.AntiCSRF = i.AntiCSRF.Reveal()
	}
	return t
}

func headerObject(headers []browser.Header) map[string]string {
	m := make(map[string]string, len(headers))
	for _, h := range headers {
		m[h.Name] = h.Value
	}
	return m
}
