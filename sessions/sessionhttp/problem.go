package sessionhttp

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/sessiongate/sessiongate/sessions"
)

// problem is a problem details object (RFC 9457). Its type is about:blank, so its title is
// the status' phrase (§4.2.1). The members after Detail are extensions.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Field is the dotted name of the input that was refused, Allowed what it may be.
	Field   string `json:"field,omitempty"`
	Allowed string `json:"allowed,omitempty"`
	// Code is that of a denial.
	Code string `json:"code,omitempty"`
	// Outcome is that of the denial of an access token.
	Outcome string `json:"outcome,omitempty"`
}

func newProblem(d *sessions.Denial, status int, detail string) problem {
	return problem{Code: d.Code, Status: status, Detail: detail}
}

const problemType = "application/problem+json"

// titled is p with its title. Some values of session_expired_status have no phrase.
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
	send(w, status, mediaType, body)
}

func send(w http.ResponseWriter, status int, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	// net/http counts the bytes of small bodies alone, and sends others in chunks.
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// Where this fails, the client is gone.
	_, _ = w.Write(body) //nolint:gosec,nolintlint // JSON, said to be that, with nosniff: no browser reads it as a page (G705); gosec sees it at times only
}
