package sessionhttp

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"
)

// JWKSPath is where the public keys are (RFC 8615).
const JWKSPath = "/.well-known/jwks.json"

// JWKSMaxAge is how long a verifier of access tokens may keep the public keys. A new
// signing key must be published for longer than that before it signs.
const JWKSMaxAge = 5 * time.Minute

func (p *public) jwks(w http.ResponseWriter, r *http.Request) error {
	set, err := p.engine.JWKS()
	if err != nil {
		return err
	}
	digest := sha256.Sum256(set)
	h := w.Header()
	h.Del("Vary")                                     // the same for all
	h.Set("Content-Type", "application/jwk-set+json") // RFC 7517 §8.5.2
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(JWKSMaxAge.Seconds())))
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(digest[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(set))
	return nil
}
