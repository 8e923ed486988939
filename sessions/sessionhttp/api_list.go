package sessionhttp

import (
	"net/http"
	"strconv"

	"github.com/sessiongate/sessiongate/sessions"
)

// The most sessions that a list has: by default, and on request.
const (
	listDefault = 100
	listMax     = 1000
)

type listResponse struct {
	Sessions []session `json:"sessions"`
	// More: there are others, which are older.
	More bool `json:"more"`
}

func (a *api) list(w http.ResponseWriter, r *http.Request, _ string) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	records, err := a.engine.ListUser(r.Context(), r.PathValue("user_id"), limit+1)
	if err != nil {
		return err
	}
	answer := listResponse{Sessions: []session{}, More: len(records) > limit}
	for _, record := range records[:min(limit, len(records))] {
		answer.Sessions = append(answer.Sessions, newSession(record))
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// limitOf is the query parameter limit of a list.
func limitOf(r *http.Request) (int, error) {
	text, err := parameterOf(r, "limit")
	if err != nil {
		return 0, err
	}
	if !r.URL.Query().Has("limit") {
		return listDefault, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > listMax || strconv.Itoa(limit) != text {
		return 0, &sessions.InvalidError{Field: "limit", Allowed: "1 to " + strconv.Itoa(listMax)}
	}
	return limit, nil
}
