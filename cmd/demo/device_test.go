package main

import (
	"net/http"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
	wire "github.com/sessiongate/sessiongate/sessions/browser"
)

// TestDeviceSignsWhatItHeard: the last challenge, whichever header brought it, by the key that the proof brings.
func TestDeviceSignsWhatItHeard(t *testing.T) {
	t.Parallel()
	d := newDevice()
	d.hear(answer{header: http.Header{"Secure-Session-Registration": {`(ES256);path="/auth/session/bind";challenge="first"`}}})
	if d.challenge != "first" {
		t.Errorf("challenge %q of a sign-in", d.challenge)
	}
	d.hear(answer{header: http.Header{}, body: `{"session_identifier":"h"}`})
	d.hear(answer{header: http.Header{"Secure-Session-Challenge": {`"second";id="h"`}}, body: `{"title":"Sign the challenge"}`})
	h := http.Header{}
	d.prove(h)
	proof := wire.ParseProof(h["Secure-Session-Response"])
	if h.Get("Sec-Secure-Session-Id") != "h" || proof == nil || proof.Challenge != "second" || proof.Key != (sessions.BoundKey{}) {
		t.Errorf("proof %v, header %v", proof, h)
	}
	d.register(h)
	if proof := wire.ParseProof(h["Secure-Session-Response"]); proof == nil || proof.Key == (sessions.BoundKey{}) {
		t.Errorf("registration %v", proof)
	}
}
