package sessiondev

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// controlPath is where the controls are, on the listener of browsers. The app's own paths below it
// are hidden.
const controlPath = "/dev/"

// LoginPath is the login page of this package: a form that signs in any user it is told, without a
// password.
const LoginPath = controlPath + "login"

//go:embed control.html
var controlHTML string

var controlPage = template.Must(template.New("control").Parse(controlHTML))

// formMax bounds a form. Below it, nothing of one goes to the disk.
const formMax = 64 << 10

// controls are the faults and the login page, for hands and for tests in other languages.
func (s *Server) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+controlPath+"{$}", func(w http.ResponseWriter, _ *http.Request) { s.page(w, "list", nil) })
	mux.HandleFunc("GET "+LoginPath, func(w http.ResponseWriter, r *http.Request) { s.page(w, "login", r.URL.Query()) })
	mux.HandleFunc("POST "+LoginPath, s.login)
	mux.HandleFunc("POST "+controlPath+"expire", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.Expire(r.Context()), "Every access token has expired. The next request is told to refresh.")
	})
	mux.HandleFunc("POST "+controlPath+"end", func(w http.ResponseWriter, r *http.Request) {
		n, err := s.End(r.Context(), r.FormValue("user"))
		done(w, err, fmt.Sprintf("Sessions ended: %d.", n))
	})
	mux.HandleFunc("POST "+controlPath+"theft", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.Theft(r.Context()), "A thief reused a refresh token of the session that began last. It has ended, for both.")
	})
	mux.HandleFunc("POST "+controlPath+"outage", func(w http.ResponseWriter, r *http.Request) {
		switch r.FormValue("on") {
		case "", "true":
			s.Outage(true)
			done(w, nil, "The store is away. Access tokens still work; refreshes and sign-ins are answered 503.")
		case "false":
			s.Outage(false)
			done(w, nil, "The store is back.")
		default:
			http.Error(w, "on: allowed: true, false", http.StatusBadRequest)
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
		if why := refused(r); why != "" {
			http.Error(w, why, http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, formMax)
		mux.ServeHTTP(w, r)
	})
}

// refused says why a request may not use the controls; empty: it may. The name of the host must be
// one that only this machine has: else a page of any site could have its own name lead here (DNS
// rebinding). And a page of another origin must not send it.
func refused(r *http.Request) string {
	if !isLocal(r.Host) {
		return "The controls answer at localhost, a name below .localhost, and a loopback address."
	}
	get := func(name string) string { return strings.Join(r.Header.Values(name), ",") }
	evidence := browser.Evidence{
		Reads: r.Method == http.MethodGet || r.Method == http.MethodHead, Scheme: scheme, Host: r.Host, Origin: get("Origin"), Referer: get("Referer"),
		Site: get("Sec-Fetch-Site"), Mode: get("Sec-Fetch-Mode"), Dest: get("Sec-Fetch-Dest"), Purpose: get("Sec-Purpose"),
	}
	if from := evidence.Initiator(browser.Trust{}); from == browser.InitiatorForeign || !evidence.Reads && from == browser.InitiatorUser {
		return "A page of another site sent this. Open " + controlPath + " here."
	}
	return ""
}

func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

func (s *Server) page(w http.ResponseWriter, name string, values map[string][]string) {
	first := func(key string) string {
		if v := values[key]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = controlPage.ExecuteTemplate(w, name, map[string]string{"User": first("user"), "ReturnTo": local(first("return_to")), "Internal": s.InternalURL})
}

// login signs a user in, and leads back.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	claims := []byte(r.FormValue("claims"))
	if len(claims) == 0 {
		claims = nil
	}
	issued, err := s.engine.Create(r.Context(), sessions.NewSession{UserID: r.FormValue("user"), Claims: claims, Transport: sessions.TransportCookie, Actor: "dev"})
	if err != nil {
		done(w, err, "")
		return
	}
	s.seen.addIssued(issued)
	for _, line := range s.cookies.Set(r.Host, issued) {
		w.Header().Add("Set-Cookie", line)
	}
	for _, h := range browser.Headers(issued) {
		w.Header().Set(h.Name, h.Value)
	}
	w.Header().Set("Location", local(r.FormValue("return_to")))
	w.WriteHeader(http.StatusSeeOther)
}

// local is a path of this host, and / for all else.
func local(path string) string {
	if !authz.IsReturnTo(path) {
		return "/"
	}
	return path
}

func done(w http.ResponseWriter, err error, text string) {
	invalid := (*sessions.InvalidError)(nil)
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintln(w, text)
	case errors.As(err, &invalid):
		http.Error(w, invalid.Error(), http.StatusBadRequest)
	case errors.Is(err, ErrNoSession):
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}
