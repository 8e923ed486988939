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

// What only a demo does: it breaks things on purpose, for whoever is signed in, and
// to his own session alone.

// stage is where the demo is played.
type stage struct {
	// publicURL is where clients reach Envoy; publicURLFile is a file with it,
	// which may come later. Without either there is no thief.
	publicURL, publicURLFile string
	// attempt is sessiongate's refresh_attempt_max, 0 if nobody told.
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

// forgotten is said where an action needs a sign-in that is not remembered.
const forgotten = "This app was restarted since you signed in, and has forgotten your sign-in. Please sign in again."

// expire replaces the access token by a text that is none. The app cannot make one
// that expired; to the check both are the same (V1).
func (a *app) expire(w http.ResponseWriter, r *http.Request) {
	s, ok := a.signIns.get(handleOf(r))
	if !ok {
		a.json(w, http.StatusConflict, map[string]string{"message": forgotten})
		return
	}
	spoiled := *s.access //nolint:gosec // its attributes are those that sessiongate chose
	spoiled.Value = "spoiled-by-the-demo"
	http.SetCookie(w, &spoiled)
	a.json(w, http.StatusOK, map[string]string{"status": "OK"})
}

// again gives a ticket for the cookies of the signed-in user's sign-in, once more. The
// page takes them at the sign-in's address after a refresh, whose answer is then as good
// as lost. The app could not be asked for them directly: that would be a use of what
// the refresh brought.
func (a *app) again(w http.ResponseWriter, r *http.Request) {
	s, ok := a.signIns.get(handleOf(r))
	if !ok {
		a.json(w, http.StatusConflict, map[string]string{"message": forgotten})
		return
	}
	ticket := rand.Text()
	a.tickets.add(ticket, s)
	a.json(w, http.StatusCreated, map[string]string{"again": ticket})
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

// openThief gives the signed-in user a thief of his own session. Its name is the
// right to command it: when the thief is caught the owner is out, too, and the page
// shows both.
func (a *app) openThief(w http.ResponseWriter, r *http.Request) {
	base := a.stage.public()
	if base == "" {
		http.NotFound(w, r)
		return
	}
	s, ok := a.signIns.get(handleOf(r))
	if !ok {
		a.json(w, http.StatusConflict, map[string]string{"message": forgotten})
		return
	}
	name := rand.Text()
	a.thieves.add(name, newThief(base, r.Host, s.refresh))
	a.json(w, http.StatusCreated, map[string]string{"thief": name})
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
