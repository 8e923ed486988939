package authz

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy is what a route asks of its requests. The zero value is the strictest.
type Policy struct {
	// Optional routes let requests pass that have no session, without identity.
	Optional bool
	AntiCSRF AntiCSRF
	// OnUnauthorised chooses the answer to who has no session.
	OnUnauthorised OnUnauthorised
	// LoginURL is where who has no session is sent: a path of the same host or
	// an absolute http or https URL, without a fragment. Empty: Config.LoginURL.
	LoginURL string
	// ReturnTo adds the path that was asked for to the login address, as the
	// query parameter return_to.
	ReturnTo bool
	// MaxAge is how long ago the sign-in may be at most, on the store's clock:
	// else the outcome is UNAUTHORISED, and the login address has reauth=1. 0: no
	// limit.
	MaxAge time.Duration
	// Strict routes ask the store where the feed is too old to tell whether a
	// session has ended.
	Strict bool
	// Require are what the session's claims must be, sorted by claim: else the
	// outcome is FORBIDDEN.
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

// AntiCSRFModes are their names, in that order.
func AntiCSRFModes() []string { return []string{"always", "attested", "unsafe", "off"} }

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

// OnUnauthorisedNames are the names of the answers, in that order.
func OnUnauthorisedNames() []string { return []string{"redirect", "auto", "401", "403", "440"} }

// indexed finds the value that a name stands for.
func indexed[T ~uint8](into *T, names []string, name string) bool {
	i := slices.Index(names, name)
	*into = T(max(0, i))
	return i >= 0
}

// PolicyError names the policy setting that is not understood.
type PolicyError struct {
	Key, Value string
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("route policy %q: %q is not understood", e.Key, e.Value)
}

// Allowed says what the key takes or, where there is no such key, which there are.
func (e *PolicyError) Allowed() string {
	if i := policyKey(e.Key); i >= 0 {
		return policyKeys[i].allowed
	}
	return strings.Join(PolicyKeys(), ", ")
}

// PolicyKeys are the keys of context_extensions.
func PolicyKeys() []string {
	names := make([]string, len(policyKeys))
	for i, k := range policyKeys {
		names[i] = k.name
	}
	return names
}

func policyKey(key string) int {
	if strings.HasPrefix(key, requirePrefix) {
		key = requireAny
	}
	return slices.IndexFunc(policyKeys, func(k struct{ name, allowed string }) bool { return k.name == key })
}

const (
	requirePrefix = "require."
	requireAny    = requirePrefix + "<claim>"
)

// policyKeys are the keys of a policy, in the order of docs/policy.md.
var policyKeys = []struct{ name, allowed string }{
	{"session", "required or optional"},
	{"anti_csrf", "attested, always, unsafe or off"},
	{"on_unauthorised", "redirect, auto, 401, 403 or 440 (the status of TRY_REFRESH)"},
	{"login_url", "a path on the same host, or an absolute http or https URL, without a fragment"},
	{"return_to", "true or false"},
	{"max_age", "whole seconds from 1 to 3155760000"},
	{"strict", "true or false"},
	{requireAny, "at most 16 claims, none of them reserved, each with at most 32 values with | between them, or * for any"},
}

// With returns p changed by settings, as a route's context_extensions carry
// them. A key or value that it does not know is a [*PolicyError].
func (p Policy) With(settings map[string]string) (Policy, error) {
	for key, value := range settings {
		if !set(&p, key, value) {
			return Policy{}, &PolicyError{key, value}
		}
	}
	return p, nil
}

func set(p *Policy, key, value string) bool {
	switch key {
	case "session":
		p.Optional = value == "optional"
		return p.Optional || value == "required"
	case "anti_csrf":
		return indexed(&p.AntiCSRF, AntiCSRFModes(), value)
	case "on_unauthorised":
		return indexed(&p.OnUnauthorised, OnUnauthorisedNames(), value)
	case "login_url":
		p.LoginURL = value
		return isLoginURL(value)
	case "return_to":
		p.ReturnTo = value == "true"
		return p.ReturnTo || value == "false"
	case "max_age":
		return parseMaxAge(&p.MaxAge, value)
	case "strict":
		p.Strict = value == "true"
		return p.Strict || value == "false"
	default:
		claim, ok := strings.CutPrefix(key, requirePrefix)
		return ok && require(p, claim, value)
	}
}

// maxAgeMax is a hundred years, in seconds.
const maxAgeMax = 3_155_760_000

// parseMaxAge reads whole seconds, as OpenID Connect's max_age (Core §3.1.2.1).
func parseMaxAge(age *time.Duration, value string) bool {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n == 0 || n > maxAgeMax || value[0] == '0' {
		return false
	}
	*age = time.Duration(n) * time.Second
	return true
}

// require adds a requirement, in place of a default one of that claim.
func require(p *Policy, claim, value string) bool {
	q, ok := parseRequirement(claim, value)
	if !ok || len(p.Require) >= requirementsMax {
		return false
	}
	// A copy: what p began with is shared by all requests.
	p.Require = slices.DeleteFunc(slices.Clone(p.Require), func(o Requirement) bool { return o.Claim == claim })
	p.Require = append(p.Require, q)
	slices.SortFunc(p.Require, func(a, b Requirement) int { return strings.Compare(a.Claim, b.Claim) })
	return true
}

// loginURLMax leaves room for return_to in a Location header.
const loginURLMax = 2048 // bytes

func isLoginURL(text string) bool {
	if len(text) > loginURLMax || !isVisible(text) || strings.ContainsAny(text, `\#`) {
		return false
	}
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(text, scheme); ok {
			return rest != "" && rest[0] != '/' && rest[0] != '?'
		}
	}
	return isLocal(text)
}

// isLocal says whether text is a path of the same host. "//host" and "/\host"
// are other hosts to a browser: an open redirect.
func isLocal(text string) bool {
	return strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//") && !strings.Contains(text, `\`)
}

// isVisible says whether text is of the characters ! to ~: none can end a header.
func isVisible(text string) bool {
	for i := range len(text) {
		if text[i] < 0x21 || text[i] > 0x7e {
			return false
		}
	}
	return true
}
