package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// signedBy reads a proof. It says whose key the proof brings, if it brings one.
func signedBy(t *testing.T, key *ecdsa.PublicKey, proof string) (challenge string, brings bool) {
	t.Helper()
	parts := strings.Split(proof, ".")
	var header struct {
		Alg, Typ string
		JWK      map[string]string
	}
	var payload struct{ JTI string }
	decoded := make([][]byte, 3)
	for i := range decoded {
		var err error
		if len(parts) != 3 {
			t.Fatalf("the proof has %d parts", len(parts))
		}
		if decoded[i], err = base64.RawURLEncoding.DecodeString(parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	if json.Unmarshal(decoded[0], &header) != nil || json.Unmarshal(decoded[1], &payload) != nil || header.Alg != "ES256" || header.Typ != "dbsc+jwt" || len(decoded[2]) != 64 {
		t.Fatalf("proof %s.%s", decoded[0], decoded[1])
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(decoded[2][:32]), new(big.Int).SetBytes(decoded[2][32:])) {
		t.Error("the proof is not signed by the laptop's key")
	}
	return payload.JTI, header.JWK != nil
}

// TestLaptop: it binds as a browser does, and its thief has all cookies but not the key.
func TestLaptop(t *testing.T) {
	t.Parallel()
	first, second := accessToken("l", "hash-0", "", time.Now().Unix()), accessToken("l", "hash-0", "", time.Now().Unix()+1)
	var mu sync.Mutex
	var got, proofs []string
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		line := strings.Join([]string{r.Method, r.URL.RequestURI(), r.UserAgent(), r.Header.Get("Cookie"), r.Header.Get(headerSession), string(body)}, "|")
		got = append(got, strings.NewReplacer(first, "access-1", second, "access-2").Replace(line))
		proof := r.Header.Get(headerProof)
		if proof != "" {
			proofs = append(proofs, proof)
		}
		switch {
		case r.URL.Path == loginPath:
			w.Header().Set(headerOffer, `(ES256);path="/auth/session/bind";challenge="offered"`)
			w.Header().Add("Set-Cookie", "sAccessToken="+first+"; Secure; "+accessAttributes)
			w.Header().Add("Set-Cookie", "sRefreshToken=refresh-1; Secure; "+refreshAttributes)
		case r.URL.Path == bindPath:
			_, _ = fmt.Fprint(w, `{"session_identifier":"l"}`)
		case r.URL.Path == boundPath && proof == "":
			w.Header().Set(headerChallenge, `"asked";id="l"`)
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == boundPath:
			w.Header().Add("Set-Cookie", "sAccessToken="+second+"; Secure; "+accessAttributes)
			w.Header().Add("Set-Cookie", "sBound=1; Secure; Path=/; Max-Age=600")
		case r.URL.RawQuery == "":
			w.Header().Set("Location", refreshPath+"?bound=1")
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			w.Header().Set("X-Sessiongate-Denial", "unproven")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer gate.Close()
	app := newSignedIn(t, stage{publicURL: gate.URL})
	name, _ := object(t, serve(t, app.network, "POST", "/stage/laptop", app.page, nil))["laptop"].(string)
	command := func(path, actor string) map[string]any {
		t.Helper()
		return object(t, serve(t, app.network, "POST", "/stage/"+path, fmt.Sprintf(`{"actor":%q}`, actor), jsonType))
	}
	for _, what := range []string{"signin", "bind", "prove"} {
		if diff := cmp.Diff(map[string]any{"status": 200.0}, command("laptop/"+what, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	thief, _ := command("laptop/steal", name)["thief"].(string)
	if len(name) < 20 || len(thief) < 20 {
		t.Errorf("names of %d and %d characters can be guessed", len(name), len(thief))
	}
	if diff := cmp.Diff(map[string]any{"status": 503.0, "denial": "unproven"}, command("thief/outlive", thief)); diff != "" {
		t.Errorf("the thief (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		`POST|/login|laptop/1.0|||{"user":"ada"}`,
		"POST|/auth/session/bind|laptop/1.0|sRefreshToken=refresh-1; sAccessToken=access-1||",
		"POST|/auth/session/bound|laptop/1.0|sRefreshToken=refresh-1; sAccessToken=access-1|l|",
		"POST|/auth/session/bound|laptop/1.0|sRefreshToken=refresh-1; sAccessToken=access-1|l|",
		"POST|/auth/session/refresh|thief/1.0|sRefreshToken=refresh-1; sBound=1||",
		"POST|/auth/session/refresh?bound=1|thief/1.0|sRefreshToken=refresh-1; sBound=1||",
	}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if len(proofs) != 2 {
		t.Fatalf("%d proofs", len(proofs))
	}
	l, _ := app.laptops.get(name)
	for i, want := range []string{"offered true", "asked false"} {
		challenge, brings := signedBy(t, &l.key.PublicKey, proofs[i])
		if proof := fmt.Sprint(challenge, " ", brings); proof != want {
			t.Errorf("proof %d: %s, want %s", i, proof, want)
		}
	}
}

// TestThiefCopiesCookiesWithTheirPaths: the app must not get a refresh token, not even from a thief.
func TestThiefCopiesCookiesWithTheirPaths(t *testing.T) {
	t.Parallel()
	l := newLaptop("http://127.0.0.1:1", "demo.example", "ada", newWire())
	access := accessToken("l", "hash-0", "", time.Now().Unix())
	for _, line := range []string{"sAccessToken=" + access + "; " + accessAttributes, "sRefreshToken=refresh-0; " + refreshAttributes} {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		l.jar.SetCookies(l.url("/"), []*http.Cookie{c})
	}
	l.antiCSRF = "csrf"
	stolen := l.stolen()
	for path, want := range map[string]int{"/api/me": 1, refreshPath: 2} {
		if sent := stolen.jar.Cookies(stolen.url(path)); len(sent) != want {
			t.Errorf("%s gets %v, want %d cookies", path, sent, want)
		}
	}
	if stolen.antiCSRF != "csrf" {
		t.Error("the thief lacks what the owner's scripts remember")
	}
}

// TestLaptopWithoutAnOffer: the page is told why there is nothing to see.
func TestLaptopWithoutAnOffer(t *testing.T) {
	t.Parallel()
	gate := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer gate.Close()
	app := newSignedIn(t, stage{publicURL: gate.URL})
	name, _ := object(t, serve(t, app.network, "POST", "/stage/laptop", app.page, nil))["laptop"].(string)
	resp := serve(t, app.network, "POST", "/stage/laptop/signin", fmt.Sprintf(`{"actor":%q}`, name), jsonType)
	if got := object(t, resp); resp.StatusCode != 409 || got["message"] != noOffer {
		t.Errorf("%d %v", resp.StatusCode, got)
	}
}

func TestWireShortensWhatIsSealed(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("x", 60)
	for name, value := range map[string]string{
		"secure-session-registration": `(ES256);path="/auth/session/bind";challenge="sgc1_` + secret + `"`,
		"secure-session-challenge":    `"sgc1_` + secret + `";id="sgd1_` + secret + `"`,
		"sec-secure-session-id":       "sgd1_" + secret,
		"secure-session-response":     "eyJ." + secret + "." + secret,
	} {
		if got := shortened(name, value); strings.Contains(got, secret) || len(got) < 6 {
			t.Errorf("%s: %s", name, got)
		}
	}
}
