package main

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiongate/sessiongate/sessions/sessionclient"
)

const (
	maxBody = 64 << 10 // bytes
	// Everything is a file of our own: what is injected does not run.
	contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

var (
	//go:embed static
	static embed.FS
	//go:embed templates
	templates embed.FS
	pages     = template.Must(template.ParseFS(templates, "templates/*.html"))
)

type app struct {
	gate    *gate
	stage   stage
	log     *slog.Logger
	way     string           // the value of networkHeader
	signIns *recent[*signIn] // by handle
	thieves *recent[*thief]
	laptops *recent[*laptop]
	wire    *wire
}

func newApp(g *gate, s stage, log *slog.Logger) *app {
	return &app{
		gate: g, stage: s, log: log, way: rand.Text(),
		signIns: newRecent[*signIn](signInsMax), thieves: newRecent[*thief](actorsMax), laptops: newRecent[*laptop](actorsMax), wire: newWire(),
	}
}

// handler is the app as Envoy knows it.
func (a *app) handler() http.Handler {
	static, err := newFiles(static)
	if err != nil {
		panic(err) // they are in the program
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.HandleFunc("GET /login", a.loginPage)
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.HandleFunc("POST /logout-everywhere", a.logoutEverywhere)
	mux.HandleFunc("GET /api/me", a.me)
	mux.HandleFunc("/api/echo", a.echo)
	mux.HandleFunc("GET /optional", a.optional)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.Handle("GET /static/", static)

	dressed := a.dressed(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := r.Header.Get(requestHeader); name != "" {
			a.wire.received(name, r)
		}
		dressed.ServeHTTP(w, r)
	})
}

// dressed is a handler of this app's pages and calls, with what each answer has.
func (a *app) dressed(h http.Handler) http.Handler {
	// Against sign-in CSRF: a foreign page must not sign its visitor in as
	// another user. The gate's check does not cover the sign-in route.
	protected := http.NewCrossOriginProtection().Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		if strings.HasPrefix(r.URL.Path, "/static/") {
			h.Set("Cache-Control", "no-cache")
		} else {
			h.Set("Cache-Control", "no-store") // pages differ by who is signed in
		}
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("Referrer-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		protected.ServeHTTP(w, r)
	})
}

// signedIn is the user that Envoy vouches for, or "".
func signedIn(r *http.Request) string { return r.Header.Get("X-Session-User-Id") }

// handleOf names that user's session.
func handleOf(r *http.Request) string { return r.Header.Get("X-Session-Handle") }

// homePage is what the page's script starts from.
type homePage struct {
	User, Handle string
	Chain        *chain
	First        string // hash of the refresh token of the sign-in, if remembered
	Proof        string // the page's right to play with this session, "" where it cannot
	Attempt      int64  // refresh_attempt_max in ms, 0 if not known
	Network      string // where the page can be played, if it was opened at Envoy itself
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	p := homePage{User: signedIn(r), Handle: handleOf(r), Chain: chainOf(r), Attempt: a.stage.attempt.Milliseconds()}
	if s, ok := a.signIns.get(p.Handle); ok {
		p.First = s.first
		if a.cameByNetwork(r) {
			p.Proof = s.proof
		}
	}
	if !a.cameByNetwork(r) {
		p.Network = a.stage.network
	}
	a.render(w, http.StatusOK, "home.html", p)
}

func (a *app) loginPage(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	note := ""
	if query.Get("reauth") == "1" {
		note = "This page wants to be sure that it is you. Please sign in once more."
	}
	a.render(w, http.StatusOK, "login.html", loginForm{ReturnTo: localPath(query.Get("return_to")), Note: note})
}

type loginForm struct {
	User, ReturnTo, Note string
}

func (a *app) login(w http.ResponseWriter, r *http.Request) {
	user, returnTo, err := readLogin(r)
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		a.loginFailed(w, r, status, loginForm{Note: "That was not a sign-in form."})
		return
	}
	form := loginForm{User: user, ReturnTo: localPath(returnTo)}
	if user == "" {
		form.Note = "Please type a user name."
		a.loginFailed(w, r, http.StatusBadRequest, form)
		return
	}
	answer, err := a.gate.createSession(r.Context(), user, r.Host, browser(r))
	if err != nil {
		status := a.gateFailed(w, r, err)
		form.Note = "Signing in does not work at the moment. Please try again."
		if status == http.StatusBadRequest {
			form.Note = "That user name cannot be used. ASCII letters, digits and signs can; blanks and accents cannot."
		}
		a.loginFailed(w, r, status, form)
		return
	}
	if s := remember(user, answer); s != nil {
		a.signIns.add(answer.Session.Handle, s)
		if a.cameByNetwork(r) {
			w.Header().Set(proofHeader, s.proof)
		}
	}
	answer.Answer.CopyTo(w)
	if r.Header.Get(unboundHeader) != "" {
		w.Header().Del(headerOffer) // the story tells of rotation, which a bound session has none of
	}
	a.done(w, r, form.ReturnTo)
}

// readLogin reads a form or JSON.
func readLogin(r *http.Request) (user, returnTo string, err error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return "", "", fmt.Errorf("reading the content type: %w", err)
	}
	switch mediaType {
	case "application/json":
		var body struct {
			User     string `json:"user"`
			ReturnTo string `json:"return_to"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return "", "", fmt.Errorf("reading the sign-in: %w", err)
		}
		return body.User, body.ReturnTo, nil
	case "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return "", "", fmt.Errorf("reading the sign-in: %w", err)
		}
		return r.PostForm.Get("user"), r.PostForm.Get("return_to"), nil
	}
	return "", "", fmt.Errorf("unexpected content type %q", mediaType)
}

func (a *app) loginFailed(w http.ResponseWriter, r *http.Request, status int, form loginForm) {
	if wantsJSON(r) {
		a.json(w, status, map[string]string{"status": "ERROR", "message": form.Note})
		return
	}
	form.ReturnTo = localPath(form.ReturnTo)
	a.render(w, status, "login.html", form)
}

// logout is for a form without scripts, which needs a page next. Scripts ask
// sessiongate itself.
func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	a.signOut(w, r, a.gate.End, handleOf(r))
}

func (a *app) logoutEverywhere(w http.ResponseWriter, r *http.Request) {
	a.signOut(w, r, a.gate.EndUser, signedIn(r))
}

func (a *app) signOut(w http.ResponseWriter, r *http.Request, end func(_ context.Context, whose, host string) (*sessionclient.Ended, error), whose string) {
	if whose == "" {
		http.Error(w, "no one is signed in", http.StatusUnauthorized)
		return
	}
	answer, err := end(r.Context(), whose, r.Host)
	if err != nil {
		http.Error(w, "signing out does not work at the moment", a.gateFailed(w, r, err))
		return
	}
	answer.Answer.CopyTo(w)
	a.done(w, r, "/login")
}

func (a *app) me(w http.ResponseWriter, r *http.Request) {
	headers := map[string][]string{}
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-session-") {
			headers[name] = values
		}
	}
	names := []string{}
	for _, c := range r.Cookies() {
		names = append(names, c.Name) // never the value: it may be a token
	}
	a.passed(w, r, http.StatusOK, map[string]any{"user_id": signedIn(r), "headers": headers, "cookies": names})
}

func (a *app) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body is too large or broken", http.StatusRequestEntityTooLarge)
		return
	}
	names := []string{}
	for name := range maps.Keys(r.Header) {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	a.json(w, http.StatusOK, map[string]any{
		"method":       r.Method,
		"path":         r.URL.Path,
		"query":        r.URL.RawQuery,
		"user_id":      signedIn(r),
		"body":         string(body),
		"header_names": names,
	})
}

func (a *app) optional(w http.ResponseWriter, r *http.Request) {
	a.json(w, http.StatusOK, map[string]any{"signed_in": signedIn(r) != "", "user_id": signedIn(r)})
}

// browser is the other end of Envoy's connection. Envoy itself sets or removes
// x-envoy-external-address. To x-forwarded-for it appends the address (its own where
// the peer is on the same machine); what stands before is the browser's own claim.
func browser(r *http.Request) client {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	if external := r.Header.Values("X-Envoy-External-Address"); len(external) == 1 {
		address = external[0]
	} else if lines := r.Header.Values("X-Forwarded-For"); len(lines) > 0 {
		line := lines[len(lines)-1]
		address = strings.TrimSpace(line[strings.LastIndexByte(line, ',')+1:])
	}
	if _, err := netip.ParseAddr(address); err != nil {
		address = "" // a sign-in must not fail by it
	}
	return client{Address: address, UserAgent: r.UserAgent()}
}

// localPath returns a path of this origin, "/" for anything else: an open redirect
// would lend our name to a foreign sign-in page. Browsers read "\" as "/" and drop
// tabs and line ends, so "/\evil" and "/\t/evil" are foreign, too.
func localPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") ||
		strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f }) {
		return "/"
	}
	return s
}

// gateFailed logs why the gate failed and returns the status that the browser gets.
func (a *app) gateFailed(w http.ResponseWriter, r *http.Request, err error) int {
	a.log.ErrorContext(r.Context(), "asking sessiongate", "error", err)
	if e := (*sessionclient.Error)(nil); errors.As(err, &e) {
		switch e.Status {
		case http.StatusBadRequest:
			return http.StatusBadRequest
		case http.StatusServiceUnavailable:
			if e.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter.Seconds())))
			}
			return http.StatusServiceUnavailable
		}
	}
	return http.StatusBadGateway
}

// wantsJSON tells a script's request from a form's.
func wantsJSON(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") ||
		strings.HasPrefix(r.Header.Get("Accept"), "application/json")
}

// done answers a form with the next page, a script with JSON.
func (a *app) done(w http.ResponseWriter, r *http.Request, next string) {
	if wantsJSON(r) {
		a.json(w, http.StatusOK, map[string]string{"status": "OK"})
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (a *app) json(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		a.log.Warn("writing an answer", "error", err)
	}
}

func (a *app) render(w http.ResponseWriter, status int, page string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := pages.ExecuteTemplate(w, page, data); err != nil {
		a.log.Warn("writing a page", "page", page, "error", err)
	}
}
