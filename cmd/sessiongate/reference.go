package main

import (
	"io"
)

// writeReference prints the reference page of the settings, in Markdown.
func writeReference(w io.Writer) error {
	c := defaults()
	_, err := io.WriteString(w, referenceHead+table(&c).Reference()+routesReference)
	return err
}

// writeSchema prints the JSON Schema of the file.
func writeSchema(w io.Writer) error {
	c := defaults()
	schema, err := table(&c).JSONSchema("Configuration of sessiongate")
	if err != nil {
		return err
	}
	_, err = w.Write(append(schema, '\n'))
	return err
}

const referenceHead = `# Configuration

<!-- Made by "sessiongate config --reference" from the table in cmd/sessiongate/settings.go. -->

The configuration is one YAML file. ` + "`--config` or `SESSIONGATE_CONFIG`" + ` names it. It is optional.
A dot in the name of a setting is a level of nesting: ` + "`log.level`" + ` is ` + "`level`" + ` in the mapping ` + "`log`" + `.
Every setting is also an environment variable, which wins over the file.

A key that is unknown or repeated, or a value of the wrong type or out of range, stops the process.
The process then names all faults at once. After these it names the faults of the files that the
configuration names. ` + "`sessiongate config`" + ` prints what is in effect, and where each value came from.

- **Durations** are whole numbers with units, the largest unit first: ` + "`30d`, `1h30m`, `200ms`" + `.
- **Sizes** likewise: ` + "`64KiB`" + `.
- **Lists** in the environment are separated by commas, without spaces. An empty variable is an
  empty list or text.
- **Not allowed** in the file: aliases, anchors, merge keys and tags.

## In an editor

` + "`sessiongate config schema`" + ` prints a JSON Schema (draft 2020-12) of the file. Editors with the YAML
language server then complete keys, show these descriptions and mark mistakes. Write the schema
beside the file, and name it in the file's first line:

` + "```sh" + `
sessiongate config schema > sessiongate.schema.json
` + "```" + `

` + "```yaml" + `
# yaml-language-server: $schema=sessiongate.schema.json
log:
  level: info
` + "```" + `

The schema knows types, choices, defaults and ranges of numbers. ` + "`sessiongate config`" + ` knows the
rest, such as the rules between settings.
`
