package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/internal/settings"
)

func TestNoOutputHoldsASecret(t *testing.T) {
	t.Parallel()
	c, from := mustParse(t, good)

	var out bytes.Buffer
	if err := table(&c).Print(&out, from); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", c.Key)
		fmt.Fprintf(&out, verb+"\n", c.KeyPrevious)
	}
	creds := Credentials{Key: testKey, KeyPrevious: testSecret, DatabasePassword: testSecret, APIKeys: map[string]settings.Secret{"a": testSecret}}
	for _, v := range []any{c, &c, creds, &creds, []any{c, &c, creds, &creds}, map[string]any{"c": &c, "creds": &creds}} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGs!" { // the wrong ones among them
			fmt.Fprintf(&out, "%"+string(verb)+" %+"+string(verb)+" %#"+string(verb)+"\n", v, v, v)
		}
	}
	for _, format := range []string{"json", "text"} {
		c.Log.Format = format
		newLogger(&out, c).Error("config", "config", c, "key", c.Key, "keys", c.API.Keys)
	}
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{testKey, testSecret, fmt.Sprintf("%x", testKey), fmt.Sprintf("%x", testSecret)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in the output:\n%s", secret, &out)
		}
	}
	if n := strings.Count(out.String(), settings.Redacted); n < 20 {
		t.Errorf("only %d redactions: the test looks at too little", n)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}

	c, from := mustParse(t, "", "SESSIONGATE_KEY_FILE="+write("key", testKey+"\n"), "SESSIONGATE_KEY_PREVIOUS_FILE="+write("previous", otherKey), "SESSIONGATE_DATABASE_PASSWORD_FILE="+write("password", "p w\r\n"),
		"SESSIONGATE_API_KEYS=a:"+testSecret+":x", "SESSIONGATE_API_KEY_FILES=b:"+write("api", testSecret))
	got, err := credentials(c, from)
	want := Credentials{Key: testKey, KeyPrevious: otherKey, DatabasePassword: "p w", APIKeys: map[string]settings.Secret{"a": testSecret + ":x", "b": testSecret}}
	if diff := cmp.Diff(want, got, plainly); err != nil || diff != "" {
		t.Errorf("error %v, credentials (-want +got):\n%s", err, diff)
	}

	c, from = mustParse(t, "", "SESSIONGATE_KEY_FILE="+write("bad key", "hunter2"), "SESSIONGATE_KEY_PREVIOUS_FILE="+write("bad previous", testKey[1:]), "SESSIONGATE_DATABASE_PASSWORD_FILE="+filepath.Join(dir, "missing"),
		"SESSIONGATE_API_KEY_FILES=a:"+write("bad api", "hunter2")+",b:"+write("long", strings.Repeat("hunter2", 1000)))
	_, err = credentials(c, from)
	if all := faultsOf(t, err); len(all) != 5 || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "longer than 4KiB") {
		t.Errorf("faults, want 5 that do not show the files' content:\n%v", err)
	}
}
