package postgres_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// Whoever has a dump of the database, and nothing else, can neither refresh nor
// sign nor pass the anti-CSRF check: it holds no token, no secret and no key.
func TestDumpHoldsNoSecret(t *testing.T) {
	t.Parallel()
	c := open(t)
	kekBytes := []byte(strings.Repeat("k", 31) + "!")
	kek, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(kekBytes))
	if err != nil {
		t.Fatal(err)
	}
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey = kek
	engine := sessionstest.StartEngine(t, c, cfg)
	first, err := engine.Create(t.Context(), sessions.NewSession{UserID: "alice", Claims: []byte(`{"role":"admin"}`)})
	if err != nil {
		t.Fatal(err)
	}
	c.Advance(cfg.RefreshAttemptMax)
	second, err := engine.Refresh(t.Context(), sessions.TransportCookie, []string{first.Refresh.Reveal()}, sessions.Client{1})
	if err != nil || second.Refresh == "" {
		t.Fatalf("%s, %v", second.Rule, err)
	}

	out, err := exec.CommandContext(t.Context(), filepath.Join(shared.BinDir(), "pg_dump"), "--inserts", c.url).Output()
	if err != nil {
		t.Fatal(err)
	}
	dump := string(out)

	// What to look for needs the key-encryption key, which the dump lacks.
	secrets := map[string][]byte{"key-encryption key": kekBytes}
	keys, err := c.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealing := map[sessions.KeyID][]byte{}
	for _, k := range keys.Keys {
		secret := unseal(t, kekBytes, k.Wrapped, "sessiongate wrap v1 "+string(k.Kind)+" "+string(k.ID[:]))
		secrets[string(k.Kind)+" key"] = secret
		if k.Kind == sessions.KeySealing {
			sealing[k.ID] = secret
		}
	}
	for name, issued := range map[string]sessions.Issued{"first": first, "second": second} {
		secrets[name+" access token"] = []byte(issued.Access.Reveal())
		secrets[name+" refresh token"] = []byte(issued.Refresh.Reveal())
		secrets[name+" anti-CSRF token"] = decoded(t, issued.AntiCSRF.Reveal())
		sealed := decoded(t, strings.TrimPrefix(issued.Refresh.Reveal(), "sgr1_"))
		secrets[name+" sealed refresh token"] = sealed
		id := sessions.KeyID(sealed[:8])
		body := unseal(t, sealing[id], sealed[8:], "sgr1_"+string(id[:]))
		secret := body[16:48]
		secrets[name+" refresh token's secret"] = secret
		if name == "first" { // the row names it, so that this is the secret, and is how a dump shows bytes
			m := sha256.Sum256(append([]byte("sessiongate mark v1"), secret...))
			if !strings.Contains(dump, hex.EncodeToString(m[:])) {
				t.Fatal("the dump does not hold the mark of the current token")
			}
		}
	}
	for name, secret := range secrets {
		for _, form := range []string{
			string(secret), hex.EncodeToString(secret),
			base64.RawURLEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		} {
			if strings.Contains(strings.ToLower(dump), strings.ToLower(form)) {
				t.Errorf("the dump holds the %s", name)
			}
		}
	}
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unseal opens a nonce and what AES-256-GCM sealed under it.
func unseal(t *testing.T, key, sealed []byte, additional string) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(additional))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}
