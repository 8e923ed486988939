package sessionhttp

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// member is one of a body, by its dotted name.
type member struct{ name, kind string }

// operations are those with a body, by path: all members that there are, and what a
// body must have at least.
func operations(handle string) map[string]struct {
	method  string
	members []member
	least   map[string]string // what must be there
} {
	type operation = struct {
		method  string
		members []member
		least   map[string]string
	}
	client := []member{{"client", "an object"}, {"client.address", "a string"}, {"client.user_agent", "a string"}}
	return map[string]operation{
		"/v1/sessions": {http.MethodPost, append([]member{
			{"user_id", "a string"}, {"claims", "an object"}, {"data", "an object"}, {"transport", allowedTransport}, {"host", "a string"},
		}, client...), map[string]string{"user_id": `"u1"`}},
		"/v1/sessions/verify": {http.MethodPost, []member{
			{"access_token", "a string"}, {"transport", allowedTransport}, {"anti_csrf", "a string"}, {"check_anti_csrf", "true or false"}, {"strict", "true or false"},
		}, nil},
		"/v1/sessions/refresh": {http.MethodPost, append([]member{
			{"refresh_token", "a string"}, {"transport", allowedTransport}, {"host", "a string"},
		}, client...), map[string]string{"client": `{"address":"192.0.2.1"}`}},
		"/v1/sessions/" + handle: {http.MethodPatch, []member{
			{"claims", "an object"}, {"data", "an object"}, {"access_token", "a string"}, {"host", "a string"},
		}, map[string]string{"data": `{}`}},
	}
}

// bodyWith has value as its member name, and the least of the others.
func bodyWith(least map[string]string, name, value string) string {
	members := maps.Clone(least)
	if members == nil {
		members = map[string]string{}
	}
	top, rest, nested := strings.Cut(name, ".")
	if nested {
		value = fmt.Sprintf(`{%q:%s}`, rest, value)
	}
	members[top] = value
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(members)) {
		parts = append(parts, fmt.Sprintf(`%q:%s`, key, members[key]))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// Each member of each body, with a value of each wrong type: the problem names it
// and says what is allowed.
func TestMembersOfWrongType(t *testing.T) {
	b := newBench(t)
	handle := b.signIn(t).Session.Handle
	values := map[string]string{
		"a string": `"` + secretText + `"`, "an object": `{"` + secretText + `":1}`, "true or false": `true`, "an array": `["` + secretText + `"]`, "a number": `1234567890123`,
	}
	for path, op := range operations(handle) {
		for _, m := range op.members {
			for kind, value := range values {
				isText := m.kind == "a string" || m.kind == allowedTransport
				if kind == m.kind || kind == "a string" && isText {
					continue
				}
				r := do(b.internal, apiCall(op.method, path, bodyWith(op.least, m.name, value)))
				p := wantProblem(t, r, http.StatusBadRequest)
				inside := m.name == "client" && kind == "an object" // an unknown member of it
				allowed := m.kind
				if (m.name == "claims" || m.name == "data") && p.Field == m.name {
					allowed = p.Allowed // as the engine says it
				}
				if !inside && (p.Field != m.name || p.Allowed != allowed) || strings.Contains(r.Body, secretText) {
					t.Errorf("%s %s, %s: field %q, allowed %q", path, m.name, kind, p.Field, p.Allowed)
				}
			}
			r := do(b.internal, apiCall(op.method, path, bodyWith(op.least, m.name, `null`)))
			if p := wantProblem(t, r, http.StatusBadRequest); p.Field != m.name || p.Allowed != "not null; leave it out" {
				t.Errorf("%s %s, null: %+v", path, m.name, p)
			}
			// Twice, where two readers would see different values.
			text := strings.TrimSuffix(bodyWith(op.least, m.name, `"a"`), "}") + `,` + strings.TrimPrefix(bodyWith(nil, m.name, `"`+secretText+`"`), "{")
			if r := do(b.internal, apiCall(op.method, path, text)); r.StatusCode != http.StatusBadRequest || strings.Contains(r.Body, secretText) {
				t.Errorf("%s %s, twice: %d %s", path, m.name, r.StatusCode, r.Body)
			}
		}
		for name, text := range map[string]string{
			"unknown member": bodyWith(op.least, secretText, `1`), "other case": bodyWith(op.least, strings.ToUpper(op.members[0].name), `"x"`),
			"trailing": bodyWith(op.least, op.members[0].name, `"x"`) + `{}`, "no object": `"` + secretText + `"`, "array": `[]`, "null": `null`, "no JSON": secretText,
			"cut off": `{"` + op.members[0].name + `":"` + secretText, "invalid UTF-8": bodyWith(op.least, op.members[0].name, "\"\xff\""), "surrogate": bodyWith(op.least, op.members[0].name, `"\ud800"`),
		} {
			r := do(b.internal, apiCall(op.method, path, text))
			if p := wantProblem(t, r, http.StatusBadRequest); p.Detail == "" || strings.Contains(r.Body, secretText) {
				t.Errorf("%s, %s: %s", path, name, r.Body)
			}
		}
		good := bodyWith(op.least, "host", `"a.example"`)
		if path == "/v1/sessions/verify" {
			good = `{}`
		}
		for _, mediaType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json; " + secretText} {
			wantProblem(t, do(b.internal, apiCall(op.method, path, good).with("Content-Type", mediaType)), http.StatusUnsupportedMediaType)
		}
		if p := wantProblem(t, do(b.internal, apiCall(op.method, path+"?host="+secretText, good)), http.StatusBadRequest); p.Field != "query" {
			t.Errorf("%s with a query: %+v", path, p)
		}
		wantProblem(t, do(b.internal, apiCall(op.method, path, good+strings.Repeat(" ", int(b.cfg.BodyMax)))), http.StatusRequestEntityTooLarge)
		if r := do(b.internal, apiCall(op.method, path, good+strings.Repeat(" ", int(b.cfg.BodyMax)-len(good)))); r.StatusCode == http.StatusRequestEntityTooLarge || r.StatusCode == http.StatusBadRequest {
			t.Errorf("%s, as large as may be: %d", path, r.StatusCode)
		}
	}
	if strings.Contains(b.log.String(), secretText) {
		t.Error("the log repeats a value of a request")
	}
}

// Both sides of each limit.
func TestBoundaries(t *testing.T) {
	b := newBench(t)
	handle := b.signIn(t).Session.Handle
	nested := func(depth int) string { return strings.Repeat(`{"a":`, depth-1) + `{}` + strings.Repeat(`}`, depth-1) }
	data := func(size int) string { return `{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}` }
	largest := 0
	for size := 2000; size < 3500; size++ { // found, not asserted: it depends on the lengths of issuer and handle
		if r := do(b.internal, apiCall(http.MethodPatch, "/v1/sessions/"+handle, `{"claims":`+data(size)+`}`)); r.StatusCode != http.StatusOK {
			largest = size - 1
			break
		}
	}
	if largest < 2001 {
		t.Fatal("claims have no limit")
	}
	for _, path := range []string{"/v1/sessions", "/v1/sessions/" + handle} {
		method, start := http.MethodPost, `{"user_id":"u1",`
		if path != "/v1/sessions" {
			method, start = http.MethodPatch, `{`
		}
		for _, test := range []struct{ good, bad, field string }{
			{`"data":` + data(16<<10), `"data":` + data(16<<10+1), "data"},
			{`"claims":` + nested(16), `"claims":` + nested(17), "claims"},
			{`"claims":{"n":[1.7e308,-1.7e308,123456789012345678901234567890]}`, `"claims":{"n":1.8e308}`, "claims"},
			{`"claims":` + data(1000), `"claims":` + data(largest+10), "claims"},
			{`"data":{},"host":"` + strings.Repeat("a", 253) + `:65535"`, `"data":{},"host":"` + strings.Repeat("a", 254) + `"`, "host"},
			{`"data":{},"host":"[::1]:8080"`, `"data":{},"host":"[::1"`, "host"},
			{`"data":{},"host":"a.example:1"`, `"data":{},"host":"a.example:"`, "host"},
		} {
			if r := do(b.internal, apiCall(method, path, start+test.good+`}`)); r.StatusCode >= 300 {
				t.Errorf("%s %.60s: %d %s", path, test.good, r.StatusCode, r.Body)
			}
			if p := wantProblem(t, do(b.internal, apiCall(method, path, start+test.bad+`}`)), http.StatusBadRequest); p.Field != test.field || p.Allowed == "" {
				t.Errorf("%s %.60s: %+v", path, test.bad, p)
			}
		}
	}
	long := strings.Repeat("~", 128)
	b.create(t, `{"user_id":"`+long+`"}`)
	if r := do(b.internal, apiCall(http.MethodGet, "/v1/users/"+long+"/sessions?limit=1", "")); r.StatusCode != http.StatusOK {
		t.Errorf("user of 128 characters: %d", r.StatusCode)
	}
	for _, user := range []string{"", long + "~", ".", "..", "a b", "a\\u007f", "\\u0021\\u0020", "ü"} {
		if p := wantProblem(t, do(b.internal, apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"`+user+`"}`)), http.StatusBadRequest); p.Field != "user_id" {
			t.Errorf("user_id %.20q: %+v", user, p)
		}
	}
	for _, user := range []string{long + "~", "%2E", "%2e%2e", "a%20b", "a%7f", "%C3%BC", "a%00"} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			if p := wantProblem(t, do(b.internal, apiCall(method, "/v1/users/"+user+"/sessions", "")), http.StatusBadRequest); p.Field != "user_id" {
				t.Errorf("user_id %.20q in the path: %+v", user, p)
			}
		}
	}
	for _, limit := range []string{"", "0", "1001", "-1", "+1", "01", "1.0", "1e2", "99999999999999999999"} {
		if p := wantProblem(t, do(b.internal, apiCall(http.MethodGet, "/v1/users/u1/sessions?limit="+url.QueryEscape(limit), "")), http.StatusBadRequest); p.Field != "limit" {
			t.Errorf("limit %q: %+v", limit, p)
		}
	}
	for _, address := range []string{"192.0.2.1", "::1", "::ffff:192.0.2.1", "2001:db8::1%eth0"} {
		b.create(t, `{"user_id":"u1","client":{"address":"`+address+`"}}`)
	}
	for _, address := range []string{"192.0.2", "192.0.2.256", "192.0.2.1:80", "[::1]", "192.0.2.1/24", " 192.0.2.1", "localhost", "0x7f000001"} {
		if p := wantProblem(t, do(b.internal, apiCall(http.MethodPost, "/v1/sessions", `{"user_id":"u1","client":{"address":"`+address+`"}}`)), http.StatusBadRequest); p.Field != "client.address" {
			t.Errorf("address %q: %+v", address, p)
		}
	}
}

// A secret may be in any wrong place of a request. No denial repeats it, in body or header,
// and no log line does, whatever the answer.
func TestPlantedSecrets(t *testing.T) {
	b := newBench(t)
	c := b.signIn(t)
	secrets := map[string]string{
		"access token": c.Tokens.Access, "refresh token": c.Tokens.Refresh, "API key": apiKey, "another's API key": "another+key,also-of-32-characters", "anti-CSRF token": c.Tokens.AntiCSRF,
	}
	b.cfg.APIKeys["other"] = APIKey{DigestKey(secrets["another's API key"]), AllScopes}
	_, b.internal = handlers(t, b.engine, b.cfg)
	for name, secret := range secrets {
		var calls []call
		escaped, quoted := url.PathEscape(secret), `"`+secret+`"`
		for path, op := range operations(c.Session.Handle) {
			for _, m := range op.members {
				if m.name == "user_id" && len(secret) <= 128 {
					continue // a user may have that name, and is then called by it
				}
				for _, value := range []string{quoted, `[` + quoted + `]`, `{` + quoted + `:` + quoted + `}`} {
					calls = append(calls, apiCall(op.method, path, bodyWith(op.least, m.name, value)))
				}
			}
			good := bodyWith(op.least, "host", `"a.example"`)
			calls = append(
				calls,
				apiCall(op.method, path, bodyWith(op.least, secret, `1`)), apiCall(op.method, path, secret), apiCall(op.method, path, good+secret),
				apiCall(op.method, path+"?"+escaped, good), apiCall(op.method, path+"?a="+escaped, good), apiCall(op.method, path+"/"+escaped, good),
				apiCall(op.method, path, good).with("Content-Type", secret), apiCall(op.method, path, good).with("Content-Type", "application/json; a="+secret),
			)
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPatch, http.MethodPost, http.MethodPut, http.MethodOptions} {
			for _, path := range []string{
				"/v1/sessions/" + escaped, "/v1/sessions/x?" + escaped, "/v1/sessions/x?host=" + escaped + "&host=b", "/v1/users/" + escaped + "%20/sessions",
				"/v1/users/u1/sessions?limit=" + escaped, "/v1/users/u1/sessions?" + escaped + "=1", "/" + escaped, "//v1/sessions?" + escaped, "/v1//" + escaped, "/v1/../" + escaped,
				"/v1/sessions/" + escaped + "/..", "/openapi.json/" + escaped,
			} {
				calls = append(calls, apiCall(method, path, ""), apiCall(method, path, `{"data":{}}`))
			}
		}
		for _, header := range []string{"Authorization", "Cookie", "User-Agent", "Origin", "Referer", "X-Request-Id", "St-Auth-Mode", "X-Forwarded-Proto", peerHeader} {
			calls = append(calls, apiCall(http.MethodGet, "/v1/sessions/x", "").with(header, secret), apiCall(http.MethodGet, "/v1/sessions/x", "").with("Authorization", "Bearer "+secret, secret))
		}
		calls = append(calls, call{method: "X" + strings.Map(tokenCharacter, secret), path: "/v1/sessions"}, apiCall(http.MethodGet, "/v1/sessions/x", "").with("Authorization", "Basic "+secret))
		for _, call := range calls {
			r := doPath(b.internal, call)
			if r.StatusCode < 300 {
				continue // what a session holds is answered to its owner
			}
			var all strings.Builder
			_ = r.Header.Write(&all)
			all.WriteString(r.Body)
			if strings.Contains(all.String(), secret) || strings.Contains(all.String(), escaped) {
				t.Errorf("%s: %s %.30s repeats it: %d", name, call.method[:1], call.path, r.StatusCode)
			}
			if r.StatusCode < 400 {
				t.Errorf("%s: %.30s redirects: %d", name, call.path, r.StatusCode)
			}
		}
	}
	log := b.log.String()
	for name, secret := range secrets {
		if strings.Contains(log, secret) || strings.Contains(log, url.PathEscape(secret)) {
			t.Errorf("the log has the %s", name)
		}
	}
	if !strings.Contains(log, `"route":"/v1/sessions/{handle}"`) {
		t.Error("requests are not logged")
	}
	if !b.alive(t, c.Session.Handle) {
		t.Error("something of that ended the session")
	}
}

func tokenCharacter(r rune) rune {
	if r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
		return r
	}
	return 'X'
}

// doPath is do with a path that is not resolved against anything.
func doPath(h http.Handler, c call) *answer {
	return do(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, query, _ := strings.Cut(c.path, "?")
		decoded, err := url.PathUnescape(path)
		if err != nil {
			decoded = path
		}
		r.URL.Path, r.URL.RawPath, r.URL.RawQuery = decoded, path, query
		h.ServeHTTP(w, r)
	}), c)
}

// An unknown member is answered with the one that may be meant, and with all that are allowed.
func TestUnknownMemberSaysWhatIsAllowed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for body, want := range map[string]string{
		`{"userid":"ada"}`:                             "(did you mean user_id?). Allowed are: user_id, claims, data, transport, client, host.",
		`{"user_id":"ada","klaims":{}}`:                "(did you mean claims?). Allowed are: ",
		`{"user_id":"a","` + secretText + `":1}`:       ". Allowed are: user_id, ",
		`{"user_id":"ada","client":{"useragent":"x"}}`: "(did you mean user_agent?). Allowed are: address, user_agent.",
	} {
		r := do(b.internal, apiCall(http.MethodPost, "/v1/sessions", body))
		if p := wantProblem(t, r, http.StatusBadRequest); !strings.Contains(p.Detail, want) || strings.Contains(r.Body, secretText) {
			t.Errorf("%s: %q, want %q", body, p.Detail, want)
		}
	}
}

func TestIndexNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config) { c.Beside = [][2]string{{"/metrics", "for Prometheus"}} })
	r := do(b.internal, apiCall(http.MethodGet, "/", ""))
	for _, want := range []string{"/v1/sessions ", "/v1/users/{user_id}/sessions ", "DELETE, GET", "/openapi.json", "/metrics", "for Prometheus", "API key"} {
		if r.StatusCode != http.StatusOK || !strings.Contains(r.Body, want) {
			t.Errorf("%d, want %q in:\n%s", r.StatusCode, want, r.Body)
		}
	}
	if r := do(newBench(t).internal, apiCall(http.MethodGet, "/", "")); strings.Contains(r.Body, "/metrics") {
		t.Errorf("nothing is served beside it, and it says:\n%s", r.Body)
	}
}
