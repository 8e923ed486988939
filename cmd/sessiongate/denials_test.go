package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/authz"
)

func TestDenialsPageIsTheTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/denials.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	if err := writeDenials(&want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(page)); diff != "" {
		t.Errorf("docs/denials.md is not what `sessiongate denials` prints (-printed +page):\n%s", diff)
	}
}

// An alert or a panel that selects by a code which nothing has would never fire.
func TestMonitoringSelectsByCodes(t *testing.T) {
	t.Parallel()
	codes := map[string]bool{}
	for _, o := range authz.Observations() {
		codes[o.Code] = true
	}
	selector := regexp.MustCompile(`code=~?\\?"([^"\\]+)`)
	found := 0
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json", "README.md"} {
		text, err := os.ReadFile("../../docs/monitoring/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "why=") {
			t.Errorf("%s selects by a sentence", file)
		}
		for _, m := range selector.FindAllStringSubmatch(string(text), -1) {
			for code := range strings.SplitSeq(m[1], "|") {
				found++
				if !codes[code] {
					t.Errorf("%s selects by %q, which no check has", file, code)
				}
			}
		}
	}
	if found == 0 {
		t.Error("nothing selects by a code")
	}
}
