package authz

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

func TestRequirement(t *testing.T) {
	const claims = `{"role":"editor","empty":"","verified":true,"blocked":false,"level":3,"half":0.5,"none":null,"list":["a","b"],"nothing":[],
		"object":{"x":1},"mixed":[null,{"a":1},["deep"],7],"st-role":{"v":["admin"],"t":1700000000000},"st-flag":{"v":true},"st-none":{"t":1},"a.b":"c",
		"big":9007199254740993,"id":"9007199254740993","small":-9007199254740991}`
	var session structpb.Struct
	if err := protojson.Unmarshal([]byte(claims), &session); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		claim, value string
		met          bool
	}{
		{"role", "editor", true},
		{"role", "Editor", false},
		{"role", "edit", false},
		{"role", "admin|editor", true},
		{"role", "admin|author", false},
		{"role", "*", true},
		{"empty", "*", true},
		{"missing", "*", false},
		{"missing", "x", false},
		{"none", "*", false},
		{"none", "null", false},
		{"verified", "true", true},
		{"verified", "1", false},
		{"blocked", "true", false},
		{"blocked", "false", true},
		{"blocked", "*", true},
		{"level", "3", true},
		{"level", "3.0", false},
		{"half", "0.5", true},
		{"list", "b", true},
		{"list", "c", false},
		{"list", "c|a", true},
		{"list", "*", true},
		{"nothing", "*", false},
		{"object", "*", false},
		{"mixed", "7", true},
		{"mixed", "deep", false},
		{"st-role", "admin", true},
		{"st-role", "user", false},
		{"st-flag", "true", true},
		{"st-none", "*", false},
		{"a.b", "c", true},
		{"big", "9007199254740993", false}, // a double cannot tell it from its neighbour
		{"big", "9007199254740992", false},
		{"big", "*", true},
		{"id", "9007199254740993", true},
		{"small", "-9007199254740991", true},
	} {
		q, ok := parseRequirement(tt.claim, tt.value)
		if !ok {
			t.Errorf("require.%s: %s is not understood", tt.claim, tt.value)
		}
		if got := q.metBy(&session); got != tt.met {
			t.Errorf("require.%s: %s: %t", tt.claim, tt.value, got)
		}
	}
	if q, _ := parseRequirement("role", "*"); q.metBy(nil) {
		t.Error("a session without claims has one")
	}
}

// What no session can meet, and what is no requirement, closes the route as a typo does.
func TestRequirementIsRefused(t *testing.T) {
	for _, s := range [][2]string{
		{"require.", "x"},
		{"require", "x"},
		{"Require.role", "x"},
		{"require.role", ""},
		{"require.role", "|"},
		{"require.role", "a||b"},
		{"require.role", "a|"},
		{"require.role", "a|*"},
		{"require.sub", "alice"},
		{"require.sg", "*"},
		{"require.role", strings.Repeat("x|", 32) + "x"},
	} {
		var fault *PolicyError
		if _, err := (Policy{}).With(map[string]string{s[0]: s[1]}); !errors.As(err, &fault) || fault.Key != s[0] {
			t.Errorf("%q is accepted", s)
		}
	}
	many := map[string]string{}
	for i := range requirementsMax {
		many["require.c"+strconv.Itoa(i)] = "x"
	}
	if _, err := (Policy{}).With(many); err != nil {
		t.Errorf("as many as are allowed: %v", err)
	}
	many["require.more"] = "x"
	if _, err := (Policy{}).With(many); err == nil {
		t.Error("more than are allowed")
	}
}

func TestRequire(t *testing.T) {
	g := newGate(t) // alice's role is admin, bob has none
	admin := []string{"require.role", "admin"}
	asScript := func(i sessions.Issued) ask { return script.cookie(access(i)).with("anti-csrf", i.AntiCSRF.Reveal()) }
	const wrong = `{"message":"invalid claim","claimValidationErrors":[{"id":"role","reason":{"message":"wrong value","expectedToIncludeAtLeastOneOf":["admin"]}}]}`
	tests := []struct {
		name   string
		ask    ask
		status int
		user   string
		body   string
	}{
		{"met", asScript(g.alice).under(admin...), 0, "alice", ""},
		{"met, by a navigation", navigation.cookie(access(g.alice)).under(admin...), 0, "alice", ""},
		{"not met", asScript(g.bob).under(admin...), 403, "", wrong},
		{"not met, by a navigation", navigation.cookie(access(g.bob)).under(admin...), 403, "", "Forbidden"},
		{"not met, in header transport", script.with("authorization", "Bearer "+g.header.Access.Reveal()).under(admin...), 403, "", wrong},
		{"not met, on the login page", ask{method: "GET", path: "/login", headers: asScript(g.bob).headers}.under(admin...), 0, "", ""},
		{"not met, on an optional route", asScript(g.bob).under("session", "optional", "require.role", "admin"), 403, "", wrong},
		{"no session, on an optional route", script.under("session", "optional", "require.role", "admin"), 0, "", ""},
		{"no session", script.under(admin...), 302, "", ""},
		{"expired", asScript(g.expired).under(admin...), 440, "", pleaseRefresh},
		{"without anti-CSRF", script.cookie(access(g.bob)).under(admin...), 440, "", pleaseRefresh + browser.TokenMissing},
		{"two of three", asScript(g.alice).under("require.role", "admin", "require.b", "*", "require.a", "x|y"), 403, "", `{"message":"invalid claim","claimValidationErrors":[` +
			`{"id":"a","reason":{"message":"wrong value","expectedToIncludeAtLeastOneOf":["x","y"]}},{"id":"b","reason":{"message":"value does not exist"}}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := check(t, g.server, tt.ask)
			if r.status != tt.status || r.user != tt.user || r.body != tt.body {
				t.Errorf("got %d %q %s", r.status, r.user, r.body)
			}
			if r.status == 403 && strings.HasPrefix(r.body, "{") && r.headers["content-type"] != "application/json" {
				t.Errorf("content-type %q", r.headers["content-type"])
			}
		})
	}
}

// A route's requirement stands in place of the default's for the same claim.
func TestRequireReplacesDefault(t *testing.T) {
	base, err := (Policy{}).With(map[string]string{"require.role": "admin", "require.plan": "paid"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := base.With(map[string]string{"require.role": "editor"})
	if err != nil || len(p.Require) != 2 || p.Require[1].OneOf[0] != "editor" {
		t.Errorf("%+v, %v", p, err)
	}
	if base.Require[1].OneOf[0] != "admin" {
		t.Error("the default has changed")
	}
}
