package authz

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// policyKey is all that is known of one key of a policy.
type policyKey struct {
	name string
	// allowed says which values the key takes.
	allowed string
	// about says what the key is for.
	about string
	// session says that only a session can have what the key asks for.
	session bool
	// set returns p with a value, or that the value is not allowed. It takes and returns
	// a copy: through a pointer each Check would allocate one. Only require.<claim> has a
	// claim.
	set func(p Policy, claim, value string) (Policy, bool)
	// get returns the settings of the key in p.
	get func(p Policy) []PolicySetting
}

const (
	requirePrefix = "require."
	requireAny    = requirePrefix + "<claim>"
)

// policyKeys are the keys of a policy.
var policyKeys = []policyKey{
	{
		name: "session", allowed: "required or optional",
		about: "whether a request needs a session; optional lets it pass without identity",
		set: func(p Policy, _, value string) (Policy, bool) {
			p.Optional = value == "optional"
			return p, p.Optional || value == "required"
		},
		get: func(p Policy) []PolicySetting {
			if p.Optional {
				return setting("session", "optional")
			}
			return setting("session", "required")
		},
	},
	{
		name: "anti_csrf", allowed: "attested, always, unsafe or off",
		about: "how a request proves that the user's own page sent it: the browser attests it, or the anti-CSRF token",
		set: func(p Policy, _, value string) (Policy, bool) {
			i := slices.Index(antiCSRFModes, value)
			p.AntiCSRF = AntiCSRF(max(0, i))
			return p, i >= 0
		},
		get: func(p Policy) []PolicySetting { return setting("anti_csrf", antiCSRFModes[p.AntiCSRF]) },
	},
	{
		name: "on_unauthorised", allowed: "redirect, auto, 401, 403 or 440 (the status of TRY_REFRESH)",
		about: "the answer to a request without a session; auto is 401 for scripts, and a redirect for people",
		set: func(p Policy, _, value string) (Policy, bool) {
			i := slices.Index(onUnauthorisedNames, value)
			p.OnUnauthorised = OnUnauthorised(max(0, i))
			return p, i >= 0
		},
		get: func(p Policy) []PolicySetting {
			return setting("on_unauthorised", onUnauthorisedNames[p.OnUnauthorised])
		},
	},
	{
		name: "login_url", allowed: "a path on the same host, or an absolute http or https URL, without a fragment",
		about: "where a redirect sends people to sign in",
		set: func(p Policy, _, value string) (Policy, bool) {
			p.LoginURL = value
			return p, isLoginURL(value)
		},
		get: func(p Policy) []PolicySetting { return setting("login_url", p.LoginURL) },
	},
	{
		name: "return_to", allowed: "true or false",
		about: "whether the login address gets the requested path",
		set: func(p Policy, _, value string) (Policy, bool) {
			p.ReturnTo = value == "true"
			return p, p.ReturnTo || value == "false"
		},
		get: func(p Policy) []PolicySetting { return setting("return_to", strconv.FormatBool(p.ReturnTo)) },
	},
	{
		name: "max_age", allowed: "whole seconds from 1 to 3155760000", session: true,
		about: "how old the sign-in may be, in seconds",
		set: func(p Policy, _, value string) (_ Policy, ok bool) {
			p.MaxAge, ok = parseMaxAge(value)
			return p, ok
		},
		get: func(p Policy) []PolicySetting {
			if p.MaxAge <= 0 {
				return nil
			}
			return setting("max_age", strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
		},
	},
	{
		name: "strict", allowed: "true or false", session: true,
		about: "whether each check also asks the database if the session has ended",
		set: func(p Policy, _, value string) (Policy, bool) {
			p.Strict = value == "true"
			return p, p.Strict || value == "false"
		},
		get: func(p Policy) []PolicySetting { return setting("strict", strconv.FormatBool(p.Strict)) },
	},
	{
		name: "bound", allowed: "true or false", session: true,
		about: "whether the session must be bound to the device that sends the request; 403 otherwise",
		set: func(p Policy, _, value string) (Policy, bool) {
			p.Bound = value == "true"
			return p, p.Bound || value == "false"
		},
		get: func(p Policy) []PolicySetting { return setting("bound", strconv.FormatBool(p.Bound)) },
	},
	{
		name: requireAny, allowed: "at most 16 claims, none of them reserved, each with at most 32 values with | between them, or * for any", session: true,
		about: "the values that a claim may have; 403 otherwise",
		set:   requireClaim,
		get: func(p Policy) []PolicySetting {
			var settings []PolicySetting
			for _, q := range p.Require {
				settings = append(settings, PolicySetting{requirePrefix + q.Claim, q.value()})
			}
			return settings
		},
	},
}

func setting(key, value string) []PolicySetting { return []PolicySetting{{key, value}} }

// findPolicyKey returns the key of that name, or nil, and the claim in require.<claim>.
func findPolicyKey(name string) (key *policyKey, claim string) {
	claim, ok := strings.CutPrefix(name, requirePrefix)
	if ok {
		name = requireAny
	} else {
		claim = ""
	}
	for i := range policyKeys {
		if policyKeys[i].name == name {
			return &policyKeys[i], claim
		}
	}
	return nil, ""
}

// AboutPolicyKey says in one phrase what a key is for. It is "" for what is no key.
func AboutPolicyKey(name string) string {
	key, _ := findPolicyKey(name)
	if key == nil {
		return ""
	}
	return key.about
}

// PolicyKeys are the keys of context_extensions.
func PolicyKeys() []string {
	names := make([]string, len(policyKeys))
	for i, key := range policyKeys {
		names[i] = key.name
	}
	return names
}

// maxAgeMax is a hundred years, in seconds.
const maxAgeMax = 3_155_760_000

// parseMaxAge reads whole seconds, as OpenID Connect's max_age (Core §3.1.2.1).
func parseMaxAge(value string) (time.Duration, bool) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n == 0 || n > maxAgeMax || value[0] == '0' {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

// requireClaim adds a requirement, in place of a default one of that claim.
func requireClaim(p Policy, claim, value string) (Policy, bool) {
	q, ok := parseRequirement(claim, value)
	if !ok || len(p.Require) >= requirementsMax {
		return p, false
	}
	// A copy: what p began with is shared by all requests.
	p.Require = slices.DeleteFunc(slices.Clone(p.Require), func(o Requirement) bool { return o.Claim == claim })
	p.Require = append(p.Require, q)
	slices.SortFunc(p.Require, func(a, b Requirement) int { return strings.Compare(a.Claim, b.Claim) })
	return p, true
}
