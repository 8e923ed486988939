package main

import (
	"time"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// Config is the configuration of the process. What each field means, its default and its range
// stand in the table of settings (settings.go), which fills it. What a package owns is the
// package's own Config. Secrets are of type [settings.Secret], and stand in no package's Config
// until that is used.
type Config struct {
	Listen struct {
		Authz       string // HOST:PORT or unix:/PATH
		Public      string
		Internal    string
		AddressFile string

		MaxConnections int
		HeaderMax      int // bytes, of HTTP
		ReadTimeout    time.Duration
		IdleTimeout    time.Duration
	}
	TLS struct {
		Authz, Public, Internal TLSFiles
		// Names are those of the clients that each listener lets in.
		Names struct{ Authz, Public, Internal []string }
	}
	Database struct {
		URL          settings.Secret
		PasswordFile string
		Migrate      bool
	}
	Key             settings.Secret
	KeyFile         string
	KeyPrevious     settings.Secret
	KeyPreviousFile string
	API             struct {
		Keys      []settings.Secret // NAME:SECRET
		KeyFiles  []string          // NAME:/PATH
		KeyHashes []string          // NAME:SHA256
		Scopes    []string          // NAME:SCOPE+SCOPE
	}

	Store  postgres.Config    // without URL and password
	Engine sessions.Config    // without keys, clock and outputs
	HTTP   sessionhttp.Config // without callers and log
	Check  authz.Config       // without what HTTP has too
	GRPC   authz.Limits

	Memory struct {
		LimitPercent int // 0: none of ours
		GCPercent    int
	}
	Shutdown struct {
		DrainDelay time.Duration
		Linger     time.Duration
		Timeout    time.Duration
	}
	Log struct {
		Level            string // debug, info, warn or error
		Format           string // json or text
		DenialsPerSecond int    // 0: all
	}
	Audit struct {
		Output string // stdout, a path, or empty
	}
	Profiling struct {
		Listen string // LOOPBACK:PORT or unix:/PATH; empty: off
	}
	Tracing struct {
		OTLPEndpoint  string // empty: off
		SamplePercent int
	}
}

// TLSFiles are the PEM files of one listener's TLS; without Cert it speaks none.
type TLSFiles struct {
	Cert, Key string
	ClientCA  string // whose certificates clients must show; "": none is asked for
}

// defaults is a Config with the packages' defaults. What the process adds to them, such as a
// clock and a log, it adds where it uses them: a Config can be compared.
func defaults() Config {
	c := Config{Store: postgres.Defaults(), Engine: sessions.Defaults(), HTTP: sessionhttp.Defaults(), GRPC: authz.DefaultLimits()}
	c.Engine.Now, c.Engine.Observe, c.HTTP.Log = nil, nil, nil
	return c
}

// tlsKeys are the settings of one listener's TLS.
func tlsKeys(listener string) (cert, key, clientCA string) {
	return "tls." + listener + "_cert_file", "tls." + listener + "_key_file", "tls." + listener + "_client_ca_file"
}

// clientNamesKey is the setting of the clients that may connect to a listener.
func clientNamesKey(listener string) string { return "tls." + listener + "_client_names" }

// auditStdout is the value of audit.output that is no path.
const auditStdout = "stdout"
