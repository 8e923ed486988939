package envoy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/doctor"
	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// from makes a configuration of a text, with the addresses of the one that is there.
func from(t *testing.T, text string) func(*bootstrapv3.Bootstrap) error {
	t.Helper()
	mine, err := typed.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return func(b *bootstrapv3.Bootstrap) error {
		mine.Admin, mine.GetStaticResources().Clusters = b.GetAdmin(), b.GetStaticResources().GetClusters()
		mine.GetStaticResources().GetListeners()[0].Address = b.GetStaticResources().GetListeners()[0].GetAddress()
		proto.Reset(b)
		proto.Merge(b, mine)
		return patient(b)
	}
}

// outside is a proxy in front of the stack, for the doctor.
func (s *stack) outside(address string, edit func(*doctor.Outside)) doctor.Outside {
	o := doctor.Outside{
		URL: address, API: "http://" + s.processes[0].internal, Key: s.apiKey, Page: "/page", UserPage: "/who", OpenPath: "/static/",
		Origin: "http://app.localhost:10000", AuthPath: "/auth", RefreshPath: refreshPath, SignoutPath: "/auth/signout",
		EchoPath: sessionhttp.DoctorPath("/auth"), Claim: sessionhttp.DoctorClaim, Expired: 440,
	}
	if edit != nil {
		edit(&o)
	}
	return o
}

// visit has the doctor probe it.
func (s *stack) visit(address string, edit func(*doctor.Outside)) doctor.Report {
	s.Helper()
	report, err := doctor.Visit(s.Context(), s.outside(address, edit))
	if err != nil {
		s.Fatal(err)
	}
	return report
}

// TestDoctorOutside has the doctor probe the real Envoy in front of the real sessiongate: clean as shipped; and with one fault, found by
// exactly its probe.
func TestDoctorOutside(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{})
	shipped := string(envoy.Shipped())
	report := s.visit(s.proxy.URL("ingress"), nil)
	if len(report.Findings) > 0 || report.Incomplete() || len(report.Skipped) != 3 {
		t.Errorf("shipped: skipped %v, found %+v", report.Skipped, report.Findings)
	}
	response, err := direct.Get(s.proxy.AdminURL() + "/config_dump?include_eds")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	dump, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if probes, all := probesOf(t, dump); probes != "" {
		t.Errorf("the running Envoy: found\n%s", all)
	}
	_, internal, _ := strings.Cut(s.processes[0].internal, ":")
	_, check, _ := strings.Cut(s.processes[0].authz, ":")
	open := s.visit(s.proxy.URL("ingress"), func(o *doctor.Outside) { o.Ports = [2]string{check, internal} })
	if len(open.Findings) != 2 || open.Findings[0].Probe != "D14" || open.Findings[1].Probe != "D14" {
		t.Errorf("open ports: found %+v", open.Findings)
	}
	// Interrupted, it still ends its session.
	ctx, interrupt := context.WithCancel(t.Context())
	s.app.pages.HandleFunc("/interrupt", func(http.ResponseWriter, *http.Request) { interrupt() })
	if _, err := doctor.Visit(ctx, s.outside(s.proxy.URL("ingress"), func(o *doctor.Outside) { o.Page = "/interrupt" })); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	var left int
	if err := s.db.QueryRow(t.Context(), "SELECT count(*) FROM sessiongate.active_sessions WHERE user_id LIKE 'doctor-%'").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d sessions of the doctor are left, %v", left, err)
	}

	const lastRoute = "                        - name: default\n                          match: { prefix: / }\n                          route: *app\n"
	const lastCheck = `                            envoy.filters.http.ext_authz:
                              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                              check_settings:
                                context_extensions: { session: required }

  clusters:`
	const removal = `                          - remove_on_match:
                              key_matcher:
                                safe_regex: { regex: "x[^a-z0-9]session[^a-z0-9](user[^a-z0-9]id|handle|claims)" }
`
	for _, m := range []struct{ name, old, new, probe string }{
		{"the page is open", lastCheck, "                            envoy.filters.http.ext_authz: *no_check\n\n  clusters:", "D1"},
		{"a mapper replaces 440", "                    # Elsewhere, where", "                    - filter: { status_code_filter: { comparison: { value: { default_value: 440, runtime_key: unused } } } }\n                      status_code: 401\n                    # Elsewhere, where", "D2"},
		{"identity passes", removal, "", "D3"},
		{"look-alikes pass", `"x[^a-z0-9]session[^a-z0-9](user[^a-z0-9]id|handle|claims)"`, `"x-session-(user-id|handle|claims)"`, "D3"},
		{"identity is removed by the route", lastRoute, lastRoute + "                          request_headers_to_remove: [x-session-user-id]\n", "D4"},
		{"Cookie lines are joined", "encode_raw_headers: true", "encode_raw_headers: false", "D5"},
		{"escaped slashes pass", "path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED", "D6"},
		{"dots pass", "normalize_path: true", "normalize_path: false", "D6"},
		{"another path in a header", "                          - remove: x-original-url\n", "", "D6"},
		{"the auth path is the app's", "cluster: sessiongate_public\n                            # D/2", "cluster: app\n                            # D/2", "D7"},
		{"the auth path is checked", "envoy.filters.http.ext_authz: &no_check\n", "envoy.filters.http.ext_authz:\n                              \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n                              check_settings: {}\n                            unused: &no_check\n", "D7"},
		{"cookies are dropped", "response_headers_to_remove:\n", "response_headers_to_remove:\n                        - set-cookie\n", "D8"},
		{"every origin", "- exact: http://app.localhost:10000", `- safe_regex: { regex: "https?://.*" }`, "D9"},
		{"anti-csrf may not be sent", "allow_headers: content-type, authorization, anti-csrf, rid", "allow_headers: content-type, authorization, rid", "D9"},
		{"front-token cannot be read", "expose_headers: front-token, anti-csrf", "expose_headers: anti-csrf", "D10"},
		{"clients choose their address", "use_remote_address: true", "use_remote_address: false", "D11"},
		{"a proxy too many is trusted", "xff_num_trusted_hops: 0", "xff_num_trusted_hops: 1", "D11"},
		{"sessiongate hears no address", `key: x-sessiongate-peer, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"`, `key: x-else, value: "-"`, "D11"},
		{"anti-CSRF is off", lastCheck, strings.Replace(lastCheck, "session: required", `anti_csrf: "off"`, 1), "D13"},
	} {
		if strings.Count(shipped, m.old) != 1 {
			t.Fatalf("envoy.yaml has %q %d times", m.old, strings.Count(shipped, m.old))
		}
		proxy := s.startEnvoy("mutant", from(t, strings.Replace(shipped, m.old, m.new, 1)))
		report := s.visit(proxy.URL("ingress"), nil)
		if len(report.Findings) == 0 {
			t.Errorf("%s: nothing is found; skipped %v", m.name, report.Skipped)
		}
		for _, f := range report.Findings {
			if f.Probe != m.probe || f.Why == "" || f.Cure == "" || f.Where == "" || !strings.Contains(f.In, "came ") {
				t.Errorf("%s: want %s, found %+v", m.name, m.probe, f)
			}
		}
		if err := proxy.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestDoctorEcho: to all other clients, there is nothing.
func TestDoctorEcho(t *testing.T) {
	t.Parallel()
	s := newStack(t, stackOptions{})
	b := s.newBrowser(networkV)
	b.signIn("ada")
	for what, a := range map[string]answer{
		"a user":    b.do(http.MethodGet, sessionhttp.DoctorPath("/auth"), navigation),
		"no cookie": b.do(http.MethodGet, sessionhttp.DoctorPath("/auth"), navigation, without("Cookie")),
	} {
		a.expect(t, what, http.StatusNotFound)
	}
	if _, err := doctor.Visit(t.Context(), doctor.Outside{URL: (&url.URL{Scheme: "ftp", Host: "x"}).String()}); err == nil {
		t.Error("an address of another scheme is probed")
	}
}
