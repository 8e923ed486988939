package main

import (
	"strings"
)

// rule joins several settings of the process itself. The packages have rules of their own, for
// what is in their Configs.
type rule struct {
	keys []string
	ok   bool
	must string
}

func rules(c *Config) []rule {
	all := []rule{
		{
			[]string{"key", "key_file"},
			c.Key == "" || c.KeyFile == "",
			"one of key and key_file",
		},
		{
			[]string{"key_previous", "key_previous_file"},
			c.KeyPrevious == "" || c.KeyPreviousFile == "",
			"one of key_previous and key_previous_file",
		},
		{
			[]string{"database.password_file", "database.url"},
			c.Database.PasswordFile == "" || !hasPassword(string(c.Database.URL)),
			"a password in one of database.url and database.password_file",
		},
		{
			[]string{"api.keys", "api.key_files", "api.key_hashes"},
			!repeatedName(c),
			"one secret for a caller's name, over api.keys, api.key_files and api.key_hashes",
		},
		{
			[]string{"api.scopes"},
			!repeated(c.API.Scopes),
			"all scopes of a caller in one entry",
		},
	}
	all = append(all, tlsRules(c)...)
	all = append(all, rule{
		[]string{"shutdown.linger", "shutdown.timeout"},
		c.Shutdown.Linger < c.Shutdown.Timeout,
		"shutdown.linger below shutdown.timeout, which it is a part of",
	})
	listeners := []struct{ key, address string }{
		{"listen.authz", c.Listen.Authz}, {"listen.public", c.Listen.Public}, {"listen.internal", c.Listen.Internal}, {"profiling.listen", c.Profiling.Listen},
	}
	for i, a := range listeners {
		for _, b := range listeners[i+1:] {
			all = append(all, rule{
				[]string{b.key, a.key},
				a.address != b.address || strings.HasSuffix(a.address, ":0"),
				"an address of its own for each listener",
			})
		}
	}
	return all
}

func repeatedName(c *Config) bool { return repeated(callers(c)) }

// repeated says whether two entries NAME:WHATEVER have one name.
func repeated(entries []string) bool {
	seen := make(map[string]bool)
	for _, k := range entries {
		name, _, _ := strings.Cut(k, ":")
		if seen[name] {
			return true
		}
		seen[name] = true
	}
	return false
}

// tlsRules are the rules that join the settings of one listener's TLS.
func tlsRules(c *Config) []rule {
	var all []rule
	for _, l := range []struct {
		name    string
		files   TLSFiles
		clients []string
	}{{"authz", c.TLS.Authz, c.TLS.Names.Authz}, {"public", c.TLS.Public, c.TLS.Names.Public}, {"internal", c.TLS.Internal, c.TLS.Names.Internal}} {
		cert, key, ca := tlsKeys(l.name)
		names := clientNamesKey(l.name)
		all = append(all,
			rule{[]string{cert, key}, (l.files.Cert == "") == (l.files.Key == ""), "both " + cert + " and " + key + ", or neither"},
			rule{[]string{ca, cert}, l.files.ClientCA == "" || l.files.Cert != "", ca + " only with " + cert + ": without TLS no client can show a certificate"},
			rule{[]string{names, ca}, len(l.clients) == 0 || l.files.ClientCA != "", names + " only with " + ca + ": without it no certificate is asked for"},
		)
	}
	return all
}
