package sessionhttp

import (
	"net/http"
	"testing"
)

func TestOriginRule(t *testing.T) {
	b := newBench(t)
	type h map[string][]string
	tests := []struct {
		name    string
		host    string
		header  h
		allowed bool
	}{
		{"no browser", "", nil, true},
		{"own", "", h{"Origin": {"https://app.eu.example.com"}}, true},
		{"own, attested", "", h{"Origin": {"https://app.eu.example.com"}, "Sec-Fetch-Site": {"same-origin"}}, true},
		{"own, default port in Host", "app.eu.example.com:443", h{"Origin": {"https://app.eu.example.com"}}, true},
		{"own, Host in capitals", "APP.eu.example.com", h{"Origin": {"https://app.eu.example.com"}}, true},
		{"own, other port", "app.eu.example.com:8443", h{"Origin": {"https://app.eu.example.com:8443"}}, true},
		{"own, plain", "localhost:10000", h{"Origin": {"http://localhost:10000"}, "X-Forwarded-Proto": {"http"}}, true},
		{"own, plain, no proxy", "localhost:10000", h{"Origin": {"http://localhost:10000"}, "X-Forwarded-Proto": nil}, true},
		{"own, IPv6", "[::1]:10000", h{"Origin": {"https://[::1]:10000"}}, true},
		{"listed", "", h{"Origin": {"https://admin.example.net"}}, true},
		{"listed, cross-site", "", h{"Origin": {"https://admin.example.net"}, "Sec-Fetch-Site": {"cross-site"}}, true},
		{"listed, with port", "", h{"Origin": {"http://localhost:3000"}, "Sec-Fetch-Site": {"cross-site"}}, true},
		{"null, of a page that hides its own", "", h{"Origin": {"null"}, "Sec-Fetch-Site": {"same-origin"}}, true},
		{"no Origin, attested", "", h{"Sec-Fetch-Site": {"same-origin"}}, true},
		{"no Origin, typed", "", h{"Sec-Fetch-Site": {"none"}}, true},

		{"foreign", "", h{"Origin": {"https://evil.example"}}, false},
		{"foreign, cross-site", "", h{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, false},
		{"sibling host", "", h{"Origin": {"https://blog.eu.example.com"}, "Sec-Fetch-Site": {"same-site"}}, false},
		{"other scheme", "", h{"Origin": {"http://app.eu.example.com"}}, false},
		{"other port", "", h{"Origin": {"https://app.eu.example.com:8443"}}, false},
		{"the other scheme's port", "app.eu.example.com:80", h{"Origin": {"https://app.eu.example.com"}}, false},
		{"null", "", h{"Origin": {"null"}}, false},
		{"empty", "", h{"Origin": {""}}, false},
		{"null, of a sandboxed frame", "", h{"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}}, false},
		{"null, of a sibling host", "", h{"Origin": {"null"}, "Sec-Fetch-Site": {"same-site"}}, false},
		{"no Origin, same-site", "", h{"Sec-Fetch-Site": {"same-site"}}, false},
		{"foreign, claimed same-origin", "", h{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"same-origin"}}, false},
		{"no Origin, cross-site", "", h{"Sec-Fetch-Site": {"cross-site"}}, false},
		{"no Origin, cross-site in capitals", "", h{"Sec-Fetch-Site": {"Cross-Site"}}, false},
		{"no Origin, repeated", "", h{"Sec-Fetch-Site": {"same-origin", "cross-site"}}, false},
		{"own, through a foreign redirect", "", h{"Origin": {"https://app.eu.example.com"}, "Sec-Fetch-Site": {"cross-site"}}, false},
		{"repeated", "", h{"Origin": {"https://app.eu.example.com", "https://evil.example"}}, false},
		{"joined", "", h{"Origin": {"https://app.eu.example.com, https://evil.example"}}, false},
		{"listed, as a prefix", "", h{"Origin": {"https://admin.example.net.evil.example"}}, false},
		{"listed, other scheme", "", h{"Origin": {"http://admin.example.net"}}, false},
		{"with path", "", h{"Origin": {"https://admin.example.net/"}}, false},
		{"with user", "", h{"Origin": {"https://admin.example.net@evil.example"}}, false},
		{"other scheme altogether", "", h{"Origin": {"chrome-extension://app.eu.example.com"}}, false},
		{"scheme said twice, the plain one", "", h{"Origin": {"http://app.eu.example.com"}, "X-Forwarded-Proto": {"http", "https"}}, false},
		{"scheme said twice", "", h{"Origin": {"https://app.eu.example.com"}, "X-Forwarded-Proto": {"https", "https"}}, false},
		{"unknown scheme said", "", h{"Origin": {"https://app.eu.example.com"}, "X-Forwarded-Proto": {"wss"}}, false},
		{"no scheme", "", h{"Origin": {"app.eu.example.com"}}, false},
	}
	for _, path := range []string{"/auth/session/refresh", "/auth/signout"} {
		t.Run(path, func(t *testing.T) {
			for _, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					s := b.signIn(t)
					c := post(path, refreshCookie(s.Tokens.Refresh), accessCookie(s.Tokens.Access))
					c.host = test.host
					for name, values := range test.header {
						c = c.with(name, values...)
					}
					r := do(b.public, c)
					if test.allowed {
						want(t, r, http.StatusOK)
						return
					}
					wantProblem(t, r, http.StatusForbidden)
					untouched(t, r)
					if !b.alive(t, s.Session.Handle) {
						t.Error("a refused request ended the session")
					}
				})
			}
		})
	}
}
