package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
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
	// network is the address of the network's listener, for a person who has opened the page
	// at Envoy itself.
	network string
	// controlURL and controlSecret reach what started the demo, which can end and start its
	// parts. Without them the switches have a reason instead.
	controlURL, controlSecret string
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
	// noOffer is said where there is nothing to bind.
	noOffer = "This sessiongate does not offer to bind sessions: its binding.mode is off."
	// otherSession is said to a page whose browser has another session by now.
	otherSession = "This browser is now signed in as another user."
)

// cameByNetwork: a page that was opened at Envoy itself cannot play what needs the network.
func (a *app) cameByNetwork(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.Header.Get(networkHeader)), []byte(a.way)) == 1
}

// plays is what a page says of itself to the stage.
type plays struct {
	Handle string `json:"handle"`
	Proof  string `json:"proof"`
}

// proven is the remembered sign-in of the session that the page shows, nil where it has
// answered instead. The proof was told to that page alone: no other page, and no other
// user, can play with the session. Nothing of this is a check of Envoy's, because a
// check would be a use of the browser's tokens.
func (a *app) proven(w http.ResponseWriter, page plays) *signIn {
	s, ok := a.signIns.get(page.Handle)
	if !ok || subtle.ConstantTimeCompare([]byte(s.proof), []byte(page.Proof)) != 1 {
		a.json(w, http.StatusConflict, map[string]string{"message": forgotten})
		return nil
	}
	return s
}

// shown is proven, for what changes the browser's cookies or copies them: a page that was
// opened before another user signed in to the same browser must not break that user's
// session.
func (a *app) shown(w http.ResponseWriter, r *http.Request) *signIn {
	var page plays
	if err := json.NewDecoder(r.Body).Decode(&page); err != nil {
		http.Error(w, "that names no session", http.StatusBadRequest)
		return nil
	}
	s := a.proven(w, page)
	if s == nil {
		return nil
	}
	for _, handle := range sessionsOf(r) {
		if handle != page.Handle {
			a.json(w, http.StatusConflict, map[string]string{"message": otherSession, "handle": handle})
			return nil
		}
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
	a.json(w, http.StatusOK, map[string]string{})
}

// openThief gives the page's user a thief of the user's own session. Its name is the
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
	a.thieves.add(name, newThief(base, r.Host, []*http.Cookie{s.refresh}, "", a.wire))
	a.json(w, http.StatusCreated, map[string]string{"thief": name})
}

// openLaptop gives the page's user a laptop, which signs in and binds its session by command.
// It changes nothing of the page's session, and has none of its cookies.
func (a *app) openLaptop(w http.ResponseWriter, r *http.Request) {
	base := a.stage.public()
	if base == "" {
		http.NotFound(w, r)
		return
	}
	var page plays
	if err := json.NewDecoder(r.Body).Decode(&page); err != nil {
		http.Error(w, "that names no session", http.StatusBadRequest)
		return
	}
	s := a.proven(w, page)
	if s == nil {
		return
	}
	name := rand.Text()
	a.laptops.add(name, newLaptop(base, r.Host, s.user, a.wire))
	a.json(w, http.StatusCreated, map[string]string{"laptop": name})
}

// stealFromLaptop gives a thief all cookies of a laptop.
func (a *app) stealFromLaptop(w http.ResponseWriter, r *http.Request) {
	l, _, ok := commanded(w, r, a.laptops)
	if !ok {
		return
	}
	name := rand.Text()
	a.thieves.add(name, l.stolen())
	a.json(w, http.StatusCreated, map[string]string{"thief": name})
}

// commanded reads which actor is to do something. It is not ok where it has answered instead.
func commanded[T any](w http.ResponseWriter, r *http.Request, held *recent[T]) (who T, request string, ok bool) {
	var body struct {
		Actor   string `json:"actor"`
		Request string `json:"request"` // its name on the wire
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, "that names no actor", http.StatusBadRequest)
		return who, "", false
	}
	if who, ok = held.get(body.Actor); !ok {
		http.NotFound(w, r)
	}
	return who, body.Request, ok
}

// command has an actor do something.
func command[T any](a *app, held *recent[T], do func(_ T, _ context.Context, request string) (scene, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, request, ok := commanded(w, r, held)
		if !ok {
			return
		}
		result, err := do(who, r.Context(), request)
		switch {
		case errors.Is(err, errNoOffer):
			a.json(w, http.StatusConflict, map[string]string{"message": noOffer})
		case err != nil:
			a.log.ErrorContext(r.Context(), "playing on the stage", "error", err)
			http.Error(w, "the actor got no answer", http.StatusBadGateway)
		default:
			a.json(w, http.StatusOK, result)
		}
	}
}

// showPassage tells what passed on the wire of one request.
func (a *app) showPassage(w http.ResponseWriter, r *http.Request) {
	p, ok := a.wire.look(r.PathValue("request"))
	if !ok {
		a.json(w, http.StatusNotFound, map[string]string{"message": "This request is not remembered."})
		return
	}
	a.json(w, http.StatusOK, p)
}
