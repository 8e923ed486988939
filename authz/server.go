package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Config is what a Server needs to know. It is the same for all routes; Default
// is what a route's own policy starts from.
type Config struct {
	Cookies browser.Cookies
	// LoginURL is where a request without a session is sent, unless the route says
	// otherwise. Where it is a path, requests for that path always pass.
	LoginURL string
	// RefreshPath and, where they are set, SignoutPath, BindPath and BoundPath are served by
	// sessionhttp: a POST to them passes untouched. The browser sends those to the last two when it has
	// no good access token, and ends its device session if they do not arrive.
	RefreshPath, SignoutPath string
	BindPath, BoundPath      string
	// SessionExpiredStatus is the HTTP status of TRY_REFRESH
	// ([browser.CanMeanExpired]).
	SessionExpiredStatus int
	Default              Policy
	// Routes are policies for hosts, paths and methods. See [CheckRoutes].
	Routes []Route
	// AllowedOrigins are other origins whose pages may send requests as the signed-in
	// user: SCHEME://HOST[:PORT], lower case, no default port.
	AllowedOrigins []string
	// DenialHeader tells clients the code of a denial, in [browser.HeaderDenial].
	DenialHeader bool
	// StripCookies removes the session's tokens from requests that go upstream.
	StripCookies bool
	// RefreshAttemptMax is D: the page of TRY_REFRESH waits for a refresh half as long.
	RefreshAttemptMax time.Duration
	// Log gets a line for every denial. nil: slog.Default().
	Log *slog.Logger
	// Observe is called for every Check, from any goroutine. It must not wait. nil: Checks
	// are not counted.
	Observe func(Observation)
}

// check says all that is wrong with a Config but its routes, and returns the origins
// whose requests are trusted.
func (c *Config) check() (browser.Trust, error) {
	origins, err := browser.ParseOrigins(c.AllowedOrigins)
	faults := []error{err}
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
	if c.BindPath != "" && !isLocal(c.BindPath) || c.BoundPath != "" && !isLocal(c.BoundPath) {
		faults = append(faults, errors.New("the addresses at which a device's key is registered and proven must be paths"))
	}
	if !browser.CanMeanExpired(c.SessionExpiredStatus) {
		faults = append(faults, errors.New("session-expired status must be "+browser.AllowedExpired))
	}
	if err := append(c.Cookies.Faults(), c.Faults()...).Err(); err != nil {
		faults = append(faults, err)
	}
	if c.RefreshAttemptMax <= 0 {
		faults = append(faults, errors.New("longest refresh attempt must be positive"))
	}
	return browser.Trust{Origins: origins, Frames: c.Cookies.Partitioned}, errors.Join(faults...)
}

// Verifier judges access tokens: a [*sessions.Engine].
type Verifier interface {
	// Verify must not keep the tokens: their bytes are used again for other requests.
	Verify(by sessions.Transport, tokens []string) (*sessions.Access, *sessions.Denial)
	// CheckStore asks the store where Verify's memory is too old.
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
	trust, err := cfg.check()
	if err != nil {
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
		cfg.Observe = func(Observation) {}
	}
	return &Server{
		cfg: cfg, verifier: verifier, log: cfg.Log, policies: policies, trust: trust, pagePolicy: pagePolicy(cfg.AllowedOrigins, trust.Frames),
		stripped: []string{
			cfg.Cookies.Access(), cfg.Cookies.AccessName, cfg.Cookies.RefreshName, browser.LegacyCookie,
			copiedAccess, copiedRefresh, "sAntiCsrf",
		},
	}, nil
}

// decision is what is decided about a request: it is allowed with an identity, denied or,
// with neither, passed without identity.
type decision struct {
	identity *identity
	denial   *sessions.Denial
	// access is that of the session whose request is denied, where there is one.
	access *sessions.Access
	// claims are why denial is denyClaims or denyUnbound, fault why it is denyPolicy.
	claims []claimError
	fault  error
	// passed says why a request passes without identity.
	passed *report
	// untouched leaves the request's cookies as they are.
	untouched bool
}

// Check implements Envoy's Authorization service for callers that have a CheckRequest. The
// server of [NewGRPCServer] answers without one.
func (s *Server) Check(ctx context.Context, c *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	response := &authv3.CheckResponse{}
	q := question{request: readRequest(c), extensions: c.GetAttributes().GetContextExtensions()}
	return response, proto.Unmarshal(s.answer(ctx, &q).ReadOnlyData(), response)
}

// answer answers a Check.
func (s *Server) answer(ctx context.Context, q *question) (a *answer) {
	began := time.Now()
	var d decision
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(ctx, v)
			d = decision{denial: denyPanic}
			a = s.respond(&request{}, Policy{}, d)
		}
		seen := d.report().Observation
		seen.Took = time.Since(began)
		s.cfg.Observe(seen)
	}()
	r := &q.request
	policy, _, err := s.policies.choose(r, q.extensions)
	switch {
	case r.repeats:
		d = decision{denial: denyLines}
	case err != nil:
		d = refused(err)
	default:
		d = s.decide(ctx, r, policy)
	}
	if d.denial == nil && !browser.IsHost(r.host) {
		// A request that passes has one host. With two, an origin that is that of one
		// host would be taken for that of the other, and each upstream picks its own.
		d = decision{denial: denyHostForm}
	}
	s.logDecision(ctx, r, d)
	if d.identity != nil {
		return s.allow(r, d.identity)
	}
	return s.respond(r, policy, d)
}

// decide says whether a request may pass. No other code lets one pass.
func (s *Server) decide(ctx context.Context, r *request, p Policy) decision {
	switch {
	case s.cfg.isAuthPath(r):
		return decision{passed: passAuthPath, untouched: true}
	case r.isPreflight():
		return decision{passed: passPreflight, untouched: true}
	}
	from := r.evidence().Initiator(s.trust)
	d := s.identify(ctx, r, p, from)
	switch {
	case d.denial == nil:
		return d
	case s.cfg.isLoginPage(r, p):
		// Sending the login page to itself would never end.
		return decision{passed: passLoginPage}
	case d.denial == sessions.DenyNoToken && s.cfg.Cookies.SameSite == http.SameSiteStrictMode && r.arrives(from):
		return decision{denial: denyHop}
	case p.Optional && (noSession(d.denial) || from == browser.InitiatorForeign):
		// A request that another site's page causes is answered as one without cookies:
		// that page does not even learn that there is a session.
		return decision{passed: passOptional}
	case d.denial == denyForeign && r.fromWorker():
		// The page of the answer is shown in a tab, and in no frame.
		return decision{denial: denyHop, access: d.access}
	default:
		return d
	}
}

// isAuthPath: a request for refresh, sign-out, or the key of a device, which sessionhttp judges.
func (c *Config) isAuthPath(r *request) bool {
	if r.method != "POST" {
		return false
	}
	for _, path := range [...]string{c.RefreshPath, c.SignoutPath, c.BindPath, c.BoundPath} {
		if path != "" && r.path == path {
			return true
		}
	}
	return false
}

// isLoginPage: a page to which p, or the default, sends requests without a session.
func (c *Config) isLoginPage(r *request, p Policy) bool {
	return isPathOf(c.LoginURL, r.path) || isPathOf(p.LoginURL, r.path)
}

// identify says which identity a request has, and whether the route is open to it.
func (s *Server) identify(ctx context.Context, r *request, p Policy, from browser.Initiator) decision {
	access, denial := s.judge(r, p, from)
	if denial != nil {
		return decision{denial: denial, access: access}
	}
	if p.MaxAge > 0 && s.verifier.Now().Sub(access.AuthTime) > p.MaxAge {
		return decision{denial: denyMaxAge, access: access}
	}
	if p.Bound && !access.Bound {
		return decision{denial: denyUnbound, access: access, claims: unbound}
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

// judge says whether a request has a session, and whether the session's owner means the
// request. Where there is a session but its owner may not mean the request, there are both
// an access and a denial.
func (s *Server) judge(r *request, p Policy, from browser.Initiator) (*sessions.Access, *sessions.Denial) {
	if from == browser.InitiatorForeign && r.isStream() {
		// This stops cross-site WebSocket hijacking: browsers check no CORS before a
		// WebSocket, so another site's page would read the answers with its visitor's
		// cookies.
		return nil, denyForeign
	}
	if r.bearer != "" {
		// A script put the token there, so no other site made the browser send it. The
		// script means this session, whatever cookies the browser added.
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

// checkForgery stops cross-site request forgery: requests that another site's page makes
// the browser send with the user's cookies. The browser must attest that no such page did,
// or the request must repeat a token that no such page can read.
func checkForgery(r *request, mode AntiCSRF, from browser.Initiator, access *sessions.Access) *sessions.Denial {
	vouched := from == browser.InitiatorOwn || from == browser.InitiatorUser ||
		from == browser.InitiatorUnknown && r.reads() && r.navigates() // a guess, for old browsers
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

// noSession says whether a denial means that there is no session. The other denials are
// of a session that a refresh brings back, or say nothing about a session.
func noSession(d *sessions.Denial) bool {
	switch d {
	case sessions.DenyNoToken, sessions.DenyEnded, sessions.DenyMalformed, sessions.DenySignature,
		sessions.DenyUnknownKey, sessions.DenyClaims, sessions.DenyTransport, denyMaxAge:
		return true
	default:
		return false
	}
}
