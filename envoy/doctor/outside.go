package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Outside says where the proxy is, and what is behind it.
type Outside struct {
	// URL is the address that browsers use.
	URL string
	// API is the address of the sessions API, and Key the key of a caller that may create and revoke.
	API, Key string
	// Page is a page of GET that requires a session. Empty: "/".
	Page string
	// UserPage is a page that requires a session and shows the user id that it got. Empty: D4 is skipped.
	UserPage string
	// OpenPath is a path without a check, with a slash at its end, below which your system answers. Empty: D6 tries less.
	OpenPath string
	// Origin is that of a frontend that CORS allows. Empty: D9 and D10 try less.
	Origin string
	// AuthPath, RefreshPath, SignoutPath, EchoPath and Expired are as in sessiongate's configuration; Claim opens the echo.
	AuthPath, RefreshPath, SignoutPath, EchoPath, Claim string
	Expired                                             int
	// Ports are those of the check and of the sessions API, which must not be reachable. Empty: 9001 and 9003.
	Ports [2]string
	// TLS is by which certificates the proxy is believed. nil: those of the system.
	TLS *tls.Config
}

const (
	// requestTimeout bounds one request of a probe.
	requestTimeout = 10 * time.Second
	// reachTimeout is how long a port that should not be there is tried.
	reachTimeout = 2 * time.Second
	// grpcUnimplemented is what a gRPC server answers to a method that it does not have.
	grpcUnimplemented = "12"
	// endTimeout is what the end of the doctor's own session gets, also after Ctrl-C.
	endTimeout = 10 * time.Second
	// answerMax bounds what is read of an answer.
	answerMax = 1 << 20

	// forgedAddress is of a network for documentation (RFC 5737), where no client is.
	forgedAddress = "192.0.2.77"
	forgedUser    = "sessiongate-doctor-forged"
	pleaseRefresh = "Please call the refresh token endpoint"
)

// Visit makes a session of a user of its own, sends requests through the proxy, and says which answers show a
// fault. It ends the session in the end, also when ctx ends. An error says that it could not begin.
func Visit(ctx context.Context, o Outside) (report Report, err error) {
	report = Report{Findings: []Finding{}, Exceptions: []Exception{}, Skipped: []Skip{}}
	base, err := url.Parse(o.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return report, fmt.Errorf("%q is no address of a proxy: want http or https, a host, and no path", o.URL)
	}
	if o.Page == "" {
		o.Page = "/"
	}
	if o.Ports == [2]string{} {
		o.Ports = [2]string{"9001", "9003"}
	}
	v := &visitor{Outside: o, ctx: ctx, base: base, report: &report, user: "doctor-" + rand.Text()}
	defer func() {
		// WithoutCancel: after Ctrl-C the session must not stay.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		err = errors.Join(err, v.end(ending))
	}()
	if err := v.signIn(); err != nil {
		return report, err
	}
	v.probes() //nolint:contextcheck // the visitor has ctx
	if ctx.Err() != nil {
		return report, fmt.Errorf("probing %s: %w", o.URL, ctx.Err())
	}
	report.sort()
	return report, nil
}

// visitor is one go at a proxy.
type visitor struct {
	Outside

	ctx    context.Context //nolint:containedctx // lives as long as the visit
	base   *url.URL
	report *Report
	user   string
	access string // NAME=VALUE, the cookie of the access token
	all    string // the cookies of the auth path
	// names are those of the two cookies.
	names  [2]string
	client *http.Client
}

// reply is what came back.
type reply struct {
	sent   string
	status int
	header http.Header
	body   string
	err    error
}

func (r reply) came() string {
	if r.err != nil {
		return "no answer: " + r.err.Error()
	}
	return strconv.Itoa(r.status)
}

// passed says whether your system, and not sessiongate or Envoy, seems to have answered.
func (r reply) passed() bool { return r.err == nil && r.status >= 200 && r.status < 300 }

// denied says whether the answer is one of the check's.
func (v *visitor) denied(r reply) bool {
	return slices.Contains([]int{http.StatusFound, http.StatusUnauthorized, http.StatusForbidden, v.Expired}, r.status)
}

// Browsers say what a request is for.
var (
	navigation = []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html"}
	script     = []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", "*/*"}
)

// send asks the proxy. Headers are names and values in turn; the same name twice makes two lines.
func (v *visitor) send(method, target string, headers ...string) reply {
	r := reply{sent: method + " " + target}
	address, err := url.Parse(v.base.Scheme + "://" + v.base.Host + target)
	if err != nil {
		r.err = err
		return r
	}
	ctx, cancel := context.WithTimeout(v.ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address.String(), http.NoBody)
	if err != nil {
		r.err = err
		return r
	}
	request.URL = address
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header[headers[i]] = append(request.Header[headers[i]], headers[i+1])
	}
	response, err := v.client.Do(request)
	if err != nil {
		r.err = err
		return r
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	r.status, r.header, r.body, r.err = response.StatusCode, response.Header, string(body), err
	return r
}

func with(headers []string, more ...string) []string { return slices.Concat(headers, more) }

func (v *visitor) find(probe string, r reply, f fault) {
	v.report.Findings = append(v.report.Findings, Finding{
		Probe: probe, In: "sent " + r.sent + ", came " + r.came(), Fault: f.what, Why: f.why, Where: f.where, Cure: f.cure,
	})
}

func (v *visitor) skip(probe, why string, needed bool) {
	v.report.Skipped = append(v.report.Skipped, Skip{Probe: probe, Why: why, Needed: needed})
}

// proxyClient knows no proxy but the one that is probed, and follows no redirect.
func (v *visitor) proxyClient(second bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!second)
	protocols.SetHTTP2(second)
	return &http.Client{
		Transport:     &http.Transport{Protocols: protocols, TLSClientConfig: v.TLS.Clone()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// created is what the sessions API answers.
type created struct {
	SetCookie []string `json:"set_cookie"`
}

func (v *visitor) api(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(v.API, "/")+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if body == nil {
		request.Body, request.ContentLength = http.NoBody, 0
	} else {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Authorization", "Bearer "+v.Key)
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	reader := io.LimitReader(response.Body, answerMax)
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	return json.NewDecoder(reader).Decode(answer)
}

func (v *visitor) signIn() error {
	var answer created
	err := v.api(v.ctx, http.MethodPost, "/v1/sessions", map[string]any{"user_id": v.user, "claims": map[string]any{v.Claim: true}, "host": v.base.Host}, &answer)
	if err != nil {
		return fmt.Errorf("making the doctor's session: %w", err)
	}
	for _, line := range answer.SetCookie {
		cookie, err := http.ParseSetCookie(line)
		if err != nil || cookie.MaxAge < 0 || cookie.Value == "" {
			continue
		}
		pair := cookie.Name + "=" + cookie.Value
		if cookie.Path == v.AuthPath {
			v.names[1] = cookie.Name
		} else if v.access == "" {
			v.access, v.names[0] = pair, cookie.Name
		}
		v.all = strings.TrimPrefix(v.all+"; "+pair, "; ")
	}
	if v.names[0] == "" || v.names[1] == "" {
		return errors.New("making the doctor's session: the answer has no two cookies: is paths.auth that of sessiongate?")
	}
	return nil
}

func (v *visitor) end(ctx context.Context) error {
	var answer any
	if err := v.api(ctx, http.MethodDelete, "/v1/users/"+v.user+"/sessions", nil, &answer); err != nil {
		return fmt.Errorf("ending the session of %s: %w", v.user, err)
	}
	return nil
}

// probes sends them all, over HTTP/1.1 and, where it is offered, HTTP/2.
func (v *visitor) probes() {
	v.client = v.proxyClient(false)
	defer func() { v.client.CloseIdleConnections() }()
	page := v.send(http.MethodGet, v.Page, with(navigation, "Cookie", v.access)...)
	switch {
	case !page.passed():
		v.skipPage(fmt.Sprintf("with a session, GET %s came back as %s: name a page that answers 200 (--page)", v.Page, page.came()))
	case v.checked():
		v.lines()
		v.spellings()
		v.crossSite()
		v.expired()
		v.identity()
	default:
		v.skipPage(v.Page + " is not checked (D1)")
	}
	if !v.authChecked() { // else the check sets identity headers on it, which would be taken for the client's
		v.claims()
	}
	v.refresh()
	v.origins()
	v.reach()
	v.protocols()
	v.signOut() // last: it ends the session
}

func (v *visitor) skipPage(why string) {
	for _, probe := range []string{"D2", "D4", "D5", "D6", "D10", "D13"} {
		v.skip(probe, why, true)
	}
}

// checked is D1: the page needs a session. Only then the others tell anything.
func (v *visitor) checked() bool {
	r := v.send(http.MethodGet, v.Page, navigation...)
	if r.passed() {
		v.find("D1", r, fault{
			"a page that requires a session came without one", "Every client reads it. Or the page requires none: name another (--page).",
			"the route", "# no ext_authz with disabled: true",
		})
		return false
	}
	if !v.denied(r) {
		v.skip("D1", "without a session, GET "+v.Page+" came back as "+r.came()+", which tells nothing", true)
	}
	return true
}

// expired is D2: a broken access token gets 440, and our words; and D10: a script of the frontend can read them.
func (v *visitor) expired() {
	headers := with(script, "Cookie", v.names[0]+"=eyJ.broken.token")
	if v.Origin != "" {
		headers = with(headers, "Origin", v.Origin)
	}
	r := v.send(http.MethodGet, v.Page, headers...)
	if r.status != v.Expired || !strings.Contains(r.body, pleaseRefresh) {
		v.find("D2", r, fault{
			fmt.Sprintf("a broken access token does not get %d with the text that a script waits for", v.Expired),
			"Scripts refresh at that answer alone: every session seems to end with its access token.",
			"local_reply_config, and every proxy before Envoy", "# let " + strconv.Itoa(v.Expired) + " and its body pass",
		})
	}
	if v.Origin == "" {
		v.skip("D10", "name the origin of a frontend that CORS allows (--origin)", false)
		return
	}
	exposes := strings.ToLower(r.header.Get("Access-Control-Expose-Headers"))
	missing := slices.DeleteFunc([]string{"front-token", "anti-csrf"}, func(name string) bool { return strings.Contains(exposes, name) })
	if r.header.Get("Access-Control-Allow-Origin") != v.Origin || len(missing) > 0 {
		v.find("D10", r, fault{
			"a script of " + v.Origin + " cannot read a denial, or " + strings.Join([]string{"front-token", "anti-csrf"}, " and "),
			"It cannot keep a session.", "the cors filter before ext_authz, and its CorsPolicy", "expose_headers: " + strings.Join(exposed, ", "),
		})
	}
}

// claims are D3 and D11, by what arrives on a route without a check.
func (v *visitor) claims() {
	forged := []string{
		"Cookie", v.all, "X-Session-User-Id", forgedUser, "X-Session-User-Id", forgedUser, "X-Session-Handle", forgedUser, "X-Session-Claims", "e30",
		"X-Session.user.id", forgedUser, "X-Original-Url", "/", "X-Rewrite-Url", "/", "X-Sessiongate-Peer", forgedAddress, "X-Forwarded-For", forgedAddress,
	}
	r := v.send(http.MethodGet, v.EchoPath, with(navigation, forged...)...)
	var arrived struct {
		Headers map[string]int `json:"headers"`
		Peer    []string       `json:"peer"`
	}
	if err := json.Unmarshal([]byte(r.body), &arrived); !r.passed() || err != nil || arrived.Headers == nil {
		for _, probe := range []string{"D3", "D11", "D12"} {
			v.skip(probe, "GET "+v.EchoPath+" came back as "+r.came()+": does "+v.AuthPath+" lead to sessiongate, without a check?", true)
		}
	} else {
		v.echoed(r, arrived.Headers, arrived.Peer)
	}
	// Refused (400) is as good as removed.
	under := v.send(http.MethodGet, v.EchoPath, with(navigation, "Cookie", v.all, "x_session_user_id", forgedUser)...)
	arrived.Headers = nil
	if err := json.Unmarshal([]byte(under.body), &arrived); err == nil && under.passed() && arrived.Headers["x_session_user_id"] > 0 {
		v.find("D3", under, fault{
			"x_session_user_id arrives", "Many servers read it as x-session-user-id.", "common_http_protocol_options", "headers_with_underscores_action: REJECT_REQUEST",
		})
	}
}

// identity is D4, and D3 where the check is: a page shows the user that the check has set, and no other.
func (v *visitor) identity() {
	if v.UserPage == "" {
		v.skip("D4", "name a page that shows the user id that it got (--user-page)", false)
		return
	}
	r := v.send(http.MethodGet, v.UserPage, with(navigation, "Cookie", v.access, "X-Session-User-Id", forgedUser, "X-Session-User-Id", forgedUser)...)
	switch {
	case strings.Contains(r.body, forgedUser):
		v.find("D3", r, fault{"your system sees the user that the client named", whyClaims, whereMutation, cureMutation})
	case !r.passed() || !strings.Contains(r.body, v.user):
		v.find("D4", r, fault{
			"your system does not see the user " + v.user, "Users are signed in, and your system does not know them.",
			"routes, and filters behind ext_authz", "# nothing that removes or sets x-session-user-id",
		})
	}
}

func (v *visitor) echoed(r reply, headers map[string]int, peer []string) {
	var claims, reroutes []string
	for name, count := range headers {
		if slices.Contains(rerouting, name) {
			reroutes = append(reroutes, name)
		} else {
			claims = append(claims, fmt.Sprintf("%s (%d times)", name, count))
		}
	}
	slices.Sort(claims)
	slices.Sort(reroutes)
	if len(claims) > 0 {
		v.find("D3", r, fault{"on a route without a check a client's own headers arrive: " + strings.Join(claims, ", "), whyClaims, whereMutation, cureMutation})
	}
	if len(reroutes) > 0 {
		v.find("D6", r, fault{
			strings.Join(reroutes, ", ") + " of a client arrives", "Some frameworks route by it, past the policy of the path that was checked.",
			"request_mutations of the filter header_mutation", "- remove: " + strings.Join(reroutes, "\n- remove: "),
		})
	}
	switch {
	case len(peer) == 0:
		v.find("D11", r, fault{
			"sessiongate does not hear the client's address (x-sessiongate-peer)", "Clients differ by their User-Agent alone, which a client may choose.",
			"the auth route", "request_headers_to_add:\n  - header: { key: x-sessiongate-peer, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\" }\n    append_action: OVERWRITE_IF_EXISTS_OR_ADD",
		})
	case slices.Contains(peer, forgedAddress):
		v.find("D11", r, fault{
			"the client chose its address: " + forgedAddress, "With the address of a victim it may get the victim's late answers.",
			"the connection manager, and the auth route", "use_remote_address: true\nxff_num_trusted_hops: 0   # the number of proxies before Envoy, not more",
		})
	default:
		v.skip("D12", "it needs a second place: run it from another network, too. sessiongate must not say "+strings.Join(peer, ", ")+" again", false)
	}
}

// lines is D5: a second Cookie line is no part of the first.
func (v *visitor) lines() {
	r := v.send(http.MethodGet, v.Page, with(navigation, "Cookie", v.access, "Cookie", "doctor=1")...)
	if !r.passed() {
		v.find("D5", r, fault{
			"with a second Cookie line the session is not found", "The lines come joined: the second hides in a value of the first.",
			"typed_config of ext_authz", "encode_raw_headers: true",
		})
	}
}

// spellings is D6: other spellings of the page meet its policy, or are refused.
func (v *visitor) spellings() {
	page := strings.TrimPrefix(v.Page, "/")
	spellings := []string{"//" + page, "/./" + page}
	if v.OpenPath != "" {
		spellings = append(spellings, v.OpenPath+"../"+page, v.OpenPath+"..%2F"+page, v.OpenPath+"..%2f"+page, v.OpenPath+"%2e%2e/"+page, v.OpenPath+"..%5C"+page)
	} else {
		v.skip("D6", "name a path without a check, such as /static/ (--open-path): it would try to leave it for a guarded page", false)
	}
	for _, target := range spellings {
		if r := v.send(http.MethodGet, target, navigation...); r.passed() {
			v.find("D6", r, fault{
				"another spelling of the page came without a session", "Envoy reads one path and your system another: an open route leads to a guarded page.",
				"the connection manager", "normalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: REJECT_REQUEST",
			})
			return
		}
	}
}

// refresh is D7: without a token the refresh says that the session has ended, as JSON.
func (v *visitor) refresh() {
	r := v.send(http.MethodPost, v.RefreshPath, script...)
	if r.status != v.Expired || !strings.Contains(r.body, `"unauthorised"`) || !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
		v.find("D7", r, fault{
			"a refresh without a token is not answered by sessiongate", "The auth path is checked, or goes to your system: no session can be refreshed.",
			"the routes, before yours", (&examination{authPath: v.AuthPath}).cureAuth(),
		})
	}
}

// authChecked is D7, too: to a client without a session there is nothing where the echo is. A check would say something else.
func (v *visitor) authChecked() bool {
	r := v.send(http.MethodGet, v.EchoPath, navigation...)
	if !v.denied(r) {
		return false
	}
	v.find("D7", r, fault{
		"the auth path is checked", "The check answers the very request that mends an expired access token.",
		"the route of the auth path", (&examination{authPath: v.AuthPath}).cureAuth(),
	})
	return true
}

// origins is D9: CORS lets in the frontends that are named, and no others.
func (v *visitor) origins() {
	preflight := func(origin string) reply {
		return v.send(http.MethodOptions, v.Page, "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "anti-csrf", "Sec-Fetch-Mode", "cors")
	}
	r := preflight(evil)
	if allowed := r.header.Get("Access-Control-Allow-Origin"); allowed == evil || allowed == "*" {
		v.find("D9", r, fault{
			"CORS allows " + evil, "With credentials, every site may act as the signed-in user.", "allow_origin_string_match: exact origins", "- exact: https://frontend.example.com",
		})
	}
	if v.Origin == "" {
		return
	}
	r = preflight(v.Origin)
	if r.header.Get("Access-Control-Allow-Origin") != v.Origin || r.header.Get("Access-Control-Allow-Credentials") != "true" ||
		!strings.Contains(strings.ToLower(r.header.Get("Access-Control-Allow-Headers")), "anti-csrf") {
		v.find("D9", r, fault{
			"a preflight of " + v.Origin + " gets no leave to send credentials and anti-csrf", "No script of that frontend ever has a session.",
			"the cors filter before ext_authz, and its CorsPolicy", "allow_credentials: true\nallow_headers: " + strings.Join(sent, ", "),
		})
	}
}

// crossSite is D13: a request that another site caused is refused.
func (v *visitor) crossSite() {
	r := v.send(http.MethodPost, v.Page, "Cookie", v.access, "Origin", evil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "empty")
	if r.status != http.StatusForbidden && r.status != v.Expired {
		v.find("D13", r, fault{
			"a POST that a page of " + evil + " caused is not refused", "Any site can make the user's browser act on yours.",
			"context_extensions of the route", "anti_csrf: attested",
		})
	}
}

// signOut is D8: both cookies come in lines of their own, for this host, and a browser would keep them.
func (v *visitor) signOut() {
	r := v.send(http.MethodPost, v.SignoutPath, with(script, "Cookie", v.all)...)
	if !r.passed() || !strings.Contains(r.body, `"OK"`) {
		v.skip("D8", "the sign-out came back as "+r.came()+", and not from sessiongate", true)
		return
	}
	lines := r.header.Values("Set-Cookie")
	for _, name := range v.names {
		i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+"=") })
		if i < 0 || strings.Contains(lines[i], ","+" "+v.names[0]+"=") || strings.Contains(lines[i], ","+" "+v.names[1]+"=") {
			v.find("D8", r, fault{
				"a sign-out brings no Set-Cookie line for " + name, "Cookies are lost or joined on the way: no browser keeps a session, and none loses it.",
				"response_headers_to_remove, and every proxy before Envoy", "# nothing that touches set-cookie",
			})
			return
		}
	}
	if host := v.base.Hostname(); v.base.Scheme == "http" && host != "localhost" && !strings.HasSuffix(host, ".localhost") && slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "; Secure") }) && !isLoopback(host) {
		v.find("D8", r, fault{
			"cookies are Secure, and the address is http", "Browsers refuse them: no one can sign in.", "the listener, or the proxy before Envoy", "# end TLS, and use https",
		})
	}
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// reach is D14: the check and the sessions API are not on the public host.
func (v *visitor) reach() {
	host := v.base.Hostname()
	if isLoopback(host) && v.Ports == [2]string{"9001", "9003"} {
		v.skip("D14", host+" is this machine, where all of it may be", false)
		return
	}
	for i, port := range []struct{ name, setting string }{{"the check", "authz"}, {"the sessions API", "internal"}} {
		address := net.JoinHostPort(host, v.Ports[i])
		connection, err := (&net.Dialer{Timeout: reachTimeout}).DialContext(v.ctx, "tcp", address)
		if err != nil {
			continue
		}
		_ = connection.Close()
		// Some load balancers accept on every port, and have no one behind it.
		answers, came := v.answersAt(address, port.setting == "authz")
		if !answers {
			v.skip("D14", address+" accepts connections, and no sessiongate answers there: what does?", false)
			continue
		}
		v.find("D14", came, fault{
			"port " + v.Ports[i] + " of the public host, where " + port.name + " is by default, is open",
			"Who reaches the sessions API makes a session for any user, if a key leaks. Who reaches the check tries tokens past Envoy.",
			"the network policy, or listen." + port.setting, "# not reachable from outside",
		})
	}
}

// answersAt says whether a listener of sessiongate answers at an address, with TLS or without: its method at the check, and at the sessions API the
// refusal of a call without a key.
func (v *visitor) answersAt(address string, grpc bool) (answers bool, came reply) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!grpc)
	protocols.SetHTTP2(grpc)
	protocols.SetUnencryptedHTTP2(grpc)
	here := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // another host is not asked
	client := &http.Client{Timeout: reachTimeout, CheckRedirect: here, Transport: &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nothing secret is sent; it is asked whether anyone answers
	}}
	defer client.CloseIdleConnections()
	method, path, header, has := http.MethodGet, "/v1/sessions/none", "WWW-Authenticate", `realm="sessiongate"`
	if grpc {
		method, path, header, has = http.MethodPost, "/envoy.service.auth.v3.Authorization/Check", "Content-Type", "application/grpc"
	}
	for _, scheme := range []string{"http", "https"} {
		request, err := http.NewRequestWithContext(v.ctx, method, scheme+"://"+address+path, http.NoBody)
		if err != nil {
			continue
		}
		if grpc {
			request.Header.Set("Content-Type", has)
			request.Header.Set("TE", "trailers")
		}
		response, err := client.Do(request)
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.Header.Get("Grpc-Status") == grpcUnimplemented {
			continue
		}
		if strings.Contains(response.Header.Get(header), has) {
			return true, reply{sent: method + " " + request.URL.String(), status: response.StatusCode}
		}
	}
	return false, reply{}
}

// protocols is D20: HTTP/2 is no other door.
func (v *visitor) protocols() {
	if v.base.Scheme != "https" {
		v.skip("D20", "without TLS there is HTTP/1.1 alone", false)
		return
	}
	first := v.client
	defer func() { v.client = first }()
	v.client = v.proxyClient(true)
	defer v.client.CloseIdleConnections()
	if r := v.send(http.MethodGet, v.EchoPath, navigation...); r.err != nil {
		v.skip("D20", "HTTP/2 is not offered: "+r.came(), false)
		return
	}
	other := &Report{}
	here := v.report
	v.report = other
	if v.checked() {
		v.spellings()
		v.expired()
		v.identity()
	}
	if !v.authChecked() {
		v.claims()
	}
	v.refresh()
	v.report = here
	for _, f := range other.Findings {
		if !slices.ContainsFunc(here.Findings, func(known Finding) bool { return known.Probe == f.Probe }) {
			f.Fault = "over HTTP/2 alone (" + f.Probe + "): " + f.Fault
			f.Probe = "D20"
			here.Findings = append(here.Findings, f)
		}
	}
}
