package settings

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
)

// JSONSchema describes the file, for editors: a JSON Schema of draft 2020-12. It is wider than
// what Load takes: rules between settings and the form of most texts are not in it.
func (t *Table) JSONSchema(title string) ([]byte, error) {
	root := object(title)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	for _, s := range t.Settings {
		into, name := root, s.Key
		if group, rest, nested := strings.Cut(s.Key, "."); nested {
			section, ok := properties(root)[group].(map[string]any)
			if !ok {
				section = object("")
				properties(root)[group] = section
			}
			into, name = section, rest
		}
		properties(into)[name] = t.schemaOf(s)
	}
	return json.MarshalIndent(root, "", "  ")
}

func object(title string) map[string]any {
	o := map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
	if title != "" {
		o["title"] = title
	}
	return o
}

func properties(object map[string]any) map[string]any {
	all, _ := object["properties"].(map[string]any)
	return all
}

func (t *Table) schemaOf(s Setting) map[string]any {
	schema := maps.Clone(s.Kind.Schema)
	schema["description"] = s.Doc + " Allowed: " + s.Kind.Allowed + ". Environment variable: " + t.Env(s) + "."
	if texts := s.defaults(); strings.Join(texts, "") != "" && !s.Secret {
		schema["default"] = s.jsonValue(texts)
	}
	return schema
}

// jsonValue is a value as JSON writes it.
func (s Setting) jsonValue(texts []string) any {
	if s.Kind.List {
		return texts
	}
	switch s.Kind.Tag {
	case TagInteger:
		if n, err := strconv.ParseInt(texts[0], 10, 64); err == nil {
			return n
		}
	case TagBoolean:
		return texts[0] == "true"
	}
	return texts[0]
}
