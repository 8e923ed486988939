package main

import (
	"errors"
	"slices"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
)

// load reads the configuration from a file (if file or SESSIONGATE_CONFIG names one) and from the
// environment, which wins. needs say what the command needs beyond a sound configuration. An
// error is of type [settings.Faults] and holds everything that is wrong, not only the first.
func load(file string, environ []string, needs ...func(Config) error) (Config, settings.Origins, error) {
	c := defaults()
	return checked(&c, table(&c).Load(file, environ), needs)
}

// parse is load for a file's content.
func parse(file string, content []byte, environ []string, needs ...func(Config) error) (Config, settings.Origins, error) {
	c := defaults()
	return checked(&c, table(&c).Parse(file, content, environ), needs)
}

func checked(c *Config, r *settings.Reader, needs []func(Config) error) (Config, settings.Origins, error) {
	check := authzConfig(*c, nil)
	var offer sessions.ConfigFaults
	if c.Engine.Binding.Offer {
		offer = c.HTTP.Cookies.OfferFaults()
	}
	for _, f := range slices.Concat(c.Engine.Faults(), c.HTTP.Cookies.Faults(), c.HTTP.Faults(), check.Faults(), offer) {
		r.BrokenFields(f.Fields, f.Allowed)
	}
	for _, rule := range rules(c) {
		if !rule.ok {
			r.Broken(rule.keys, rule.must)
		}
	}
	for _, need := range needs {
		var missing settings.Faults
		_ = errors.As(need(*c), &missing)
		r.Need(missing)
	}
	if err := r.Err(); err != nil {
		return Config{}, nil, err
	}
	return *c, r.Origins, nil
}

// forServe says what serve needs beyond a sound configuration.
func forServe(c Config) error {
	var all settings.Faults
	if missing := settings.Faults(nil); errors.As(forMigrate(c), &missing) {
		all = missing
	}
	if missing := settings.Faults(nil); errors.As(forKeys(c), &missing) {
		all = append(all, missing...)
	}
	all = append(all, unknownCallers(c)...)
	if len(all) > 0 {
		return all
	}
	return nil
}

// forKeys says what opening the stored keys needs beyond a sound configuration.
func forKeys(c Config) error {
	if c.Key == "" && c.KeyFile == "" {
		return settings.Faults{{
			Key: "key", Found: "no key-encryption key",
			Allowed: "SESSIONGATE_KEY, or key_file with the path of a file made by `sessiongate keys new FILE`; every replica needs the same one",
		}}
	}
	return nil
}

// forMigrate says what migrate needs beyond a sound configuration.
func forMigrate(c Config) error {
	if c.Database.URL == "" {
		return settings.Faults{{Key: "database.url", Found: "no database", Allowed: allowedDatabaseURL}}
	}
	return nil
}
