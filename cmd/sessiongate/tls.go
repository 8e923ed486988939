package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sessiongate/sessiongate/internal/settings"
)

const (
	// tlsLookPause is between two looks whether the files changed. Certificates
	// are renewed days before they expire, so it is no matter of seconds.
	tlsLookPause = 5 * time.Second
	// maxTLSFile bounds a file, so that a wrong path (a device, a log) is a fault.
	maxTLSFile = 1 << 20
)

// Certificates are the TLS of the three listeners; nil: plain.
type Certificates struct {
	authz, public, internal *certificate
}

// certificates reads the files that c names. It reports every unreadable or unfit
// one at once, as [settings.Faults] that never quote what a file holds.
func certificates(c Config, at settings.Origins, now time.Time) (Certificates, error) {
	var all settings.Faults
	read := func(name string, files TLSFiles, clients []string, auth tls.ClientAuthType, protocol string) *certificate {
		if files.Cert == "" {
			return nil
		}
		l := &certificate{name: name, files: files, clients: clients, auth: auth, protocol: protocol}
		config, digest, found := l.read(now)
		for _, f := range found {
			f.At = at[f.Key]
			all = append(all, f)
		}
		l.config.Store(config)
		l.digest = digest
		return l
	}
	certs := Certificates{
		authz:  read("authz", c.TLS.Authz, c.TLS.Names.Authz, tls.RequireAndVerifyClientCert, "h2"),
		public: read("public", c.TLS.Public, c.TLS.Names.Public, tls.RequireAndVerifyClientCert, "http/1.1"),
		// Probes of an orchestrator have no certificate; withClientCertificate asks
		// everybody else for one.
		internal: read("internal", c.TLS.Internal, c.TLS.Names.Internal, tls.VerifyClientCertIfGiven, "http/1.1"),
	}
	if len(all) > 0 {
		return Certificates{}, all
	}
	return certs, nil
}

// follow takes over files that change, until ctx ends.
func (c Certificates) follow(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(tlsLookPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, l := range []*certificate{c.authz, c.public, c.internal} {
				if l != nil {
					l.look(now, log)
				}
			}
		}
	}
}

// certificate is the TLS of one listener: what its files held when they were
// last sound.
type certificate struct {
	name     string
	files    TLSFiles
	clients  []string           // the names of those that are let in; none: all
	auth     tls.ClientAuthType // where there is a client CA
	protocol string             // ALPN
	config   atomic.Pointer[tls.Config]

	// Of look alone.
	digest   [sha256.Size]byte // of the files that config is made of
	fault    string            // what the last look found
	reported bool
}

// wrap makes a listener speak TLS. Connections that are open keep what they were
// made with; new ones get what the files hold by then.
func (l *certificate) wrap(plain net.Listener) net.Listener {
	if l == nil {
		return plain
	}
	return tls.NewListener(plain, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.config.Load(), nil },
		// A resumed session is not verified again: its client would outlive the
		// removal of its authority from the client CA file.
		SessionTicketsDisabled: true,
	})
}

// look reads the files again. Where they are broken, the former ones stay in use.
// Files are not replaced all at one instant, so only what two looks in a row find
// is reported, and once.
func (l *certificate) look(now time.Time, log *slog.Logger) {
	config, digest, found := l.read(now)
	if len(found) > 0 {
		if text := found.Error(); text != l.fault {
			l.fault, l.reported = text, false
		} else if !l.reported {
			l.reported = true
			log.Warn("TLS files are not fit for use; those read before stay in use", "listener", l.name, "error", text)
		}
		return
	}
	l.fault, l.reported = "", false
	if digest != l.digest {
		l.config.Store(config)
		l.digest = digest
		log.Info("TLS files changed; new connections get the new ones", "listener", l.name, "expires", config.Certificates[0].Leaf.NotAfter)
	}
}

// read makes a configuration of the files, with a digest of their content.
func (l *certificate) read(now time.Time) (*tls.Config, [sha256.Size]byte, settings.Faults) {
	var all settings.Faults
	report := func(key, found, allowed string) {
		all = append(all, settings.Fault{Key: key, Found: found, Allowed: allowed})
	}
	digest := sha256.New()
	file := func(key, name string) []byte {
		content, err := settings.ReadFile(name, maxTLSFile)
		if err != nil {
			report(key, err.Error(), "a readable PEM file of at most 1MiB")
		}
		_, _ = fmt.Fprintf(digest, "%d:", len(content))
		_, _ = digest.Write(content)
		return content
	}
	certKey, keyKey, caKey := tlsKeys(l.name)
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{l.protocol}, SessionTicketsDisabled: true}

	chain, key := file(certKey, l.files.Cert), file(keyKey, l.files.Key)
	if chain != nil {
		const allowed = "a PEM certificate chain, the listener's own certificate first, that is valid now"
		certs, err := parseCertificates(chain)
		switch {
		case err != nil:
			report(certKey, fmt.Sprintf("unfit content in %q (%v)", l.files.Cert, err), allowed)
			chain = nil
		case now.After(certs[0].NotAfter):
			report(certKey, fmt.Sprintf("a certificate in %q that expired at %s", l.files.Cert, certs[0].NotAfter.Format(time.RFC3339)), allowed)
		case now.Before(certs[0].NotBefore):
			report(certKey, fmt.Sprintf("a certificate in %q that is valid only from %s", l.files.Cert, certs[0].NotBefore.Format(time.RFC3339)), allowed)
		}
	}
	if chain != nil && key != nil {
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			// The package's errors are about forms; none repeats the key.
			report(keyKey, fmt.Sprintf("unfit content (not shown) in %q (%v)", l.files.Key, err), "the PEM private key, without a passphrase, of the certificate in "+certKey)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if l.files.ClientCA != "" {
		config.ClientAuth, config.ClientCAs = l.auth, x509.NewCertPool()
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyClient(l.clients, state) }
		if content := file(caKey, l.files.ClientCA); content != nil {
			const allowed = "PEM certificates of authorities, at least one of them valid now"
			certs, err := parseCertificates(content)
			if err != nil {
				report(caKey, fmt.Sprintf("unfit content in %q (%v)", l.files.ClientCA, err), allowed)
			}
			var last time.Time
			for _, cert := range certs {
				config.ClientCAs.AddCert(cert)
				if cert.NotAfter.After(last) {
					last = cert.NotAfter
				}
			}
			if err == nil && now.After(last) {
				report(caKey, fmt.Sprintf("certificates in %q of which the last expired at %s", l.files.ClientCA, last.Format(time.RFC3339)), allowed)
			}
		}
	}
	return config, [sha256.Size]byte(digest.Sum(nil)), all
}

// parseCertificates reads a file that holds certificates and nothing else, for
// what is skipped in silence is what somebody believes to be in use.
func parseCertificates(content []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(content)
		switch {
		case block == nil && len(certs) == 0:
			return nil, errors.New("no PEM certificate")
		case block == nil && bytes.Contains(content, []byte("-----BEGIN")):
			return nil, fmt.Errorf("a broken PEM block after certificate %d", len(certs))
		case block == nil:
			return certs, nil
		case block.Type != "CERTIFICATE":
			return nil, errors.New("a PEM block that is no certificate")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d does not parse", len(certs)+1)
		}
		certs, content = append(certs, cert), rest
	}
}

// withClientCertificate lets only those through whose certificate was verified,
// where the listener has a client CA. It stands before everything of the internal
// listener but health.
func (l *certificate) withClientCertificate(h http.Handler) http.Handler {
	if l == nil || l.files.ClientCA == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "a client certificate is required", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
