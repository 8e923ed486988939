package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// withoutSetting are the fields that faults of the packages name and no setting fills, with the
// reason why an operator cannot break their rules.
var withoutSetting = map[string]string{
	"KeyEncryptionKey": "key and key_file fill it after load; forKeys reports that neither is set",
	"AuditPoll":        "keeps the package's default",
	"AuditBatch":       "keeps the package's default",
	"Config":           "Now and Observe are functions, which the process sets itself",
}

// A rule with a field that no setting has is dropped without a word (BrokenFields). The operator
// would then hear of the fault only from the package, without its file and line.
func TestFaultsNameFieldsOfSettings(t *testing.T) {
	t.Parallel()
	named := literalFields(t)
	for _, all := range []sessions.ConfigFaults{
		sessions.Config{}.Faults(), browser.Cookies{}.Faults(), sessionhttp.Config{}.Faults(), (&authz.Config{}).Faults(),
	} {
		for _, f := range all {
			named = append(named, f.Fields...)
		}
	}
	settings := table(new(Config))
	for _, field := range named {
		_, filled := settings.OfField(field)
		_, excused := withoutSetting[field]
		if filled == excused {
			t.Errorf("field %s: is filled by a setting: %t; is listed as one without: %t; want exactly one", field, filled, excused)
		}
	}
	for field := range withoutSetting {
		if !slices.Contains(named, field) {
			t.Errorf("field %s is listed, and no fault names it", field)
		}
	}
	keys := make(map[string]string) // by field
	for _, s := range settings.Settings {
		if s.Field == "" {
			continue
		}
		if first, again := keys[s.Field]; again {
			t.Errorf("field %s belongs to %s and to %s", s.Field, first, s.Key)
		}
		keys[s.Field] = s.Key
		if !slices.Contains(named, s.Field) {
			t.Errorf("field %s of %s: no fault names it", s.Field, s.Key)
		}
	}
}

// literalFields are the fields that calls of Unless in the packages name. An empty Config breaks
// the one rule whose field is no literal: a list of values that must not be 0.
func literalFields(t *testing.T) []string {
	t.Helper()
	var fields, others []string
	for _, dir := range []string{"sessions", "sessions/browser", "sessions/sessionhttp", "authz"} {
		files, err := filepath.Glob("../../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		found := len(fields)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			positions := token.NewFileSet()
			parsed, err := parser.ParseFile(positions, file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if method, ok := call.Fun.(*ast.SelectorExpr); !ok || method.Sel.Name != "Unless" || len(call.Args) < 3 {
					return true
				}
				for _, arg := range call.Args[2:] {
					if text, ok := arg.(*ast.BasicLit); ok {
						field, _ := strconv.Unquote(text.Value)
						fields = append(fields, field)
					} else {
						others = append(others, positions.Position(arg.Pos()).String())
					}
				}
				return true
			})
		}
		if len(fields) == found {
			t.Errorf("no rule found in %s", dir)
		}
	}
	if len(others) != 1 {
		t.Errorf("fields that are no literal at %v, want one (more than 0); name the others as literals", others)
	}
	return fields
}
