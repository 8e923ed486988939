package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// diagram is a block that GitHub draws with Mermaid.
var diagram = regexp.MustCompile("(?ms)^```mermaid\n(.*?)^```$")

// TestDiagramsParse has Mermaid itself parse each diagram of each document: GitHub shows an error in
// the place of one that it cannot read.
func TestDiagramsParse(t *testing.T) {
	t.Parallel()
	const folder = "testdata/mermaid"
	type block struct {
		Name string `json:"name"`
		Text string `json:"text"`
	}
	// The first shows that a broken one is found.
	blocks := []block{{"broken on purpose", "flowchart LR\n  a --> --> b\n"}}
	for name, text := range documents(t) {
		for _, at := range diagram.FindAllStringSubmatchIndex(text, -1) {
			line := strings.Count(text[:at[0]], "\n") + 1
			blocks = append(blocks, block{fmt.Sprintf("%s:%d", name, line), text[at[2]:at[3]]})
		}
	}
	if len(blocks) < 6 {
		t.Fatalf("only %d diagrams were found", len(blocks)-1)
	}

	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("the diagrams need node and npm: install them (Debian: apt-get install nodejs npm), then run make diagrams")
	}
	if _, err := os.Stat(folder + "/node_modules/mermaid"); err != nil {
		t.Fatal("Mermaid is not installed: run make diagrams (npm ci in docs/" + folder + ")")
	}
	list, err := json.Marshal(blocks)
	if err != nil {
		t.Fatal(err)
	}
	parse := exec.CommandContext(t.Context(), node, "parse.mjs")
	parse.Dir = folder
	parse.Stdin = bytes.NewReader(list)
	var failure strings.Builder
	parse.Stderr = &failure
	output, err := parse.Output()
	if err != nil {
		t.Fatalf("parsing the diagrams (does make diagrams mend it?): %v\n%s", err, failure.String())
	}
	var faults []struct{ Name, Message string }
	if err := json.Unmarshal(output, &faults); err != nil {
		t.Fatalf("reading what Mermaid said: %v\n%s", err, output)
	}
	if len(faults) == 0 || faults[0].Name != blocks[0].Name {
		t.Fatalf("Mermaid accepts a diagram that is broken on purpose; it found %v", faults)
	}
	for _, fault := range faults[1:] {
		t.Errorf("%s: %s", fault.Name, fault.Message)
	}
}
