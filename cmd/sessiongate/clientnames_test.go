package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpctls "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sessiongate/sessiongate/internal/authority"
)

const spiffeID = "spiffe://example.org/ns/ingress/sa/envoy"

// uris go into a certificate as they are. A parsed URL would be printed in its own spelling.
func uris(texts ...string) (all []*url.URL) {
	for _, text := range texts {
		scheme, rest, _ := strings.Cut(text, ":")
		all = append(all, &url.URL{Scheme: scheme, Opaque: rest})
	}
	return all
}

// shows is a client that shows a certificate whatever the server asks for.
func shows(t *testing.T, trusts *authority.Authority, pair authority.Pair) *tls.Config {
	t.Helper()
	config := client(t, trusts, nil)
	shown, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
	return config
}

// Of the certificates of the right authority, only those are let in that have one of the names: on every listener, also after new files were read.
func TestClientNames(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	d := newTLSDir(t, ours)
	var c Config
	c.TLS.Authz, c.TLS.Public, c.TLS.Internal = d.files(), d.files(), d.files()
	names := []string{"envoy.example", spiffeID}
	c.TLS.Names.Authz, c.TLS.Names.Public, c.TLS.Names.Internal = names, names, names
	type subject = authority.Subject
	type shown struct {
		by    *authority.Authority
		to    subject
		valid time.Duration
		in    bool
	}
	asked := map[string]shown{
		"the name":                      {ours, subject{DNSNames: []string{"envoy.example"}}, time.Hour, true},
		"in capitals":                   {ours, subject{DNSNames: []string{"Envoy.Example"}}, time.Hour, true},
		"beside others":                 {ours, subject{CommonName: "x", DNSNames: []string{"x.example", "envoy.example"}}, time.Hour, true},
		"the SPIFFE id":                 {ours, subject{URIs: uris(spiffeID)}, time.Hour, true},
		"another name":                  {ours, subject{CommonName: "envoy.example", DNSNames: []string{"backend.example"}}, time.Hour, false},
		"common name only":              {ours, subject{CommonName: "envoy.example"}, time.Hour, false},
		"the SPIFFE id as common name":  {ours, subject{CommonName: spiffeID}, time.Hour, false},
		"no name":                       {ours, subject{}, time.Hour, false},
		"wildcard":                      {ours, subject{DNSNames: []string{"*.example"}}, time.Hour, false},
		"longer":                        {ours, subject{DNSNames: []string{"envoy.example.evil.example"}}, time.Hour, false},
		"below":                         {ours, subject{DNSNames: []string{"a.envoy.example"}}, time.Hour, false},
		"above":                         {ours, subject{DNSNames: []string{"example"}}, time.Hour, false},
		"as a URI":                      {ours, subject{URIs: uris("https://envoy.example")}, time.Hour, false},
		"address":                       {ours, subject{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, time.Hour, false},
		"SPIFFE id of another domain":   {ours, subject{URIs: uris("spiffe://evil.example/ns/ingress/sa/envoy")}, time.Hour, false},
		"SPIFFE id of another workload": {ours, subject{URIs: uris(spiffeID + "2")}, time.Hour, false},
		"SPIFFE id, escaped":            {ours, subject{URIs: uris("spiffe://example.org/ns/ingress/sa/%65nvoy")}, time.Hour, false},
		"SPIFFE id with a query":        {ours, subject{URIs: uris(spiffeID + "?x")}, time.Hour, false},
		"SPIFFE id with a fragment":     {ours, subject{URIs: uris(spiffeID + "#x")}, time.Hour, false},
		"SPIFFE id, empty fragment":     {ours, subject{URIs: uris(spiffeID + "#")}, time.Hour, false},
		"SPIFFE id, empty query":        {ours, subject{URIs: uris(spiffeID + "?")}, time.Hour, false},
		"SPIFFE id, scheme in capitals": {ours, subject{URIs: uris("SPIFFE" + strings.TrimPrefix(spiffeID, "spiffe"))}, time.Hour, false},
		"SPIFFE id, domain in capitals": {ours, subject{URIs: uris("spiffe://EXAMPLE.org/ns/ingress/sa/envoy")}, time.Hour, false},
		"SPIFFE id, empty user":         {ours, subject{URIs: uris("spiffe://@example.org/ns/ingress/sa/envoy")}, time.Hour, false},
		"SPIFFE id, empty port":         {ours, subject{URIs: uris("spiffe://example.org:/ns/ingress/sa/envoy")}, time.Hour, false},
		"SPIFFE id, a slash more":       {ours, subject{URIs: uris(spiffeID + "/")}, time.Hour, false},
		"SPIFFE id twice":               {ours, subject{URIs: uris(spiffeID, spiffeID)}, time.Hour, false},
		"SPIFFE id beside a DNS name":   {ours, subject{DNSNames: []string{"x.example"}, URIs: uris(spiffeID)}, time.Hour, true},
		"two SPIFFE ids":                {ours, subject{URIs: uris(spiffeID, "spiffe://example.org/other")}, time.Hour, false},
		"the name, expired":             {ours, subject{DNSNames: []string{"envoy.example"}}, -time.Hour, false},
		"the name, of another":          {foreign, subject{DNSNames: []string{"envoy.example"}}, time.Hour, false},
	}
	pairs := map[string]authority.Pair{}
	for name, s := range asked {
		pair, err := s.by.IssueTo(s.to, s.valid)
		if err != nil {
			t.Fatal(err)
		}
		pairs[name] = pair
	}
	for name, pick := range map[string]func(Certificates) *certificate{
		"public": func(c Certificates) *certificate { return c.public }, "internal": func(c Certificates) *certificate { return c.internal },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTLSServer(t, c, pick, "tcp", "127.0.0.1:0")
			for _, when := range []string{"at first", "after a renewal"} {
				for what, shown := range asked {
					for _, path := range []string{"/", "/readyz"} {
						if status, _, err := s.get("tcp", path, shows(t, ours, pairs[what])); (status == http.StatusOK) != shown.in {
							t.Errorf("%s, %s, %s: %d, %v", when, what, path, status, err)
						}
					}
				}
				// Probes show none, and see no more than before.
				status, _, err := s.get("tcp", "/readyz", client(t, ours, nil))
				if name == "public" && err == nil || name == "internal" && status != http.StatusOK {
					t.Errorf("%s: health without a certificate: %d, %v", when, status, err)
				}
				if status, _, err := s.get("tcp", "/", client(t, ours, nil)); status == http.StatusOK {
					t.Errorf("%s: without a certificate: %d, %v", when, status, err)
				}
				d.writePair(issue(t, ours, 2*time.Hour))
				s.look(time.Now())
			}
		})
	}
	t.Run("authz", func(t *testing.T) {
		all, err := certificates(c, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		plain, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		healthv1.RegisterHealthServer(server, health.NewServer())
		done := make(chan error)
		go func() { done <- server.Serve(all.authz.wrap(plain)) }()
		defer func() {
			server.Stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		for what, shown := range asked {
			conn, err := grpc.NewClient(plain.Addr().String(), grpc.WithTransportCredentials(grpctls.NewTLS(shows(t, ours, pairs[what]))))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); (err == nil) != shown.in {
				t.Errorf("%s: %v", what, err)
			}
			_ = conn.Close()
		}
	})
	t.Run("none named", func(t *testing.T) {
		c := c
		c.TLS.Names.Public = nil
		s := newTLSServer(t, c, func(c Certificates) *certificate { return c.public }, "tcp", "127.0.0.1:0")
		if status, _, err := s.get("tcp", "/", shows(t, ours, pairs["another name"])); status != http.StatusOK {
			t.Errorf("%d, %v", status, err)
		}
	})
}
