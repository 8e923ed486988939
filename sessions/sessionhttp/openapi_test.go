package sessionhttp

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// description is openapi.json as generators of clients read it.
type description struct {
	t        *testing.T
	document map[string]any
	compiler *jsonschema.Compiler
}

func newDescription(t *testing.T) *description {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(OpenAPI())))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{t, value.(map[string]any), jsonschema.NewCompiler()}
	d.compiler.AssertFormat()
	// Go has no lookahead. The one that is used keeps . and .. out of a path, which other tests show.
	d.compiler.UseRegexpEngine(func(pattern string) (jsonschema.Regexp, error) {
		return regexp.Compile(strings.Replace(pattern, `(?!\.{1,2}$)`, "", 1))
	})
	if err := d.compiler.AddResource("openapi.json", value); err != nil {
		t.Fatal(err)
	}
	return d
}

// at follows names from the document's root; nil where one is not there.
func (d *description) at(names ...string) any {
	var v any = d.document
	for _, name := range names {
		o, _ := v.(map[string]any)
		v = o[name]
	}
	return v
}

// walk visits each object, with the JSON pointer to it.
func walk(v any, pointer string, visit func(pointer string, o map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(pointer, v)
		for name, member := range v {
			if name != "example" {
				walk(member, pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), visit)
			}
		}
	case []any:
		for i, item := range v {
			walk(item, fmt.Sprint(pointer, "/", i), visit)
		}
	}
}

// operations are those of the paths, by operationId.
func (d *description) operations() map[string]map[string]any {
	all := map[string]map[string]any{}
	for _, item := range d.at("paths").(map[string]any) {
		for _, operation := range item.(map[string]any) {
			o := operation.(map[string]any)
			all[o["operationId"].(string)] = o
		}
	}
	return all
}

// Every body, header and parameter has an example, which its own schema allows.
func TestOpenAPIExamples(t *testing.T) {
	d := newDescription(t)
	checked := 0
	walk(d.document, "", func(pointer string, o map[string]any) {
		if _, ok := o["schema"].(map[string]any); !ok {
			return
		}
		example, ok := o["example"]
		if !ok {
			t.Errorf("%s has no example", pointer)
			return
		}
		schema, err := d.compiler.Compile("openapi.json#" + pointer + "/schema")
		if err != nil {
			t.Fatalf("%s: %v", pointer, err)
		}
		if err := schema.Validate(example); err != nil {
			t.Errorf("%s: %v", pointer, err)
		}
		checked++
	})
	if checked < 35 {
		t.Errorf("only %d examples", checked)
	}
}

// A problem of the description is what its error is answered with.
func TestOpenAPIProblemExamples(t *testing.T) {
	d := newDescription(t)
	c := Defaults()
	causes := map[string]error{
		"Invalid":         &sessions.InvalidError{Field: "user_id", Allowed: "1 to 128 characters from ! to ~ (no spaces), and not . or .."},
		"Unauthenticated": denyNoKey, "Forbidden": &scopeError{ScopeCreate}, "NotFound": sessions.ErrNotFound,
		"TooLarge": &http.MaxBytesError{Limit: c.BodyMax}, "MediaType": denyMediaType, "Internal": errPanicked, "Unavailable": sessions.ErrUnavailable,
		"TooMany": sessions.ErrTooManySessions, "TooManyRefreshes": &sessions.RateError{}, "Superseded": sessions.ErrSuperseded, "Denied": sessions.DenyExpired,
		"SessionEnded": sessions.ErrSessionEnded,
	}
	for name := range d.at("components", "responses").(map[string]any) {
		cause, ok := causes[name]
		if !ok {
			t.Errorf("%s: which error is that?", name)
			continue
		}
		header := http.Header{}
		var answer any = c.classify(cause, header).titled()
		if name == "SessionEnded" {
			answer = endedProblem{
				problem: c.classify(cause, header).titled(), Error: endedText(cause), Headers: headerObject(browser.EndedHeaders()),
				SetCookie: c.Cookies.Clear(""), SDKCookies: c.Cookies.ClearSDK("", browser.SDKCookieNames()...),
			}
		}
		if diff := cmp.Diff(asJSON(t, answer), d.at("components", "responses", name, "content", problemType, "example")); diff != "" {
			t.Errorf("%s (-answered +example):\n%s", name, diff)
		}
		headers, _ := d.at("components", "responses", name, "headers").(map[string]any)
		for h := range headers {
			if example := d.at("components", "responses", name, "headers", h, "example"); header.Get(h) != example {
				t.Errorf("%s: %s is answered as %q, and the example is %q", name, h, header.Get(h), example)
			}
		}
	}
}

func asJSON(t *testing.T, v any) any {
	t.Helper()
	r := httptest.NewRecorder()
	writeJSON(r, http.StatusOK, v)
	value, err := jsonschema.UnmarshalJSON(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// An example has the members that the answer to the request's example has, and is of the same kinds.
func TestOpenAPIExamplesAreComplete(t *testing.T) {
	d, b := newDescription(t), newBench(t)
	example := func(names ...string) string {
		text, err := json.Marshal(d.at(append(append([]string{"paths"}, names...), "requestBody", "content", "application/json", "example")...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := b.create(t, example("/v1/sessions", "post"))
	// The example's tokens are made up. These are the session's.
	tokens := strings.NewReplacer(
		d.at("paths", "/v1/sessions", "post", "responses", "201", "content", "application/json", "example", "tokens", "access_token").(string), first.Tokens.Access,
		d.at("paths", "/v1/sessions", "post", "responses", "201", "content", "application/json", "example", "tokens", "refresh_token").(string), first.Tokens.Refresh,
		d.at("paths", "/v1/sessions", "post", "responses", "201", "content", "application/json", "example", "tokens", "anti_csrf").(string), first.Tokens.AntiCSRF,
	)
	b.pass(t, b.cfg.RefreshAttemptMax) // after the grace of the sign-in, a refresh brings a refresh token, too
	for _, o := range []struct{ path, method, status string }{
		{"/v1/sessions", "post", "201"},
		{"/v1/sessions/verify", "post", "200"},
		{"/v1/sessions/refresh", "post", "200"},
		{"/v1/sessions/{handle}", "get", "200"},
		{"/v1/sessions/{handle}", "patch", "200"},
		{"/v1/users/{user_id}/sessions", "get", "200"},
		{"/v1/sessions/{handle}", "delete", "200"},
		{"/v1/users/{user_id}/sessions", "delete", "200"},
	} {
		body := ""
		if o.method == "post" || o.method == "patch" {
			body = tokens.Replace(example(o.path, o.method))
		}
		r := do(b.internal, apiCall(strings.ToUpper(o.method), strings.NewReplacer("{handle}", first.Session.Handle, "{user_id}", "ada").Replace(o.path), body))
		if strconv.Itoa(r.StatusCode) != o.status {
			t.Errorf("%s %s: %d", o.method, o.path, r.StatusCode)
			continue
		}
		answer, err := jsonschema.UnmarshalJSON(strings.NewReader(r.Body))
		if err != nil {
			t.Fatal(err)
		}
		shown := d.at("paths", o.path, o.method, "responses", o.status, "content", "application/json", "example")
		if diff := cmp.Diff(slices.Sorted(maps.Keys(members(answer, ""))), slices.Sorted(maps.Keys(members(shown, "")))); diff != "" {
			t.Errorf("%s %s (-answered +example):\n%s", o.method, o.path, diff)
		}
	}
}

// members are the paths to each member, with the kind of its value.
func members(v any, at string) map[string]bool {
	all := map[string]bool{}
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			maps.Copy(all, members(member, at+"."+name))
		}
	case []any:
		for _, item := range v {
			maps.Copy(all, members(item, at+"[]"))
		}
	default:
		all[fmt.Sprint(at, " ", reflect.TypeOf(v))] = true
	}
	return all
}

// Clients are generated by these names: a change of one breaks every program that was made with it.
func TestOpenAPIOperations(t *testing.T) {
	d := newDescription(t)
	got := map[string]string{}
	for id, o := range d.operations() {
		got[id] = fmt.Sprint(o["tags"])
	}
	if diff := cmp.Diff(map[string]string{
		"createSession": "[sessions]", "verifySession": "[sessions]", "refreshSession": "[sessions]", "getSession": "[sessions]", "updateSession": "[sessions]", "endSession": "[sessions]",
		"listSessionsOfUser": "[users]", "endSessionsOfUser": "[users]",
	}, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	walk(d.at("paths"), "", func(pointer string, o map[string]any) {
		id, ok := o["operationId"].(string)
		if _, known := got[id]; ok && !known {
			t.Errorf("%s links to %s, which is not there", pointer, id)
		}
	})
	for id, o := range d.operations() {
		for _, tag := range o["tags"].([]any) {
			if !slices.ContainsFunc(d.at("tags").([]any), func(described any) bool { return described.(map[string]any)["name"] == tag }) {
				t.Errorf("%s has the tag %s, which is not described", id, tag)
			}
		}
	}
}

// ownNames are names that generated clients have by themselves.
var ownNames = []string{
	"Client", "ClientInterface", "ClientOption", "ClientWithResponses", "HttpRequestDoer", "RequestEditorFn", // oapi-codegen
	"ClientOptions", "Config", "Options", "RequestOptions", "RequestResult", "Auth", // hey-api
	"AuthenticatedClient", "UnexpectedStatus", "File", "Response", "Unset", // openapi-python-client
	"paths", "webhooks", "components", "operations", "$defs", // openapi-typescript
	"Api", "Configuration", "ApiClient", "ApiException", "ApiResponse", "ApiError", "Error", "Request", "Headers", "Body", // others
}

// Generators make types of all of these names, some of them in one package and without regard to
// case. Two that are alike are a client that does not compile.
func TestOpenAPINamesDoNotCollide(t *testing.T) {
	d := newDescription(t)
	taken := map[string]string{}
	take := func(name, what string) {
		key := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
		if other, ok := taken[key]; ok && other != what {
			t.Errorf("%s of %s is also that of %s", name, what, other)
		}
		taken[key] = what
	}
	for _, name := range ownNames {
		take(name, "every client")
	}
	for id := range d.operations() {
		for _, suffix := range []string{
			"", "Response", "Responses", "Request", "RequestBody", "Body", "JSONBody", "JSONRequestBody", "Params", "Data", "Error", "Errors", "Result", "Query", "Path",
			"200Response", "201Response", "WithBody", "WithResponse",
		} {
			take(id+suffix, "operation "+id)
		}
	}
	for _, kind := range []string{"schemas", "responses", "parameters", "requestBodies", "headers"} {
		parts, _ := d.at("components", kind).(map[string]any)
		for name, part := range parts {
			take(name, kind+" "+name)
			if kind == "responses" { // of those whose name ends in it already
				take(name+"Response", kind+" "+name)
			}
			properties, _ := part.(map[string]any)["properties"].(map[string]any)
			for property, s := range properties {
				if s := s.(map[string]any); s["$ref"] == nil && (s["enum"] != nil || s["type"] == "object") {
					take(name+property, "member "+property+" of "+name) // a type of its own
				}
			}
		}
	}
}

// Generators take an object for one without members, unless it has some or may have any. They make
// several types, or none, of an object that is one of several. And openapi-typescript requires each
// member that has a default.
func TestOpenAPIObjectsAreOneType(t *testing.T) {
	d := newDescription(t)
	walk(d.at("components", "schemas"), "", func(pointer string, o map[string]any) {
		_, some := o["properties"]
		_, others := o["additionalProperties"]
		if o["type"] == "object" && !some && !others {
			t.Errorf("%s may have no member", pointer)
		}
		if o["default"] != nil {
			t.Errorf("%s has a default", pointer)
		}
		for _, several := range []string{"anyOf", "oneOf", "allOf"} {
			if o[several] != nil && o["type"] == "object" {
				t.Errorf("%s is %s", pointer, several)
			}
		}
	})
}
