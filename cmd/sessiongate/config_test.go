package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

const (
	testKey    = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	otherKey   = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
	testSecret = "hunter2-hunter2-hunter2-hunter2-hunter2"
)

// nested writes key: value as it nests in a file, below a comment, and says in
// which line the value stands.
func nested(key, value string) (content string, line int) {
	section, name, ok := strings.Cut(key, ".")
	if !ok {
		return fmt.Sprintf("# comment\n%s: %s\n", key, value), 2
	}
	return fmt.Sprintf("# comment\n%s:\n  %s: %s\n", section, name, value), 3
}

func faultsOf(t *testing.T, err error) settings.Faults {
	t.Helper()
	var all settings.Faults
	if err != nil && !errors.As(err, &all) {
		t.Fatalf("error of type %T, want faults: %v", err, err)
	}
	return all
}

func mustParse(t *testing.T, content string, environ ...string) (Config, settings.Origins) {
	t.Helper()
	c, from, err := parse("test.yaml", []byte(content), environ)
	if err != nil {
		t.Fatalf("refused:\n%v\n\nin:\n%s", err, content)
	}
	return c, from
}

// badValues has, for every setting, values that must be refused: as they stand
// in YAML.
var badValues = map[string][]string{
	"key":               {`MTIz`, `"` + testKey[:43] + `"`, `"` + testKey + `\n"`, `[` + testKey + `]`, `MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWZ=`},
	"key_file":          {`key`, `./key`, `"/k\n"`, `1`},
	"key_previous":      {`MTIz`, `"` + testKey[:43] + `"`, `[` + testKey + `]`},
	"key_previous_file": {`key`, `"/k\n"`, `1`},

	"issuer":          {`""`, `a b`, `5`, `true`, `ü`, strings.Repeat("x", 129)},
	"login_url":       {`login`, `//evil.example`, `///evil.example`, `/\evil`, `ftp://h/`, `javascript:alert(1)`, `"/a b"`, `https://u:p@h/`, `https:///x`, `"/x#f"`, `""`},
	"anti_csrf":       {`Always`, `true`, `""`, `on`},
	"allowed_origins": {`https://a.example`, `["*"]`, `[https://a.example/]`, `[https://A.example]`, `[https://a.example:443]`, `[a.example]`, `["null"]`, `[5]`, `[https://a.example, https://a.example]`, `[[https://a.example]]`, `["https://a.example,https://b.example"]`, `["https://*.a.example"]`},
	"strip_cookies":   {`yes`, `True`, `1`, `"true"`, ``, `on`},
	"routes": {
		`{}`, `/admin`, ``, `[/admin]`, `[[]]`, `[{}]`, `[{path: /a}]`, `[{policy: }]`, `[{policy: []}]`, `[{policy: {}, polcy: {}}]`, `[{policy: {}, path: /a, path_prefix: /a}]`, `[{policy: {}, policy: {}}]`,
		`[{policy: {}, path: a}]`, `[{policy: {}, path: /a/}]`, `[{policy: {}, path: "/a*"}]`, `[{policy: {}, path: ""}]`, `[{policy: {}, path: 1}]`, `[{policy: {}, path_prefix: /a/../b}]`, `[{policy: {}, path_prefix: [/a]}]`,
		`[{policy: {}, host: A.example}]`, `[{policy: {}, host: "*"}]`, `[{policy: {}, host: "a.example:80"}]`, `[{policy: {}, host: "a.*.example"}]`, `[{policy: {}, host: 10}]`,
		`[{policy: {}, methods: GET}]`, `[{policy: {}, methods: []}]`, `[{policy: {}, methods: [get]}]`, `[{policy: {}, methods: [GET, GET]}]`, `[{policy: {}, methods: [GTE]}]`, `[{policy: {}, methods: [1]}]`,
		`[{policy: {session: off}}]`, `[{policy: {sesion: optional}}]`, `[{policy: {session: [optional]}}]`, `[{policy: {max_age: 010}}]`, `[{policy: {max_age: 10.0}}]`, `[{policy: {max_age: 1e3}}]`, `[{policy: {max_age: 10m}}]`,
		`[{policy: {strict: True}}]`, `[{policy: {strict: yes}}]`, `[{policy: {strict: }}]`, `[{policy: {require.role: ~}}]`, `[{policy: {require.sub: x}}]`, `[{policy: {require.role: [admin, owner]}}]`, `[{policy: {require.n: 0x10}}]`,
		`[{policy: {login_url: //evil.example}}]`, `[{policy: {session: optional, session: required}}]`, `[{policy: {1: x}}]`, `[{policy: {<<: {session: optional}}}]`, `[{policy: !x {}}]`, `[{policy: &a {}}]`,
		`[{policy: {}}, {policy: {}}]`, `[{policy: {}, path: /a}, {policy: {}, path: /A}]`, `[{policy: {}, methods: [GET, POST]}, {policy: {}, methods: [HEAD, GET]}]`,
	},

	"listen.authz":        {`9001`, `localhost`, `127.0.0.1:65536`, `127.0.0.1:09001`, `"unix:"`, `unix:relative.sock`, `unix:/` + strings.Repeat("x", 103), `http://h:1`, `::1:9001`, `999.1.1.1:1`},
	"listen.public":       {`unix:/x.sock`, `"127.0.0.1:"`, `"h h:1"`, `a..b:1`, `"[::1:1"`},
	"listen.internal":     {`127.0.0.1:-1`, `127.0.0.1:+1`, `""`, `127.0.0.1`},
	"listen.address_file": {`x`, `"/\t"`},

	"listen.max_connections": {`0`, `15`, `1000001`, `1e4`},

	"tls.authz_cert_file":         {`tls.crt`, `[/x]`},
	"tls.authz_key_file":          {`./tls.key`, `5`},
	"tls.authz_client_ca_file":    {`ca.crt`, `~`},
	"tls.authz_client_names":      {`envoy`, `["*.example"]`, `[Envoy]`, `[10.0.0.1]`, `[a, a]`, `[5]`, `["a b"]`, `["spiffe://a"]`, `["spiffe://A/b"]`, `["spiffe://a/b/"]`, `["spiffe://a//b"]`, `["spiffe://a/../b"]`, `["spiffe://a/%62"]`, `["spiffe://a/*"]`, `["spiffe://u@a/b"]`, `["spiffe://a:1/b"]`, `["spiffe://a/b?c"]`, `["https://a/b"]`, `["uri:a"]`, `[a.]`},
	"tls.public_cert_file":        {`tls.crt`, `[/x]`},
	"tls.public_key_file":         {`./tls.key`, `5`},
	"tls.public_client_ca_file":   {`ca.crt`, `~`},
	"tls.public_client_names":     {`envoy`, `["*.example"]`, `[Envoy]`, `[10.0.0.1]`, `[a, a]`, `[5]`, `["a b"]`, `["spiffe://a"]`, `["spiffe://A/b"]`, `["spiffe://a/b/"]`, `["spiffe://a//b"]`, `["spiffe://a/../b"]`, `["spiffe://a/%62"]`, `["spiffe://a/*"]`, `["spiffe://u@a/b"]`, `["spiffe://a:1/b"]`, `["spiffe://a/b?c"]`, `["https://a/b"]`, `["uri:a"]`, `[a.]`},
	"tls.internal_cert_file":      {`tls.crt`, `[/x]`},
	"tls.internal_key_file":       {`./tls.key`, `5`},
	"tls.internal_client_ca_file": {`ca.crt`, `~`},
	"tls.internal_client_names":   {`envoy`, `["*.example"]`, `[Envoy]`, `[10.0.0.1]`, `[a, a]`, `[5]`, `["a b"]`, `["spiffe://a"]`, `["spiffe://A/b"]`, `["spiffe://a/b/"]`, `["spiffe://a//b"]`, `["spiffe://a/../b"]`, `["spiffe://a/%62"]`, `["spiffe://a/*"]`, `["spiffe://u@a/b"]`, `["spiffe://a:1/b"]`, `["spiffe://a/b?c"]`, `["https://a/b"]`, `["uri:a"]`, `[a.]`},

	"database.url":                 {`localhost`, `mysql://h/d`, `postgres://h`, `postgres://h/d?password=` + testSecret, `postgres://h/d?pool_max_conns=3`, `host=h dbname=d`, `postgres://u:` + testSecret + `@h:port/d`, `postgres://u:` + testSecret + `@h,i:port/d`, `5`},
	"database.password_file":       {`x`, `[/x]`},
	"database.max_connections":     {`1`, `1001`, `1.5`, `012`, `0x10`, `1_0`, `1e1`, `"10"`, `ten`, `+10`, `99999999999999999999`, `10.0`},
	"database.statement_timeout":   {`5`, `99ms`, `2m`, `5 s`, `5S`, `1.5s`},
	"database.connect_timeout":     {`5`, `0s`, `1h`, `-5s`},
	"database.prepared_statements": {`true`, `ON`, `yes`, `""`, `[on]`, `1`},
	"database.migrate":             {`no`, `TRUE`, `0`},

	"session.access_token_life":   {`3600`, `1s`, `25h`, `1w`, `1m1h`, `1h1h`, `01h`, `h`, `1`, `"0"`, `106752d`, `9223372036854775807h`, `99999999999999999999h`, `1:00:00`, `2026-01-01`},
	"session.sliding_life":        {`4s`, `401d`, `~`, `1.5d`},
	"session.absolute_life":       {`4s`, `401d`, `{}`},
	"session.refresh_attempt_max": {`999ms`, `61s`, `1000000us`},
	"session.issues_max":          {`4`, `1001`, `20.5`, `-20`},
	"session.max_per_user":        {`-1`, `10001`, `1.5`, `none`},
	"session.when_full":           {`evict`, `Reject`, `true`},
	"session.device_address":      {`24`, `Network`, `true`, `city`},
	"session.device_user_agent":   {`maybe`, `1`, `short`},

	"own_sessions.enabled":       {`maybe`, `1`, `list`},
	"own_sessions.reauth_within": {`59s`, `25h`, `0`, `{}`},

	"refresh.per_session_rate":  {`-1`, `1001`, `0.5`, `2/s`},
	"refresh.per_session_burst": {`9`, `0`, `100001`},
	"refresh.per_address_rate":  {`-1`, `1000001`, `off`},
	"refresh.per_address_burst": {`9`, `0`, `1000001`},

	"binding.mode":              {`Offer`, `on`, `true`, `""`, `[offer]`},
	"binding.access_token_life": {`4m`, `25h`, `600`, `0s`},
	"binding.challenge_life":    {`9s`, `11m`, `60`},
	"binding.lost_after":        {`59s`, `25h`, `never`},
	"binding.cookie_name":       {`""`, `a b`, `a;b`, `__Host-a`, `ä`, `1`},
	"binding.exclude":           {`/static`, `[static]`, `[/a/../b]`, `[/a/]`, `[/a, /a]`, `["/a;b"]`, `[~]`},

	"keys.rotate_every":     {`23h`, `401d`, `30`, `0s`, `never`},
	"keys.activation_delay": {`5m`, `5m59s`, `7h`, `600`, `0s`},

	"cookies.access_name":     {`""`, `a b`, `a;b`, `a=b`, `$a`, `__Host-a`, `__secure-a`, `ä`, strings.Repeat("a", 65), `null`},
	"cookies.refresh_name":    {`"a,b"`, `"a\"b"`, `1`},
	"cookies.frontend_domain": {`1-2.3-4`, `.example.com`, `Example.com`, `10.0.0.1`, `example.com:80`, `https://example.com`},
	"cookies.domain":          {`1-2.3-4`, `.example.com`, `Example.com`, `10.0.0.1`, `example.com:80`, `https://example.com`, `a_b.example`, `-a.example`},
	"cookies.same_site":       {`Lax`, `0`, `default`},
	"cookies.secure":          {`yes`, `"false"`},
	"cookies.host_prefix":     {`y`, `1`},
	"cookies.partitioned":     {`y`, `1`},
	"cookies.former_paths":    {`/old`, `[old]`, `[/old/]`, `[/a/../b]`, `["/a;b"]`, `[/a, /a]`, `[~]`},

	"paths.auth":    {`/`, `auth`, `/auth/`, `//auth`, `/a%20b`, `"/auth?x"`},
	"paths.refresh": {`session/refresh`, `/auth/./refresh`, `/auth/*`},
	"paths.bind":    {`bind`, `/auth//bind`, `/auth/bind/`, `1`},
	"paths.bound":   {`bound`, `/auth/../bound`, `"/auth/b?x"`, `[/auth/bound]`},
	"paths.signout": {`""`, `/auth//signout`, `"/auth/sign out"`},

	"responses.session_expired_status": {`399`, `500`, `"440"`, `440.0`, `0440`},
	"responses.denial_header":          {`yes`, `"true"`, `1`},
	"responses.on_unauthorised":        {`404`, `Redirect`, `[401]`},

	"api.keys":      {testSecret, `[` + testSecret + `]`, `["backend:short"]`, `["Back end:` + testSecret + `"]`, `["backend:` + testSecret + `", "backend:` + testSecret + `"]`, `{backend: ` + testSecret + `}`, `[{backend: ` + testSecret + `}]`, `["backend:` + testSecret + `,x"]`, `["b:` + testSecret + ` x"]`},
	"api.key_files": {`["backend"]`, `["backend:relative"]`, `[":/x"]`, `[/x]`},
	"api.key_hashes": {
		`a`, `[` + testDigest + `]`, `["a:` + testSecret + `"]`, `["a:` + testDigest[1:] + `"]`, `["a:0` + testDigest + `"]`, `["a:` + strings.ToUpper(testDigest) + `"]`, `["A:` + testDigest + `"]`, `["a:sha256:` + testDigest + `"]`,
	},
	"api.scopes":   {`a`, `[a]`, `["a:"]`, `["a:all"]`, `["a:create+"]`, `["a:create+create"]`, `["a:create read"]`, `["a:Create"]`, `["A:create"]`, `["a:create", "a:create"]`},
	"api.body_max": {`65536`, `4095B`, `17MiB`, `64kB`, `64K`, `64KiB1`, `1.5MiB`, `1B1KiB`},

	"feed.poll_interval": {`49ms`, `1001ms`, `200`},
	"feed.bound":         {`99ms`, `11s`, `1`},

	"promotion.queue": {`0`, `1000001`, `many`},
	"promotion.batch": {`0`, `10001`, `256.0`},
	"cache.tokens":    {`0`, `10000001`, `-0`, `00`},

	"cache.unverified_cpu": {`0`, `101`, `25%`, `0.25`, `-1`},

	"sweep.interval": {`0s`, `25h`, `60`},
	"sweep.batch":    {`0`, `10001`, `0b1`},

	"http.header_max":   {`32768`, `3KiB`, `2MiB`},
	"http.read_timeout": {`10`, `99ms`, `6m`},
	"http.idle_timeout": {`0s`, `2d`, `5`},

	"grpc.max_message":          {`262144`, `63KiB`, `17MiB`},
	"grpc.max_streams":          {`0`, `1000001`, `1,000`},
	"grpc.max_calls":            {`31`, `1000001`, `1k`},
	"grpc.connection_age":       {`999ms`, `2d`, `300`},
	"grpc.connection_age_grace": {`0s`, `2h`, `60`},
	"grpc.stream_workers":       {`0`, `100001`, `all`},
	"grpc.read_buffer":          {`4096`, `1023B`, `2MiB`},
	"grpc.write_buffer":         {`32768`, `1023B`, `2MiB`},

	"memory.limit_percent": {`-1`, `101`, `90%`, `max`},
	"memory.gc_percent":    {`9`, `10001`, `400%`, `off`},

	"shutdown.drain_delay": {`0`, `-1s`, `6m`},
	"shutdown.timeout":     {`0s`, `11m`, `15`},
	"shutdown.linger":      {`-1s`, `6m`, `7`},

	"log.level":              {`INFO`, `trace`, `0`},
	"log.format":             {`JSON`, `logfmt`},
	"log.denials_per_second": {`-1`, `1000001`, `1.5`, `many`},

	"profiling.listen": {
		`6060`, `localhost:6060`, `:6060`, `0.0.0.0:6060`, `10.0.0.1:6060`, `"[::]:6060"`, `"[::ffff:127.0.0.1]:6060"`, `"[::1%lo]:6060"`, `127.0.0.1`, `127.0.0.1:06060`, `http://127.0.0.1:6060`, `unix:relative.sock`, `"unix:"`, `true`,
	},

	"tracing.otlp_endpoint": {
		`collector:4318`, `grpc://collector:4317`, `http://`, `http:///v1`, `http://u:p@collector:4318`, `http://collector:4318/?x`, `http://collector:4318/#x`, `http://collector:4318/a/`, `http://Collector:4318`, `http://collector:port`, `"http://a b"`, `5`,
	},
	"tracing.sample_percent": {`-1`, `101`, `0.5`, `10%`, `all`},

	"audit.output": {`audit.jsonl`, `Stdout`, `stderr`, `"-"`, `[stdout]`, `file:/x`, `"/x\t"`},
}

func TestEverySettingRefusesBadValues(t *testing.T) {
	t.Parallel()
	for _, s := range table(new(Config)).Settings {
		values := badValues[s.Key]
		if len(values) == 0 {
			t.Errorf("%s: no bad value in the table", s.Key)
		}
		for _, value := range values {
			content, line := nested(s.Key, value)
			_, _, err := parse("test.yaml", []byte(content), nil)
			all := faultsOf(t, err)
			if len(all) != 1 {
				t.Errorf("%s: %s: faults %v, want one", s.Key, value, all)
				continue
			}
			key, allowed := all[0].Key, all[0].Allowed
			if !explains(s, key, allowed) || all[0].At != (settings.Origin{File: "test.yaml", Line: line}) {
				t.Errorf("%s: %s: fault %#v, want it in line %d, allowed %s", s.Key, value, all[0], line, s.Kind.Allowed)
			}
			prefix := fmt.Sprintf("test.yaml:%d: %s: found ", line, key)
			if !strings.HasPrefix(err.Error(), prefix) || !strings.HasSuffix(err.Error(), "; allowed: "+allowed) {
				t.Errorf("%s: %s: error %q", s.Key, value, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: error shows a secret: %q", s.Key, err)
			}
		}
	}
}

// explains says whether a fault's key names the setting, or a part of it, and
// whether what is allowed there is told.
func explains(s settings.Setting, key, allowed string) bool {
	if s.Kind.Read != nil && strings.HasPrefix(key, s.Key+"[") {
		return allowed != ""
	}
	return key == s.Key && allowed == s.Kind.Allowed
}

// What the file refuses for more than its type in YAML, the environment refuses
// as well.
func TestEnvironmentRefusesWhatTheFileRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range table(new(Config)).Settings {
		refused := 0
		for _, value := range badValues[s.Key] {
			text, typed := value, false
			if s.Kind.Read == nil {
				text, typed = asVariable(t, s, value)
			}
			if strings.Contains(text, "\x00") {
				continue
			}
			_, _, err := parse("", nil, []string{envOf(s) + "=" + text})
			all := faultsOf(t, err)
			switch {
			case len(all) == 0 && !typed && (s.Kind.Read == nil || text != ""):
				t.Errorf("%s: %s is taken from the environment as %q", s.Key, value, text)
			case len(all) == 0: // nothing is an empty list there, and 5 a text
			case !typed && !explains(s, all[0].Key, all[0].Allowed), all[0].At != settings.Origin{Env: envOf(s)}: // [/x] is a path there, which lacks its partner
				t.Errorf("%s=%s: fault %#v", envOf(s), text, all[0])
			case strings.Contains(err.Error(), "hunter2"):
				t.Errorf("%s: error shows a secret: %q", s.Key, err)
			default:
				refused++
			}
		}
		if refused == 0 {
			t.Errorf("%s: no bad value for the environment in the table", s.Key)
		}
	}
}

// asVariable is a value of YAML as the environment would say it, and whether its
// type was among what is wrong with it.
func asVariable(t *testing.T, s settings.Setting, value string) (text string, typed bool) {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte("x: "+value), &document); err != nil {
		t.Fatal(err)
	}
	node := document.Content[0].Content[1]
	typed = s.Kind.List != (node.Kind == yaml.SequenceNode) || node.Kind == yaml.MappingNode
	if node.Kind != yaml.SequenceNode {
		return node.Value, typed || s.Kind.Tag != "" && node.ShortTag() != s.Kind.Tag
	}
	var items []string
	for _, item := range node.Content {
		items = append(items, item.Value)
		typed = typed || item.Kind != yaml.ScalarNode || item.ShortTag() != s.Kind.Tag || strings.Contains(item.Value, ",")
	}
	return strings.Join(items, ","), typed
}

func TestEnvironmentRefusesBadValues(t *testing.T) {
	t.Parallel()
	for _, s := range table(new(Config)).Settings {
		// No kind takes a control character, not even as part of a list.
		_, _, err := parse("", nil, []string{envOf(s) + "=hunter2\x00"})
		all := faultsOf(t, err)
		if len(all) != 1 || all[0].At.Env != envOf(s) || all[0].Key != s.Key || all[0].Allowed != s.Kind.Allowed {
			t.Errorf("%s: faults %#v, want one with the variable's name", s.Key, all)
		}
		if s.Secret == strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: error %q: must show what was found, but no secret", s.Key, err)
		}
	}
}

func TestEnvironmentIsAsStrictAsTheFile(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"STRIP_COOKIES=yes", "STRIP_COOKIES=1", "STRIP_COOKIES=", "DATABASE_MAX_CONNECTIONS=012", "DATABASE_MAX_CONNECTIONS=1.5", "DATABASE_MAX_CONNECTIONS= 5",
		"SESSION_ACCESS_TOKEN_LIFE=3600", "API_BODY_MAX=65536", "ANTI_CSRF=OFF", "ISSUER=", "ALLOWED_ORIGINS=https://a.example, https://b.example",
	} {
		if _, _, err := parse("", nil, []string{"SESSIONGATE_" + entry}); len(faultsOf(t, err)) != 1 {
			t.Errorf("%s: faults %v, want one", entry, err)
		}
	}
}

// good differs from every default.
var good = `
key: ` + testKey + `
key_previous: ` + testKey + `
keys: {rotate_every: 7d, activation_delay: 1h}
issuer: https://example.com
login_url: /sign-in?from=gate
anti_csrf: off
allowed_origins: [https://app.example.com, "http://[::1]:8080"]
strip_cookies: true
routes:
  - path_prefix: /admin
    policy: {require.role: admin|owner, max_age: 600, strict: true}
  - {host: "*.example.com", path: /status, methods: [GET, HEAD], policy: {session: optional, anti_csrf: off, on_unauthorised: 401, "require.a: \"b\"": "x\ty"}}
  - path_prefix: /admin/public
    policy: {}
listen: {authz: "unix:/run/sessiongate/authz.sock", public: ":8002", internal: "[::]:8003", address_file: /run/addresses.json, max_connections: 20}
tls:
  authz_cert_file: /tls/authz/cert
  authz_key_file: /tls/authz/key
  authz_client_ca_file: /tls/authz/client_ca
  authz_client_names: [envoy.example, "spiffe://example.org/ns/ingress/sa/envoy"]
  public_cert_file: /tls/public/cert
  public_key_file: /tls/public/key
  public_client_ca_file: /tls/public/client_ca
  public_client_names: [envoy.example, "spiffe://example.org/ns/ingress/sa/envoy"]
  internal_cert_file: /tls/internal/cert
  internal_key_file: /tls/internal/key
  internal_client_ca_file: /tls/internal/client_ca
  internal_client_names: [envoy.example, "spiffe://example.org/ns/ingress/sa/envoy"]
database:
  url: postgres://app:` + testSecret + `@db.example:5432/sessions?sslmode=verify-full
  max_connections: 30
  statement_timeout: 2s500ms
  connect_timeout: 1s
  prepared_statements: "off"
  migrate: false
session:
  access_token_life: 15m
  sliding_life: 7d12h
  absolute_life: 30d
  refresh_attempt_max: 5s
  issues_max: 50
  max_per_user: 5
  when_full: reject
  device_address: full
  device_user_agent: false
own_sessions: {enabled: true, reauth_within: 5m}
refresh: {per_session_rate: 0, per_session_burst: 50, per_address_rate: 10, per_address_burst: 60}
cookies:
  access_name: at
  refresh_name: rt
  domain: example.com
  same_site: none
  partitioned: true
  frontend_domain: web.example
  former_paths: [/, /api]
paths: {auth: /session, refresh: /session/refresh, signout: /session/end, bind: /session/key, bound: /session/proof}
binding: {access_token_life: 6m, challenge_life: 30s, lost_after: 20m, cookie_name: timer, exclude: [/static, /img]}
responses:
  session_expired_status: 401
  on_unauthorised: 401
  denial_header: true
api:
  keys:
    - backend:` + testSecret + `
    - "cron:` + testSecret + `"
  key_files: [ops:/run/secrets/ops]
  key_hashes: ["audit:` + strings.Repeat("ab", 32) + `"]
  scopes: [backend:create+revoke, audit:read]
  body_max: 1MiB512KiB
feed: {poll_interval: 100ms, bound: 2s}
promotion: {queue: 10, batch: 5}
cache: {tokens: 1, unverified_cpu: 100}
sweep: {interval: 1h, batch: 1}
http: {header_max: 128KiB, read_timeout: 1m, idle_timeout: 2h}
grpc: {max_message: 1MiB, max_streams: 5, max_calls: 40, connection_age: 1h, connection_age_grace: 2m, stream_workers: 8, read_buffer: 8KiB, write_buffer: 16KiB}
memory: {limit_percent: 75, gc_percent: 150}
shutdown: {drain_delay: 0s, timeout: 1m, linger: 30s}
log: {level: debug, format: text, denials_per_second: 7}
audit: {output: /var/log/audit.jsonl}
profiling: {listen: "unix:/run/profiles.sock"}
tracing: {otlp_endpoint: "https://collector.example:4318/tenant", sample_percent: 5}
`

// withoutSecrets is what the printed configuration keeps.
func withoutSecrets(c Config) Config {
	c.Key, c.KeyPrevious, c.API.Keys, c.API.KeyHashes, c.Database.URL = "", "", nil, nil, settings.Secret(withoutPassword(string(c.Database.URL)))
	return c
}

func printed(t *testing.T, c Config, from settings.Origins) string {
	t.Helper()
	var b bytes.Buffer
	if err := table(&c).Print(&b, from); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Secret formats as [redacted], so cmp needs to be told how to see through it, and what no
// setting fills.
var plainly = cmp.Options{
	cmp.Comparer(func(a, b settings.Secret) bool { return string(a) == string(b) }),
	cmpopts.IgnoreUnexported(postgres.Config{}),
	cmpopts.IgnoreFields(sessions.Config{}, "Now", "Observe", "Audit"),
	cmpopts.IgnoreFields(sessionhttp.Config{}, "Log", "Observe"),
	cmpopts.IgnoreFields(authz.Config{}, "Log", "Observe"),
}

func envOf(s settings.Setting) string { return table(new(Config)).Env(s) }

func TestPrintedConfigLoadsAgain(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"defaults": "", "everything set": good} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, from := mustParse(t, content)
			again, _ := mustParse(t, printed(t, c, from))
			if diff := cmp.Diff(withoutSecrets(c), again, plainly); diff != "" {
				t.Errorf("printed and read again (-first +second):\n%s", diff)
			}
		})
	}
}

func TestPrintedConfigSaysWhereValuesCameFrom(t *testing.T) {
	t.Parallel()
	c, from := mustParse(t, "issuer: a\ncookies:\n  secure: false\n", "SESSIONGATE_LOG_LEVEL=warn", "SESSIONGATE_KEY="+testKey,
		"SESSIONGATE_DATABASE_URL=postgres://u:"+testSecret+"@h/d")
	out := printed(t, c, from)
	for _, line := range []string{
		"issuer: \"a\" # test.yaml:1\n",
		"  secure: false # test.yaml:3\n",
		"  level: warn # SESSIONGATE_LOG_LEVEL\n",
		"# key: [redacted] # SESSIONGATE_KEY\n",
		"  url: \"postgres://u@h/d\" # SESSIONGATE_DATABASE_URL, password [redacted]\n",
		"  format: json # default\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("no line %q in:\n%s", line, out)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, from := mustParse(t, "# nothing\n")
	if len(from) != 0 {
		t.Errorf("origins %v of defaults", from)
	}
	packages := defaults()
	own := table(&packages).Settings
	for i, s := range table(&c).Settings {
		want := strings.Join(own[i].Kind.Texts(), ",")
		if s.Default == want && want != "" {
			t.Errorf("%s: the default %q stands in the table and in its package", s.Key, want)
		}
		if s.Default != "" {
			want = s.Default
		}
		if got := strings.Join(s.Kind.Texts(), ","); got != want {
			t.Errorf("%s: %q, want its default %q in canonical form", s.Key, got, want)
		}
		// What a package's default is, the setting must take.
		if s.Kind.Reset(); s.Kind.Read == nil && want != "" && !s.Kind.List && (!s.Kind.Set(want) || s.Kind.Texts()[0] != want) {
			t.Errorf("%s: refuses its default %q", s.Key, want)
		}
	}
	c, _ = mustParse(t, "")
	if c.Engine.SlidingLife != 30*24*time.Hour || c.HTTP.BodyMax != 65536 || !c.HTTP.Cookies.Secure {
		t.Errorf("defaults read wrong: %+v", c)
	}
}

// Two settings that fill one field, or share a variable, would hide each other.
func TestSettingsAreDistinct(t *testing.T) {
	t.Parallel()
	seen := map[string]string{"SESSIONGATE_CONFIG": "--config"}
	for _, s := range table(new(Config)).Settings {
		if other, ok := seen[envOf(s)]; ok {
			t.Errorf("%s and %s share %s", s.Key, other, envOf(s))
		}
		seen[envOf(s)] = s.Key
		if table(new(Config)).IsServiceLink(envOf(s)) {
			t.Errorf("%s is taken for a variable of Kubernetes", envOf(s))
		}
	}
	c, _ := mustParse(t, good)
	if zero := (Config{}); cmp.Equal(c, zero, plainly) {
		t.Fatal("nothing was read")
	}
	defaults, _ := mustParse(t, "")
	want, got := table(&defaults).Settings, table(&c).Settings
	for i, s := range got {
		unset := []string{"key_file", "key_previous_file", "database.password_file", "cookies.host_prefix", "cookies.secure", "binding.mode"} // exclude others
		if slices.Equal(s.Kind.Texts(), want[i].Kind.Texts()) && !slices.Contains(unset, s.Key) {
			t.Errorf("%s: good leaves the default %v, or nothing reads it", s.Key, s.Kind.Texts())
		}
	}
}

// What the file says of cookies is what clients get.
func TestCookieSettings(t *testing.T) {
	t.Parallel()
	c, _ := mustParse(t, good)
	want := browser.Cookies{
		AccessName: "at", RefreshName: "rt", Domain: "example.com", SameSite: http.SameSiteNoneMode, Secure: true, Partitioned: true,
		AuthPath: "/session", FrontendDomain: "web.example", FormerPaths: []string{"/", "/api"},
	}
	if diff := cmp.Diff(want, c.HTTP.Cookies); diff != "" {
		t.Errorf("cookies (-want +got):\n%s", diff)
	}
	c.HTTP.Cookies.HostPrefix = true
	if !c.HTTP.Cookies.HostPrefix {
		t.Error("host_prefix is lost")
	}
}

func TestEnvironmentWins(t *testing.T) {
	t.Parallel()
	c, from := mustParse(t, good,
		"SESSIONGATE_ISSUER=env", "SESSIONGATE_ALLOWED_ORIGINS=https://a.example,https://b.example", "SESSIONGATE_COOKIES_FORMER_PATHS=",
		"SESSIONGATE_COOKIES_DOMAIN=", "SESSIONGATE_SESSION_ACCESS_TOKEN_LIFE=20m", "SESSIONGATE_CONFIG=/elsewhere", "PATH=/bin", "SESSIONGATED=1")
	if c.Engine.Issuer != "env" || c.HTTP.Cookies.Domain != "" || c.Engine.AccessTokenLife != 20*time.Minute {
		t.Errorf("the file won: %+v", c)
	}
	if diff := cmp.Diff([]string{"https://a.example", "https://b.example"}, c.HTTP.AllowedOrigins); diff != "" {
		t.Errorf("allowed_origins: %s", diff)
	}
	if c.HTTP.Cookies.FormerPaths != nil {
		t.Errorf("an empty variable left %v", c.HTTP.Cookies.FormerPaths)
	}
	if got := from["issuer"].String(); got != "SESSIONGATE_ISSUER" {
		t.Errorf("origin %q", got)
	}
}

func TestKubernetesServiceLinksAreNoFault(t *testing.T) {
	t.Parallel()
	mustParse(t, "", "SESSIONGATE_SERVICE_HOST=10.0.0.1", "SESSIONGATE_SERVICE_PORT=1", "SESSIONGATE_SERVICE_PORT_HTTP=1", "SESSIONGATE_PORT=tcp://x",
		"SESSIONGATE_PORT_9001_TCP=x", "SESSIONGATE_PORT_9001_TCP_ADDR=x", "SESSIONGATE_INTERNAL_SERVICE_HOST=x", "SESSIONGATE_INTERNAL_PORT_9003_TCP_PROTO=tcp")
}

func TestFaultsOfTheFileItself(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, content string
		want          []string // one per fault, in order
	}{
		{"unknown key", "isuer: x\n", []string{"test.yaml:1: found the unknown key isuer (did you mean issuer?); allowed: key, key_file"}},
		{"unknown key in section", "log:\n  levvel: info\n", []string{"test.yaml:2: log: found the unknown key levvel (did you mean level?); allowed: level, format"}},
		{"key of another section", "log:\n  issuer_x: 1\nlevel: info\n", []string{"test.yaml:2: log: found the unknown key issuer_x;", "test.yaml:3: found the unknown key level (did you mean log.level?)"}},
		{"dotted key", "log.level: info\n", []string{"test.yaml:1: found the unknown key log.level (did you mean level in the mapping log?)"}},
		{"unknown section", "loggg:\n  level: info\n", []string{"(did you mean log?)"}},
		{"secret as key", testSecret + ": x\n", []string{"test.yaml:1: found an unknown key (not shown)"}},
		{"duplicate key", "issuer: a\nlog: {}\nissuer: b\n", []string{"test.yaml:3: issuer: found a second value (the first is in line 1); allowed: one value"}},
		{"duplicate section", "log:\n  level: info\nlog:\n  format: text\n", []string{"test.yaml:3: log: found a second value (the first is in line 1)"}},
		{"second document", "issuer: a\n---\nissuer: b\n", []string{"found a second document; allowed: one document"}},
		{"second document broken", "issuer: a\n---\n[\n", []string{"found broken YAML"}},
		{"alias", "issuer: &a x\nlogin_url: *a\n", []string{"test.yaml:1: issuer: found an anchor", "test.yaml:2: login_url: found an alias"}},
		{"alias of nothing", "key: *" + testSecret + "\n", []string{"found an alias"}},
		{"merge key", "<<: {issuer: x}\n", []string{"test.yaml:1: found a merge key"}},
		{"key that is no text", "1: x\nlog: {true: x, ~: y, [a]: z}\n", []string{"test.yaml:1: found a key that is no text", "test.yaml:2: log: found a key that is no text", "test.yaml:2: log: found a key that is no text", "test.yaml:2: log: found a key that is no text"}},
		{"tag", "issuer: !!str 5\nlog: !x {}\n", []string{"test.yaml:1: issuer: found a tag", "test.yaml:2: log: found a tag"}},
		{"tag that does not fit", "key: !!int " + testSecret + "\n", []string{"found a tag"}},
		{"list instead of mapping", "- issuer\n", []string{"test.yaml:1: found a list; allowed: a mapping of key,"}},
		{"text instead of mapping", testSecret, []string{"test.yaml:1: found a text (not shown)"}},
		{"section without keys", "log:\n", []string{"test.yaml:1: log: found nothing; allowed: a mapping of level, format"}},
		{"section that is a text", "log: " + testSecret + "\n", []string{"test.yaml:1: log: found a text (not shown)"}},
		{"broken", "issuer: [\n", []string{"found broken YAML"}},
		{"control character", "issuer: \x01\n", []string{"found broken YAML"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := parse("test.yaml", []byte(test.content), nil)
			all := faultsOf(t, err)
			if len(all) != len(test.want) {
				t.Fatalf("%d faults, want %d:\n%v", len(all), len(test.want), err)
			}
			for i, want := range test.want {
				if got := all[i].Error(); !strings.Contains(got, want) || !strings.HasPrefix(got, "test.yaml:") {
					t.Errorf("fault %q, want %q in it", got, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error shows a secret: %v", err)
			}
		})
	}
}

func TestUnknownEnvironmentVariable(t *testing.T) {
	t.Parallel()
	_, _, err := parse("", nil, []string{"SESSIONGATE_LOG_LEVVEL=" + testSecret})
	want := "SESSIONGATE_LOG_LEVVEL: found an unknown variable (did you mean SESSIONGATE_LOG_LEVEL?); allowed: the variables that `sessiongate config --reference` lists"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	content := `issuer: 5
nonsense: 1
session:
  access_token_life: 5
  sliding_life: 1h
  absolute_life: 30m
cookies:
  secure: false
  same_site: none
  host_prefix: true
  partitioned: true
  domain: example.com
paths: {auth: /a}
key: short
allowed_origins: [x, https://ok.example, y]
`
	_, _, err := parse("test.yaml", []byte(content), []string{"SESSIONGATE_X=1", "SESSIONGATE_LOG_LEVEL=loud"})
	all := faultsOf(t, err)
	got := make([]string, len(all))
	for i, f := range all {
		got[i] = strings.TrimSpace(f.At.String() + " " + f.Key)
	}
	want := []string{
		"test.yaml:1 issuer",
		"test.yaml:2",
		"test.yaml:4 session.access_token_life",
		"test.yaml:6 session.absolute_life",
		"test.yaml:9 cookies.same_site",
		"test.yaml:10 cookies.host_prefix",
		"test.yaml:10 cookies.host_prefix",
		"test.yaml:11 cookies.partitioned",
		"test.yaml:13 paths.refresh",
		"test.yaml:13 paths.signout",
		"test.yaml:14 key",
		"test.yaml:15 allowed_origins",
		"test.yaml:15 allowed_origins",
		"SESSIONGATE_LOG_LEVEL log.level",
		"SESSIONGATE_X",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s\n%v", diff, err)
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != len(want) {
		t.Errorf("%d lines for %d faults", lines, len(want))
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ content, key string }{
		{"session: {access_token_life: 19s}", "session.access_token_life"},
		{"session: {refresh_attempt_max: 1m, access_token_life: 119s}", "session.access_token_life"},
		{"session: {sliding_life: 2h9s}", "session.sliding_life"},
		{"session: {absolute_life: 29d}", "session.absolute_life"},
		{"cookies: {host_prefix: true, secure: false}", "cookies.host_prefix"},
		{"cookies: {host_prefix: true, domain: example.com}", "cookies.host_prefix"},
		{"cookies: {same_site: none, secure: false}", "cookies.same_site"},
		{"cookies: {partitioned: true}", "cookies.partitioned"},
		{"cookies: {partitioned: true, same_site: strict}", "cookies.partitioned"},
		{"cookies: {access_name: x, refresh_name: X}", "cookies.access_name"},
		{"cookies: {former_paths: [/auth]}", "cookies.former_paths"},
		{"paths: {refresh: /authors/refresh}", "paths.refresh"},
		{"paths: {auth: /refresh, refresh: /refresh, signout: /refresh/end}", "paths.refresh"}, // serve would refuse it
		{"paths: {signout: /signout}", "paths.signout"},
		{"paths: {signout: /auth/session/refresh}", "paths.refresh"},
		{"paths: {bind: /bind}", "paths.bind"},
		{"paths: {bound: /authors/bound}", "paths.bound"},
		{"paths: {bind: /auth/key, bound: /auth/key}", "paths.bind"},
		{"paths: {bind: /auth/session/bound}", "paths.bind"},
		{"paths: {bind: /auth/session/refresh}", "paths.bind"},
		{"paths: {bind: /auth/signout}", "paths.bind"},
		{"paths: {bound: /auth/session/refresh}", "paths.bound"},
		{"paths: {bound: /auth/signout}", "paths.bound"},
		{"own_sessions: {enabled: true}\npaths: {bound: /auth/sessions}", "paths.bound"},
		{"binding: {cookie_name: saccesstoken}", "binding.cookie_name"},
		{"binding: {cookie_name: sRefreshToken}", "binding.cookie_name"},
		{"binding: {cookie_name: at}\ncookies: {access_name: atwait}", "binding.cookie_name"},
		{"binding: {exclude: [/assets, /auth]}", "binding.exclude"},
		{"binding: {exclude: [/]}", "binding.exclude"},
		{"binding: {exclude: [/auth/session/refresh]}", "binding.exclude"},
		{"binding: {exclude: [/auth/signout]}", "binding.exclude"},
		{"binding: {mode: offer}\ncookies: {domain: example.com}", "binding.mode"},
		{"binding: {mode: offer}\ncookies: {same_site: none}", "binding.mode"},
		{"binding: {mode: offer, access_token_life: 1h1s}", "binding.access_token_life"},
		{"binding: {challenge_life: 19s}\nsession: {refresh_attempt_max: 20s}", "binding.challenge_life"},
		{"login_url: /auth/login?x", "login_url"},
		{"responses: {session_expired_status: 409}", "responses.session_expired_status"},
		{"feed: {poll_interval: 501ms}", "feed.bound"},
		{"promotion: {queue: 255}", "promotion.queue"},
		{"key: " + testKey + "\nkey_file: /key", "key"},
		{"key_previous: " + testKey + "\nkey_previous_file: /key", "key_previous"},
		{"database: {url: 'postgres://u:" + testSecret + "@h/d', password_file: /p}", "database.password_file"},
		{"api: {keys: ['a:" + testSecret + "'], key_files: ['a:/f']}", "api.keys"},
		{"api: {key_files: ['a:/f', 'a:/g']}", "api.keys"},
		{"api: {key_files: ['a:/f'], key_hashes: ['a:" + testDigest + "']}", "api.keys"},
		{"api: {key_files: ['a:/f'], scopes: ['a:create', 'a:read']}", "api.scopes"},
		{"listen: {public: '127.0.0.1:9001'}", "listen.public"},
		{"listen: {internal: '127.0.0.1:9002'}", "listen.internal"},
		{"profiling: {listen: '127.0.0.1:9003'}", "profiling.listen"},
	} {
		_, _, err := parse("test.yaml", []byte(test.content), nil)
		all := faultsOf(t, err)
		if len(all) != 1 || all[0].Key != test.key || all[0].At.Line == 0 {
			t.Errorf("%s: faults\n%v\nwant one at %s with its line", test.content, err, test.key)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), testKey)) {
			t.Errorf("error shows a secret: %v", err)
		}
	}
	for _, content := range []string{
		"session: {access_token_life: 20s}",
		"session: {sliding_life: 2h10s}",
		"session: {absolute_life: 30d}",
		"login_url: https://login.example/auth/x",
		"cookies: {host_prefix: true}",
		"binding: {mode: offer}\ncookies: {same_site: strict, host_prefix: true}",
		"binding: {mode: offer, access_token_life: 1h}",
		"binding: {access_token_life: 1h1s}", // nothing is offered
		"binding: {mode: off}\ncookies: {domain: example.com, same_site: none}",
		"cookies: {partitioned: true, same_site: none, domain: example.com}",
		"cookies: {partitioned: true, same_site: none, host_prefix: true}",
		"api: {key_files: ['a:/f'], key_hashes: ['b:" + testDigest + "'], scopes: ['a:create', 'b:revoke+read']}",
		"listen: {authz: '127.0.0.1:0', public: '127.0.0.1:0', internal: '127.0.0.1:0'}",
	} {
		mustParse(t, content)
	}
}

// A URL may name several hosts; what is printed of it has them all, and no password.
func TestDatabaseOfSeveralHosts(t *testing.T) {
	for _, hosts := range []string{"a:5432,b:5433", "a,b", "a:5432,b", "[::1]:5432,[::2]:5432,c", "10.0.0.1,10.0.0.2:6432"} {
		c, _ := mustParse(t, "database: {url: 'postgres://u:"+testSecret+"@"+hosts+"/d?target_session_attrs=read-write'}")
		if got, want := withoutPassword(string(c.Database.URL)), "postgres://u@"+hosts+"/d?target_session_attrs=read-write"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestLoadFindsTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	flag, env := write("flag.yaml", "issuer: flag\n"), write("env.yaml", "issuer: env\n")
	long := write("long.yaml", "#"+strings.Repeat("x", settings.MaxFile))

	for _, test := range []struct {
		file    string
		environ []string
		want    string
	}{
		{"", nil, "sessiongate"},
		{"", []string{"SESSIONGATE_CONFIG" + "=" + env}, "env"},
		{flag, []string{"SESSIONGATE_CONFIG" + "=" + env}, "flag"},
	} {
		if c, _, err := load(test.file, test.environ); err != nil || c.Engine.Issuer != test.want {
			t.Errorf("load(%q, %q): issuer %q, %v, want %q", test.file, test.environ, c.Engine.Issuer, err, test.want)
		}
	}
	for _, file := range []string{filepath.Join(dir, "missing"), dir, long} {
		if _, _, err := load(file, nil); len(faultsOf(t, err)) != 1 || !strings.Contains(err.Error(), file) {
			t.Errorf("load(%q): %v, want one fault that names it", file, err)
		}
		// What the command needs may stand in the file, or in the environment.
		if _, _, err := load("", []string{"SESSIONGATE_CONFIG=" + file, "SESSIONGATE_KEY=" + testKey}, forServe); len(faultsOf(t, err)) != 1 || !strings.Contains(err.Error(), file) {
			t.Errorf("load for serve, SESSIONGATE_CONFIG=%q: %v, want one fault that names it", file, err)
		}
	}
}

// FuzzConfig: no input panics, and what is taken means the same when printed.
func FuzzConfig(f *testing.F) {
	f.Add(good, "", "")
	f.Add("", "LOG_LEVEL", "warn")
	f.Add("key: !!int x\n", "DATABASE_URL", "postgres://u:p@h/d?a=b")
	f.Add("a: &a [*a]\n", "ALLOWED_ORIGINS", "https://a.example,http://b.example:1")
	f.Add("paths: {auth: /a", "LOGIN_URL", "/x?y=%20")
	f.Add("key_file: \"/\\u200b\"\n---\n", "KEY_FILE", "/ü\u2028")
	for key, values := range badValues {
		for _, v := range values {
			content, _ := nested(key, v)
			f.Add(content, "", "")
		}
	}
	f.Fuzz(func(t *testing.T, content, name, value string) {
		var environ []string
		if name != "" {
			environ = []string{"SESSIONGATE_" + name + "=" + value}
		}
		c, from, err := parse("fuzz.yaml", []byte(content), environ)
		if err != nil {
			if len(faultsOf(t, err)) == 0 {
				t.Fatal("an error without a fault")
			}
			return
		}
		out := printed(t, c, from)
		again, _, err := parse("printed.yaml", []byte(out), nil)
		if err != nil {
			t.Fatalf("printed configuration refused: %v\n%s", err, out)
		}
		if diff := cmp.Diff(withoutSecrets(c), again, plainly); diff != "" {
			t.Fatalf("printed and read again (-first +second):\n%s\n%s", diff, out)
		}
	})
}

// What a command needs is named together with what is wrong, and each once.
func TestNeedsAreNamedWithFaults(t *testing.T) {
	t.Parallel()
	_, _, err := load("", []string{"SESSIONGATE_ANTI_CSRF=foo", "SESSIONGATE_KEY=short"}, forServe)
	var all settings.Faults
	if !errors.As(err, &all) || len(all) != 3 {
		t.Fatalf("want three faults:\n%v", err)
	}
	for _, key := range []string{"anti_csrf", "database.url", "key"} {
		if !slices.ContainsFunc(all, func(f settings.Fault) bool { return f.Key == key }) {
			t.Errorf("nothing is said of %s:\n%v", key, err)
		}
	}
}
