package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// What only a demo does: it breaks things on purpose, for a signed-in user, and in that
// user's own session alone.

// stage is where the demo is played.
type stage struct {
	// publicURL is where clients reach Envoy; publicURLFile is a file with it,
	// which may come later. Without either there is no thief.
	publicURL, publicURLFile string
	// attempt is sessiongate's refresh_attempt_max, 0 if it is not known.
	attempt time.Duration
}

// public is where Envoy is, "" if that is not known.
func (s stage) public() string {
	address := s.publicURL
	if s.publicURLFile != "" {
		text, err := os.ReadFile(s.publicURLFile)
		if err != nil {
			return ""
		}
		address = strings.TrimSpace(string(text))
	}
	if !isBaseURL(address) {
		return ""
	}
	return address
}

func isBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

const (
	// forgotten is said where an action needs a sign-in that is not remembered.
	forgotten = "This app was restarted since you signed in, and has forgotten your sign-in. Please sign in again."
	// otherSession is said to a page whose browser has another session by now.
	otherSession = "This browser is now signed in as another user."
)

// shown is the remembered sign-in of the session that the page shows, nil where it has
// answered instead. The page names it: a page that was opened before another user
// signed in to the same browser must not break that user's session.
func (a *app) shown(w http.ResponseWriter, r *http.Request) *signIn {
	var page struct {
		Handle string `json:"handle"`
	}
	if err := json.NewDecoder(r.Body).Decode(&page); err != nil || page.Handle != handleOf(r) {
		a.json(w, http.StatusConflict, map[string]string{"message": otherSession, "handle": handleOf(r)})
		return nil
	}
	s, ok := a.signIns.get(page.Handle)
	if !ok {
		a.json(w, http.StatusConflict, map[string]string{"message": forgotten})
		return nil
	}
	return s
}

// passed answers a script whose request the check let pass, with what it used.
func (a *app) passed(w http.ResponseWriter, r *http.Request, status int, answer map[string]any) {
	answer["handle"] = handleOf(r)
	if l := chainOf(r); l != nil {
		answer["chain"] = l
	}
	a.json(w, status, answer)
}

// expire replaces the access token by a text that is none. The app cannot make one
// that expired; to the check both are the same (V1).
func (a *app) expire(w http.ResponseWriter, r *http.Request) {
	s := a.shown(w, r)
	if s == nil {
		return
	}
	spoiled := *s.access //nolint:gosec // its attributes are those that sessiongate chose
	spoiled.Value = "spoiled-by-the-demo"
	http.SetCookie(w, &spoiled)
	a.passed(w, r, http.StatusOK, map[string]any{})
}

// again gives a ticket for the cookies of the signed-in user's sign-in, once more. The
// page takes them at the sign-in's address after a refresh, whose answer is then as good
// as lost. The app could not be asked for them directly: that would be a use of what
// the refresh brought.
func (a *app) again(w http.ResponseWriter, r *http.Request) {
	s := a.shown(w, r)
	if s == nil {
		return
	}
	ticket := rand.Text()
	a.tickets.add(ticket, s)
	a.passed(w, r, http.StatusCreated, map[string]any{"again": ticket})
}

// takeBack answers a sign-in with such a ticket. It is good once.
func (a *app) takeBack(w http.ResponseWriter, ticket string) {
	s, ok := a.tickets.take(ticket)
	if !ok {
		a.json(w, http.StatusForbidden, map[string]string{"message": "That ticket is not good."})
		return
	}
	http.SetCookie(w, s.access)
	http.SetCookie(w, s.refresh)
	a.json(w, http.StatusOK, map[string]string{"status": "OK"})
}

// openThief gives the signed-in user a thief of the user's own session. Its name is the
// right to command it: when the thief is caught the owner is out, too, and the page
// shows both.
func (a *app) openThief(w http.ResponseWriter, r *http.Request) {
	base := a.stage.public()
	if base == "" {
		http.NotFound(w, r)
		return
	}
	s := a.shown(w, r)
	if s == nil {
		return
	}
	name := rand.Text()
	a.thieves.add(name, newThief(base, r.Host, s.refresh))
	a.passed(w, r, http.StatusCreated, map[string]any{"thief": name})
}

// command has a thief do something.
func (a *app) command(do func(*thief, context.Context) (heist, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Thief string `json:"thief"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, "that names no thief", http.StatusBadRequest)
			return
		}
		t, ok := a.thieves.get(body.Thief)
		if !ok {
			http.NotFound(w, r)
			return
		}
		result, err := do(t, r.Context())
		if err != nil {
			a.log.ErrorContext(r.Context(), "playing the thief", "error", err)
			http.Error(w, "the thief got no answer", http.StatusBadGateway)
			return
		}
		a.json(w, http.StatusOK, result)
	}
}
