package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// chain is what an access token says of its session's token chain: token hashes, which
// tell tokens apart and are worth nothing to a thief.
type chain struct {
	Own    string `json:"own"`              // of the refresh token that it came with
	Parent string `json:"parent,omitempty"` // of the one before, until its own was used
	// Bound says that the browser proved the key of its device for it.
	Bound bool `json:"bound,omitempty"`
	// ExpiresIn is how long the access token is good, in seconds.
	ExpiresIn int64 `json:"expires_in"`
}

// payload is the part of an access token that the demo page draws.
type payload struct {
	Session  string `json:"sid"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	Gate     struct {
		Own    string `json:"own"`
		Parent string `json:"parent"`
		Bound  int    `json:"bnd"`
	} `json:"sg"`
}

// payloads are those of a request's access tokens. They are not verified.
func payloads(r *http.Request) []payload {
	var all []payload
	for _, c := range r.Cookies() {
		if p, ok := payloadOf(c.Value); ok {
			all = append(all, p)
		}
	}
	return all
}

// payloadOf is that of a text, if the text is an access token.
func payloadOf(text string) (p payload, ok bool) {
	_, rest, _ := strings.Cut(text, ".")
	encoded, _, found := strings.Cut(rest, ".")
	if !found {
		return payload{}, false
	}
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	ok = err == nil && json.Unmarshal(decoded, &p) == nil && p.Session != ""
	return p, ok
}

// sessionsOf are the sessions whose access tokens a browser has.
func sessionsOf(r *http.Request) []string {
	var handles []string
	for _, p := range payloads(r) {
		handles = append(handles, p.Session)
	}
	return handles
}

// chainOf reads the access token of a request that passed the check, nil if there is
// none. It verifies nothing: Envoy did. A token of another session, which a
// neighbouring host can plant beside the good one, tells nothing of this one.
func chainOf(r *http.Request) *chain {
	var best payload
	for _, p := range payloads(r) {
		if p.Session == handleOf(r) && p.Gate.Own != "" && p.IssuedAt >= best.IssuedAt {
			best = p
		}
	}
	if best.Gate.Own == "" {
		return nil
	}
	return &chain{best.Gate.Own, best.Gate.Parent, best.Gate.Bound == 1, max(0, best.Expires-time.Now().Unix())}
}

// chainIn reads a front-token header, nil if it is none.
func chainIn(frontToken string) *chain {
	text, err := base64.StdEncoding.DecodeString(frontToken)
	var told struct {
		Payload payload `json:"up"`
	}
	if err != nil || json.Unmarshal(text, &told) != nil || told.Payload.Gate.Own == "" {
		return nil
	}
	p := told.Payload
	return &chain{p.Gate.Own, p.Gate.Parent, p.Gate.Bound == 1, p.Expires - p.IssuedAt}
}
