package sessionhttp

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// FuzzDecode: whatever the body, decode answers with a value or with one of its
// own errors, never repeats a part of the body, and takes only what a second
// reader of the body would read in the same way.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"user_id":"u1"}`, `{"user_id":"u1","claims":{"a":[1,null]},"data":{},"transport":"header","client":{"address":"::1","user_agent":"x"},"host":"h"}`,
		`{"user_id":null}`, `{"user_id":1}`, `{"a":1}`, `{"user_id":"a","user_id":"b"}`, `{"user_id":"a"}x`, `[]`, `null`, ``, `{`, `{"client":[]}`, "{\"user_id\":\"\xff\"}",
		`{"claims":{"a":1,"a":2}}`, `{"client":{"address":{"a":1}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		const limit = 512
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		v, err := decode[createRequest](httptest.NewRecorder(), r, limit)
		if len(body) > limit {
			if large := (*http.MaxBytesError)(nil); !errors.As(err, &large) {
				t.Fatalf("%d bytes: %v", len(body), err)
			}
			return
		}
		if err != nil {
			own := (*bodyError)(nil)
			if !errors.As(err, &own) {
				t.Fatalf("%T: %v", err, err)
			}
			if own.field != "" && !known[own.field] {
				t.Fatalf("field %q is no member of the API", own.field)
			}
			return
		}
		if !jsontext.Value(body).IsValid() {
			t.Fatalf("took %q", body)
		}
		var members map[string]jsontext.Value
		if err := json.Unmarshal([]byte(body), &members); err != nil {
			t.Fatal(err)
		}
		for name, text := range members {
			if !known[name] || string(text) == "null" {
				t.Fatalf("took member %q: %s", name, text)
			}
		}
		var user string
		if text, ok := members["user_id"]; ok {
			if err := json.Unmarshal(text, &user); err != nil {
				t.Fatal(err)
			}
		}
		if user != v.UserID {
			t.Fatalf("user_id %q, want %q", v.UserID, user)
		}
	})
}

var known = map[string]bool{
	"user_id": true, "claims": true, "data": true, "transport": true, "client": true, "client.address": true, "client.user_agent": true, "host": true,
}
