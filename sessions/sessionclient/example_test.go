package sessionclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/sessiongate/sessiongate/sessions/sessionclient"
	"github.com/sessiongate/sessiongate/sessions/sessiondev"
)

// A login service: it checks the password, asks for a session, and copies what is for the client.
func Example() {
	gate, err := sessiondev.Start(context.Background(), sessiondev.Options{App: "http://127.0.0.1:1"})
	if err != nil {
		log.Fatal(err)
	}
	sessions := &sessionclient.Client{BaseURL: gate.InternalURL, APIKey: sessionclient.Key(gate.APIKey)}

	login := func(w http.ResponseWriter, r *http.Request) {
		user := "ada" // whose password was checked here
		created, err := sessions.Create(r.Context(), sessionclient.NewSession{
			UserID: user,
			Claims: map[string]string{"plan": "pro"},
			Host:   r.Host,
		})
		switch {
		case errors.Is(err, sessionclient.ErrTooManySessions):
			http.Error(w, "sign out elsewhere first", http.StatusConflict)
		case err != nil:
			http.Error(w, "try again", http.StatusServiceUnavailable)
		default:
			created.Answer.CopyTo(w)
			http.Redirect(w, r, "/", http.StatusSeeOther)
		}
	}
	logout := func(w http.ResponseWriter, r *http.Request) {
		ended, err := sessions.End(r.Context(), r.Header.Get("X-Session-Handle"), r.Host)
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		ended.Answer.CopyTo(w)
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	}

	w := httptest.NewRecorder()
	login(w, httptest.NewRequest(http.MethodPost, "http://shop.example/login", nil))
	fmt.Println("sign-in", w.Code, w.Header().Get("Anti-Csrf") != "", len(w.Header().Values("Set-Cookie")) > 0)

	list, _, err := sessions.List(context.Background(), "ada", 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sessions", len(list), string(list[0].Claims))

	r := httptest.NewRequest(http.MethodPost, "http://shop.example/logout", nil)
	r.Header.Set("X-Session-Handle", list[0].Handle) // as Envoy sets it
	w = httptest.NewRecorder()
	logout(w, r)
	_, err = sessions.Get(context.Background(), list[0].Handle)
	fmt.Println("sign-out", w.Code, errors.Is(err, sessionclient.ErrNotFound))
	if err := gate.Close(); err != nil {
		log.Fatal(err)
	}

	// Output:
	// sign-in 303 true true
	// sessions 1 {"plan":"pro"}
	// sign-out 303 true
}
