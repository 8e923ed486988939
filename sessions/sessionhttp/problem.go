package sessionhttp

import (
	"cmp"
	"net/http"

	"github.com/go-json-experiment/json"
)

// problem is a problem details object (RFC 9457). Its type is about:blank, so its
// title is the status' phrase (§4.2.1). Field and Allowed are extension members:
// which input was refused, by its dotted name, and what would be accepted;
// Outcome is another.
type problem struct {
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail,omitempty"`
	Field   string `json:"field,omitempty"`
	Allowed string `json:"allowed,omitempty"`
	// Code is one of Refusals, or of a denial.
	Code string `json:"code,omitempty"`
	// Outcome is the denial of an access token.
	Outcome string `json:"outcome,omitempty"`
}

const problemType = "application/problem+json"

// titled is p with its title. Some session_expired_status has no phrase.
func (p problem) titled() problem {
	p.Title = cmp.Or(http.StatusText(p.Status), "Session Expired")
	return p
}

func writeProblem(w http.ResponseWriter, p problem) { write(w, p.Status, problemType, p.titled()) }

func writeJSON(w http.ResponseWriter, status int, v any) { write(w, status, "application/json", v) }

func write(w http.ResponseWriter, status int, mediaType string, v any) {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(err) // one of our own types that does not marshal
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	// The client may be gone; there is nobody to tell.
	_, _ = w.Write(body) //nolint:gosec,nolintlint // JSON, said to be that, with nosniff: no browser reads it as a page (G705); gosec sees it at times only
}
