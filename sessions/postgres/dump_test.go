package postgres_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// An attacker who has a dump of the database, and nothing else, can neither refresh nor sign nor
// pass the anti-CSRF check. The dump contains no token, no secret and no key, in any state of a
// key. A server that is started over it, with another key-encryption key, accepts no earlier token.
func TestDumpHoldsNoSecret(t *testing.T) {
	t.Parallel()
	c := open(t)
	oldKEK, newKEK := []byte(strings.Repeat("k", 31)+"!"), []byte(strings.Repeat("n", 31)+"!")
	cfg := sessions.Defaults()
	cfg.KeyEncryptionKey, cfg.PreviousKeyEncryptionKey = kek(t, oldKEK), kek(t, newKEK)
	cfg.FeedPoll = 5 * time.Millisecond
	engine := sessionstest.StartEngine(t, c, cfg)

	// What to look for needs the key-encryption keys, which the dump lacks.
	secrets := map[string][]byte{"old key-encryption key": oldKEK, "new key-encryption key": newKEK}
	sealing := map[sessions.KeyID][]byte{}
	hashes := map[string]sessions.TokenHash{}
	var issued []sessions.Issued
	collect := func(name string, i sessions.Issued, err error) {
		t.Helper()
		if err != nil || i.Refresh == "" {
			t.Fatalf("%s, %v", i.Rule, err)
		}
		issued = append(issued, i)
		for _, k := range storedKeys(t, c) {
			by := oldKEK
			if k.WrappedBy != fingerprint(oldKEK) {
				by = newKEK
			}
			secret := unseal(t, by, k.Wrapped, "sessiongate wrap v1 "+string(k.Kind)+" "+string(k.ID[:]))
			secrets[fmt.Sprintf("%s key %d", k.Kind, k.Generation)] = secret
			if k.Kind == sessions.KeySealing {
				sealing[k.ID] = secret
			}
		}
		secrets[name+" access token"] = []byte(i.Access.Reveal())
		secrets[name+" refresh token"] = []byte(i.Refresh.Reveal())
		secrets[name+" anti-CSRF token"] = decoded(t, i.AntiCSRF.Reveal())
		sealed := decoded(t, strings.TrimPrefix(i.Refresh.Reveal(), "sgr1_"))
		secrets[name+" sealed refresh token"] = sealed
		id := sessions.KeyID(sealed[:8])
		secret := unseal(t, sealing[id], sealed[8:], "sgr1_"+string(id[:]))[16:48]
		secrets[name+" refresh token's secret"] = secret
		hashes[name] = sha256.Sum256(append([]byte("sessiongate mark v1"), secret...))
	}
	create := func(name string) sessions.Issued {
		t.Helper()
		i, err := engine.Create(t.Context(), sessions.NewSession{UserID: "alice", Claims: []byte(`{"role":"admin"}`)})
		collect(name, i, err)
		return i
	}
	rotate := func(keks sessions.KeyEncryption) {
		t.Helper()
		for _, kind := range []sessions.KeyKind{sessions.KeySigning, sessions.KeySealing} {
			if _, err := sessions.RotateKey(t.Context(), c, keks, kind, cfg.KeyActivationDelay); err != nil {
				t.Fatal(err)
			}
		}
		awaitKeys(t, engine, len(storedKeys(t, c))/2)
	}

	first := create("first")
	c.Advance(cfg.RefreshAttemptMax)
	second, err := engine.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{first.Refresh.Reveal()}, Client: sessions.Client{1}})
	collect("second", second, err)
	rotate(sessions.KeyEncryption{Key: cfg.KeyEncryptionKey})
	c.Advance(cfg.KeyActivationDelay)
	create("third") // by the second generation
	to := sessions.KeyEncryption{Key: cfg.PreviousKeyEncryptionKey, Previous: cfg.KeyEncryptionKey}
	if n, _, err := sessions.RewrapKeys(t.Context(), c, to); err != nil || n != 4 {
		t.Fatalf("rewrapped %d, %v", n, err)
	}
	rotate(to)
	create("fourth")
	c.Advance(time.Hour)
	if gone, err := c.DeleteKeys(t.Context(), sessions.KeySigning, time.Hour); err != nil || len(gone) != 1 {
		t.Fatalf("deleted %v, %v", gone, err)
	}
	if len(secrets) != 2+6+4*5 || len(storedKeys(t, c)) != 5 {
		t.Fatalf("%d secrets, %d keys", len(secrets), len(storedKeys(t, c)))
	}

	out, err := exec.CommandContext(t.Context(), filepath.Join(shared.BinDir(), "pg_dump"), "--inserts", c.url).Output()
	if err != nil {
		t.Fatal(err)
	}
	dump := strings.ToLower(string(out))
	for _, name := range []string{"first", "third", "fourth"} { // the rows name them, so that these are the secrets, and this is how a dump shows bytes
		if m := hashes[name]; !strings.Contains(dump, hex.EncodeToString(m[:])) {
			t.Errorf("the dump does not contain the token hash of the %s token", name)
		}
	}
	for name, secret := range secrets {
		for _, form := range []string{
			string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret),
			base64.RawURLEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		} {
			if strings.Contains(dump, strings.ToLower(form)) {
				t.Errorf("the dump holds the %s", name)
			}
		}
	}

	url := database(t, "")
	psql := exec.CommandContext(t.Context(), filepath.Join(shared.BinDir(), "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", url)
	psql.Stdin = bytes.NewReader(out)
	if text, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("restoring: %v\n%s", err, text)
	}
	restored := openAt(t, postgres.Config{URL: url})
	attacker := sessions.Defaults()
	attacker.KeyEncryptionKey = kek(t, []byte(strings.Repeat("x", 32)))
	refused, err := sessions.New(restored, attacker)
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "is wrapped under key-encryption key") {
		t.Fatalf("started on the dump: %v", err)
	}
	if _, err := connect(t, url).Exec(t.Context(), `DELETE FROM sessiongate.keys`); err != nil {
		t.Fatal(err)
	}
	started := sessionstest.StartEngine(t, restored, attacker)
	for _, i := range issued {
		if _, denial := started.Verify(sessions.TransportCookie, []string{i.Access.Reveal()}); denial != sessions.DenyUnknownKey {
			t.Errorf("on the dump an access token is: %v", denial)
		}
		if _, err := started.Refresh(t.Context(), sessions.RefreshRequest{Transport: sessions.TransportCookie, Tokens: []string{i.Refresh.Reveal()}, Client: sessions.Client{1}}); !errors.Is(err, sessions.ErrSessionEnded) || errors.Is(err, sessions.ErrTheft) {
			t.Errorf("on the dump a refresh ends with: %v", err)
		}
	}
}

func kek(t testing.TB, raw []byte) *sessions.KeyEncryptionKey {
	t.Helper()
	k, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fingerprint names a key-encryption key, as the keys name the one that wraps them.
func fingerprint(kek []byte) (id sessions.KeyID) {
	sum := sha256.Sum256(append([]byte("sessiongate kek fingerprint v1"), kek...))
	copy(id[:], sum[:])
	return id
}

func storedKeys(t *testing.T, store sessions.Store) []sessions.StoredKey {
	t.Helper()
	set, err := store.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

// awaitKeys waits until an engine has so many signing keys.
func awaitKeys(t *testing.T, engine *sessions.Engine, signing int) {
	t.Helper()
	for {
		text, err := engine.JWKS()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), `"kid"`) == signing {
			return
		}
		runtime.Gosched()
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
