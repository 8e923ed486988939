package sessionhttp

import (
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
)

// Health serves /healthz and /readyz. /healthz is 200 as long as the process answers.
// /readyz is 503 until the engine has read keys and feed, and while draining is true. An
// outage of Postgres changes neither: it must not take every replica out of service.
func Health(engine *sessions.Engine, draining func() bool) http.Handler {
	get := func(write func(w http.ResponseWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			setDefaults(w.Header())
			write(w)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", get(func(w http.ResponseWriter) {
		writeJSON(w, http.StatusOK, struct {
			Status string `json:"status"`
		}{"OK"})
	}))
	mux.Handle("GET /readyz", get(func(w http.ResponseWriter) {
		state := readiness{Draining: draining()}
		if engine.Ready() {
			state.Ready = !state.Draining
			age := engine.FeedAge().Milliseconds()
			state.FeedAge = &age
		}
		status := http.StatusOK
		if !state.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, state)
	}))
	return mux
}

type readiness struct {
	Ready    bool `json:"ready"`
	Draining bool `json:"draining"`
	// FeedAge is milliseconds; absent before the first reading.
	FeedAge *int64 `json:"feed_age_ms,omitempty"`
}
