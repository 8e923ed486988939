package main

import (
	"context"

	"github.com/sessiongate/sessiongate/sessions/sessionclient"
)

// maxGateAnswer bounds what an actor reads of sessiongate's answers.
const maxGateAnswer = 1 << 20 // bytes

// gate is sessiongate, as this system asks it. It may be used by several goroutines at once.
type gate struct{ *sessionclient.Client }

func newGate(base, key string) *gate {
	return &gate{&sessionclient.Client{BaseURL: base, APIKey: sessionclient.Key(key)}}
}

// client is where a session's browser sits. What Envoy reports at the first
// refresh must be the same, or that refresh comes from another client.
type client = sessionclient.Browser

// createSession signs a user in. host is the one that the browser asked.
func (g *gate) createSession(ctx context.Context, user, host string, from client) (*sessionclient.Created, error) {
	return g.Create(ctx, sessionclient.NewSession{
		UserID:  user,
		Claims:  map[string]string{"role": "demo"},
		Browser: from,
		Host:    host,
	})
}
