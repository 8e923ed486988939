package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// Secret is text that no log line, error or printed configuration may hold: it
// formats as [redacted], whatever the verb or encoder. A conversion to string
// is the only way to the text.
type Secret string

const redacted = "[redacted]"

// Format implements [fmt.Formatter], which comes before every other way of fmt.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText implements [encoding.TextMarshaler] for encoders, those of slog
// among them.
//
//nolint:unparam // the error is the interface's
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format implements [fmt.Formatter]: as without it, but for a pointer under a wrong
// verb, where fmt would print the secrets without asking them.
func (c Config) Format(s fmt.State, verb rune) {
	type fields Config
	_, _ = fmt.Fprintf(s, fmt.FormatString(s, verb), fields(c))
}

// Format implements [fmt.Formatter], likewise.
func (c Credentials) Format(s fmt.State, verb rune) {
	type fields Credentials
	_, _ = fmt.Fprintf(s, fmt.FormatString(s, verb), fields(c))
}

// Credentials are the secrets that serve works with, wherever they were kept.
type Credentials struct {
	Key              Secret            // the key-encryption key: standard base64 of 32 bytes; empty if none is set
	KeyPrevious      Secret            // the one whose place it takes, likewise
	DatabasePassword Secret            // from database.password_file; empty: use what database.url holds
	APIKeys          map[string]Secret // by caller's name
}

// maxSecretFile bounds a secret's file, so that a wrong path (a device, a log)
// is a fault and no endless read.
const maxSecretFile = 4 << 10

// credentials reads the files that c names and joins them with the secrets that
// c holds. It reports every unreadable or unfit file at once, as [faults]
// that never quote what a file holds.
func credentials(c Config, at origins) (Credentials, error) {
	var all faults
	read := func(key, file, allowed string, ok func(string) bool) Secret {
		text, err := readSecretFile(file)
		switch {
		case err != nil:
			all = append(all, fault{at: at[key], key: key, found: err.Error(), allowed: "a readable file of at most 4KiB"})
		case !ok(text):
			all = append(all, fault{at: at[key], key: key, found: fmt.Sprintf("unfit content (not shown) in %q", file), allowed: allowed})
		}
		return Secret(text)
	}

	creds := Credentials{Key: c.Key, KeyPrevious: c.KeyPrevious, APIKeys: make(map[string]Secret)}
	if c.KeyFile != "" {
		creds.Key = read("key_file", c.KeyFile, allowedKey+"; `sessiongate keys new FILE` makes one", isKey)
	}
	if c.KeyPreviousFile != "" {
		creds.KeyPrevious = read("key_previous_file", c.KeyPreviousFile, allowedKey, isKey)
	}
	if c.Database.PasswordFile != "" {
		creds.DatabasePassword = read("database.password_file", c.Database.PasswordFile, "one line of text", isLine)
	}
	for _, k := range c.API.Keys {
		name, secret, _ := strings.Cut(string(k), ":")
		creds.APIKeys[name] = Secret(secret)
	}
	for _, k := range c.API.KeyFiles {
		name, file, _ := strings.Cut(k, ":")
		creds.APIKeys[name] = read("api.key_files", file, allowedAPISecret+"; `sessiongate keys new FILE` makes one", isAPISecret)
	}
	all = append(all, sharedKeys(c, creds, at)...)
	if len(all) > 0 {
		return Credentials{}, all
	}
	return creds, nil
}

// readSecretFile returns a file's text without the one line end that editors
// and `keys new` leave.
func readSecretFile(file string) (string, error) {
	raw, err := readFile(file, maxSecretFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r"), nil
}

const (
	allowedKey       = "the standard base64 of 32 bytes (44 characters)"
	allowedAPISecret = "32 to 256 visible ASCII characters without a comma" //nolint:gosec // describes secrets, is none
)

func isKey(s string) bool {
	raw, err := base64.StdEncoding.DecodeString(s)
	// Decoding skips line ends and loose last bits, so only what encodes to itself is canonical.
	return err == nil && len(raw) == 32 && base64.StdEncoding.EncodeToString(raw) == s
}

func isAPISecret(s string) bool {
	return len(s) >= 32 && len(s) <= 256 && isVisible(s) && !strings.Contains(s, ",")
}

func isAPIName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && onlyOf(s, lower+digits+"-_")
}

func isLine(s string) bool { return s != "" && isText(s) }

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

// onlyOf says whether s holds no character outside set.
func onlyOf(s, set string) bool { return strings.Trim(s, set) == "" }
