package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// callers are the entries of all settings that name a caller of the sessions API:
// NAME:WHATEVER.
func callers(c *Config) []string {
	entries := slices.Concat(c.API.KeyFiles, c.API.KeyHashes)
	for _, k := range c.API.Keys {
		entries = append(entries, string(k))
	}
	return entries
}

// unknownCallers finds names in api.scopes that no caller has. A misspelt one would
// leave the caller that was meant with every scope. It is no rule of a configuration
// by itself, for a printed one has no secrets and so no callers.
func unknownCallers(c Config) faults {
	known := make(map[string]bool)
	for _, entry := range callers(&c) {
		name, _, _ := strings.Cut(entry, ":")
		known[name] = true
	}
	var all faults
	for _, entry := range c.API.Scopes {
		if name, _, _ := strings.Cut(entry, ":"); !known[name] {
			all = append(all, fault{
				key: "api.scopes", found: "scopes for " + name + ", which is no caller",
				allowed: "the names of callers that api.keys, api.key_files or api.key_hashes has",
			})
		}
	}
	return all
}

// apiKeys are the callers of a sound configuration.
func apiKeys(c Config, creds Credentials) map[string]sessionhttp.APIKey {
	keys := make(map[string]sessionhttp.APIKey)
	add := func(name string, digest sessionhttp.KeyDigest) {
		keys[name] = sessionhttp.APIKey{Digest: digest, Scopes: sessionhttp.AllScopes}
	}
	for name, secret := range creds.APIKeys {
		add(name, sessionhttp.DigestKey(string(secret)))
	}
	for _, entry := range c.API.KeyHashes {
		name, text, _ := strings.Cut(entry, ":")
		digest, err := sessionhttp.ParseKeyDigest(text)
		if err == nil { // as the setting's kind checked
			add(name, digest)
		}
	}
	for _, entry := range c.API.Scopes {
		name, text, _ := strings.Cut(entry, ":")
		key := keys[name]
		key.Scopes, _ = sessionhttp.ParseScopes(text) // on an error: none
		keys[name] = key
	}
	return keys
}

// sharedKeys finds callers with one key: whose name and whose scopes counted would
// be chance.
func sharedKeys(c Config, creds Credentials, at origins) faults {
	var all faults
	keys := apiKeys(c, creds)
	holder := make(map[sessionhttp.KeyDigest]string)
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		digest := keys[name].Digest
		other, shared := holder[digest]
		if shared {
			all = append(all, fault{
				at: at["api.keys"], key: "api.keys",
				found: fmt.Sprintf("one secret for both %s and %s", other, name), allowed: "a secret of its own for each caller, over api.keys, api.key_files and api.key_hashes",
			})
		}
		holder[digest] = name
	}
	return all
}

type keysDigestCmd struct {
	File string `arg:"" help:"File that holds the secret."`
}

// Run implements the command.
func (k keysDigestCmd) Run(p process) error {
	secret, err := readSecretFile(k.File)
	if err != nil {
		return fmt.Errorf("reading secret: %w", err)
	}
	if !isAPISecret(secret) {
		return fmt.Errorf("unfit content (not shown) in %q; allowed: %s", k.File, allowedAPISecret)
	}
	_, err = fmt.Fprintln(p.stdout, sessionhttp.DigestKey(secret))
	return err
}
