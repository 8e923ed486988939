package browser

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/memory"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

func startEngine(t *testing.T) *sessions.Engine {
	t.Helper()
	kek, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = kek
	return sessionstest.StartEngine(t, memory.New(), cfg)
}

func signIn(t *testing.T, e *sessions.Engine, claims string) sessions.Issued {
	t.Helper()
	issued, err := e.Create(t.Context(), sessions.NewSession{UserID: "alice", Claims: []byte(claims)})
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func TestIssuedHeaders(t *testing.T) {
	engine := startEngine(t)
	issued := signIn(t, engine, `{"role":"admin","n":{"deep":[1]}}`)
	header, kept := issued, issued
	header.Transport = sessions.TransportHeader
	kept.Transport, kept.Refresh = sessions.TransportHeader, ""

	for _, tc := range []struct {
		name   string
		issued sessions.Issued
		want   map[string]string
	}{
		{"cookies", issued, map[string]string{"anti-csrf": issued.AntiCSRF.Reveal()}},
		{"headers", header, map[string]string{"st-access-token": issued.Access.Reveal(), "st-refresh-token": issued.Refresh.Reveal()}},
		{"headers, the refresh token stays", kept, map[string]string{"st-access-token": issued.Access.Reveal()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := map[string]string{}
			for _, h := range Headers(tc.issued) {
				if _, twice := got[h.Name]; twice {
					t.Errorf("%s is there twice", h.Name)
				}
				got[h.Name] = h.Value
			}
			front, id := got["front-token"], got["id-refresh-token"]
			delete(got, "front-token")
			delete(got, "id-refresh-token")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if want := fmt.Sprintf(`^[A-Za-z0-9_-]{22};%d$`, issued.Session.ExpiresAt.UnixMilli()); !regexp.MustCompile(want).MatchString(id) {
				t.Errorf("id-refresh-token is %q, want %s", id, want)
			}
			for _, again := range Headers(signIn(t, engine, `{}`)) {
				if again.Name == "id-refresh-token" && again.Value == id {
					t.Error("two answers have the same marker")
				}
			}
			checkFrontToken(t, front, issued.Session.CreatedAt)
		})
	}
}

// checkFrontToken reads a front-token as the web SDKs do: atob, JSON.
func checkFrontToken(t *testing.T, front string, signedIn time.Time) {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(front)
	if err != nil {
		t.Fatalf("front-token: %v", err)
	}
	var token struct {
		UID string         `json:"uid"`
		ATE int64          `json:"ate"`
		UP  map[string]any `json:"up"`
	}
	if err := json.Unmarshal(text, &token); err != nil {
		t.Fatalf("front-token: %v", err)
	}
	iat := signedIn.Truncate(time.Second)
	exp := iat.Add(time.Hour)
	if token.UID != "alice" || token.ATE != exp.UnixMilli() {
		t.Errorf("front-token is of %s until %d", token.UID, token.ATE)
	}
	if token.UP["exp"] != float64(exp.Unix()) || token.UP["iat"] != float64(iat.Unix()) || token.UP["role"] != "admin" {
		t.Errorf("front-token's payload is %v", token.UP)
	}
}

// A user id may have characters that JSON escapes.
func TestFrontTokenOfAnyUser(t *testing.T) {
	issued, err := startEngine(t).Create(t.Context(), sessions.NewSession{UserID: `"\u0041\</script>&'~`})
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.StdEncoding.DecodeString(frontToken(issued))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		UID string          `json:"uid"`
		UP  json.RawMessage `json:"up"`
	}
	if err := json.Unmarshal(text, &got); err != nil || got.UID != issued.Session.UserID || string(got.UP) != string(issued.Payload) {
		t.Errorf("%s: %v", text, err)
	}
}

func TestEndedHeaders(t *testing.T) {
	want := []Header{{"id-refresh-token", "remove"}, {"front-token", "remove"}}
	if diff := cmp.Diff(want, EndedHeaders()); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}
