package sessions

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"
)

// printed is a value in all the ways in which a program may print it by mistake.
func printed(v any) map[string]string {
	out := map[string]string{}
	for _, verb := range "vTtbcdoOqxXUeEfFgGsp!w" {
		for _, flags := range []string{"", "+", "#", " ", "-40.3"} {
			format := "%" + flags + string(verb)
			out[format] = fmt.Sprintf(format, v)
		}
	}
	for _, format := range []string{"", "%d %v", "%[2]v", "%*d", "%.*f", "%!"} { // an argument too many, too few, or as a width
		out["("+format+")"] = fmt.Sprintf(format, v)
	}
	out["Errorf"] = errors.Join(fmt.Errorf("x: %v", v)).Error()
	out["Sprint"], out["Sprintln"] = fmt.Sprint(v), fmt.Sprintln(v)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("x", "v", v)
		out[name] = b.String()
	}
	for name, marshal := range map[string]func(any) ([]byte, error){
		"JSON": json.Marshal, "JSON v2": func(v any) ([]byte, error) { return jsonv2.Marshal(v) }, "XML": xml.Marshal,
		"YAML": func(v any) ([]byte, error) {
			defer func() { _ = recover() }() // on kinds that it does not know
			return yaml.Marshal(v)
		},
	} {
		text, err := marshal(v)
		out[name] = string(text) + fmt.Sprint(err)
	}
	func() {
		defer func() { out["panic"] = fmt.Sprint(recover()) }()
		panic(v)
	}()
	return out
}

// asksNoMethod says whether fmt handles the verb of a format by itself, without the value's
// methods. A value under a pointer is safe there, too.
func asksNoMethod(format string) bool {
	return strings.HasPrefix(format, "%") && (strings.HasSuffix(format, "p") || strings.HasSuffix(format, "w"))
}

// forms are the texts in which some bytes may stand.
func forms(secret []byte) []string {
	decimal := strings.Trim(fmt.Sprintf("%d", secret), "[]")
	return []string{
		string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
		decimal, strings.ReplaceAll(decimal, " ", ", "), strings.ReplaceAll(decimal, " ", ","), strconv.Quote(string(secret)),
	}
}

// No secret is in any text that fmt, slog or an encoder makes of what holds it, by
// value, by pointer, in a struct, a list or a map.
func TestSecretsPrintAsRedacted(t *testing.T) {
	e := offline(t)
	kek, ring := e.cfg.KeyEncryptionKey, e.keys.Load()
	issued := issueAt(t, e, testEpoch, `{}`)
	stored, err := newKey(KeySigning, 1, kek)
	if err != nil {
		t.Fatal(err)
	}
	refresh := newRefreshToken(NewHandle(), TransportCookie)
	signing := ring.signers[0]
	scalar, err := signing.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := cutToken(issued.Access.Reveal())
	token := []byte(issued.Refresh.Reveal())
	inner := []byte(strings.Repeat("k", 32))
	for name, tc := range map[string]struct {
		value  any
		secret []byte
	}{
		"Token":                       {issued.Refresh, token},
		"*Token":                      {&issued.Refresh, token},
		"Issued":                      {issued, token},
		"*Issued":                     {&issued, token},
		"RefreshRequest":              {RefreshRequest{Tokens: []string{string(token)}}, token},
		"*RefreshRequest":             {&RefreshRequest{Shown: Shown{Access: []string{string(token)}}}, token},
		"SignOutRequest":              {SignOutRequest{Refresh: []string{string(token)}, Access: []string{string(token)}}, token},
		"Prover":                      {Prover{Tokens: []string{string(token)}, Identifier: string(token)}, token},
		"Shown":                       {Shown{Access: []string{string(token)}}, token},
		"KeyEncryptionKey":            {*kek, inner},
		"*KeyEncryptionKey":           {kek, inner},
		"KeyEncryption":               {KeyEncryption{kek, kek}, inner},
		"*KeyEncryption":              {&KeyEncryption{Key: kek}, inner},
		"Config":                      {e.cfg, inner},
		"*Config":                     {&e.cfg, inner},
		"Engine":                      {e, inner},
		"StoredKey":                   {stored, stored.Wrapped},
		"*StoredKey":                  {&stored, stored.Wrapped},
		"KeySet":                      {KeySet{Keys: []StoredKey{stored}}, stored.Wrapped},
		"signingKey":                  {signing, scalar},
		"signingKey, its tag":         {signing, signing.tagSecret},
		"signingKey, a copy":          {*signing, signing.tagSecret},
		"sealingKey":                  {*ring.sealers[0], inner},
		"keyring":                     {ring, signing.tagSecret},
		"refreshToken":                {refresh, refresh.secret[:]},
		"refreshToken, its anti-CSRF": {&refresh, refresh.antiCSRF[:]},
		"antiCSRF":                    {refresh.antiCSRF, refresh.antiCSRF[:]},
		"minted":                      {&minted{token: issued.Access}, []byte(issued.Access.Reveal())},
		"tokenText":                   {&cut, []byte(cut.signature)},
	} {
		t.Run(name, func(t *testing.T) {
			for in, v := range map[string]any{
				"": tc.value, " in a list": []any{tc.value}, " in a map": map[string]any{"k": tc.value}, " in a struct": struct{ V any }{tc.value},
			} {
				for how, text := range printed(v) {
					if asksNoMethod(how) && !strings.Contains(name, "KeyEncryption") && !strings.Contains(name, "Config") {
						continue
					}
					for _, form := range forms(tc.secret) {
						if strings.Contains(text, form) {
							t.Errorf("%s%s: the secret is in %q", how, in, text)
							break
						}
					}
				}
			}
		})
	}
	for _, v := range []any{issued.Refresh, *kek, kek, KeyEncryption{kek, nil}.Key, signing, refresh} {
		for how, text := range printed(v) {
			if strings.HasPrefix(how, "%") && !strings.HasSuffix(how, "T") && !asksNoMethod(how) && text != redacted && !strings.HasPrefix(text, "%!") {
				t.Errorf("%T under %s is %q", v, how, text)
			}
		}
	}
}
