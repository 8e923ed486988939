package main

import (
	"fmt"
	"strings"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
)

// Format implements [fmt.Formatter]: as without it, but for a pointer under a wrong verb, where
// fmt would print the secrets without asking them.
func (c Credentials) Format(s fmt.State, verb rune) {
	type fields Credentials
	_, _ = fmt.Fprintf(s, fmt.FormatString(s, verb), fields(c))
}

// Credentials are the secrets that serve works with, wherever they were kept.
type Credentials struct {
	Key              settings.Secret            // the key-encryption key: standard base64 of 32 bytes; empty if none is set
	KeyPrevious      settings.Secret            // the one whose place it takes, likewise
	DatabasePassword settings.Secret            // from database.password_file; empty: use what database.url holds
	APIKeys          map[string]settings.Secret // by caller's name
}

// maxSecretFile bounds a secret's file, so that a wrong path (a device, a log)
// is a fault and no endless read.
const maxSecretFile = 4 << 10

// credentials reads the files that c names and joins them with the secrets that
// c holds. It reports every unreadable or unfit file at once, as [settings.Faults]
// that never quote what a file holds.
func credentials(c Config, at settings.Origins) (Credentials, error) {
	var all settings.Faults
	read := func(key, file, allowed string, ok func(string) bool) settings.Secret {
		text, err := readSecretFile(file)
		switch {
		case err != nil:
			all = append(all, settings.Fault{At: at[key], Key: key, Found: err.Error(), Allowed: "a readable file of at most 4KiB"})
		case !ok(text):
			all = append(all, settings.Fault{At: at[key], Key: key, Found: fmt.Sprintf("unfit content (not shown) in %q", file), Allowed: allowed})
		}
		return settings.Secret(text)
	}

	creds := Credentials{Key: c.Key, KeyPrevious: c.KeyPrevious, APIKeys: make(map[string]settings.Secret)}
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
		creds.APIKeys[name] = settings.Secret(secret)
	}
	for _, k := range c.API.KeyFiles {
		name, file, _ := strings.Cut(k, ":")
		creds.APIKeys[name] = read("api.key_files", file, allowedAPISecret+"; `sessiongate keys new FILE` makes one", isAPISecret)
	}
	all = append(all, sharedKeys(c, creds.APIKeys, at)...)
	if len(all) > 0 {
		return Credentials{}, all
	}
	return creds, nil
}

// readSecretFile returns a file's text without the one line end that editors
// and `keys new` leave.
func readSecretFile(file string) (string, error) {
	raw, err := settings.ReadFile(file, maxSecretFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r"), nil
}

// keyEncryption is the key-encryption keys among the secrets.
func keyEncryption(creds Credentials) (keks sessions.KeyEncryption, err error) {
	if keks.Key, err = sessions.ParseKeyEncryptionKey(string(creds.Key)); err != nil {
		return keks, err
	}
	if creds.KeyPrevious != "" {
		keks.Previous, err = sessions.ParseKeyEncryptionKey(string(creds.KeyPrevious))
	}
	return keks, err
}
