package main

import (
	"crypto/rand"
	"net/http"
	"sync"

	"github.com/sessiongate/sessiongate/sessions/sessionclient"
)

// signInsMax bounds the memory; the oldest goes first.
const signInsMax = 1000

// signIn is what the demo remembers of a sign-in. No other system should keep tokens:
// here they are what a thief will have copied.
type signIn struct {
	user            string
	access, refresh *http.Cookie

	first string // hash of the refresh token
	proof string // told to its own page alone: the right to play with this session
}

// remember takes a user's sign-in from the answer to it, nil where that has no cookies.
func remember(user string, c *sessionclient.Created) *signIn {
	s := &signIn{user: user, proof: rand.Text()}
	for _, line := range c.Answer.SetCookie() {
		cookie, err := http.ParseSetCookie(line)
		switch {
		case err != nil || cookie.Value == "": // one that deletes
		case cookie.Value == string(c.Tokens.Access):
			s.access = cookie
		case cookie.Value == string(c.Tokens.Refresh):
			s.refresh = cookie
		}
	}
	if s.access == nil || s.refresh == nil {
		return nil
	}
	if l := chainIn(c.Answer.Header().Get("Front-Token")); l != nil {
		s.first = l.Own
	}
	return s
}

// recent holds what was added last, by name. It may be used by several goroutines.
type recent[T any] struct {
	max int

	mu    sync.Mutex
	held  map[string]T
	names []string // oldest first
}

func newRecent[T any](most int) *recent[T] {
	return &recent[T]{max: most, held: map[string]T{}}
}

func (r *recent[T]) add(name string, v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.held[name]; !ok {
		if len(r.names) == r.max {
			delete(r.held, r.names[0])
			r.names = append(r.names[:0], r.names[1:]...)
		}
		r.names = append(r.names, name)
	}
	r.held[name] = v
}

func (r *recent[T]) get(name string) (v T, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok = r.held[name]
	return v, ok
}
