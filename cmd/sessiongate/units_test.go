package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the packages install is good as it is: each file has no fault, each variable of a unit is a
// setting whose file the same unit loads, and a stop has the time that it needs.
func TestPackagedFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("package/*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		if _, err := run(t, nil, "config", "--config", file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	var known []string
	c, _, err := load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range table(&c).Settings {
		known = append(known, envOf(s))
	}
	units, err := filepath.Glob("package/*.service")
	if err != nil || len(units) != 2 {
		t.Fatalf("%q, %v", units, err)
	}
	for _, name := range units {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		unit := string(text)
		for _, set := range regexp.MustCompile(`(?m)^Environment=(\w+)=(.*)$`).FindAllStringSubmatch(unit, -1) {
			if !slices.Contains(known, set[1]) {
				t.Errorf("%s sets %s, which is no setting", name, set[1])
			}
			_, credential, _ := strings.Cut(set[2], "%d/")
			if !strings.Contains(unit, "\nLoadCredential="+credential+":/etc/sessiongate/credentials/"+credential+"\n") {
				t.Errorf("%s: %s names a file that is not loaded", name, set[0])
			}
		}
	}
	unit, err := os.ReadFile("package/sessiongate.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\w+)$`).FindStringSubmatch(string(unit))
	if found == nil {
		t.Fatal("the unit has no time for a stop")
	}
	patience, err := time.ParseDuration(found[1])
	// Promotions and audit events come after the listeners: 2 s and 4 s.
	if most := c.Shutdown.DrainDelay + c.Shutdown.Timeout + 6*time.Second; err != nil || patience <= most {
		t.Errorf("a stop may take %v, and systemd kills it after %v (%v)", most, patience, err)
	}
}
