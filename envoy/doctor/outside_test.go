package doctor_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/envoy/doctor"
)

// sound answers as a sound proxy with sessiongate behind it does, and its sessions API. The tests with the real ones are in envoy.
func sound(w http.ResponseWriter, r *http.Request) {
	mine := strings.Contains(r.Header.Get("Cookie"), "sAccessToken=good")
	switch {
	case r.URL.Path == "/v1/sessions":
		_, _ = io.WriteString(w, `{"set_cookie": ["old=; Path=/; Max-Age=0", "sAccessToken=good; Path=/; Secure", "sRefreshToken=rt; Path=/auth; Secure"]}`)
	case r.Method == http.MethodDelete:
		_, _ = io.WriteString(w, `{}`)
	case r.URL.Path == "/auth/session/refresh":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(440)
		_, _ = io.WriteString(w, `{"error":"unauthorised"}`)
	case r.URL.Path == "/auth/signout":
		w.Header().Add("Set-Cookie", "sAccessToken=; Path=/; Secure; Max-Age=0")
		w.Header().Add("Set-Cookie", "sRefreshToken=; Path=/auth; Secure; Max-Age=0")
		_, _ = io.WriteString(w, `{"status":"OK"}`)
	case r.URL.Path == "/auth/doctor" && mine:
		_, _ = io.WriteString(w, `{"headers":{},"peer":["203.0.113.9"]}`)
	case r.URL.Path == "/auth/doctor":
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost, r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusForbidden)
	case mine:
		_, _ = io.WriteString(w, "hello")
	case r.Header.Get("Cookie") != "":
		w.WriteHeader(440)
		_, _ = io.WriteString(w, "Please call the refresh token endpoint")
	default:
		w.Header().Set("Location", "/login")
		w.WriteHeader(http.StatusFound)
	}
}

// visitTLS has the doctor probe a server that speaks HTTP/2, too.
func visitTLS(t *testing.T, answer http.HandlerFunc, ports [2]string) doctor.Report {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	api := httptest.NewServer(http.HandlerFunc(sound))
	defer api.Close()
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	report, err := doctor.Visit(t.Context(), doctor.Outside{
		URL: server.URL, API: api.URL, AuthPath: "/auth", RefreshPath: "/auth/session/refresh", SignoutPath: "/auth/signout", EchoPath: "/auth/doctor",
		Claim: "sessiongate_doctor", Expired: 440, TLS: &tls.Config{RootCAs: roots}, Ports: ports,
	})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestProtocols: what only one protocol lets in is found (D20).
func TestProtocols(t *testing.T) {
	t.Parallel()
	if report := visitTLS(t, sound, [2]string{}); len(report.Findings) > 0 || report.Incomplete() {
		t.Errorf("sound: skipped %v, found\n%s", report.Skipped, show(report.Findings))
	}
	for _, version := range []int{1, 2} {
		report := visitTLS(t, func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == version && r.URL.Path == "/" && r.Method == http.MethodGet {
				_, _ = io.WriteString(w, "open to all")
				return
			}
			sound(w, r)
		}, [2]string{})
		want := map[int]string{1: "D1", 2: "D20"}[version]
		if len(report.Findings) != 1 || report.Findings[0].Probe != want {
			t.Errorf("HTTP/%d is open: want %s, found\n%s", version, want, show(report.Findings))
		}
	}
}

// TestOpenPorts: a load balancer that accepts connections on every port is no finding; one behind it that answers as sessiongate is (D14).
func TestOpenPorts(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_ = connection.Close()
		}
	}()
	defer func() {
		_ = listener.Close()
		<-done
	}()
	refusal := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sessiongate"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	api, encrypted := httptest.NewServer(http.HandlerFunc(refusal)), httptest.NewTLSServer(http.HandlerFunc(refusal))
	defer api.Close()
	defer encrypted.Close()
	port := func(address net.Addr) string { return strconv.Itoa(address.(*net.TCPAddr).Port) }
	mute := port(listener.Addr())
	for name, test := range map[string]struct {
		internal          net.Addr
		findings, skipped int
	}{
		"mute":     {listener.Addr(), 0, 2},
		"answers":  {api.Listener.Addr(), 1, 1},
		"with TLS": {encrypted.Listener.Addr(), 1, 1},
	} {
		report, skipped := visitTLS(t, sound, [2]string{mute, port(test.internal)}), 0
		for _, s := range report.Skipped {
			if s.Probe == "D14" {
				skipped++
			}
		}
		if len(report.Findings) != test.findings || skipped != test.skipped {
			t.Errorf("%s: skipped %v, found\n%s", name, report.Skipped, show(report.Findings))
		}
	}
}

// TestVisitThatCannotBegin: without a session there is nothing to say.
func TestVisitThatCannotBegin(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer api.Close()
	for _, o := range []doctor.Outside{
		{URL: "ftp://x"}, {URL: "https://x/path"}, {URL: "x"}, {URL: "https://x", API: api.URL}, {URL: "https://x", API: "http://127.0.0.1:1"},
	} {
		if report, err := doctor.Visit(t.Context(), o); err == nil || len(report.Findings) > 0 {
			t.Errorf("%+v: %v, %+v", o, err, report)
		}
	}
}
