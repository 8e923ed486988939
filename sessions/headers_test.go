package sessions

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestIssuedHeaders(t *testing.T) {
	e := offline(t)
	issued := issueAt(t, e, testEpoch, `{"role":"admin","n":{"deep":[1]}}`)
	header, kept := issued, issued
	header.Transport = TransportHeader
	kept.Transport, kept.Refresh = TransportHeader, ""

	for _, tc := range []struct {
		name   string
		issued Issued
		want   map[string]string
	}{
		{"cookies", issued, map[string]string{"anti-csrf": issued.AntiCSRF.Reveal()}},
		{"headers", header, map[string]string{"st-access-token": issued.Access.Reveal(), "st-refresh-token": issued.Refresh.Reveal()}},
		{"headers, the refresh token stays", kept, map[string]string{"st-access-token": issued.Access.Reveal()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := map[string]string{}
			for _, h := range tc.issued.Headers() {
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
			for _, again := range issueAt(t, e, testEpoch, `{}`).Headers() {
				if again.Name == "id-refresh-token" && again.Value == id {
					t.Error("two answers have the same marker")
				}
			}
			checkFrontToken(t, front)
		})
	}
}

// checkFrontToken reads a front-token as the web SDKs do: atob, JSON.
func checkFrontToken(t *testing.T, front string) {
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
	exp := testEpoch.Add(time.Hour)
	if token.UID != "alice" || token.ATE != exp.UnixMilli() {
		t.Errorf("front-token is of %s until %d", token.UID, token.ATE)
	}
	if token.UP["exp"] != float64(exp.Unix()) || token.UP["iat"] != float64(testEpoch.Unix()) || token.UP["role"] != "admin" {
		t.Errorf("front-token's payload is %v", token.UP)
	}
}

func TestEndedHeaders(t *testing.T) {
	want := []Header{{"id-refresh-token", "remove"}, {"front-token", "remove"}}
	if diff := cmp.Diff(want, EndedHeaders()); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}
