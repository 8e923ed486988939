package sessionclient

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"
)

// Session is a session as its owner sees it.
type Session struct {
	Handle            string          `json:"handle"` // names it, and is no secret
	UserID            string          `json:"user_id"`
	Claims            json.RawMessage `json:"claims"` // an object
	Data              json.RawMessage `json:"data"`   // an object
	CreatedAt         time.Time       `json:"created_at"`
	LastSeen          time.Time       `json:"last_seen"`  // late by at most the life of an access token
	ExpiresAt         time.Time       `json:"expires_at"` // moves with use
	AbsoluteExpiresAt time.Time       `json:"absolute_expires_at"`
	Device            Device          `json:"device"`
	BoundAt           time.Time       `json:"bound_at"` // zero: to no device
}

// Device is what the user may recognise a session's device by. Fields that are not kept are empty.
type Device struct {
	Address string `json:"address"` // a network, such as 192.0.2.0/24, or an address
	// UserAgent is what the client calls itself. Anyone may have chosen it: escape it where you show it.
	UserAgent string `json:"user_agent"`
}

// Verified is a session as an access token tells of it.
type Verified struct {
	Handle        string          `json:"handle"`
	UserID        string          `json:"user_id"`
	Claims        json.RawMessage `json:"claims"`    // an object
	AuthTime      time.Time       `json:"auth_time"` // the sign-in
	AccessExpires time.Time       `json:"access_token_expires_at"`
}

// Tokens are those of a session. A caller needs none of them: the Answer carries them to the client.
type Tokens struct {
	Access        Token     `json:"access_token"`
	AccessExpires time.Time `json:"access_token_expires_at"`
	Refresh       Token     `json:"refresh_token"` // empty where the client keeps the one that it has
	AntiCSRF      Token     `json:"anti_csrf"`     // cookie transport only
}

// Answer is what goes to the client as it is: Set-Cookie lines and headers. They carry tokens, and
// so it prints as [redacted]. The zero value has none.
type Answer struct {
	setCookie, sdkCookies []string
	headers               map[string]string
}

// CopyTo adds the cookies and sets the headers of a response. Call it before the response's status
// and body are written.
func (a Answer) CopyTo(w http.ResponseWriter) {
	for _, line := range a.setCookie {
		w.Header().Add("Set-Cookie", line)
	}
	for name, value := range a.headers {
		w.Header().Set(name, value)
	}
}

// CopySDKTo adds further cookies, for a page that has a SuperTokens web SDK: those by which it sees
// the session after a response that no script reads, as that to a plain form.
func (a Answer) CopySDKTo(w http.ResponseWriter) {
	for _, line := range a.sdkCookies {
		w.Header().Add("Set-Cookie", line)
	}
}

// SetCookie is the Set-Cookie lines, for a response that is no [http.ResponseWriter]. They have
// tokens in them.
func (a Answer) SetCookie() []string { return slices.Clone(a.setCookie) }

// Header is the headers, for a response that is no [http.ResponseWriter]. They have tokens in them.
func (a Answer) Header() http.Header {
	h := http.Header{}
	for name, value := range a.headers {
		h.Set(name, value)
	}
	return h
}

// Created is a new session.
type Created struct {
	Session Session
	Tokens  Tokens
	Answer  Answer
}

// Refreshed is a session that was refreshed.
type Refreshed struct {
	Session Session
	Tokens  Tokens
	Answer  Answer
}

// Updated is a session that was changed. Without an access token in the [Change], the tokens and
// the Answer are empty.
type Updated struct {
	Session Session
	Tokens  Tokens
	Answer  Answer
}

// Ended is how many sessions have ended by a call, and what makes the client forget its own.
type Ended struct {
	Sessions int
	Answer   Answer
}

// What follows is the answers as the API writes them. absent says what a success lacks: an answer
// of another program, such as a proxy's page with status 200, is none.

type forClient struct {
	SetCookie  []string          `json:"set_cookie"`
	SDKCookies []string          `json:"sdk_cookies"`
	Headers    map[string]string `json:"headers"`
}

func (f forClient) answer() Answer { return Answer{f.SetCookie, f.SDKCookies, f.Headers} }

var errNoAnswer = errors.New("the answer is not one of sessiongate")

func (s Session) absent() error {
	if s.Handle == "" {
		return errNoAnswer
	}
	return nil
}

type createdAnswer struct {
	forClient

	Session Session `json:"session"`
	Tokens  Tokens  `json:"tokens"`
}

func (a *createdAnswer) absent() error {
	if a.Tokens.Access == "" || a.Tokens.Refresh == "" {
		return errNoAnswer
	}
	return a.Session.absent()
}

func (a *createdAnswer) result() *Created {
	return &Created{a.Session, a.Tokens, a.answer()}
}

type verifiedAnswer struct {
	Outcome string   `json:"outcome"`
	Session Verified `json:"session"`
}

// absent also stops an answer with status 200 that does not allow.
func (a *verifiedAnswer) absent() error {
	if a.Outcome != "ALLOW" || a.Session.Handle == "" || a.Session.UserID == "" {
		return errNoAnswer
	}
	return nil
}

type refreshedAnswer struct {
	forClient

	Session Session `json:"session"`
	Tokens  Tokens  `json:"tokens"`
}

func (a *refreshedAnswer) absent() error {
	if a.Tokens.Access == "" {
		return errNoAnswer
	}
	return a.Session.absent()
}

func (a *refreshedAnswer) result() *Refreshed {
	return &Refreshed{a.Session, a.Tokens, a.answer()}
}

type gotAnswer struct {
	Session Session `json:"session"`
}

func (a *gotAnswer) absent() error { return a.Session.absent() }

type listedAnswer struct {
	Sessions []Session `json:"sessions"`
	More     bool      `json:"more"`
}

func (a *listedAnswer) absent() error {
	if a.Sessions == nil {
		return errNoAnswer
	}
	return nil
}

type updatedAnswer struct {
	forClient
	Tokens

	Session Session `json:"session"`
}

func (a *updatedAnswer) absent() error { return a.Session.absent() }

func (a *updatedAnswer) result() *Updated {
	return &Updated{a.Session, a.Tokens, a.answer()}
}

type endedAnswer[T bool | int] struct {
	forClient

	Ended T `json:"ended"`
}

// absent: without its cookies the client would keep what names the session.
func (a *endedAnswer[T]) absent() error {
	if a.Headers == nil {
		return errNoAnswer
	}
	return nil
}
