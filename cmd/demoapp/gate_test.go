package main

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testKey = "key-of-the-demo"

// asked is what the stand-in for sessiongate's API was asked.
type asked struct {
	Method, URI, Authorization, ContentType string
	Body                                    map[string]any
}

// standIn answers every request alike and records them.
func standIn(t *testing.T, status int, header http.Header, body string) (*gate, *[]asked) {
	t.Helper()
	calls := new([]asked)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := asked{Method: r.Method, URI: r.RequestURI, Authorization: r.Header.Get("Authorization"), ContentType: r.Header.Get("Content-Type")}
		if r.ContentLength != 0 {
			if err := json.NewDecoder(r.Body).Decode(&c.Body); err != nil {
				t.Errorf("body: %v", err)
			}
		}
		*calls = append(*calls, c)
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return newGate(server.URL+"/", testKey), calls
}

const createdAnswer = `{"session":{"handle":"h"},"set_cookie":["sAccessToken=a; Path=/","sRefreshToken=r; Path=/auth"],"headers":{"anti-csrf":"c","front-token":"f"}}`

func TestCreateSession(t *testing.T) {
	t.Parallel()
	g, calls := standIn(t, http.StatusCreated, nil, createdAnswer)
	answer, err := g.createSession(t.Context(), "ada", "demo.example", client{Address: "203.0.113.7", UserAgent: "browser"})
	if err != nil {
		t.Fatal(err)
	}
	want := cookies{
		SetCookie: []string{"sAccessToken=a; Path=/", "sRefreshToken=r; Path=/auth"},
		Headers:   map[string]string{"anti-csrf": "c", "front-token": "f"},
	}
	if diff := cmp.Diff(want, answer.cookies); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	wantCalls := []asked{{
		Method: "POST", URI: "/v1/sessions", Authorization: "Bearer " + testKey, ContentType: "application/json",
		Body: map[string]any{
			"user_id": "ada",
			"claims":  map[string]any{"role": "demo"},
			"client":  map[string]any{"address": "203.0.113.7", "user_agent": "browser"},
			"host":    "demo.example",
		},
	}}
	if diff := cmp.Diff(wantCalls, *calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestEndSessionsNamesTheUserAlone(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"ada", "ada@example.com", "..", ".", "a/b", "a/../../x", "a?b=c", "a#b", "100%", "%2E%2E", "ü"} {
		g, calls := standIn(t, http.StatusOK, nil, `{"set_cookie":[],"headers":{}}`)
		if _, err := g.endSessions(t.Context(), user, "demo.example:10000"); err != nil {
			t.Fatal(err)
		}
		// As any server that cleans paths would read it.
		mux := http.NewServeMux()
		var got string
		mux.HandleFunc("DELETE /v1/users/{user}/sessions", func(_ http.ResponseWriter, r *http.Request) { got = r.PathValue("user") })
		uri, err := url.ParseRequestURI((*calls)[0].URI)
		if err != nil {
			t.Fatal(err)
		}
		mux.ServeHTTP(httptest.NewRecorder(), &http.Request{Method: (*calls)[0].Method, URL: uri, RequestURI: (*calls)[0].URI})
		if host := uri.Query().Get("host"); host != "demo.example:10000" {
			t.Errorf("host arrives as %q", host)
		}
		if got != user {
			t.Errorf("user %q arrives as %q by %s", user, got, (*calls)[0].URI)
		}
	}
}

func TestGateError(t *testing.T) {
	t.Parallel()
	g, _ := standIn(t, http.StatusServiceUnavailable, http.Header{"Retry-After": {"2"}}, `{"title":"no database","detail":"secret"}`)
	_, err := g.createSession(t.Context(), "ada", "demo.example", client{})
	var got *gateError
	if !errors.As(err, &got) {
		t.Fatalf("error %v, want a gateError", err)
	}
	if diff := cmp.Diff(&gateError{Status: 503, Title: "no database", RetryAfter: "2"}, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}

	g, _ = standIn(t, http.StatusOK, nil, `<html>`)
	if _, err := g.createSession(t.Context(), "ada", "demo.example", client{}); err == nil {
		t.Error("an answer that is no JSON is no session")
	}
}

func TestGateFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	other, calls := standIn(t, http.StatusOK, nil, createdAnswer)
	g, _ := standIn(t, http.StatusTemporaryRedirect, http.Header{"Location": {other.base + "/v1/sessions"}}, "")
	if _, err := g.createSession(t.Context(), "ada", "demo.example", client{}); err == nil {
		t.Error("a redirect made a session")
	}
	if len(*calls) > 0 {
		t.Errorf("followed a redirect: %v", *calls)
	}
}
