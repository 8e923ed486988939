package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// testDigest is the SHA-256 of testSecret.
var testDigest = sessionhttp.DigestKey(testSecret).String()

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	c, from := mustParse(t, "", "SESSIONGATE_API_KEYS=a:"+testSecret, "SESSIONGATE_API_KEY_HASHES=b:"+strings.Repeat("ab", 32)+",c:"+strings.Repeat("cd", 32),
		"SESSIONGATE_API_SCOPES=b:create+revoke,a:read")
	creds, err := credentials(c, from)
	if err != nil {
		t.Fatal(err)
	}
	hash := func(fill string) sessionhttp.KeyDigest {
		d, err := sessionhttp.ParseKeyDigest(strings.Repeat(fill, 32))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := map[string]sessionhttp.APIKey{
		"a": {Digest: sessionhttp.DigestKey(testSecret), Scopes: sessionhttp.ScopeRead},
		"b": {Digest: hash("ab"), Scopes: sessionhttp.ScopeCreate | sessionhttp.ScopeRevoke},
		"c": {Digest: hash("cd"), Scopes: sessionhttp.AllScopes}, // as nothing is said
	}
	if diff := cmp.Diff(want, apiKeys(c, creds.APIKeys)); diff != "" {
		t.Errorf("API keys (-want +got):\n%s", diff)
	}
}

// One secret under two names: which name, and which scopes, would be chance.
func TestSharedAPIKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, environ := range [][]string{
		{"SESSIONGATE_API_KEYS=a:" + testSecret + ",b:" + testSecret},
		{"SESSIONGATE_API_KEYS=a:" + testSecret, "SESSIONGATE_API_KEY_FILES=b:" + file},
		{"SESSIONGATE_API_KEY_FILES=b:" + file, "SESSIONGATE_API_KEY_HASHES=a:" + testDigest},
		{"SESSIONGATE_API_KEY_HASHES=a:" + testDigest + ",b:" + testDigest},
	} {
		c, from := mustParse(t, "", environ...)
		_, err := credentials(c, from)
		all := faultsOf(t, err)
		if len(all) != 1 || !strings.Contains(err.Error(), "one secret for both a and b") || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%.40s: %v, want one fault that names both", environ, err)
		}
	}
}

func TestKeysDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	out, err := run(t, nil, "keys", "digest", write("key", testSecret+"\n"))
	if err != nil || out != testDigest+"\n" {
		t.Errorf("%q, %v; want the digest without the line's end", out, err)
	}
	for _, file := range []string{write("short", "hunter2"), write("long", strings.Repeat("hunter2", 100)), filepath.Join(dir, "missing")} {
		if out, err := run(t, nil, "keys", "digest", file); err == nil || out != "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v; want an error that does not show the content", filepath.Base(file), out, err)
		}
	}
}

// A misspelt name must not leave the caller that was meant with every scope.
func TestScopesOfUnknownCallers(t *testing.T) {
	t.Parallel()
	environ := []string{"SESSIONGATE_API_KEYS=webapp:" + testSecret, "SESSIONGATE_API_SCOPES=webap:create,webapp:read"}
	_, _, err := parse("", nil, environ, forServe)
	var found bool
	for _, f := range faultsOf(t, err) {
		found = found || f.Key == "api.scopes" && strings.Contains(f.Found, "webap,")
	}
	if !found {
		t.Errorf("faults %v, want one that names webap", err)
	}
	if all := unknownCallers(Config{}); len(all) > 0 {
		t.Errorf("faults %v where nothing is set", all)
	}
}
