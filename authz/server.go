package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Config is what a Server needs to know. It is the same for all routes; Default
// is what a route's own policy starts from.
type Config struct {
	Cookies browser.Cookies
	// LoginURL is where who has no session is sent, unless the route says
	// otherwise. Where it is a path, requests for that path always pass.
	LoginURL string
	// RefreshPath, and SignoutPath where it is set, are served by sessionhttp:
	// a POST to them passes untouched.
	RefreshPath, SignoutPath string
	// SessionExpiredStatus is the HTTP status of TRY_REFRESH, 400 to 499.
	SessionExpiredStatus int
	Default              Policy
	// Routes are policies for hosts, paths and methods. See [CheckRoutes].
	Routes []Route
	// AllowedOrigins may send requests as the signed-in user, beside the request's
	// own origin: SCHEME://HOST[:PORT], lower case, no default port.
	AllowedOrigins []string
	// DenialHeader tells clients the code of a denial, in [browser.HeaderDenial].
	DenialHeader bool
	// StripCookies takes the session's tokens out of what goes upstream.
	StripCookies bool
	// RefreshAttemptMax is D: the page of TRY_REFRESH gives a refresh up after
	// half of it.
	RefreshAttemptMax time.Duration
	// Log gets a line for every denial. nil: slog.Default().
	Log *slog.Logger
	// Observe is called for every Check, with how long it took, from any
	// goroutine; it must not wait. nil: nobody counts.
	Observe func(v *Verdict, took time.Duration)
}

func (c *Config) check() error {
	var faults []error
	if c.Cookies.AccessName == "" || c.Cookies.RefreshName == "" {
		faults = append(faults, errors.New("cookie names must not be empty"))
	}
	if !isLoginURL(c.LoginURL) {
		faults = append(faults, errors.New("login address must be a path, or an absolute http or https URL, without a fragment"))
	}
	if c.Default.LoginURL != "" && !isLoginURL(c.Default.LoginURL) {
		faults = append(faults, errors.New("default policy's login address must be a path, or an absolute http or https URL, without a fragment"))
	}
	if !isLocal(c.RefreshPath) || c.SignoutPath != "" && !isLocal(c.SignoutPath) {
		faults = append(faults, errors.New("refresh and sign-out address must be paths"))
	}
	if c.SessionExpiredStatus < 400 || c.SessionExpiredStatus > 499 {
		faults = append(faults, errors.New("session-expired status must be 400 to 499"))
	}
	if err := append(c.Cookies.Faults(), c.Faults()...).Err(); err != nil {
		faults = append(faults, err)
	}
	if c.RefreshAttemptMax <= 0 {
		faults = append(faults, errors.New("longest refresh attempt must be positive"))
	}
	return errors.Join(faults...)
}

// Verifier judges access tokens: a [*sessions.Engine].
type Verifier interface {
	Verify(by sessions.Transport, tokens []string) (*sessions.Access, *sessions.Denial)
	// Confirm asks the store where Verify's memory is too old.
	CheckStore(ctx context.Context, access *sessions.Access) *sessions.Denial
	// Now is the clock of the tokens' times.
	Now() time.Time
}

// Server implements Envoy's external authorization service. It is safe for
// concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	cfg      Config
	verifier Verifier
	log      *slog.Logger
	policies *policies
	trust    browser.Trust
	// stripped are the names of the cookies that do not go upstream.
	stripped []string
	// pagePolicy is the Content-Security-Policy of the page of TRY_REFRESH.
	pagePolicy string
}

// New checks the configuration and builds a Server.
func New(verifier Verifier, cfg Config) (*Server, error) {
	if verifier == nil {
		return nil, errors.New("configuring authz: a verifier must be given")
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuring authz: %w", err)
	}
	policies, err := newPolicies(cfg)
	if err != nil {
		return nil, fmt.Errorf("configuring authz: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Observe == nil {
		cfg.Observe = func(*Verdict, time.Duration) {}
	}
	trust := browser.Trust{Origins: make([]browser.Origin, len(cfg.AllowedOrigins)), Frames: cfg.Cookies.Partitioned}
	for i, text := range cfg.AllowedOrigins {
		origin, ok := browser.ParseOrigin(text)
		if !ok {
			return nil, fmt.Errorf("configuring authz: AllowedOrigins: %q is no origin", text)
		}
		trust.Origins[i] = origin
	}
	return &Server{
		cfg: cfg, verifier: verifier, log: cfg.Log, policies: policies, trust: trust, pagePolicy: pagePolicy(cfg.AllowedOrigins, trust.Frames),
		stripped: []string{
			cfg.Cookies.Access(), cfg.Cookies.AccessName, cfg.Cookies.RefreshName, browser.LegacyCookie,
			copiedAccess, copiedRefresh, "sAntiCsrf",
		},
	}, nil
}

// The denials of this package, beside those of Verify.
var (
	denyLegacy   = &sessions.Denial{Outcome: sessions.TryRefresh, Rule: "legacy", Code: "legacy_cookie", Message: "no access token, but a cookie of an older backend"}
	denyAntiCSRF = &sessions.Denial{Outcome: sessions.TryRefresh, Rule: "anti-csrf", Code: "anti_csrf", Message: "anti-CSRF token is missing, wrong or repeated"}
	denyForeign  = &sessions.Denial{Outcome: sessions.Forbidden, Rule: "origin", Code: "foreign_origin", Message: "a page of another origin sent the request, and that origin is not allowed"}
	denyHop      = &sessions.Denial{Outcome: sessions.Unauthorised, Rule: "same-site", Code: "same_site_hop", Message: "a link from another site, which a browser follows without strict cookies, or a service worker passed on; the page asks again by itself"}
	denyClaims   = &sessions.Denial{Outcome: sessions.Forbidden, Rule: "require", Code: "claim", Message: "a claim is not what the route requires"}
	denyMaxAge   = &sessions.Denial{Outcome: sessions.Unauthorised, Rule: "max_age", Code: "max_age", Message: "the sign-in is longer ago than the route allows"}
	denyIdentity = &sessions.Denial{Outcome: sessions.Unavailable, Rule: "identity", Code: "identity", Message: "the session's claims cannot be told to Envoy"}
	denyPolicy   = &sessions.Denial{Outcome: sessions.Unavailable, Rule: "policy", Code: "policy", Message: "the route's policy is not understood"}
	denyLines    = &sessions.Denial{Outcome: sessions.Forbidden, Rule: "lines", Code: "header_lines", Message: "the request repeats a header more than 64 times; send each once"}
	denyPanic    = &sessions.Denial{Outcome: sessions.Unavailable, Rule: "panic", Code: "panic", Message: "the check panicked"}
)

// decision is what is decided about a request: allowed for somebody, denied, or,
// with neither, passed without identity.
type decision struct {
	identity *identity
	denial   *sessions.Denial
	// access is of the session that is denied, where there is one.
	access *sessions.Access
	// claims are why denial is denyClaims, fault why it is denyPolicy.
	claims []claimError
	fault  error
	// passed says why a request passes without identity.
	passed *Verdict
	// untouched leaves its cookies as they are.
	untouched bool
}

// Check implements Envoy's Authorization service. The error is always nil.
func (s *Server) Check(ctx context.Context, c *authv3.CheckRequest) (response *authv3.CheckResponse, _ error) {
	began := time.Now()
	var d decision
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(ctx, v)
			d = decision{denial: denyPanic}
			response = s.respond(&request{}, Policy{}, d)
		}
		s.cfg.Observe(d.verdict(), time.Since(began))
	}()
	r := readRequest(c)
	policy, _, err := s.policies.choose(&r, c.GetAttributes().GetContextExtensions())
	switch {
	case r.repeats:
		d = decision{denial: denyLines}
	case err != nil:
		d = refused(err)
	default:
		d = s.decide(ctx, &r, policy)
	}
	if d.denial == nil && !browser.IsHost(r.host) {
		// Whatever passes has one host. With two, an origin that is the one's would
		// be taken for the other's, and each server behind us picks its own.
		d = decision{denial: denyHostForm}
	}
	s.logDecision(ctx, &r, d)
	if d.identity != nil {
		return s.allow(&r, d.identity), nil
	}
	return s.respond(&r, policy, d), nil
}

// decide is the whole of what may pass.
func (s *Server) decide(ctx context.Context, r *request, p Policy) decision {
	switch {
	case s.cfg.isAuthPath(r):
		return decision{passed: verdictAuthPath, untouched: true}
	case r.isPreflight():
		return decision{passed: verdictPreflight, untouched: true}
	}
	from := r.evidence().Initiator(s.trust)
	d := s.identify(ctx, r, p, from)
	switch {
	case d.denial == nil:
		return d
	case s.cfg.isLoginPage(r, p):
		// Sending the login page to itself would never end.
		return decision{passed: verdictLoginPage}
	case d.denial == sessions.DenyNoToken && s.cfg.Cookies.SameSite == http.SameSiteStrictMode && r.arrives(from):
		return decision{denial: denyHop}
	case p.Optional && (noSession(d.denial) || from == browser.InitiatorForeign):
		// What another site's page causes is answered as without cookies: it does
		// not even learn that there is a session.
		return decision{passed: verdictOptional}
	case d.denial == denyForeign && r.fromWorker():
		// The page is shown in a tab, and in no frame.
		return decision{denial: denyHop, access: d.access}
	default:
		return d
	}
}

// isAuthPath: a request for refresh or sign-out, which sessionhttp judges.
func (c *Config) isAuthPath(r *request) bool {
	return r.method == "POST" && (r.path == c.RefreshPath || c.SignoutPath != "" && r.path == c.SignoutPath)
}

// isLoginPage: a page to which p, or the default, sends who has no session.
func (c *Config) isLoginPage(r *request, p Policy) bool {
	return isPathOf(c.LoginURL, r.path) || isPathOf(p.LoginURL, r.path)
}

// identify asks who there is, and whether the route is for them.
func (s *Server) identify(ctx context.Context, r *request, p Policy, from browser.Initiator) decision {
	access, denial := s.judge(r, p, from)
	if denial != nil {
		return decision{denial: denial, access: access}
	}
	if p.MaxAge > 0 && s.verifier.Now().Sub(access.AuthTime) > p.MaxAge {
		return decision{denial: denyMaxAge, access: access}
	}
	if p.Strict {
		if denial := s.verifier.CheckStore(ctx, access); denial != nil {
			return decision{denial: denial, access: access}
		}
	}
	id := identityOf(access)
	if id == nil {
		return decision{denial: denyIdentity, access: access}
	}
	if claims := unmet(p.Require, id.claims); len(claims) > 0 {
		return decision{denial: denyClaims, access: access, claims: claims}
	}
	return decision{identity: id}
}

// judge asks whether there is a session and whether its owner means the request:
// there may be one, and a denial.
func (s *Server) judge(r *request, p Policy, from browser.Initiator) (*sessions.Access, *sessions.Denial) {
	if from == browser.InitiatorForeign && r.isStream() {
		// Another site's page would read the answers with its visitor's
		// cookies: no CORS check stands before a WebSocket.
		return nil, denyForeign
	}
	if r.bearer != "" {
		// A script put it there, so no other site made the browser do it, and
		// it is what the script means, whatever cookies came by themselves.
		return s.verifier.Verify(sessions.TransportHeader, []string{r.bearer})
	}
	tokens := r.cookies(s.cfg.Cookies.Access())
	if len(tokens) == 0 && len(r.cookies(browser.LegacyCookie)) > 0 {
		return nil, denyLegacy
	}
	access, denial := s.verifier.Verify(sessions.TransportCookie, tokens)
	if denial != nil {
		return nil, denial
	}
	return access, checkForgery(r, p.AntiCSRF, from, access)
}

// checkForgery stops what another site's page makes the browser send with the
// user's cookies: the browser must attest that no such page did, or the request
// must repeat a token that no such page can read.
func checkForgery(r *request, mode AntiCSRF, from browser.Initiator, access *sessions.Access) *sessions.Denial {
	vouched := from == browser.InitiatorOwn || from == browser.InitiatorUser ||
		from == browser.InitiatorUnknown && r.reads() && r.navigates() // an old browser's, by a guess
	switch {
	case mode == AntiCSRFOff,
		mode == AntiCSRFUnsafe && (r.reads() || r.method == "OPTIONS"),
		vouched && (mode != AntiCSRFAlways || !r.canCarryToken()),
		r.antiCSRF != "" && access.MatchesAntiCSRF(r.antiCSRF):
		return nil
	case from == browser.InitiatorForeign:
		return denyForeign
	default:
		return denyAntiCSRF
	}
}

// nobody says whether a denial means that there is no session. The others have
// one to come back to by a refresh, or say nothing at all.
func noSession(d *sessions.Denial) bool {
	switch d {
	case sessions.DenyNoToken, sessions.DenyEnded, sessions.DenyMalformed, sessions.DenySignature,
		sessions.DenyUnknownKey, sessions.DenyClaims, sessions.DenyTransport, denyMaxAge:
		return true
	default:
		return false
	}
}

// isPathOf says whether path is that of a login address on the same host.
func isPathOf(loginURL, path string) bool {
	local, _, _ := strings.Cut(loginURL, "?")
	return isLocal(local) && local == path
}

// loggedMax bounds what a line holds of a request's path, method and id.
const loggedMax = 256 // bytes

// logDecision writes one line, without query (it may hold secrets), headers or
// cookies.
func (s *Server) logDecision(ctx context.Context, r *request, d decision) {
	level, v := slog.LevelDebug, d.verdict()
	outcome, rule, code, why := v.Outcome, v.Rule, v.Code, v.Why
	if d.denial != nil {
		level, outcome, rule, why = slog.LevelInfo, d.denial.Outcome, d.denial.Rule, d.denial.Message
	}
	if outcome == sessions.Unavailable {
		level = slog.LevelWarn
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	switch {
	case len(d.claims) > 0:
		why += ": " + d.claims[0].ID
	case d.fault != nil:
		why = d.fault.Error()
	}
	attrs := append(make([]slog.Attr, 0, 11),
		slog.String("outcome", outcome.String()), slog.String("rule", rule), slog.String("code", code), slog.String("why", why),
		slog.String("method", clip(r.method)), slog.String("path", clip(r.path)), slog.String("request_id", clip(r.id)))
	if d.access != nil {
		attrs = append(attrs, slog.String("user_id", d.access.UserID), slog.String("session", d.access.Handle.String()))
	}
	if traceID, spanID, ok := browser.ParseTraceparent(r.traceparent); ok {
		attrs = append(attrs, slog.String("trace_id", traceID), slog.String("span_id", spanID))
	}
	s.log.LogAttrs(ctx, level, "check", attrs...)
}

// logPanic tells where, but of what only a runtime error's own words: a panic's
// value may hold part of the request.
func (s *Server) logPanic(ctx context.Context, v any) {
	what := fmt.Sprintf("%T", v)
	if err, ok := v.(runtime.Error); ok {
		what = err.Error()
	}
	s.log.LogAttrs(ctx, slog.LevelError, "check panicked",
		slog.String("outcome", denyPanic.Outcome.String()), slog.String("rule", denyPanic.Rule), slog.String("code", denyPanic.Code), slog.String("panic", what), slog.String("stack", string(debug.Stack())))
}

func clip(text string) string {
	if len(text) > loggedMax {
		return text[:loggedMax]
	}
	return text
}
