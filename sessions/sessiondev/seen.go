package sessiondev

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// seenTokens are the refresh tokens that clients were given, for the thief: no store has them. They
// are in memory alone.
type seenTokens struct {
	mu     sync.Mutex
	users  map[string]bool
	latest string // the session that began last, by its handle
	tokens map[string][]seenToken
}

type seenToken struct {
	text      string
	transport sessions.Transport
}

func newSeenTokens() *seenTokens {
	return &seenTokens{users: map[string]bool{}, tokens: map[string][]seenToken{}}
}

func (s *seenTokens) created(handle sessions.Handle, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[user] = true
	s.latest = handle.String()
}

// allUsers are those who ever signed in.
func (s *seenTokens) allUsers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var users []string
	for user := range s.users {
		users = append(users, user)
	}
	slices.Sort(users)
	return users
}

// ofLatest are the refresh tokens of the session that began last, the oldest first.
func (s *seenTokens) ofLatest() []seenToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tokens[s.latest])
}

// add takes the refresh token that came with an access token, which names the session.
func (s *seenTokens) add(access, refresh string, by sessions.Transport) {
	parts := strings.Split(access, ".")
	if refresh == "" || len(parts) != 3 {
		return
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Session string `json:"sid"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	token := seenToken{refresh, by}
	if !slices.Contains(s.tokens[claims.Session], token) {
		s.tokens[claims.Session] = append(s.tokens[claims.Session], token)
	}
}

func (s *seenTokens) addIssued(i sessions.Issued) {
	s.add(i.Access.Reveal(), i.Refresh.Reveal(), i.Transport)
}

// watch notes the tokens in the answers of h: in cookies, in headers, and in the JSON of the
// sessions API.
func (s *seenTokens) watch(h http.Handler, c browser.Cookies) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		copied := &copyWriter{ResponseWriter: w}
		h.ServeHTTP(copied, r)
		cookies := map[string]string{}
		for _, line := range w.Header().Values("Set-Cookie") {
			if cookie, err := http.ParseSetCookie(line); err == nil && cookie.Value != "" {
				cookies[cookie.Name] = cookie.Value
			}
		}
		s.add(cookies[c.Access()], cookies[c.RefreshName], sessions.TransportCookie)
		s.add(w.Header().Get("St-Access-Token"), w.Header().Get("St-Refresh-Token"), sessions.TransportHeader)
		var created struct {
			Tokens struct {
				Access  string `json:"access_token"`
				Refresh string `json:"refresh_token"`
			} `json:"tokens"`
			SetCookie []string `json:"set_cookie"`
		}
		if json.Unmarshal(copied.body.Bytes(), &created) == nil {
			by := sessions.TransportHeader
			if created.SetCookie != nil {
				by = sessions.TransportCookie
			}
			s.add(created.Tokens.Access, created.Tokens.Refresh, by)
		}
	})
}

// copyWriter keeps a copy of a body. Those of sessiongate are small.
type copyWriter struct {
	http.ResponseWriter

	body bytes.Buffer
}

// Unwrap is for [http.ResponseController].
func (w *copyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements [http.ResponseWriter].
func (w *copyWriter) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}
