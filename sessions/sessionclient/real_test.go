package sessionclient_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions/sessionclient"
	"github.com/sessiongate/sessiongate/sessions/sessiondev"
)

// Every call against the real handler and engine, and the errors by which a caller branches.
func TestWholeSession(t *testing.T) {
	t.Parallel()
	gate, err := sessiondev.Start(t.Context(), sessiondev.Options{App: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gate.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	c := &sessionclient.Client{BaseURL: gate.InternalURL, APIKey: sessionclient.Key(gate.APIKey)}
	browser := sessionclient.Browser{Address: "203.0.113.7", UserAgent: "browser"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}

	created, err := c.Create(ctx, sessionclient.NewSession{UserID: "ada", Claims: map[string]int{"n": 1}, Data: map[string]string{"cart": "tea"}, Browser: browser})
	must(err)
	handle := created.Session.Handle
	if string(created.Session.Data) != `{"cart":"tea"}` || created.Session.ExpiresAt.IsZero() || created.Session.AbsoluteExpiresAt.Before(created.Session.ExpiresAt) {
		t.Errorf("created %+v", created.Session)
	}

	presented := sessionclient.Presented{AccessToken: created.Tokens.Access, AntiCSRF: created.Tokens.AntiCSRF, Strict: true}
	verified, err := c.Verify(ctx, presented)
	must(err)
	if verified.UserID != "ada" || verified.Handle != handle || string(verified.Claims) != `{"n":1}` || verified.AuthTime.IsZero() {
		t.Errorf("verified %+v", verified)
	}
	_, err = c.Verify(ctx, sessionclient.Presented{AccessToken: created.Tokens.Access})
	is(err, sessionclient.ErrRefreshNeeded) // no anti-CSRF token
	_, err = c.Verify(ctx, sessionclient.Presented{AccessToken: created.Tokens.Access, SkipAntiCSRF: true})
	must(err)
	_, err = c.Verify(ctx, sessionclient.Presented{AccessToken: created.Tokens.Access, Transport: sessionclient.HeaderTransport})
	is(err, sessionclient.ErrRefreshNeeded)
	_, err = c.Verify(ctx, sessionclient.Presented{})
	is(err, sessionclient.ErrSessionEnded)

	refreshed, err := c.Refresh(ctx, sessionclient.RefreshRequest{RefreshToken: created.Tokens.Refresh, Browser: browser})
	must(err)
	if refreshed.Session.Handle != handle || refreshed.Tokens.Access == "" || len(refreshed.Answer.SetCookie()) == 0 || refreshed.Answer.Header().Get("Front-Token") == "" {
		t.Errorf("refreshed %+v", refreshed)
	}
	_, err = c.Refresh(ctx, sessionclient.RefreshRequest{RefreshToken: created.Tokens.Refresh})
	if e := (*sessionclient.Error)(nil); !errors.As(err, &e) || e.Status != 400 || e.Field != "client.address" {
		t.Errorf("a refresh of no browser: %v", err)
	}

	updated, err := c.Update(ctx, handle, sessionclient.Change{Claims: map[string]int{"n": 2}, AccessToken: refreshed.Tokens.Access})
	must(err)
	if string(updated.Session.Claims) != `{"n":2}` || string(updated.Session.Data) != `{"cart":"tea"}` || updated.Tokens.Access == "" || len(updated.Answer.SetCookie()) == 0 {
		t.Errorf("updated %+v", updated)
	}
	_, err = c.Verify(ctx, presented)
	is(err, sessionclient.ErrRefreshNeeded) // the former claims
	updated, err = c.Update(ctx, handle, sessionclient.Change{Data: map[string]string{}})
	must(err)
	if string(updated.Session.Data) != `{}` || updated.Tokens.Access != "" || len(updated.Answer.SetCookie()) > 0 {
		t.Errorf("updated %+v", updated)
	}

	got, err := c.Get(ctx, handle)
	must(err)
	if got.Handle != handle || string(got.Claims) != `{"n":2}` {
		t.Errorf("got %+v", got)
	}
	_, err = c.Create(ctx, sessionclient.NewSession{UserID: "ada", Transport: sessionclient.HeaderTransport})
	must(err)
	list, more, err := c.List(ctx, "ada", 1)
	must(err)
	if len(list) != 1 || !more || list[0].Handle == handle {
		t.Errorf("list %+v, more %t", list, more)
	}

	ended, err := c.End(ctx, handle, "shop.example")
	must(err)
	w := httptest.NewRecorder()
	ended.Answer.CopyTo(w)
	if lines := strings.Join(w.Header().Values("Set-Cookie"), "\n"); ended.Sessions != 1 || !strings.Contains(lines, "sAccessToken=;") || !strings.Contains(lines, "Domain=shop.example") {
		t.Errorf("ended %d, cookies %q", ended.Sessions, lines)
	}
	ended, err = c.End(ctx, handle, "")
	must(err)
	if ended.Sessions != 0 {
		t.Errorf("ended %d again", ended.Sessions)
	}
	_, err = c.Get(ctx, handle)
	is(err, sessionclient.ErrNotFound)
	_, err = c.End(ctx, "..", "")
	is(err, sessionclient.ErrNotFound)
	_, err = c.Update(ctx, handle, sessionclient.Change{Data: map[string]string{}})
	is(err, sessionclient.ErrNotFound)
	_, err = c.Refresh(ctx, sessionclient.RefreshRequest{RefreshToken: created.Tokens.Refresh, Browser: browser})
	is(err, sessionclient.ErrSessionEnded)
	e := (*sessionclient.Error)(nil)
	if errors.Is(err, sessionclient.ErrTheft) || !errors.As(err, &e) || len(e.Answer.SetCookie()) == 0 || e.Answer.Header().Get("Front-Token") != "remove" {
		t.Errorf("the end says %v, and makes the client forget nothing", err)
	}

	all, err := c.EndUser(ctx, "ada", "")
	must(err)
	if all.Sessions != 1 {
		t.Errorf("%d sessions have ended", all.Sessions)
	}
	_, err = (&sessionclient.Client{BaseURL: gate.InternalURL, APIKey: sessionclient.Key("another")}).Get(ctx, handle)
	if !errors.As(err, &e) || e.Status != 401 || e.Code != "unknown_api_key" || errors.Is(err, sessionclient.ErrSessionEnded) {
		t.Errorf("another key: %v", err)
	}
}
