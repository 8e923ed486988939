package sessionhttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

// APIKey is the key of a caller of the sessions API. The zero value may do nothing.
type APIKey struct {
	Digest KeyDigest
	Scopes Scopes
}

// KeyDigest is the SHA-256 of an API key, so that a process holds none in clear.
type KeyDigest [sha256.Size]byte

// DigestKey digests the text of an API key.
func DigestKey(key string) KeyDigest { return sha256.Sum256([]byte(key)) }

// String is the digest in lower-case hexadecimal.
func (d KeyDigest) String() string { return hex.EncodeToString(d[:]) }

// ParseKeyDigest reads what String gives. Its error does not repeat the text, which may be
// a key in the wrong place.
func ParseKeyDigest(text string) (KeyDigest, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != sha256.Size || strings.ToLower(text) != text {
		return KeyDigest{}, errors.New("a key digest is 64 lower-case hexadecimal digits")
	}
	return KeyDigest(b), nil
}

// Scopes are what a caller of the sessions API may do.
type Scopes uint8

// The scopes.
const (
	// ScopeCreate starts sessions, of any user.
	ScopeCreate Scopes = 1 << iota
	// ScopeRead reads sessions, lists those of a user, and verifies access tokens.
	ScopeRead
	// ScopeUpdate replaces claims and data, and refreshes.
	ScopeUpdate
	// ScopeRevoke ends sessions.
	ScopeRevoke

	// AllScopes is each of them.
	AllScopes = ScopeCreate | ScopeRead | ScopeUpdate | ScopeRevoke
)

// scopeNames are the scopes by name, in order.
var scopeNames = []string{"create", "read", "update", "revoke"}

// ScopeNames is the names of all scopes, as a sentence has them.
func ScopeNames() string { return strings.Join(scopeNames, ", ") }

// String is the names with a space between them (RFC 6749 §3.3).
func (s Scopes) String() string {
	var names []string
	for i, name := range scopeNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// ParseScopes reads names with + between them, each at most once.
func ParseScopes(text string) (Scopes, error) {
	var s Scopes
	for name := range strings.SplitSeq(text, "+") {
		var found Scopes
		for i, known := range scopeNames {
			if name == known {
				found = 1 << i
			}
		}
		if found == 0 || s&found != 0 {
			return 0, errors.New("scopes are some of " + ScopeNames() + ", each once, with + between them")
		}
		s |= found
	}
	return s, nil
}

// scopeError is a scope that the caller's key lacks.
type scopeError struct{ scope Scopes }

func (e *scopeError) Error() string { return "API key lacks the scope " + e.scope.String() }

// as serves callers whose API key has a scope, and tells h the caller's name.
func (a *api) as(scope Scopes, h func(w http.ResponseWriter, r *http.Request, caller string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller, scopes, err := a.caller(r)
		if err != nil {
			return err
		}
		subjectOf(r).caller = caller
		if scopes&scope == 0 {
			return &scopeError{scope}
		}
		return h(w, r, caller)
	}
}

// caller finds the caller whose API key r carries, and its scopes. All digests are
// compared, each in constant time. This stops an attacker that guesses keys by timing:
// how long a denial takes tells nothing about any key.
func (a *api) caller(r *http.Request) (string, Scopes, error) {
	key := browser.Bearer(authorization(r))
	if key == "" {
		return "", 0, denyNoKey
	}
	digest := DigestKey(key)
	caller, scopes, found := "", Scopes(0), false
	for name, known := range a.cfg.APIKeys {
		if subtle.ConstantTimeCompare(digest[:], known.Digest[:]) == 1 {
			caller, scopes, found = name, known.Scopes, true
		}
	}
	if !found {
		return "", 0, denyUnknownKey
	}
	return caller, scopes, nil
}
