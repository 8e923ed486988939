package main

import (
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
)

// The part itself runs in no test: it downloads what it compares.

// TestAsked proves that the peers are compared only where someone asks for them.
func TestAsked(t *testing.T) {
	t.Parallel()
	isPeers := func(p part) bool { return p.name == "peers" }
	for only, want := range map[string]bool{"": false, "check": false, "peers": true, "check,peers": true} {
		chosen, err := choose(only)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(chosen, isPeers); got != want {
			t.Errorf("-only %q: peers runs: %v, want %v", only, got, want)
		}
	}
}

// TestPeerThatIsMissing: a peer that cannot be built is an error with the go command's own words, which
// the part prints before it goes on with the others.
func TestPeerThatIsMissing(t *testing.T) {
	t.Parallel()
	b := &bench{dir: t.TempDir()}
	if _, _, err := b.buildPeer(t.Context(), peer{"none", "no-such-folder", "example.com/none"}); err == nil || !strings.Contains(err.Error(), "no-such-folder") {
		t.Errorf("a peer without a folder gave %v", err)
	}
}

// TestPeerMustRefuse: an answer that allows a forged token ends the comparison.
func TestPeerMustRefuse(t *testing.T) {
	t.Parallel()
	if anyDenial(&authv3.CheckResponse{Status: &status.Status{}}) == nil {
		t.Error("ALLOW passed for a denial")
	}
	if err := anyDenial(&authv3.CheckResponse{Status: &status.Status{Code: 7}}); err != nil {
		t.Errorf("a denial is an error: %v", err)
	}
}
