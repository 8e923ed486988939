package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/internal/authority"
	"github.com/sessiongate/sessiongate/internal/settings"
)

func newAuthority(t *testing.T) *authority.Authority {
	t.Helper()
	a, err := authority.New("test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *authority.Authority, validFor time.Duration) authority.Pair {
	t.Helper()
	pair, err := a.Issue("sessiongate", validFor)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// tlsDir is a folder with the files of one listener.
type tlsDir struct {
	*testing.T

	dir string
}

func (d tlsDir) write(name string, content []byte) {
	d.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), content, 0o600); err != nil {
		d.Fatal(err)
	}
}

func (d tlsDir) writePair(p authority.Pair) {
	d.write("tls.crt", p.Cert)
	d.write("tls.key", p.Key)
}

func (d tlsDir) files() TLSFiles {
	return TLSFiles{filepath.Join(d.dir, "tls.crt"), filepath.Join(d.dir, "tls.key"), filepath.Join(d.dir, "ca.crt")}
}

func newTLSDir(t *testing.T, a *authority.Authority) tlsDir {
	t.Helper()
	d := tlsDir{t, t.TempDir()}
	d.writePair(issue(t, a, time.Hour))
	d.write("ca.crt", a.PEM)
	return d
}

// publicTLS has what browsers reach speak TLS, for clients whose certificates a signs.
func publicTLS(t *testing.T, a *authority.Authority) Certificates {
	t.Helper()
	var c Config
	c.TLS.Public = newTLSDir(t, a).files()
	certs, err := certificates(c, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// Each fault names the setting, the file and what is allowed, and repeats no key.
func TestTLSFaultsAtStart(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	good, expired := issue(t, a, time.Hour), issue(t, a, -time.Hour)
	pemOf := func(text string) []byte { return []byte(text) }
	for name, test := range map[string]struct {
		file    string // that is written over
		content []byte // nil: removed
		key     string
		want    []string
	}{
		"no certificate file":    {"tls.crt", nil, "tls.public_cert_file", []string{"no such file", "tls.crt"}},
		"no key file":            {"tls.key", nil, "tls.public_key_file", []string{"no such file", "tls.key"}},
		"no CA file":             {"ca.crt", nil, "tls.public_client_ca_file", []string{"no such file", "ca.crt"}},
		"no PEM":                 {"tls.crt", pemOf("hello"), "tls.public_cert_file", []string{"no PEM certificate", "tls.crt"}},
		"empty":                  {"tls.crt", []byte{}, "tls.public_cert_file", []string{"no PEM certificate"}},
		"a key as certificate":   {"tls.crt", good.Key, "tls.public_cert_file", []string{"no certificate"}},
		"broken certificate":     {"tls.crt", pemOf("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "tls.public_cert_file", []string{"does not parse"}},
		"cut off":                {"tls.crt", append(bytes.Clone(good.Cert), good.Cert[:100]...), "tls.public_cert_file", []string{"broken PEM block"}},
		"another's key":          {"tls.key", expired.Key, "tls.public_key_file", []string{"does not match", "tls.key", "tls.public_cert_file"}},
		"a certificate as key":   {"tls.key", good.Cert, "tls.public_key_file", []string{"tls.key"}},
		"CA without certificate": {"ca.crt", pemOf("# none\n"), "tls.public_client_ca_file", []string{"no PEM certificate", "ca.crt"}},
		"CA with a key":          {"ca.crt", append(bytes.Clone(a.PEM), good.Key...), "tls.public_client_ca_file", []string{"no certificate"}},
		"expired CA":             {"ca.crt", expired.Cert, "tls.public_client_ca_file", []string{"expired at "}},
		"too long":               {"ca.crt", bytes.Repeat([]byte("x"), maxTLSFile+1), "tls.public_client_ca_file", []string{"longer than 1MiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newTLSDir(t, a)
			d.writePair(good)
			if test.content == nil {
				_ = os.Remove(filepath.Join(d.dir, test.file))
			} else {
				d.write(test.file, test.content)
			}
			var c Config
			c.TLS.Public = d.files()
			_, err := certificates(c, settings.Origins{test.key: {File: "c.yaml", Line: 7}}, time.Now())
			all := faultsOf(t, err)
			if len(all) != 1 || all[0].Key != test.key || !strings.HasPrefix(all[0].Error(), "c.yaml:7: "+test.key+": found ") || all[0].Allowed == "" {
				t.Fatalf("faults:\n%v\nwant one at %s", err, test.key)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if lines := bytes.Split(good.Key, []byte("\n")); strings.Contains(err.Error(), string(lines[1])) {
				t.Error("the fault repeats the key")
			}
		})
	}
}

func TestTLSExpiredAtStart(t *testing.T) {
	t.Parallel()
	d := newTLSDir(t, newAuthority(t))
	var c Config
	c.TLS.Authz, c.TLS.Internal = d.files(), d.files()
	for when, want := range map[time.Duration]string{2 * time.Hour: " that expired at 20", -48 * time.Hour: " valid only from 20"} {
		_, err := certificates(c, nil, time.Now().Add(when))
		if all := faultsOf(t, err); len(all) < 2 || strings.Count(err.Error(), want) != 2 || !strings.Contains(err.Error(), "tls.authz_cert_file") || !strings.Contains(err.Error(), "tls.internal_cert_file") {
			t.Errorf("after %s: %v, want %q of both listeners", when, err, want)
		}
	}
}

func TestTLSRules(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"tls: {authz_cert_file: /c}":                      "both tls.authz_cert_file and tls.authz_key_file, or neither",
		"tls: {public_key_file: /k}":                      "both tls.public_cert_file and tls.public_key_file, or neither",
		"tls: {internal_client_ca_file: /ca}":             "tls.internal_client_ca_file only with tls.internal_cert_file",
		"tls: {authz_cert_file: /c, public_key_file: /k}": "both tls.public_cert_file",
		"tls: {authz_client_names: [envoy]}":              "tls.authz_client_names only with tls.authz_client_ca_file",
		"tls: {internal_cert_file: /c, internal_key_file: /k, internal_client_names: [envoy]}": "tls.internal_client_names only with tls.internal_client_ca_file",
		"shutdown: {linger: 15s}":                            "shutdown.linger below shutdown.timeout",
		"tls: {authz: {cert_file: /c}}":                      "authz",
		"tls: {authz_cert_file: c.pem, authz_key_file: k.p}": "an absolute path",
	} {
		_, _, err := parse("test.yaml", []byte(content), nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "test.yaml:1: ") {
			t.Errorf("%s: %v, want %q", content, err, want)
		}
	}
}

// tlsServer is one listener, with what the process does behind it.
type tlsServer struct {
	*testing.T

	certificate *certificate
	address     string
	log         bytes.Buffer
}

func newTLSServer(t *testing.T, c Config, pick func(Certificates) *certificate, network, address string) *tlsServer {
	t.Helper()
	certs, err := certificates(c, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &tlsServer{T: t, certificate: pick(certs)}
	plain, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	defaults, _ := mustParse(t, "")
	mux := http.NewServeMux()
	mux.Handle("/", s.certificate.withClientCertificate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") })))
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	server := newHTTPServer(defaults, new(atomic.Bool), mux)
	done := make(chan error)
	go func() { done <- server.serve(s.certificate.wrap(plain)) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.address = plain.Addr().String()
	return s
}

// get asks as a client with this configuration and returns the status and the
// server's certificate; an error of the handshake is one of the request here,
// for in TLS 1.3 the client hears of its refusal only then.
func (s *tlsServer) get(network, path string, config *tls.Config) (int, *x509.Certificate, error) {
	s.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, s.address)
	}}
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "https://sessiongate"+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode, response.TLS.PeerCertificates[0], nil
}

func (s *tlsServer) look(now time.Time) {
	s.certificate.look(now, slog.New(slog.NewTextHandler(&s.log, nil)))
}

func client(t *testing.T, trusts *authority.Authority, shows *authority.Pair) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: trusts.Pool(), ServerName: "sessiongate"}
	if shows != nil {
		pair, err := shows.TLS()
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// Without a certificate of the client CA a client gets nothing; of the internal
// listener only health.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ours, foreign := newAuthority(t), newAuthority(t)
	d := newTLSDir(t, ours)
	var c Config
	c.TLS.Authz, c.TLS.Public, c.TLS.Internal = d.files(), d.files(), d.files()
	good, expired, other := issue(t, ours, time.Hour), issue(t, ours, -time.Hour), issue(t, foreign, time.Hour)
	for name, pick := range map[string]func(Certificates) *certificate{
		"public": func(c Certificates) *certificate { return c.public }, "internal": func(c Certificates) *certificate { return c.internal },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTLSServer(t, c, pick, "tcp", "127.0.0.1:0")
			for _, path := range []string{"/", "/readyz"} {
				if status, _, err := s.get("tcp", path, client(t, ours, &good)); status != http.StatusOK {
					t.Errorf("%s with a certificate: %d, %v", path, status, err)
				}
				for what, pair := range map[string]*authority.Pair{"foreign": &other, "expired": &expired} {
					// A Go client shows no certificate that the server did not ask for.
					config := client(t, ours, nil)
					shown, err := pair.TLS()
					if err != nil {
						t.Fatal(err)
					}
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
					if status, _, err := s.get("tcp", path, config); err == nil {
						t.Errorf("%s with a certificate that is %s: %d", path, what, status)
					}
				}
			}
			status, _, err := s.get("tcp", "/", client(t, ours, nil))
			if name == "public" && err == nil || name == "internal" && status != http.StatusForbidden {
				t.Errorf("without a certificate: %d, %v", status, err)
			}
			status, _, err = s.get("tcp", "/readyz", client(t, ours, nil))
			if name == "public" && err == nil || name == "internal" && status != http.StatusOK {
				t.Errorf("health without a certificate: %d, %v", status, err)
			}
			if response, err := http.Get("http://" + s.address + "/readyz"); err == nil && response.StatusCode == http.StatusOK {
				t.Error("plain HTTP was answered")
			}
			old := client(t, ours, &good)
			old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			if _, _, err := s.get("tcp", "/", old); err == nil {
				t.Error("TLS 1.1 was spoken")
			}
		})
	}
}

func TestTLSOverUnixSocket(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := newTLSDir(t, a)
	var c Config
	c.TLS.Authz = d.files()
	dir, err := os.MkdirTemp("", "sgtls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := newTLSServer(t, c, func(c Certificates) *certificate { return c.authz }, "unix", filepath.Join(dir, "s"))
	pair := issue(t, a, time.Hour)
	if _, _, err := s.get("unix", "/", client(t, a, nil)); err == nil {
		t.Error("without a certificate: an answer")
	}
	config := client(t, a, &pair)
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "unix", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Errorf("the gRPC listener negotiated %q", got)
	}
}

// New files are taken over whole, also where Kubernetes swaps a folder's link;
// broken ones are not, and are reported once, when they are found twice.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	a, next := newAuthority(t), newAuthority(t)
	mounted := t.TempDir()
	first, second := newTLSDir(t, a), newTLSDir(t, a)
	link := func(to string) {
		t.Helper()
		fresh := filepath.Join(mounted, "..data_tmp")
		if err := os.Symlink(to, fresh); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(fresh, filepath.Join(mounted, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link(first.dir)
	var c Config
	data := tlsDir{t, filepath.Join(mounted, "..data")}
	c.TLS.Public = data.files()
	s := newTLSServer(t, c, func(c Certificates) *certificate { return c.public }, "tcp", "127.0.0.1:0")
	pair := issue(t, a, time.Hour)
	resuming := client(t, a, &pair)
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	serial := func() string {
		t.Helper()
		status, cert, err := s.get("tcp", "/", resuming)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%d, %v", status, err)
		}
		return cert.SerialNumber.String()
	}
	before := serial()

	s.look(time.Now())
	if serial() != before || s.log.Len() > 0 {
		t.Errorf("a look at the same files did something: %s", s.log.String())
	}
	link(second.dir)
	s.look(time.Now())
	renewed := serial()
	if renewed == before || !strings.Contains(s.log.String(), "level=INFO") {
		t.Errorf("the new certificate is not in use: %s", s.log.String())
	}

	s.log.Reset()
	second.write("tls.key", pair.Key)
	s.look(time.Now())
	if s.log.Len() > 0 {
		t.Errorf("a renewal under way is reported: %s", s.log.String())
	}
	for range 3 {
		s.look(time.Now())
	}
	log := s.log.String()
	if strings.Count(log, "level=WARN") != 1 || strings.Count(log, "\n") != 1 || !strings.Contains(log, "tls.key") || !strings.Contains(log, "does not match") {
		t.Errorf("logged %q, want one warning with the file and why", log)
	}
	if serial() != renewed {
		t.Error("the former pair is not in use")
	}

	s.log.Reset()
	second.writePair(issue(t, a, time.Hour))
	s.look(time.Now())
	third := serial()
	if third == renewed || strings.Contains(s.log.String(), "WARN") {
		t.Errorf("the mended pair is not in use: %s", s.log.String())
	}

	// It runs out, and nothing renews it.
	s.log.Reset()
	for range 3 {
		s.look(time.Now().Add(2 * time.Hour))
	}
	if log := s.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "expired at") {
		t.Errorf("logged %q of a certificate that ran out", log)
	}

	// An authority that is replaced lets no client in any more, not even one that could resume.
	second.write("ca.crt", next.PEM)
	s.look(time.Now())
	if status, _, err := s.get("tcp", "/", resuming); err == nil {
		t.Errorf("a client of the former authority: %d", status)
	}
	follower := issue(t, next, time.Hour)
	if status, _, err := s.get("tcp", "/", client(t, a, &follower)); status != http.StatusOK {
		t.Errorf("a client of the new authority: %d, %v", status, err)
	}
}

func TestHealthcheckOverTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := newTLSDir(t, a)
	var c Config
	c.TLS.Internal = d.files()
	s := newTLSServer(t, c, func(c Certificates) *certificate { return c.internal }, "tcp", "127.0.0.1:0")
	files := d.files()
	out, err := run(t, []string{
		"SESSIONGATE_LISTEN_INTERNAL=" + s.address, "SESSIONGATE_TLS_INTERNAL_CERT_FILE=" + files.Cert,
		"SESSIONGATE_TLS_INTERNAL_KEY_FILE=" + files.Key, "SESSIONGATE_TLS_INTERNAL_CLIENT_CA_FILE=" + files.ClientCA,
	}, "healthcheck")
	if err != nil || out != "ready\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestServeRefusesBrokenTLS(t *testing.T) {
	t.Parallel()
	_, err := run(t, []string{
		"SESSIONGATE_KEY=" + testKey, "SESSIONGATE_DATABASE_URL=postgres://h/d", "SESSIONGATE_API_KEY_FILES=app:/does/not/exist",
		"SESSIONGATE_TLS_AUTHZ_CERT_FILE=/no/cert", "SESSIONGATE_TLS_AUTHZ_KEY_FILE=/no/key",
	}, "serve")
	for _, want := range []string{"api.key_files", "SESSIONGATE_TLS_AUTHZ_CERT_FILE: tls.authz_cert_file", "SESSIONGATE_TLS_AUTHZ_KEY_FILE: tls.authz_key_file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
