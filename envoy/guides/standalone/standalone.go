// Package standalone owns the blocks that docs/guides/envoy.md shows: what sessiongate needs in an Envoy
// that is there already. "sessiongate envoy patch" puts the same blocks into a file.
package standalone

import "embed"

//go:embed *.yaml
var blocks embed.FS

// Block returns one of them, by its file's name without the extension.
func Block(name string) string {
	text, err := blocks.ReadFile(name + ".yaml")
	if err != nil {
		panic(err) // a test asks for each
	}
	return string(text)
}
