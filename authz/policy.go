package authz

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy is what a route asks of its requests. The zero value is the strictest.
type Policy struct {
	// Optional routes let requests pass that have no session, without identity.
	Optional bool
	AntiCSRF AntiCSRF
	// OnUnauthorised chooses the answer to a request without a session.
	OnUnauthorised OnUnauthorised
	// LoginURL is where such a request is sent: a path of the same host or an absolute
	// http or https URL, without a fragment. Empty: Config.LoginURL.
	LoginURL string
	// ReturnTo adds the path that was asked for to the login address, as the
	// query parameter return_to.
	ReturnTo bool
	// MaxAge is how long ago the sign-in may be at most, on the store's clock. An older
	// one is UNAUTHORISED, and the login address has reauth=1. 0: no limit.
	MaxAge time.Duration
	// Strict routes ask the store where the feed is too old to tell whether a
	// session has ended.
	Strict bool
	// Bound routes are for sessions whose browser proves the key of its device. Another one is
	// FORBIDDEN (B11).
	Bound bool
	// Require are what the session's claims must be, sorted by claim. Another claim is
	// FORBIDDEN.
	Require []Requirement
}

// AntiCSRF says which requests must repeat the session's anti-CSRF token.
type AntiCSRF uint8

// The anti-CSRF modes, from the strictest.
const (
	// AntiCSRFAlways asks for the token on every request that can carry it.
	AntiCSRFAlways AntiCSRF = iota
	// AntiCSRFAttested asks for it where the browser does not attest that a page of
	// the request's own origin, or a person, made it send the request.
	AntiCSRFAttested
	// AntiCSRFUnsafe is the same, but for GET, HEAD and OPTIONS, which pass.
	AntiCSRFUnsafe
	AntiCSRFOff
)

// antiCSRFModes are their names, in that order.
var antiCSRFModes = []string{"always", "attested", "unsafe", "off"}

// AntiCSRFModes are the names of the modes, in their order.
func AntiCSRFModes() []string { return slices.Clone(antiCSRFModes) }

// OnUnauthorised is the answer to a request without a session.
type OnUnauthorised uint8

// The answers to a request without a session.
const (
	UnauthorisedRedirect OnUnauthorised = iota
	// UnauthorisedAuto answers 401 where the request is plainly a script's, and
	// redirects otherwise.
	UnauthorisedAuto
	Unauthorised401
	Unauthorised403
	// UnauthorisedExpired answers with the status of TRY_REFRESH, as SuperTokens
	// backends do.
	UnauthorisedExpired
)

// onUnauthorisedNames are their names, in that order.
var onUnauthorisedNames = []string{"redirect", "auto", "401", "403", "440"}

// OnUnauthorisedNames are the names of the answers, in their order.
func OnUnauthorisedNames() []string { return slices.Clone(onUnauthorisedNames) }

// PolicyError names the policy setting that is not understood.
type PolicyError struct {
	Key, Value string
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("route policy %q: %q is not understood", e.Key, e.Value)
}

// Allowed says what the key takes or, where there is no such key, which there are.
func (e *PolicyError) Allowed() string {
	if key, _ := findPolicyKey(e.Key); key != nil {
		return key.allowed
	}
	return strings.Join(PolicyKeys(), ", ")
}

// With returns p changed by settings, as a route's context_extensions carry
// them. A key or value that it does not know is a [*PolicyError].
func (p Policy) With(settings map[string]string) (Policy, error) {
	for name, value := range settings {
		key, claim := findPolicyKey(name)
		ok := key != nil
		if ok {
			p, ok = key.set(p, claim, value)
		}
		if !ok {
			return Policy{}, &PolicyError{name, value}
		}
	}
	return p, nil
}

// PolicySetting is a key of context_extensions and its value.
type PolicySetting struct{ Key, Value string }

// Settings are p as context_extensions would have it, in the order of [PolicyKeys]: With
// them, any policy becomes p. Without a limit of age there is no max_age.
func (p Policy) Settings() []PolicySetting {
	var settings []PolicySetting
	for _, key := range policyKeys {
		settings = append(settings, key.get(p)...)
	}
	return settings
}
