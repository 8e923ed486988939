package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
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

const createdAnswer = `{"session":{"handle":"h"},"tokens":{"access_token":"a","refresh_token":"r"},"set_cookie":["sAccessToken=a; Path=/","sRefreshToken=r; Path=/auth"],"headers":{"anti-csrf":"c","front-token":"f"}}`

func TestCreateSession(t *testing.T) {
	t.Parallel()
	g, calls := standIn(t, http.StatusCreated, nil, createdAnswer)
	if _, err := g.createSession(t.Context(), "ada", "demo.example", client{Address: "203.0.113.7", UserAgent: "browser"}); err != nil {
		t.Fatal(err)
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
