package sessiondev

import (
	"net/http"
	"slices"
	"strings"
)

// What the cors filter of envoy.yaml says to the origins that are listed. A test holds it to the
// file.
const (
	corsMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	corsHeaders = "content-type, authorization, anti-csrf, rid, fdi-version, st-auth-mode, supertokens-sdk-name, supertokens-sdk-version"
	corsExposed = "front-token, anti-csrf, id-refresh-token, st-access-token, st-refresh-token, x-sessiongate-denial, retry-after"
	corsMaxAge  = "600"
)

// corsRemoved is what the app says and the client does not hear.
var corsRemoved = []string{"access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"}

// corsWriter says what CORS asks for, on whatever is answered. It is the only voice on it: what the
// app says is removed.
type corsWriter struct {
	http.ResponseWriter

	origin string // empty: not one of those that are listed
	said   bool
}

// Unwrap is for [http.ResponseController].
func (w *corsWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *corsWriter) say() {
	if w.said {
		return
	}
	w.said = true
	h := w.Header()
	for _, name := range corsRemoved {
		h.Del(name)
	}
	if w.origin != "" {
		h.Set("Access-Control-Allow-Origin", w.origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", corsExposed)
	}
}

// WriteHeader implements [http.ResponseWriter].
func (w *corsWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.say()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *corsWriter) Write(b []byte) (int, error) {
	w.say()
	return w.ResponseWriter.Write(b)
}

// listed is the origin of r if it is one of those that may act as the signed-in user.
func (p *proxy) listed(r *request) string {
	origin := strings.Join(r.header.Values("Origin"), ",")
	if slices.Contains(p.origins, origin) {
		return origin
	}
	return ""
}

// preflight answers a CORS preflight, and says whether r was one. It carries no cookies, and would
// be denied.
func preflight(w *corsWriter, r *request) bool {
	if r.method != http.MethodOptions || r.header.Get("Origin") == "" || r.header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h := w.Header()
	w.say()
	h.Set("Access-Control-Allow-Credentials", "true") // worth nothing without an allowed origin
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", corsMaxAge)
	w.WriteHeader(http.StatusOK)
	return true
}
