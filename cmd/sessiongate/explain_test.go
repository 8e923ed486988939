package main

import (
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/authz"
)

// Explain says every answer that a route gives to a client without a session.
func TestExplainSaysEveryAnswer(t *testing.T) {
	t.Parallel()
	c, _ := mustParse(t, "")
	for _, name := range authz.OnUnauthorisedNames() {
		p, err := authz.Policy{LoginURL: "/login"}.With(map[string]string{"on_unauthorised": name})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(consequences(c, asked{method: "GET", path: "/x"}, authz.Explanation{Policy: p, Entry: -1}), "\n")
		if !strings.Contains(got, "A client without a session gets "+name) && !strings.Contains(got, "A client without a session is sent to /login") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
