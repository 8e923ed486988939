package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
)

var errClientName = errors.New("the client's certificate has none of the names that are let in")

// verifyClient lets clients in whose verified certificate has one of the names; without names, all.
// An authority often signs for more than Envoy. Any other client with a certificate of it could
// ask about stolen tokens, or name any x-sessiongate-peer and be taken for their owner.
func verifyClient(names []string, state tls.ConnectionState) error {
	if len(names) == 0 || len(state.PeerCertificates) == 0 { // none: where it may be missing, withClientCertificate asks
		return nil
	}
	shown := state.PeerCertificates[0]
	for _, name := range shown.DNSNames { // "*.example" in a certificate is no name of a client
		if slices.Contains(names, strings.ToLower(name)) {
			return nil
		}
	}
	// An SVID has one URI (SPIFFE X.509-SVID §2). Of several, nobody knows which one
	// its authority vouches for.
	if ids := rawURIs(shown); len(ids) == 1 && slices.Contains(names, ids[0]) {
		return nil
	}
	return errClientName
}

// rawURIs are the URIs among the subject alternative names, byte by byte. A parsed
// one is printed without an empty fragment and with its scheme in lower case:
// SPIFFE://td/envoy and spiffe://td/envoy# would pass for spiffe://td/envoy.
func rawURIs(shown *x509.Certificate) (uris []string) {
	for _, extension := range shown.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) { // RFC 5280 §4.2.1.6
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return nil
		}
		for _, name := range names {
			if name.Class == asn1.ClassContextSpecific && name.Tag == 6 {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return uris
}
