package browser_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

const testChallenge = sessions.Token("sgc1_abc")

// What Chromium sends is read, bare or quoted. Whatever else is none, so it costs no signature and no
// query.
func TestParseProof(t *testing.T) {
	d := sessionstest.NewDevice(t)
	registration, proof := d.Registration(testChallenge), d.Proof(testChallenge)
	header, rest, _ := strings.Cut(registration, ".")
	raw, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	of := string(raw)
	signs := func(header string) string { return d.Sign(header, `{"jti":"sgc1_abc"}`) }
	edit := func(old, next string) string {
		if !strings.Contains(of, old) {
			t.Fatalf("no %s in %s", old, of)
		}
		return signs(strings.Replace(of, old, next, 1))
	}
	var jwk struct {
		Key struct{ X, Y string } `json:"jwk"`
	}
	if err := json.Unmarshal(raw, &jwk); err != nil {
		t.Fatal(err)
	}
	const plain = `{"alg":"ES256","typ":"dbsc+jwt"}`
	cut := strings.LastIndexByte(proof, '.')

	for name, tc := range map[string]struct {
		lines []string
		key   bool
	}{
		"a registration":         {[]string{registration}, true},
		"a proof":                {[]string{proof}, false},
		"quoted":                 {[]string{`"` + proof + `"`}, false},
		"with blanks around it":  {[]string{" \t" + proof + " "}, false},
		"with a kid":             {[]string{signs(`{"alg":"ES256","kid":"x","typ":"dbsc+jwt"}`)}, false},
		"with claims of a draft": {[]string{d.Sign(plain, `{"aud":"x","sub":"y","iat":1,"jti":"sgc1_abc","key":{}}`)}, false},
		"with more in its key":   {[]string{edit(`"kty":"EC"`, `"kty":"EC","use":"sig","kid":"1"`)}, true},
	} {
		p := browser.ParseProof(tc.lines)
		if p == nil {
			t.Errorf("%s: none", name)
			continue
		}
		if (p.Key != sessions.BoundKey{}) != tc.key || p.Challenge != "sgc1_abc" || len(p.Signature) != 64 || strings.Count(p.Signed, ".") != 1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for name, lines := range map[string][]string{
		"no line":                    nil,
		"empty":                      {""},
		"two lines":                  {proof, proof},
		"two in a line":              {proof + ", " + proof},
		"an empty line beside":       {proof, ""},
		"alg none":                   {signs(`{"alg":"none","typ":"dbsc+jwt"}`)},
		"alg HS256":                  {signs(`{"alg":"HS256","typ":"dbsc+jwt"}`)},
		"alg RS256":                  {signs(`{"alg":"RS256","typ":"dbsc+jwt"}`)},
		"alg ES384":                  {signs(`{"alg":"ES384","typ":"dbsc+jwt"}`)},
		"alg in lower case":          {signs(`{"alg":"es256","typ":"dbsc+jwt"}`)},
		"no alg":                     {signs(`{"typ":"dbsc+jwt"}`)},
		"two algs":                   {signs(`{"alg":"none","alg":"ES256","typ":"dbsc+jwt"}`)},
		"another typ":                {signs(`{"alg":"ES256","typ":"JWT"}`)},
		"no typ":                     {signs(`{"alg":"ES256"}`)},
		"a session's typ":            {signs(`{"alg":"ES256","typ":"session+jwt"}`)},
		"crit":                       {signs(`{"alg":"ES256","crit":["exp"],"typ":"dbsc+jwt"}`)},
		"crit, empty":                {signs(`{"alg":"ES256","crit":[],"typ":"dbsc+jwt"}`)},
		"a header that is a list":    {signs(`["ES256"]`)},
		"a header with more after":   {signs(plain + `{}`)},
		"no header":                  {"." + strings.SplitN(proof, ".", 2)[1]},
		"no challenge":               {d.Sign(plain, `{}`)},
		"an empty challenge":         {d.Sign(plain, `{"jti":""}`)},
		"two challenges":             {d.Sign(plain, `{"jti":"sgc1_abc","jti":"sgc1_abd"}`)},
		"a challenge that is none":   {d.Sign(plain, `{"jti":5}`)},
		"a payload that is none":     {d.Sign(plain, `x`)},
		"two parts":                  {proof[:cut]},
		"four parts":                 {proof + ".AAAA"},
		"a padded signature":         {proof + "=="},
		"a padded header":            {header + "=." + rest},
		"a blank inside":             {strings.Replace(proof, ".", ". ", 1)},
		"a line break inside":        {proof[:10] + "\r\n" + proof[10:]},
		"a line feed in its end":     {proof + "\n"},
		"a carriage return":          {proof[:cut+5] + "\r" + proof[cut+5:]},
		"standard base64":            {proof[:cut+1] + strings.Repeat("+", 86)},
		"bits that are not used":     {proof[:len(proof)-1] + other(proof[len(proof)-1])},
		"too long":                   {d.Sign(plain, `{"jti":"`+strings.Repeat("x", 2048)+`"}`)},
		"a quote alone":              {`"` + proof},
		"quoted twice":               {`""` + proof + `""`},
		"a key of another curve":     {edit(`"crv":"P-256"`, `"crv":"P-384"`)},
		"a key without a curve":      {edit(`"crv":"P-256",`, ``)},
		"a key of another type":      {edit(`"kty":"EC"`, `"kty":"OKP"`)},
		"a symmetric key":            {signs(`{"alg":"ES256","jwk":{"kty":"oct","k":"AAAA"},"typ":"dbsc+jwt"}`)},
		"a key that is a text":       {signs(`{"alg":"ES256","jwk":"x","typ":"dbsc+jwt"}`)},
		"an empty key":               {signs(`{"alg":"ES256","jwk":{},"typ":"dbsc+jwt"}`)},
		"a key off the curve":        {edit(jwk.Key.Y, jwk.Key.X)},
		"a key with a short x":       {edit(jwk.Key.X, jwk.Key.X[:42])},
		"a key with two x":           {edit(`"x":`, `"x":"`+jwk.Key.X+`","x":`)},
		"a key in standard base64":   {edit(jwk.Key.X, strings.Repeat("/", 43))},
		"a key whose x is padded":    {edit(jwk.Key.X, jwk.Key.X+"=")},
		"two keys":                   {signs(strings.Replace(of, `"jwk":`, `"jwk":{"crv":"P-256","kty":"EC","x":"`+jwk.Key.X+`","y":"`+jwk.Key.Y+`"},"jwk":`, 1))},
		"a private key":              {edit(`"kty":"EC"`, `"d":"`+jwk.Key.X+`","kty":"EC"`)},
		"an item with parameters":    {proof + ";a=1"},
		"a list of the draft's form": {"(" + proof + ")"},
	} {
		if p := browser.ParseProof(lines); p != nil {
			t.Errorf("%s is read: %+v", name, p)
		}
	}
}

// other is a character of base64url that says the same two bytes in front, and more.
func other(last byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, last)|1])
}

// FuzzParseProof: what is read is what was signed, and nothing is read of two texts alike.
func FuzzParseProof(f *testing.F) {
	d := sessionstest.NewDevice(f)
	f.Add(d.Registration(testChallenge))
	f.Add(d.Proof(testChallenge))
	f.Add(`"` + d.Proof(testChallenge) + `"`)
	f.Add("..")
	f.Add(d.Sign(`{"alg":"ES256","jwk":{},"typ":"dbsc+jwt"}`, `{"jti":"x"}`))
	f.Fuzz(func(t *testing.T, text string) {
		p := browser.ParseProof([]string{text})
		if p == nil {
			return
		}
		bare := strings.Trim(text, " \t")
		if strings.HasPrefix(bare, `"`) {
			bare = bare[1 : len(bare)-1]
		}
		if again := p.Signed + "." + base64.RawURLEncoding.EncodeToString(p.Signature); again != bare || p.Challenge == "" {
			t.Fatalf("%q is read as %q, of the challenge %q", bare, again, p.Challenge)
		}
	})
}

func TestParseSessionID(t *testing.T) {
	const id = testIdentifier
	for _, lines := range [][]string{{id}, {`"` + id + `"`}, {" " + id + "\t"}} {
		if got := browser.ParseSessionID(lines); got != id {
			t.Errorf("%q: %s", lines, got)
		}
	}
	if long := strings.Repeat("x", 256); browser.ParseSessionID([]string{long}) != long {
		t.Error("256 characters are too many")
	}
	for _, lines := range [][]string{
		nil,
		{""},
		{`""`},
		{`"`},
		{id, id},
		{id + "," + id},
		{id + "\n"},
		{"'" + id + "'"},
		{id + `\"`},
		{id + "é"},
		{id + "\xff"},
		{"a b"},
		{"a.b"},
		{strings.Repeat("x", 257)},
	} {
		if got := browser.ParseSessionID(lines); got != "" {
			t.Errorf("%q is %s", lines, got)
		}
	}
}

const testIdentifier = "sgd1_lBHaXUMV5aSPyFcVCF2zFg-_"

// The texts that browsers read, to the letter.
func TestBindingTexts(t *testing.T) {
	c := browser.DefaultCookies()
	b := browser.DefaultBinding().At(c)
	const h = testIdentifier
	excluding := b
	excluding.Exclude = []string{"/auth/signout", "/static"}
	for name, tc := range map[string]struct{ got, want string }{
		"instructions": {string(b.Instructions(c, "app.example.com", nil, h)), `{"session_identifier":"sgd1_lBHaXUMV5aSPyFcVCF2zFg-_","refresh_url":"/auth/session/bound",` +
			`"scope":{"include_site":false},` +
			`"credentials":[{"type":"cookie","name":"sBound","attributes":"Path=/; HttpOnly; Secure; SameSite=Lax"}]}`},
		"instructions with exclusions": {string(excluding.Instructions(c, "app.example.com", nil, h)), `{"session_identifier":"sgd1_lBHaXUMV5aSPyFcVCF2zFg-_","refresh_url":"/auth/session/bound",` +
			`"scope":{"include_site":false,"scope_specification":[{"type":"exclude","domain":"*","path":"/auth/signout"},{"type":"exclude","domain":"*","path":"/static"}]},` +
			`"credentials":[{"type":"cookie","name":"sBound","attributes":"Path=/; HttpOnly; Secure; SameSite=Lax"}]}`},
		"over":            {string(browser.EndDeviceSession(h)), `{"session_identifier":"sgd1_lBHaXUMV5aSPyFcVCF2zFg-_","continue":false}`},
		"over, of no one": {string(browser.EndDeviceSession("")), `{"continue":false}`},
		"registration":    {b.Registration("sgc1_x").Name + ": " + b.Registration("sgc1_x").Value, `secure-session-registration: (ES256);path="/auth/session/bind";challenge="sgc1_x"`},
		"challenge": {
			browser.Challenge(&sessions.ChallengeError{Identifier: h, Challenge: "sgc1_x"}).Name + ": " + browser.Challenge(&sessions.ChallengeError{Identifier: h, Challenge: "sgc1_x"}).Value,
			`Secure-Session-Challenge: "sgc1_x";id="sgd1_lBHaXUMV5aSPyFcVCF2zFg-_"`,
		},
		"the name of the cookie of who waits": {b.WaitName(), "sBoundWait"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s, want %s", name, tc.got, tc.want)
		}
	}
	c.AuthPath = "/session"
	if b := browser.DefaultBinding().At(c); b.BindPath != "/session/session/bind" || b.BoundPath != "/session/session/bound" {
		t.Errorf("paths %q, %q", b.BindPath, b.BoundPath)
	}
	set := browser.Binding{CookieName: "x", BindPath: "/auth/k", BoundPath: "/auth/p"}
	if got := set.At(c); got.BindPath != set.BindPath || got.BoundPath != set.BoundPath {
		t.Errorf("paths that are set: %+v", got)
	}
}

// The cookie that is set and deleted is the one that the instructions name: a browser compares the
// attributes, and ends the device session of a cookie that it never sees.
func TestBoundCookie(t *testing.T) {
	for _, sameSite := range []http.SameSite{http.SameSiteLaxMode, http.SameSiteStrictMode} {
		c := browser.DefaultCookies()
		c.SameSite = sameSite
		b := browser.DefaultBinding().At(c)
		var told struct {
			Credentials []struct{ Name, Attributes string }
		}
		if err := json.Unmarshal(b.Instructions(c, "app.example.com", nil, testIdentifier), &told); err != nil || len(told.Credentials) != 1 {
			t.Fatal(err)
		}
		want := strings.Split(told.Credentials[0].Attributes, "; ")
		slices.Sort(want)
		expire := b.Expire(c, "app.eu.example.com")
		for _, line := range []string{b.Set(c, sessions.Issued{BoundLife: 590 * time.Second}), expire[len(expire)-1]} {
			parts := strings.Split(line, "; ")
			if !strings.HasPrefix(parts[0], told.Credentials[0].Name+"=") {
				t.Errorf("%s is another cookie", line)
			}
			got := slices.DeleteFunc(parts[1:], func(a string) bool { return strings.HasPrefix(a, "Max-Age=") || strings.HasPrefix(a, "Expires=") })
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("attributes of %s:\n%s", line, diff)
			}
		}
	}

	c := browser.DefaultCookies()
	b := browser.DefaultBinding().At(c)
	if got := b.Set(c, sessions.Issued{BoundLife: 590 * time.Second}); got != "sBound=1; Path=/; Max-Age=590; HttpOnly; Secure; SameSite=Lax" {
		t.Error(got)
	}
	if got := b.Set(c, sessions.Issued{BoundLife: time.Second - 1}); !strings.Contains(got, "; Max-Age=0;") {
		t.Errorf("without a life it is not deleted: %s", got)
	}
	var domains []string
	for _, line := range b.Expire(c, "app.eu.example.com:443") {
		cookie, err := http.ParseSetCookie(line)
		if err != nil || cookie.Name != "sBound" || cookie.MaxAge >= 0 || cookie.Path != "/" {
			t.Errorf("%s: %v", line, err)
			continue
		}
		domains = append(domains, cookie.Domain)
	}
	if want := []string{"app.eu.example.com", "eu.example.com", "example.com", ""}; !slices.Equal(domains, want) {
		t.Errorf("it is deleted on %q, want %q", domains, want)
	}
	if got := b.SetWaits(c, sessions.Issued{Waits: "sgc1_w"}); got != "sBoundWait=sgc1_w; Path=/auth; Max-Age=172800; HttpOnly; Secure; SameSite=Lax" {
		t.Error(got)
	}
	if got := b.ExpireWaits(c); !strings.HasPrefix(got, "sBoundWait=") || !strings.Contains(got, "; Path=/auth; Max-Age=0;") {
		t.Error(got)
	}
}

func TestBindingFaults(t *testing.T) {
	fields := func(all sessions.ConfigFaults) (first []string) {
		for _, f := range all {
			first = append(first, strings.Join(f.Fields, "+"))
		}
		return first
	}
	if got := fields(browser.DefaultBinding().Faults(browser.DefaultCookies())); got != nil {
		t.Errorf("the defaults: %v", got)
	}
	for name, want := range map[string][]string{
		"":              {"Binding.CookieName"},
		"a b":           {"Binding.CookieName"},
		"saccesstoken":  {"Binding.CookieName+AccessName"},
		"sRefreshToken": {"Binding.CookieName+RefreshName"},
		"other":         nil,
	} {
		if got := fields(browser.Binding{CookieName: name}.Faults(browser.DefaultCookies())); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	if got := fields(browser.Binding{CookieName: "__Host-x"}.Faults(browser.DefaultCookies())); !slices.Equal(got, []string{"Binding.CookieName"}) {
		t.Errorf("a prefix: %v", got)
	}
	c := browser.DefaultCookies()
	c.RefreshName = "xWAIT"
	if got := fields(browser.Binding{CookieName: "x"}.Faults(c)); !slices.Equal(got, []string{"Binding.CookieName+RefreshName"}) {
		t.Errorf("the cookie of who waits: %v", got)
	}
	for name, tc := range map[string]struct {
		change func(*browser.Cookies)
		want   []string
	}{
		"defaults":    {func(*browser.Cookies) {}, nil},
		"strict":      {func(c *browser.Cookies) { c.SameSite = http.SameSiteStrictMode }, nil},
		"not secure":  {func(c *browser.Cookies) { c.Secure = false }, nil}, // for development
		"a domain":    {func(c *browser.Cookies) { c.Domain = "example.com" }, []string{"Binding.Offer+Domain"}},
		"other sites": {func(c *browser.Cookies) { c.SameSite = http.SameSiteNoneMode }, []string{"Binding.Offer+SameSite"}},
		"both":        {func(c *browser.Cookies) { *c = browser.Cookies{SameSite: http.SameSiteNoneMode, Domain: "x"} }, []string{"Binding.Offer+Domain", "Binding.Offer+SameSite"}},
	} {
		c := browser.DefaultCookies()
		tc.change(&c)
		if got := fields(c.OfferFaults()); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// Pages of the same site may cause a proof. For those of another one a browser proves without the session's cookies, and its device
// session would end.
func TestInitiators(t *testing.T) {
	origins, err := browser.ParseOrigins([]string{
		"https://web.example.co.uk", "https://web.example.co.uk:8443", "https://example.co.uk", "http://plain.example.co.uk",
		"https://other.co.uk", "https://co.uk", "https://example.com", "https://10.0.0.1", "https://localhost",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := browser.DefaultCookies()
	for host, want := range map[string][]string{
		"app.example.co.uk":      {"web.example.co.uk", "web.example.co.uk", "example.co.uk"},
		"APP.example.co.uk.:443": {"web.example.co.uk", "web.example.co.uk", "example.co.uk"},
		"app.other.example":      nil,
		"10.0.0.1":               nil,
		"localhost:8443":         nil,
		"[::1]:8443":             nil,
		"a b":                    nil,
	} {
		var told struct {
			Initiators []string `json:"allowed_refresh_initiators"`
		}
		if err := json.Unmarshal(browser.DefaultBinding().At(c).Instructions(c, host, origins, testIdentifier), &told); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told.Initiators, want) {
			t.Errorf("%s: %q, want %q", host, told.Initiators, want)
		}
	}
}
