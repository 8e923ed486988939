package sessionhttp

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// provedQuery is what a plain refresh or a sign-out has after it was sent to prove (B9, B12).
const provedQuery = "bound=1"

// bind registers the key of the browser's device for its session (B1). A refusal ends nothing: the
// browser then has no device session, and the session is not bound.
func (p *public) bind(w http.ResponseWriter, r *http.Request) error {
	if err := p.checkInitiator(r); err != nil {
		return err
	}
	issued, err := p.engine.Bind(r.Context(), p.prover(r))
	p.decided(r, issued, err)
	if err != nil {
		return err
	}
	// No bound cookie, and none of a former session: the browser's next request then waits for a proof,
	// which is the first sign that this answer arrived.
	p.forgetBound(w, r)
	p.instruct(w, r, issued)
	return nil
}

func (p *public) instruct(w http.ResponseWriter, r *http.Request, issued sessions.Issued) {
	send(w, http.StatusOK, "application/json", p.cfg.Binding.Instructions(p.cfg.Cookies, r.Host, p.trust.Origins, issued.Identifier))
}

// proof answers the requests that the browser makes by itself, before a request of a page (B2 to B7).
// It has no rule of origins: any page may cause the request, and only the device can answer. To most
// errors a browser ends its device session, so none of them may be a mere misfortune: what is not
// decided is 503.
func (p *public) proof(w http.ResponseWriter, r *http.Request) error {
	prover := p.prover(r)
	issued, err := p.engine.RefreshBound(r.Context(), prover)
	p.decided(r, issued, err)
	var challenge *sessions.ChallengeError
	switch {
	case errors.As(err, &challenge):
		p.challenge(w, r, challenge)
		return nil
	case errors.Is(err, sessions.ErrSessionEnded):
		p.refusal(w, r, err)
		p.forget(w, r, sessions.TransportCookie)
	case errors.Is(err, sessions.ErrSuperseded), errors.Is(err, sessions.ErrNotThisDevice):
		p.refusal(w, r, err)
	case err != nil:
		return err
	default:
		addCookies(w, p.cookies.Set(r.Host, issued))
		addCookies(w, []string{p.cfg.Binding.Set(p.cfg.Cookies, issued)})
		p.forgetWait(w, r)
		setHeaders(w, browser.Headers(issued))
		p.instruct(w, r, issued)
		return nil
	}
	send(w, http.StatusOK, "application/json", browser.EndDeviceSession(prover.Identifier))
	return nil
}

// challenge is a part of every refresh with a proof, so no log line of INFO has it.
func (p *public) challenge(w http.ResponseWriter, r *http.Request, c *sessions.ChallengeError) {
	subjectOf(r).code = denyChallenge.Code
	if p.cfg.DenialHeader {
		w.Header().Set(browser.HeaderDenial, denyChallenge.Code)
	}
	p.log(r, slog.LevelDebug, "challenge", "session", c.Session.String())
	setHeaders(w, []browser.Header{browser.Challenge(c)})
	writeProblem(w, newProblem(denyChallenge, http.StatusForbidden, "Sign the challenge with the key of the session, and repeat the request with the proof."))
}

// prover is what r shows of the device. The transport is cookies: a bearer token is ignored.
func (p *public) prover(r *http.Request) sessions.Prover {
	return sessions.Prover{
		Tokens:     cookieValues(r, p.cfg.Cookies.RefreshName),
		Proof:      browser.ParseProof(r.Header.Values(browser.HeaderProof)),
		Identifier: browser.ParseSessionID(r.Header.Values(browser.HeaderSessionID)),
		Device:     p.cfg.Device.Of(peerOf(r), r.UserAgent()),
	}
}

// shown is what a plain refresh shows of the device.
func (p *public) shown(r *http.Request) sessions.Shown {
	return sessions.Shown{
		Access:  cookieValues(r, p.cfg.Cookies.Access()),
		Again:   r.URL.RawQuery == provedQuery,
		Skipped: len(r.Header.Values(browser.HeaderSkipped)) > 0,
		Waits:   cookieValues(r, p.cfg.Binding.WaitName()),
	}
}

// sendToProve is B9 and B12: the browser proves before it follows, for it has no bound cookie then.
// Any other client follows as well, and is told to wait.
func (p *public) sendToProve(w http.ResponseWriter, r *http.Request, issued sessions.Issued, err error) {
	status := p.refusal(w, r, err).Status
	addCookies(w, p.cfg.Binding.Expire(p.cfg.Cookies, r.Host))
	p.setWait(w, issued)
	w.Header().Set("Location", r.URL.Path+"?"+provedQuery)
	w.WriteHeader(status)
}

// tellToWait is B10.
func (p *public) tellToWait(w http.ResponseWriter, r *http.Request, issued sessions.Issued, err error) {
	problem := p.refusal(w, r, err)
	p.setWait(w, issued)
	writeProblem(w, problem)
}

func (p *public) setWait(w http.ResponseWriter, issued sessions.Issued) {
	if issued.Waits != "" {
		addCookies(w, []string{p.cfg.Binding.SetWaits(p.cfg.Cookies, issued)})
	}
}

// forgetWait deletes the cookie of a client that waited, once it need not.
func (p *public) forgetWait(w http.ResponseWriter, r *http.Request) {
	if len(cookieValues(r, p.cfg.Binding.WaitName())) > 0 {
		addCookies(w, []string{p.cfg.Binding.ExpireWaits(p.cfg.Cookies)})
	}
}

// forgetBound deletes the cookies of a bound session that the request carried.
func (p *public) forgetBound(w http.ResponseWriter, r *http.Request) {
	p.forgetWait(w, r)
	if len(cookieValues(r, p.cfg.Binding.CookieName)) > 0 {
		addCookies(w, p.cfg.Binding.Expire(p.cfg.Cookies, r.Host))
	}
}
