package sessionclient

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	testKey   = "key-of-the-test"
	testToken = "token-of-the-test"
)

// asked is what the stand-in for the sessions API was asked.
type asked struct {
	Method, URI, Authorization, ContentType string
	Body                                    map[string]any
}

// standIn answers every request alike and records them.
func standIn(t *testing.T, status int, header http.Header, body string) (*Client, *[]asked) {
	t.Helper()
	calls := new([]asked)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := asked{Method: r.Method, URI: r.RequestURI, Authorization: r.Header.Get("Authorization"), ContentType: r.Header.Get("Content-Type")}
		if r.ContentLength != 0 {
			if err := json.NewDecoder(r.Body).Decode(&c.Body); err != nil {
				t.Errorf("body: %v", err)
			}
		}
		*calls = append(*calls, c)
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return &Client{BaseURL: server.URL + "/", APIKey: Key(testKey + "\n")}, calls
}

var problemJSON = http.Header{"Content-Type": {"application/problem+json"}}

// each is every call of the API, with what a secret may be in.
var each = map[string]func(context.Context, *Client) (any, error){
	"Create": func(ctx context.Context, c *Client) (any, error) { return c.Create(ctx, NewSession{UserID: "ada"}) },
	"Verify": func(ctx context.Context, c *Client) (any, error) {
		return c.Verify(ctx, Presented{AccessToken: testToken, AntiCSRF: testToken})
	},
	"Refresh": func(ctx context.Context, c *Client) (any, error) {
		return c.Refresh(ctx, RefreshRequest{RefreshToken: testToken})
	},
	"Get": func(ctx context.Context, c *Client) (any, error) { return c.Get(ctx, "h") },
	"List": func(ctx context.Context, c *Client) (any, error) {
		list, _, err := c.List(ctx, "ada", 0)
		return list, err
	},
	"Update": func(ctx context.Context, c *Client) (any, error) {
		return c.Update(ctx, "h", Change{AccessToken: testToken})
	},
	"End":     func(ctx context.Context, c *Client) (any, error) { return c.End(ctx, "h", "") },
	"EndUser": func(ctx context.Context, c *Client) (any, error) { return c.EndUser(ctx, "ada", "") },
}

const createdText = `{"session":{"handle":"h","user_id":"ada","claims":{"plan":"pro"},"data":{}},"tokens":{"access_token":"` + testToken + `","refresh_token":"` + testToken + `","anti_csrf":"` + testToken + `"},
	"access_token":"` + testToken + `","set_cookie":["a=` + testToken + `","b=2"],"sdk_cookies":["c=` + testToken + `"],"headers":{"anti-csrf":"` + testToken + `"},"ended":1,"sessions":[]}`

// What is sent is what was given, and nothing else.
func TestCreateSends(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		give NewSession
		want map[string]any
	}{
		"all": {
			NewSession{UserID: "ada", Claims: map[string]string{"plan": "pro"}, Data: struct{ Cart []string }{[]string{"tea"}}, Transport: HeaderTransport, Browser: Browser{"203.0.113.7", "browser"}, Host: "shop.example"},
			map[string]any{
				"user_id": "ada", "claims": map[string]any{"plan": "pro"}, "data": map[string]any{"Cart": []any{"tea"}}, "transport": "header",
				"client": map[string]any{"address": "203.0.113.7", "user_agent": "browser"}, "host": "shop.example",
			},
		},
		"a user alone": {NewSession{UserID: "ada"}, map[string]any{"user_id": "ada"}},
		"nil maps":     {NewSession{UserID: "ada", Claims: map[string]string(nil), Data: json.RawMessage(nil)}, map[string]any{"user_id": "ada"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, calls := standIn(t, http.StatusCreated, nil, createdText)
			created, err := c.Create(t.Context(), test.give)
			if err != nil {
				t.Fatal(err)
			}
			want := []asked{{"POST", "/v1/sessions", "Bearer " + testKey, "application/json", test.want}}
			if diff := cmp.Diff(want, *calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			w := httptest.NewRecorder()
			w.Header().Add("Set-Cookie", "own=1")
			created.Answer.CopyTo(w)
			if diff := cmp.Diff(http.Header{"Set-Cookie": {"own=1", "a=" + testToken, "b=2"}, "Anti-Csrf": {testToken}}, w.Header()); diff != "" {
				t.Errorf("copied (-want +got):\n%s", diff)
			}
			created.Answer.CopySDKTo(w)
			if lines := w.Header().Values("Set-Cookie"); len(lines) != 4 || lines[3] != "c="+testToken {
				t.Errorf("cookies %q", lines)
			}
			if string(created.Tokens.Access) != testToken || string(created.Session.Claims) != `{"plan":"pro"}` {
				t.Error("the answer was read as another")
			}
		})
	}
}

// A caller that forgets the anti-CSRF token admits no request.
func TestVerifyAsksForAntiCSRF(t *testing.T) {
	t.Parallel()
	for skip, want := range map[bool]any{false: nil, true: false} {
		c, calls := standIn(t, http.StatusOK, nil, `{"outcome":"ALLOW","session":{"handle":"h","user_id":"ada"}}`)
		if _, err := c.Verify(t.Context(), Presented{AccessToken: testToken, SkipAntiCSRF: skip}); err != nil {
			t.Fatal(err)
		}
		if got := (*calls)[0].Body["check_anti_csrf"]; got != want {
			t.Errorf("skip %t: %v", skip, got)
		}
	}
}

// The user is one segment of the path, whatever a server makes of it.
func TestNamesStayInTheirPlace(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"ada", "ada@example.com", "..", ".", "a/b", "a/../../x", "a?b=c", "a#b", "100%", "%2E%2E", "ü"} {
		c, calls := standIn(t, http.StatusOK, nil, createdText)
		if _, err := c.EndUser(t.Context(), user, "shop.example:10000"); err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		var got string
		mux.HandleFunc("DELETE /v1/users/{user}/sessions", func(_ http.ResponseWriter, r *http.Request) { got = r.PathValue("user") })
		uri, err := url.ParseRequestURI((*calls)[0].URI)
		if err != nil {
			t.Fatal(err)
		}
		mux.ServeHTTP(httptest.NewRecorder(), &http.Request{Method: (*calls)[0].Method, URL: uri, RequestURI: (*calls)[0].URI})
		if host := uri.Query().Get("host"); got != user || host != "shop.example:10000" {
			t.Errorf("user %q at host %q arrives as %q by %s", user, host, got, (*calls)[0].URI)
		}
	}
	c, calls := standIn(t, http.StatusOK, nil, createdText)
	_, one := c.End(t.Context(), "", "")
	_, all := c.EndUser(t.Context(), "", "")
	if one == nil || all == nil || len(*calls) > 0 {
		t.Errorf("no name: %v, %v, and %d calls", one, all, len(*calls))
	}
}

// An answer that does not say yes in the API's own words is no success: of a proxy, of a login page
// with status 200, or of a check that did not allow.
func TestOnlySessiongateAllows(t *testing.T) {
	t.Parallel()
	for name, call := range each {
		for _, body := range []string{"", "{}", "null", "[]", "<html>", `{"outcome":"TRY_REFRESH","session":{"handle":"h","user_id":"ada"}}`, `{"session":{}}`, `{"tokens":{"access_token":"` + testToken + `"`} {
			c, _ := standIn(t, http.StatusOK, nil, body)
			answer, err := call(t.Context(), c)
			if name == "Get" && strings.HasPrefix(body, `{"outcome`) {
				continue // it has a session
			}
			if name == "Update" && strings.HasPrefix(body, `{"outcome`) {
				continue
			}
			if err == nil {
				t.Errorf("%s takes %q: %v", name, body, answer)
			} else if strings.Contains(err.Error(), testToken) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, status := range []int{202, 204, 206, 301, 302, 304, 307, 308, 400, 401, 404, 440, 500, 502, 503} {
			c, _ := standIn(t, status, http.Header{"Location": {"/"}}, createdText)
			_, err := call(t.Context(), c)
			if e := (*Error)(nil); !errors.As(err, &e) || e.Status != status || e.Code != "" {
				t.Errorf("%s, status %d: %v", name, status, err)
			}
			for _, sentinel := range []error{ErrNotFound, ErrTooManySessions, ErrSessionEnded, ErrTheft, ErrRefreshNeeded, ErrSuperseded, ErrUnavailable} {
				if errors.Is(err, sentinel) {
					t.Errorf("%s, status %d of another program: %v", name, status, sentinel)
				}
			}
		}
	}
}

// The API key and the tokens go to no other address.
func TestFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	for name, call := range each {
		for _, status := range []int{301, 302, 303, 307, 308} {
			for _, own := range []*http.Client{nil, {}, {CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}} {
				other, calls := standIn(t, http.StatusOK, nil, createdText)
				c, _ := standIn(t, status, http.Header{"Location": {other.BaseURL}}, "")
				c.HTTPClient = own
				if _, err := call(t.Context(), c); err == nil || len(*calls) > 0 {
					t.Errorf("%s, %d: %v, and %d calls elsewhere", name, status, err, len(*calls))
				}
			}
		}
	}
}

// http.Client quotes an address that it cannot parse in its error, before it asks CheckRedirect.
func TestNoSecretInErrorsOfRedirects(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Location", "http://%zz/"+r.Header.Get("Authorization")+string(body))
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		for name, call := range each {
			for _, own := range []*http.Client{nil, {Transport: &http.Transport{}}} {
				_, err := call(t.Context(), &Client{BaseURL: server.URL, APIKey: Key(testKey), HTTPClient: own})
				if e := (*Error)(nil); !errors.As(err, &e) || e.Status != status {
					t.Errorf("%s, %d: %v is no refused redirect", name, status, err)
				}
				for _, verb := range []string{"%v", "%#v", "%q", "%x"} {
					holdsNone(t, fmt.Sprint(name, ", ", status, ", ", verb), fmt.Sprintf(verb, err))
				}
			}
		}
	}
}

// A program on the way may repeat what it was sent, as debugging proxies do.
func TestNoSecretInErrors(t *testing.T) {
	t.Parallel()
	repeat := func(header http.Header) *Client {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			sent := r.Header.Get("Authorization") + string(body)
			text, err := json.Marshal(map[string]any{"code": sent, "outcome": sent, "detail": sent, "field": sent, "allowed": sent, "set_cookie": []string{sent}})
			if err != nil {
				t.Error(err)
			}
			maps.Copy(w.Header(), header)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(text)
		}))
		t.Cleanup(server.Close)
		return &Client{BaseURL: server.URL, APIKey: Key(testKey)}
	}
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(broken.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, call := range each {
		for cause, c := range map[string]*Client{
			"repeated": repeat(problemJSON), "not a problem": repeat(nil),
			"broken": {BaseURL: broken.URL, APIKey: Key(testKey)}, "gone": {BaseURL: gone.URL, APIKey: Key(testKey)},
			"a key that is no header": {BaseURL: gone.URL, APIKey: Key(testKey + "\nx")}, "no address": {BaseURL: "http://user:" + testKey + "@\n", APIKey: Key(testKey)},
			"a password": {BaseURL: "http://user:" + testKey + "@127.0.0.1:1", APIKey: Key(testKey)},
		} {
			_, err := call(t.Context(), c)
			if err == nil {
				t.Errorf("%s, %s: no error", name, cause)
			}
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				holdsNone(t, name+", "+cause+", "+verb, fmt.Sprintf(verb, err))
			}
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "error", err)
			holdsNone(t, name+", "+cause+", slog", log.String())
		}
	}
}

func holdsNone(t *testing.T, what, text string) {
	t.Helper()
	plain := strings.NewReplacer(" ", "", "0x", "").Replace(strings.ToLower(text)) // of %X and %# x
	for _, secret := range []string{testKey, testToken} {
		if strings.Contains(plain, secret) || strings.Contains(plain, fmt.Sprintf("%x", secret)) {
			t.Errorf("%s: %s", what, text)
		}
	}
}

// What a call takes and what it gives may be logged.
func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	c, _ := standIn(t, http.StatusOK, nil, createdText)
	values := []any{
		c, *c,
		Presented{AccessToken: testToken, AntiCSRF: testToken},
		RefreshRequest{RefreshToken: testToken},
		Change{AccessToken: testToken},
		Token(testToken),
		Tokens{testToken, time.Time{}, testToken, testToken},
		map[string]Token{"x": testToken},
		[]Token{testToken},
		Error{Answer: Answer{setCookie: []string{testToken}}},
	}
	for _, name := range []string{"Create", "Refresh", "Update", "EndUser"} {
		answer, err := each[name](t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, answer)
	}
	created, err := c.Create(t.Context(), NewSession{UserID: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	values = append(values, *created, created.Answer, &created.Answer, created.Tokens)
	for _, v := range values {
		for _, verb := range "vsqdxXtbcoOUeEfFgGz" {
			for _, flag := range []string{"", "+", "#", "0", " "} {
				holdsNone(t, fmt.Sprintf("%T, %s%c", v, flag, verb), fmt.Sprintf("%"+flag+string(verb), v))
			}
		}
		text, _ := json.Marshal(v) // a Client has no JSON
		holdsNone(t, fmt.Sprintf("%T, JSON", v), string(text))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		holdsNone(t, fmt.Sprintf("%T, slog", v), log.String())
	}
}

// held is a value in what a caller may hold it by.
func held[T any](v T) []any {
	return []any{
		v, &v,
		[]T{v},
		[]*T{&v},
		[1]*T{&v},
		[]any{v},
		[]any{&v},
		map[string]T{"k": v},
		map[string]*T{"k": &v},
		struct{ V T }{v},
		struct{ V *T }{&v},
		&struct{ V *T }{&v},
		struct{ V any }{&v},
		[]struct{ V []*T }{{[]*T{&v}}},
	}
}

// fmt asks no method of a pointer inside another value, where the verb fits no pointer.
func TestNoSecretIsPrintedOfPointers(t *testing.T) {
	t.Parallel()
	tokens := Tokens{testToken, time.Time{}, testToken, testToken}
	answer := Answer{[]string{testToken}, []string{testToken}, map[string]string{"x": testToken}}
	for _, v := range slices.Concat(
		held(Created{Tokens: tokens, Answer: answer}), held(Refreshed{Tokens: tokens, Answer: answer}), held(Updated{Tokens: tokens, Answer: answer}),
		held(Ended{1, answer}), held(Error{Answer: answer}), held(tokens), held(answer), held(Token(testToken)),
		held(Presented{AccessToken: testToken, AntiCSRF: testToken}), held(RefreshRequest{RefreshToken: testToken}), held(Change{AccessToken: testToken}),
	) {
		for _, verb := range "vTtbcdoOqxXUeEfFgGs!z" { // not p and w: fmt asks no method
			for _, flags := range []string{"", "+", "#", "0", " ", "# ", "-40.3", "-90.40"} {
				format := "%" + flags + string(verb)
				holdsNone(t, fmt.Sprintf("%T, %s", v, format), fmt.Sprintf(format, v))
			}
		}
		for _, format := range []string{"", "%d %v", "%[2]v", "%*d", "%.*f", "%!"} { // an argument too many, too few, or as a width
			holdsNone(t, fmt.Sprintf("%T, (%s)", v, format), fmt.Sprintf(format, v))
		}
		holdsNone(t, fmt.Sprintf("%T, Sprint", v), fmt.Sprint(v)+fmt.Sprintln(v))
	}
	e := &Error{Status: 404, doing: "reading a session"}
	for format, want := range map[string]string{"%v": e.Error(), "%+v": e.Error(), "%s": e.Error(), "%q": strconv.Quote(e.Error()), "%x": hex.EncodeToString([]byte(e.Error()))} {
		if got := fmt.Sprintf(format, e); got != want {
			t.Errorf("%s of an Error: %s, want %s", format, got, want)
		}
	}
	if got := fmt.Sprint((*Created)(nil), (*Error)(nil)); got != "<nil> <nil>" {
		t.Errorf("nil prints %s", got)
	}
}

// A page of another program may have a member code, too, and a token may be in a path by mistake.
func TestOthersAreNotSessiongate(t *testing.T) {
	t.Parallel()
	c, _ := standIn(t, 440, http.Header{"Content-Type": {"application/json"}}, `{"code":"session_ended","outcome":"UNAUTHORISED","set_cookie":["a="]}`)
	_, err := c.Refresh(t.Context(), RefreshRequest{})
	if e := (*Error)(nil); errors.Is(err, ErrSessionEnded) || !errors.As(err, &e) || e.Code != "" || len(e.Answer.SetCookie()) > 0 {
		t.Errorf("another program ends a session: %v", err)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	_, err = (&Client{BaseURL: gone.URL, APIKey: Key(testKey)}).Get(t.Context(), testToken)
	if err == nil {
		t.Error("a server that is gone has a session")
	}
	holdsNone(t, "a token for a handle", fmt.Sprint(err))
	for _, base := range []string{"", "127.0.0.1:1", "ftp://127.0.0.1:1", "http://", "http://user:" + testKey + "@127.0.0.1:1", "http://127.0.0.1:1?x=", "http://127.0.0.1:1#x", "http://%"} {
		if _, err := (&Client{BaseURL: base, APIKey: Key(testKey)}).Get(t.Context(), "h"); err == nil || !strings.Contains(err.Error(), "BaseURL") {
			t.Errorf("%q: %v", base, err)
		}
	}
}

// What errors.Is tells is what sessiongate said.
func TestErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	all := map[string]error{
		"not found": ErrNotFound, "too many": ErrTooManySessions, "ended": ErrSessionEnded, "theft": ErrTheft, "refresh": ErrRefreshNeeded, "superseded": ErrSuperseded, "unavailable": ErrUnavailable,
	}
	for _, test := range []struct {
		status int
		body   string
		is     []string
	}{
		{404, `{"code":"no_session"}`, []string{"not found"}},
		{404, `{"code":"no_route"}`, nil},
		{409, `{"code":"too_many_sessions"}`, []string{"too many"}},
		{409, `{"code":"superseded"}`, []string{"superseded"}},
		{440, `{"code":"session_ended","error":"unauthorised"}`, []string{"ended"}},
		{401, `{"code":"no_token","error":"unauthorised"}`, []string{"ended"}},
		{440, `{"code":"theft","error":"token theft detected"}`, []string{"ended", "theft"}},
		{440, `{"code":"expired","outcome":"TRY_REFRESH"}`, []string{"refresh"}},
		{401, `{"code":"claims_changed","outcome":"TRY_REFRESH"}`, []string{"refresh"}},
		{440, `{"code":"ended","outcome":"UNAUTHORISED"}`, []string{"ended"}},
		{440, `{"code":"no_token","outcome":"UNAUTHORISED"}`, []string{"ended"}},
		{503, `{"code":"busy","outcome":"UNAVAILABLE"}`, []string{"unavailable"}},
		{503, `{"code":"unavailable"}`, []string{"unavailable"}},
		{401, `{"code":"unknown_api_key"}`, nil},
		{429, `{"code":"too_many_refreshes"}`, nil},
		{400, `{"code":"bad_input","field":"user_id","allowed":"less"}`, nil},
	} {
		c, _ := standIn(t, test.status, problemJSON, test.body)
		_, err := c.Verify(t.Context(), Presented{})
		want := map[string]bool{}
		for _, name := range test.is {
			want[name] = true
		}
		got := map[string]bool{}
		for name, sentinel := range all {
			if errors.Is(err, sentinel) {
				got[name] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d %s (-want +got):\n%s", test.status, test.body, diff)
		}
	}
}

func TestErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	c, _ := standIn(t, http.StatusBadRequest, problemJSON, `{"code":"bad_input","detail":"Send another.","field":"user_id","allowed":"no spaces"}`)
	if _, err := c.Create(t.Context(), NewSession{UserID: "a b"}); err == nil || err.Error() != "creating a session: sessiongate answered 400 Bad Request (bad_input): user_id: allowed is no spaces" {
		t.Error(err)
	}
	c, _ = standIn(t, http.StatusServiceUnavailable, http.Header{"Content-Type": {"application/problem+json"}, "Retry-After": {"2"}}, `{"code":"unavailable","detail":"Wait."}`)
	_, err := c.Get(t.Context(), "h")
	if e := (*Error)(nil); !errors.As(err, &e) || e.RetryAfter != 2*time.Second || e.Error() != "reading a session: sessiongate answered 503 Service Unavailable (unavailable): Wait." {
		t.Error(err)
	}
}

// An answer that is larger than any of the API is not read to its end.
func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	const session = `{"session":{"handle":"h","user_id":"ada"}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		blanks := AnswerMax - len(session)
		if strings.HasSuffix(r.URL.Path, "/more") {
			blanks++
		}
		_, _ = w.Write(bytes.Repeat([]byte(" "), blanks))
		_, _ = io.WriteString(w, session)
	}))
	t.Cleanup(server.Close)
	c := &Client{BaseURL: server.URL, APIKey: Key(testKey), HTTPClient: &http.Client{Timeout: time.Minute}}
	if _, err := c.Get(t.Context(), "h"); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), "more"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
}

// A call ends, also where the caller's HTTPClient has no timeout; and it ends with its context.
func TestCallsEnd(t *testing.T) {
	t.Parallel()
	for _, own := range []*http.Client{nil, {}, {Timeout: 2 * time.Second}} {
		want := DefaultTimeout
		if own != nil && own.Timeout > 0 {
			want = own.Timeout
		}
		if h := (&Client{HTTPClient: own}).httpClient(); h.Timeout != want || h.CheckRedirect == nil || h == own {
			t.Errorf("%v: %+v", own, h)
		}
	}
	reached, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(reached); <-release }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-reached; cancel(nil) }()
	if _, err := (&Client{BaseURL: server.URL, APIKey: Key(testKey)}).Get(ctx, "h"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The environment's proxy would see the API key of a call by plain http.
func TestNoProxy(t *testing.T) {
	t.Parallel()
	own := &http.Transport{}
	for _, c := range []struct {
		client *http.Client
		want   http.RoundTripper
	}{{nil, transport}, {&http.Client{Timeout: time.Second}, transport}, {&http.Client{Transport: own}, own}} {
		if got := (&Client{HTTPClient: c.client}).httpClient().Transport; got != (withoutLocation{c.want}) {
			t.Errorf("%+v: %v", c.client, got)
		}
	}
	if transport.Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}

// A key that was replaced is used from the next call on.
func TestKeyIsAskedForEachTime(t *testing.T) {
	t.Parallel()
	c, calls := standIn(t, http.StatusOK, nil, createdText)
	n := 0
	c.APIKey = func(context.Context) (string, error) { n++; return fmt.Sprint("key-", n), nil }
	for range 2 {
		if _, err := c.Get(t.Context(), "h"); err != nil {
			t.Fatal(err)
		}
	}
	if (*calls)[0].Authorization != "Bearer key-1" || (*calls)[1].Authorization != "Bearer key-2" {
		t.Errorf("%+v", *calls)
	}
	away := errors.New("the file is away")
	c.APIKey = func(context.Context) (string, error) { return "", away }
	if _, err := c.Get(t.Context(), "h"); !errors.Is(err, away) {
		t.Error(err)
	}
	for _, none := range []func(context.Context) (string, error){nil, Key(""), Key(" \n")} {
		c.APIKey = none
		if _, err := c.Get(t.Context(), "h"); err == nil || len(*calls) != 2 {
			t.Errorf("without a key: %v, %d calls", err, len(*calls))
		}
	}
}

// What is no HTTP is quoted by net/http's errors, and may repeat what was sent.
func TestNoSecretInErrorsOfBrokenAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"status line":         "HTTP/1.1 %s\r\n\r\n",
		"a line for a header": "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
		"length":              "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
		"encoding":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
		"chunk":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sent, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = fmt.Fprintf(conn, answer, r.Header.Get("Authorization")+string(sent))
			_ = conn.Close()
		}))
		t.Cleanup(server.Close)
		for doing, call := range each {
			_, err := call(t.Context(), &Client{BaseURL: server.URL, APIKey: Key(testKey)})
			if err == nil {
				t.Errorf("%s, %s: accepted", name, doing)
			}
			for _, verb := range []string{"%v", "%#v", "%q", "%x"} {
				holdsNone(t, name+", "+doing, fmt.Sprintf(verb, err))
			}
		}
	}
}
