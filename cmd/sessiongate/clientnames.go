package main

import (
	"crypto/tls"
	"errors"
	"net/url"
	"slices"
	"strings"
)

// clientNamesKey is the setting of who may connect to a listener.
func clientNamesKey(listener string) string { return "tls." + listener + "_client_names" }

var errClientName = errors.New("the client's certificate has none of the names that are let in")

// verifyClient lets those in whose verified certificate has one of the names. An
// authority often signs for more than Envoy: whoever else has a certificate of it
// could ask about stolen tokens, or name any x-sessiongate-peer and be taken for
// their owner.
func (l *certificate) verifyClient(state tls.ConnectionState) error {
	if len(l.clients) == 0 || len(state.PeerCertificates) == 0 { // none: where it may be missing, withClientCertificate asks
		return nil
	}
	shown := state.PeerCertificates[0]
	for _, name := range shown.DNSNames { // "*.example" in a certificate is no name of a client
		if slices.Contains(l.clients, strings.ToLower(name)) {
			return nil
		}
	}
	// An SVID has one URI (SPIFFE X.509-SVID §2). Of several, nobody knows which one
	// its authority vouches for.
	if len(shown.URIs) == 1 && slices.Contains(l.clients, shown.URIs[0].String()) {
		return nil
	}
	return errClientName
}

func isClientName(s string) bool {
	if rest, ok := strings.CutPrefix(s, "spiffe://"); ok {
		return isSPIFFE(rest)
	}
	return isCookieDomain(s)
}

// isSPIFFE takes TRUST-DOMAIN/PATH of a SPIFFE id (SPIFFE-ID §2), which has one text.
func isSPIFFE(s string) bool {
	domain, path, ok := strings.Cut(s, "/")
	if !ok || domain == "" || len(domain) > 255 || len(s) > 2000 || !onlyOf(domain, lower+digits+"-._") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || !onlyOf(segment, lower+upper+digits+"-._") {
			return false
		}
	}
	u, err := url.Parse("spiffe://" + s)
	return err == nil && u.String() == "spiffe://"+s
}
