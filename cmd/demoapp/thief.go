package main

import (
	"context"
	"net/http"
	"strings"
)

const thiefAgent = "thief/1.0"

// thief is a client that was never signed in: it has copied cookies, and does with them
// what a browser would.
type thief struct{ *actor }

// newThief gives a thief copies of cookies, and of what the owner's scripts remember.
func newThief(base, host string, copied []*http.Cookie, antiCSRF string, w *wire) *thief {
	t := &thief{newActor(base, host, thiefAgent, w)}
	t.jar.SetCookies(t.url(refreshPath), copied)
	t.antiCSRF = antiCSRF
	return t
}

// refresh follows the redirect to prove the key of a bound session, as any client does.
func (t *thief) refresh(ctx context.Context, request string) (scene, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := asking{method: http.MethodPost, path: refreshPath, request: request}
	s, err := t.send(ctx, q)
	if err != nil || s.Status != http.StatusTemporaryRedirect {
		return s, err
	}
	_, q.query, _ = strings.Cut(s.header.Get("Location"), "?")
	return t.send(ctx, q)
}

// outlive refreshes as if the copied access token had ended: a browser has thrown it away
// by then.
func (t *thief) outlive(ctx context.Context, request string) (scene, error) {
	t.mu.Lock()
	var ended []*http.Cookie
	for _, c := range t.cookies() {
		if _, ok := payloadOf(c.Value); ok {
			ended = append(ended, &http.Cookie{Name: c.Name, Path: c.Path, MaxAge: -1}) //nolint:gosec // of the jar alone (G124)
		}
	}
	t.jar.SetCookies(t.url("/"), ended)
	t.mu.Unlock()
	return t.refresh(ctx, request)
}

func (t *thief) call(ctx context.Context, request string) (scene, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.send(ctx, asking{method: http.MethodGet, path: "/api/me", request: request})
}
