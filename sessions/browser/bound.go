package browser

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"golang.org/x/net/publicsuffix"

	"github.com/sessiongate/sessiongate/sessions"
)

// This file has all that browsers and sessiongate send each other to bind a session to a device:
// the W3C's draft "Device Bound Session Credentials" of 2026-02-17, as Chromium 156 speaks it. The
// draft may change; then this file does.

// The headers of the draft.
const (
	HeaderRegistration = "Secure-Session-Registration" // of an answer to a sign-in
	HeaderChallenge    = "Secure-Session-Challenge"    // of an answer to a refresh without a proof
	HeaderProof        = "Secure-Session-Response"     // of a request
	HeaderSessionID    = "Sec-Secure-Session-Id"       // of a refresh
	HeaderSkipped      = "Secure-Session-Skipped"      // of a request that the browser could not prove first
)

const (
	proofType = "dbsc+jwt"
	// proofMax bounds what is read of a proof: header, one challenge and a signature.
	proofMax = 2048
	// identifierMax bounds what is read, and sent back, of an identifier.
	identifierMax = 256
)

// Binding says where a browser registers and proves the key of a device, and which requests of the
// origin wait for a proof.
type Binding struct {
	// CookieName is the bound cookie's. It is a timer: while the browser has it, it proves nothing.
	CookieName string
	// BindPath and BoundPath are exact paths under the cookies' AuthPath. Empty: session/bind and
	// session/bound there.
	BindPath, BoundPath string
	// Exclude are paths, with all below them, whose requests never wait.
	Exclude []string
}

// DefaultBinding is what docs/protocol.md promises.
func DefaultBinding() Binding {
	return Binding{CookieName: "sBound"}
}

// At is b with its paths.
func (b Binding) At(c Cookies) Binding {
	b.BindPath = cmp.Or(b.BindPath, path.Join(c.AuthPath, "session/bind"))
	b.BoundPath = cmp.Or(b.BoundPath, path.Join(c.AuthPath, "session/bound"))
	return b
}

// Excludes says whether requests of that path never wait for a proof.
func (b Binding) Excludes(path string) bool {
	return slices.ContainsFunc(b.Exclude, func(below string) bool {
		return path == below || strings.HasPrefix(path, strings.TrimSuffix(below, "/")+"/")
	})
}

// WaitName is the name of the cookie of a client that has to prove first, and has not.
func (b Binding) WaitName() string { return b.CookieName + "Wait" }

// Registration offers the browser to register a key for the session.
func (b Binding) Registration(challenge sessions.Token) Header {
	return Header{strings.ToLower(HeaderRegistration), `(ES256);path="` + b.BindPath + `";challenge="` + challenge.Reveal() + `"`}
}

// Challenge asks the browser to sign. Both values have no character that a quoted string escapes.
func Challenge(c *sessions.ChallengeError) Header {
	return Header{HeaderChallenge, `"` + c.Challenge.Reveal() + `";id="` + c.Identifier.Reveal() + `"`}
}

// instructions is the body of the answer to a registration and to a proof.
type instructions struct {
	Session     string       `json:"session_identifier,omitempty"`
	Continue    *bool        `json:"continue,omitempty"`
	RefreshURL  string       `json:"refresh_url,omitempty"`
	Initiators  []string     `json:"allowed_refresh_initiators,omitempty"`
	Scope       *scope       `json:"scope,omitempty"`
	Credentials []credential `json:"credentials,omitempty"`
}

type scope struct {
	IncludeSite bool        `json:"include_site"` // other hosts have no session of ours: cookies.domain is not bound
	Rules       []scopeRule `json:"scope_specification,omitempty"`
}

type scopeRule struct {
	Type   string `json:"type"`
	Domain string `json:"domain"`
	Path   string `json:"path"`
}

type credential struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	Attributes string `json:"attributes"`
}

// Instructions tell the browser of its device session of that identifier, at the host that it asked.
// Requests of the pages of origins wait for a proof, too, as those of the host's own pages do.
// Instructions go out in full each time: after a shorter answer Chromium signs a challenge again that was
// used before.
func (b Binding) Instructions(c Cookies, host string, origins []Origin, identifier sessions.Token) []byte {
	i := instructions{
		Session: identifier.Reveal(), RefreshURL: b.BoundPath, Scope: &scope{}, Initiators: initiators(host, origins),
		Credentials: []credential{{"cookie", b.CookieName, b.attributes(c)}},
	}
	for _, below := range b.Exclude {
		i.Scope.Rules = append(i.Scope.Rules, scopeRule{"exclude", "*", below})
	}
	return i.text()
}

// initiators are the hosts of the origins that are the same site as host. For a page of another site the
// browser proves without the session's cookies (Lax, Strict): no refresh token would come, and the device
// session would end.
func initiators(host string, origins []Origin) (hosts []string) {
	site, ok := siteOf(host)
	for _, o := range origins {
		if other, known := siteOf(o.host); ok && known && o.scheme == "https" && other == site {
			hosts = append(hosts, nameOf(o.host))
		}
	}
	return hosts
}

// siteOf is the registrable domain of a host (the Public Suffix List). An address, a single label and a
// public suffix have none.
func siteOf(host string) (string, bool) {
	name := nameOf(host)
	if _, err := netip.ParseAddr(name); err == nil {
		return "", false
	}
	site, err := publicsuffix.EffectiveTLDPlusOne(name)
	return site, err == nil
}

// nameOf is a host without its port.
func nameOf(host string) string {
	var buf [HostMax]byte
	name, _ := AppendHost(buf[:0], host)
	return string(name)
}

// EndDeviceSession is the body that has the browser end its device session of that identifier.
func EndDeviceSession(identifier string) []byte {
	return instructions{Session: identifier, Continue: new(bool)}.text()
}

func (i instructions) text() []byte {
	text, err := json.Marshal(i)
	if err != nil {
		panic(err) // texts of ours
	}
	return text
}

// attributes are those of the bound cookie, as the instructions have them: without a life. It travels
// when the session's cookies do, so that a request that brings none of them waits for nothing.
func (b Binding) attributes(c Cookies) string {
	_, attributes, _ := strings.Cut(b.cookie(c, b.CookieName, "1", "/", 0).String(), "; ")
	return attributes
}

func (Binding) cookie(c Cookies, name, value, path string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: path, MaxAge: maxAge, HttpOnly: true, Secure: c.Secure, SameSite: c.SameSite} //nolint:gosec // as the session's (G124)
}

// Set gives the line of the bound cookie, for as long as the browser need not prove again.
func (b Binding) Set(c Cookies, i sessions.Issued) string {
	return b.cookie(c, b.CookieName, "1", "/", life{length: i.BoundLife}.maxAge()).String()
}

// Expire gives the lines that end the bound cookie: the browser proves before its next request. A
// sibling host may have planted one on a parent domain, to keep the browser from it.
func (b Binding) Expire(c Cookies, host string) []string {
	return append(c.misplaced(parentDomains(host), b.CookieName, "/"), b.cookie(c, b.CookieName, "", "/", -1).String())
}

// SetWaits gives the line that keeps [sessions.Issued.Waits] for the auth path. A client that lost it
// would begin to wait again, so it lives longer than the longest wait.
func (b Binding) SetWaits(c Cookies, i sessions.Issued) string {
	const twoDays = 2 * 24 * 60 * 60
	return b.cookie(c, b.WaitName(), i.Waits.Reveal(), c.AuthPath, twoDays).String()
}

// ExpireWaits gives the line that deletes it.
func (b Binding) ExpireWaits(c Cookies) string {
	return b.cookie(c, b.WaitName(), "", c.AuthPath, -1).String()
}

// ParseSessionID reads the lines of HeaderSessionID: one identifier of a device session, bare as
// Chromium sends it, or quoted as the draft has it. Empty: none, or one with a character that those of
// sessiongate do not have.
func ParseSessionID(lines []string) string {
	text, ok := oneString(lines)
	if !ok || len(text) > identifierMax || strings.ContainsFunc(text, notBase64URL) {
		return ""
	}
	return text
}

func notBase64URL(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// oneString is the value of the one line: bare, or a string of RFC 9651 without escapes.
func oneString(lines []string) (string, bool) {
	if len(lines) != 1 {
		return "", false
	}
	text := strings.Trim(lines[0], " \t")
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	return text, text != ""
}

// ParseProof reads the lines of HeaderProof: one JWT in compact form (RFC 7515 §3.1). It returns nil if
// it is anything but a proof, and verifies nothing. The draft once had more claims: a claim that a
// proof needs no longer must not be asked for.
func ParseProof(lines []string) *sessions.Proof {
	text, ok := oneString(lines)
	if !ok || len(text) > proofMax || strings.ContainsAny(text, "\r\n") {
		return nil
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil
	}
	var header struct {
		Algorithm string   `json:"alg"`
		Type      string   `json:"typ"`
		Critical  []string `json:"crit"`
		Key       *ecKey   `json:"jwk"`
	}
	var payload struct {
		Challenge string `json:"jti"`
	}
	signature, err := base64url.DecodeString(parts[2])
	if err != nil || !readPart(parts[0], &header) || !readPart(parts[1], &payload) {
		return nil
	}
	// One algorithm, and no extension that must be understood (RFC 8725 §3.1).
	if header.Algorithm != "ES256" || header.Type != proofType || header.Critical != nil || payload.Challenge == "" {
		return nil
	}
	p := &sessions.Proof{Challenge: payload.Challenge, Signed: text[:len(parts[0])+1+len(parts[1])], Signature: signature}
	if header.Key != nil {
		if p.Key, ok = header.Key.point(); !ok {
			return nil
		}
	}
	return p
}

var base64url = base64.RawURLEncoding.Strict()

func readPart(part string, into any) bool {
	text, err := base64url.DecodeString(part)
	return err == nil && json.Unmarshal(text, into) == nil
}

// ecKey is a public key of P-256 (RFC 7518 §6.2).
type ecKey struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
	// Private is refused: a key that travels proves no device.
	Private string `json:"d"`
}

func (k ecKey) point() (sessions.BoundKey, bool) {
	x, errX := base64url.DecodeString(k.X)
	y, errY := base64url.DecodeString(k.Y)
	if k.Type != "EC" || k.Curve != "P-256" || k.Private != "" || errX != nil || errY != nil {
		return sessions.BoundKey{}, false
	}
	return sessions.NewBoundKey(x, y)
}
