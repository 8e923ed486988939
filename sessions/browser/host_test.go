package browser_test

import (
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions/browser"
)

func TestIsHost(t *testing.T) {
	for _, host := range []string{
		"app.example", "app.example:8443", "APP.example", "app.example.", "app.example.:80", "localhost", "a_b.example", "xn--bcher-kva.example",
		"192.0.2.1", "192.0.2.1:80", "[::1]", "[2001:DB8::1]:443", "[::ffff:192.0.2.1]", "app.example:65535", strings.Repeat("a.", 126) + "a",
	} {
		if !browser.IsHost(host) {
			t.Errorf("%q is refused", host)
		}
		if _, ok := browser.NewOrigin("https", host); !ok {
			t.Errorf("%q has no origin", host)
		}
	}
	for _, host := range hostsThatAreNone {
		if browser.IsHost(host) {
			t.Errorf("%q is taken", host)
		}
		if origin, ok := browser.NewOrigin("https", host); ok || origin != (browser.Origin{}) {
			t.Errorf("%q has the origin %v", host, origin)
		}
	}
}

var hostsThatAreNone = []string{
	"", " ", ".", ":", ":80", "a,b", "a, b", "app.example,app.example", "app.example,", ",app.example", "app.example evil.example", " app.example", "app.example ", "app.example\t",
	"user@app.example", "user:pw@app.example", "@app.example", "app.example:80@evil.example", "http://app.example", "app.example/", `app.example\`, "app.example?x", "app.example#x",
	"app.example:", "app.example:x", "app.example:-1", "app.example:65536", "app.example:000080", "app.example:80:80", "app.example:80,b:80", "a..b", ".a", "a..", "a%2eb", "a\x00b", "a\nb", "a\x7f", "ä.example",
	"\uff41.example", "a;b", "a'b", `"a"`, "a&b", "a=b", "a(b)", "*.example", "*", "[", "]", "[]", "[::1", "::1", "[::1]x", "[::1]:", "[::1]:x", "[::1%eth0]", "[::1%25eth0]", "[192.0.2.1]", "[app.example]", "[::1],[::1]", "[:::]",
	strings.Repeat("a", 254), strings.Repeat("a.", 127) + "aa",
}

func FuzzIsHost(f *testing.F) {
	for _, host := range append(hostsThatAreNone, "app.example:80", "[::1]:80") {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if browser.IsHost(host) && strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`,@/\?#%;"'<>*`, r) }) {
			t.Errorf("%q is taken", host)
		}
	})
}
