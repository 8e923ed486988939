package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// compiledSchema is what `config schema` prints.
func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := run(t, nil, "config", "schema")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft4) // so that $schema is what counts
	if err := compiler.AddResource("sessiongate.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("sessiongate.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if schema.DraftVersion != 2020 {
		t.Errorf("draft %d", schema.DraftVersion)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, content string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(content), &value); err != nil {
		t.Fatal(err)
	}
	if value == nil {
		value = map[string]any{}
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(instance)
}

// An editor must mark nothing in the configurations that are shipped, and the slip in others.
func TestSchemaTakesWhatIsShipped(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	shipped := map[string]string{"everything": good, "compose": composed(t)}
	c, from := mustParse(t, good)
	shipped["printed"] = printed(t, c, from)
	files, err := filepath.Glob("../../envoy/guides/*/config.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var configMap struct{ Data map[string]string }
		if err := yaml.Unmarshal(text, &configMap); err != nil {
			t.Fatal(err)
		}
		if content, ok := configMap.Data["sessiongate.yaml"]; ok {
			shipped[file] = content
		}
	}
	if len(shipped) < 5 {
		t.Errorf("only %d configurations", len(shipped))
	}
	for name, content := range shipped {
		mustParse(t, content)
		if err := validate(t, schema, content); err != nil {
			t.Errorf("%s: %v\n%s", name, err, content)
		}
		for _, slip := range []string{"\nnosuch: 1\n", "\nlogg: {level: info}\n"} {
			if err := validate(t, schema, content+slip); err == nil {
				t.Errorf("%s: a key that no setting has is taken", name)
			}
		}
	}
	for _, content := range []string{
		"log: {levvel: info}", "log: {level: loud}", "listen: {max_connections: 15}", "session: {access_token_life: 3600}", "cookies: {secure: 'yes'}",
		"routes: [{path: /a}]", "routes: [{policy: {}, path: /a, path_prefix: /a}]", "routes: [{policy: {session: [optional]}}]", "api: {scopes: all}",
	} {
		if err := validate(t, schema, content); err == nil {
			t.Errorf("%s is taken", content)
		}
	}
}

// composed is the environment of docker-compose.yml as a file.
func composed(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct{ Environment map[string]string }
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	var environ []string
	for name, value := range compose.Services["sessiongate"].Environment {
		if strings.HasPrefix(name, "SESSIONGATE_") {
			environ = append(environ, name+"="+value)
		}
	}
	if len(environ) < 5 {
		t.Fatalf("only %v", environ)
	}
	slices.Sort(environ)
	c, from := mustParse(t, "", environ...)
	return printed(t, c, from)
}

// What an editor offers as a choice the process takes.
func TestSchemaOffersOnlyWhatIsTaken(t *testing.T) {
	t.Parallel()
	offered := 0
	for _, s := range table(new(Config)).Settings {
		choices, _ := s.Kind.Schema["enum"].([]any)
		for _, choice := range choices {
			offered++
			value, err := json.Marshal(choice)
			if err != nil {
				t.Fatal(err)
			}
			content, _ := nested(s.Key, string(value))
			// The other settings have their defaults, with which some choices break a rule.
			c := defaults()
			if err := table(&c).Parse("", []byte(content), nil).Err(); err != nil {
				t.Errorf("%s: %s is offered, and refused: %v", s.Key, value, err)
			}
		}
	}
	if offered < 15 {
		t.Errorf("only %d choices", offered)
	}
}
