package envoy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/sessiongate/sessiongate/envoy/typed"
)

const hangUp = "hang up"

// saying is a server that reads a request's head and writes text, or hangs up; of "" it stays silent.
func saying(t *testing.T, text string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return // a health check
				}
				switch text {
				case hangUp:
				case "":
					_, _ = io.Copy(io.Discard, conn) // until Envoy gives up
				default:
					_, _ = io.WriteString(conn, text)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// hurried gives the auth path a moment.
func hurried(bootstrap *bootstrapv3.Bootstrap) error {
	if err := patient(bootstrap); err != nil {
		return err
	}
	return typed.EditConnectionManager(bootstrap, "ingress", authPathWithin(100*time.Millisecond))
}

// Whatever happens to sessiongate, a client of the auth path is told in sessiongate's own form to come back, and keeps its cookies.
func TestAuthPathAnswersInOneForm(t *testing.T) {
	for name, test := range map[string]struct {
		public string
		status int
		edit   func([]byte) ([]byte, error)
	}{
		"refused":              {dead, 503, nil},
		"closed before answer": {saying(t, hangUp), 503, nil},
		"closed in the header": {saying(t, "HTTP/1.1 200 OK\r\nSet-Cookie: sAccessToken="), 502, nil},
		"no HTTP":              {saying(t, "sRefreshToken=x\r\n\r\n"), 502, nil},
		"too many headers":     {saying(t, "HTTP/1.1 200 OK\r\n"+strings.Repeat("Set-Cookie: a=1\r\n", 600)+"\r\n"), 502, nil},
		"silent":               {saying(t, ""), 504, typed.Edit(hurried)},
	} {
		t.Run(name, func(t *testing.T) {
			options := nowhere()
			options.Clusters["sessiongate_public"], options.Edit = []string{test.public}, test.edit
			proxy := start(t, options)
			for _, target := range []string{"/auth/session/refresh", "/auth/signout?x=1", "/auth", "/auth?x", "/auth/"} {
				got := send(t, proxy, "POST", target, http.Header{"Origin": {"http://app.localhost:10000"}, "Cookie": {"sAccessToken=a; sRefreshToken=r"}})
				if got.status != test.status && got.status != http.StatusServiceUnavailable { // once a health check has found out
					t.Errorf("%s: %d, want %d", target, got.status, test.status)
				}
				var problem struct {
					Code, Detail, Title string
					Status              int
				}
				decoder := json.NewDecoder(strings.NewReader(got.body))
				decoder.DisallowUnknownFields()
				if err := decoder.Decode(&problem); err != nil || problem.Code != "unavailable" || problem.Status != got.status || problem.Title == "" || problem.Detail == "" {
					t.Errorf("%s: %q, %v", target, got.body, err)
				}
				for header, want := range map[string]string{
					"Content-Type": "application/problem+json", "Cache-Control": "no-store", "Retry-After": "1", "Set-Cookie": "",
					"Access-Control-Allow-Origin": "http://app.localhost:10000", "Access-Control-Allow-Credentials": "true",
				} {
					if lines := got.header.Values(header); strings.Join(lines, "|") != want {
						t.Errorf("%s: %s %q, want %q", target, header, lines, want)
					}
				}
			}
			for _, target := range []string{"/authors", "/x?/auth/", "/"} {
				if got := send(t, proxy, "GET", target, nil); got.status != http.StatusServiceUnavailable || strings.Contains(got.body, "{") || got.header.Get("Retry-After") != "1" {
					t.Errorf("%s: %d %s", target, got.status, got.body)
				}
			}
		})
	}
}

// What sessiongate says itself goes out as it is.
func TestOwnRefusalsAreUntouched(t *testing.T) {
	for _, status := range []int{502, 503, 504, 500, 431} {
		options := nowhere()
		body := fmt.Sprintf(`{"status":%d}`, status)
		options.Clusters["sessiongate_public"] = []string{saying(t, fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: text/own\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body))}
		got := send(t, start(t, options), "POST", "/auth/session/refresh", nil)
		if got.status != status || got.body != body || got.header.Get("Content-Type") != "text/own" || got.header.Get("Retry-After") != "7" || got.header.Get("Cache-Control") != "" {
			t.Errorf("%d: %d %q %v", status, got.status, got.body, got.header)
		}
	}
}
