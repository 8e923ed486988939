package sessionhttp

import (
	"net/http"
)

func (a *api) get(w http.ResponseWriter, r *http.Request, _ string) error {
	if err := noQuery(r); err != nil {
		return err
	}
	handle, err := handleOf(r)
	if err != nil {
		return err
	}
	record, err := a.engine.Get(r.Context(), handle)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Session session `json:"session"`
	}{newSession(record)})
	return nil
}
