package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// A setting is one line of the table below.
type setting struct {
	key    string // dotted, as it nests in the file
	def    string // what the environment variable would say; "" for none
	doc    string // one sentence, with the unit
	secret bool   // its value appears in no output
	kind   kind
	public func() string // the part of a secret that may appear; nil for none
}

// settings is the one table from which the file, the environment, faults, the
// printed configuration and the reference page are made. Its kinds fill c.
func settings(c *Config) []setting {
	day := 24 * time.Hour
	all := []setting{
		{
			key: "key", secret: true, kind: optional(text(&c.Key, allowedKey, isKey)),
			doc: "Key-encryption key, which wraps the signing and sealing keys in the database; the same on every replica. `sessiongate keys new` makes one.",
		},
		{
			key: "key_file", kind: optional(text(&c.KeyFile, "an absolute path", isAbsoluteFile)),
			doc: "File that holds the key-encryption key, instead of `key`.",
		},
		{
			key: "key_previous", secret: true, kind: optional(text(&c.KeyPrevious, allowedKey, isKey)),
			doc: "The key-encryption key whose place `key` takes, until `sessiongate keys rewrap` has run: what either wrapped opens.",
		},
		{
			key: "key_previous_file", kind: optional(text(&c.KeyPreviousFile, "an absolute path", isAbsoluteFile)),
			doc: "File that holds it, instead of `key_previous`.",
		},
		{
			key: "issuer", def: "sessiongate", kind: text(&c.Issuer, "1 to 128 visible ASCII characters", func(s string) bool { return s != "" && len(s) <= 128 && isVisible(s) }),
			doc: "The `iss` of access tokens; a change sends every access token to refresh.",
		},
		{
			key: "login_url", def: "/login", kind: text(&c.LoginURL, "a path on the same host, or an absolute http or https URL, without a fragment", isLoginURL),
			doc: "The page to which whoever is not signed in is redirected.",
		},
		{
			key: "anti_csrf", def: "attested", kind: oneOf(&c.AntiCSRF, authz.AntiCSRFModes()...),
			doc: "Which requests must carry the anti-CSRF token where their route does not say: those for which no browser attests that no other site sent them; all that can carry it; as the first, but for those with a safe method; or none. See [initiator.md](initiator.md).",
		},
		{
			key: "allowed_origins", kind: list(&c.AllowedOrigins, "origins SCHEME://HOST[:PORT], lower case, without a default port, a path or *", isOrigin),
			doc: "Other origins whose pages may send requests as the signed-in user: call, refresh, sign out, open WebSockets and event streams, and hold pages in a frame.",
		},
		{
			key: "strip_cookies", def: "false", kind: boolean(&c.StripCookies),
			doc: "Takes the session's tokens, cookies and bearer token, out of what goes to the upstream. What web SDKs copy of tokens into cookies of their own is taken out in any case.",
		},
		{
			key: "routes", kind: routes(&c.Routes),
			doc: "Policies for hosts, paths and methods, where Envoy's routes cannot carry `context_extensions`: see [below](#routes).",
		},

		{
			key: "listen.authz", def: "127.0.0.1:9001", kind: tcpOrUnixAddress(&c.Listen.Authz),
			doc: "Where Envoy asks about requests (gRPC ext_authz). Only Envoy may reach it.",
		},
		{
			key: "listen.public", def: "127.0.0.1:9002", kind: tcpAddress(&c.Listen.Public),
			doc: "Where Envoy sends the auth path: refresh, sign-out, JWKS (HTTP).",
		},
		{
			key: "listen.internal", def: "127.0.0.1:9003", kind: tcpAddress(&c.Listen.Internal),
			doc: "Where backends create and end sessions, and where health and metrics are (HTTP). Never route it to the outside.",
		},
		{
			key: "listen.address_file", kind: optional(text(&c.Listen.AddressFile, "an absolute path", isAbsoluteFile)),
			doc: "File into which the process writes its real addresses as JSON once it is ready; of use with port 0.",
		},
		{
			key: "listen.max_connections", def: "10000", kind: integer(&c.Listen.MaxConnections, 16, 1_000_000),
			doc: "Most connections open at once on each listener. One more takes the place of the one that has had nothing under way for longest, or waits until there is one. It keeps a flood of one listener from the others.",
		},
	}
	all = append(all, tlsSettings("authz", &c.TLS.Authz, &c.TLS.Names.Authz, "Envoy", "nothing")...)
	all = append(all, tlsSettings("public", &c.TLS.Public, &c.TLS.Names.Public, "Envoy", "nothing")...)
	all = append(all, tlsSettings("internal", &c.TLS.Internal, &c.TLS.Names.Internal, "backends", "`/healthz` and `/readyz` only, which probes ask without one")...)
	return append(all, []setting{
		{
			key: "database.url", secret: true, kind: optional(text(&c.Database.URL, allowedDatabaseURL, isDatabaseURL)),
			public: func() string { return withoutPassword(string(c.Database.URL)) },
			doc:    "The Postgres database of the sessions; the password in it is a secret. Of several hosts, or addresses of one name, the primary is used.",
		},
		{
			key: "database.password_file", kind: optional(text(&c.Database.PasswordFile, "an absolute path", isAbsoluteFile)),
			doc: "File that holds the database password, instead of one in `database.url`.",
		},
		{
			key: "database.max_connections", def: "10", kind: integer(&c.Database.MaxConnections, 2, 1000),
			doc: "Most connections that this process opens to the database, beside the one that follows the feed.",
		},
		{
			key: "database.statement_timeout", def: "5s", kind: duration(&c.Database.StatementTimeout, 100*time.Millisecond, time.Minute),
			doc: "Longest that one statement may take.",
		},
		{
			key: "database.connect_timeout", def: "3s", kind: duration(&c.Database.ConnectTimeout, 100*time.Millisecond, time.Minute),
			doc: "Longest that opening a connection to one host may take; half of it where that host says nothing at all.",
		},
		{
			key: "database.migrate", def: "true", kind: boolean(&c.Database.Migrate),
			doc: "Whether `serve` brings the schema up to date at its start; otherwise `sessiongate migrate` must have.",
		},

		{
			key: "session.access_token_life", def: "1h", kind: duration(&c.Session.AccessTokenLife, 2*time.Second, day),
			doc: "How long an access token is good; what a stolen one is worth at most. At least twice `session.refresh_attempt_max`.",
		},
		{
			key: "session.sliding_life", def: "30d", kind: duration(&c.Session.SlidingLife, 5*time.Second, 400*day),
			doc: "How long a session lives without a refresh. At least twice `session.access_token_life` plus `session.refresh_attempt_max`.",
		},
		{
			key: "session.absolute_life", def: "100d", kind: duration(&c.Session.AbsoluteLife, 5*time.Second, sessions.AbsoluteLifeMax),
			doc: "How long a session lives at most, whatever happens. At least `session.sliding_life`; browsers keep no cookie beyond 400 days.",
		},
		{
			key: "session.refresh_attempt_max", def: "10s", kind: duration(&c.Session.RefreshAttemptMax, time.Second, time.Minute),
			doc: "D of the protocol: longest that an honest refresh may take, from the browser and back. Envoy's timeout on the auth path must be half of it.",
		},
		{
			key: "session.issues_max", def: "20", kind: integer(&c.Session.IssuesMax, 5, 1000),
			doc: "How often one generation of a session's refresh token may be issued unused before the session ends as abused.",
		},
		{
			key: "session.max_per_user", def: "0", kind: integer(&c.Session.MaxPerUser, 0, 10_000),
			doc: "How many sessions one user may have at once, over all replicas, which must agree; 0 is no limit. What has expired does not count.",
		},
		{
			key: "session.when_full", def: "evict_oldest", kind: oneOf(&c.Session.WhenFull, "evict_oldest", "reject"),
			doc: "What a sign-in beyond `session.max_per_user` does: it ends the user's oldest sessions, or is refused with 409.",
		},

		{
			key: "refresh.per_session_rate", def: "10", kind: integer(&c.Refresh.PerSessionRate, 0, 1000),
			doc: "How many refreshes a second a session gets here in the long run; 0 is no limit. Each refresh token is counted by itself. What comes too soon is answered 429 with `Retry-After`, and changes nothing.",
		},
		{
			key: "refresh.per_session_burst", def: "2000", kind: integer(&c.Refresh.PerSessionBurst, 10, 100_000),
			doc: "How many of them may come at once, as from many tabs.",
		},
		{
			key: "refresh.per_address_rate", def: "200", kind: integer(&c.Refresh.PerAddressRate, 0, 1_000_000),
			doc: "How many refreshes a second a network of clients (/24, or /64 in IPv6) gets here in the long run, whatever tokens it brings; 0 is no limit. Where Envoy reports no address, there is none.",
		},
		{
			key: "refresh.per_address_burst", def: "10000", kind: integer(&c.Refresh.PerAddressBurst, 10, 1_000_000),
			doc: "How many of them may come at once, as from a company whose people share an address.",
		},

		{
			// Not below the longest life of an access token and four of the longest
			// delay; then no rule has to join these settings.
			key: "keys.rotate_every", def: "30d", kind: duration(&c.Keys.RotateEvery, day, 400*day),
			doc: "Age at which the signing key and the sealing key get a successor.",
		},
		{
			key: "keys.activation_delay", def: "10m", kind: duration(&c.Keys.ActivationDelay, sessionhttp.JWKSMaxAge+time.Minute, 6*time.Hour),
			doc: "How long a new key is published before it signs or seals. By then every replica has heard of it (`feed.bound`), and whoever keeps the JWK Set as long as it allows (5m) has read it again.",
		},

		{
			key: "cookies.access_name", def: "sAccessToken", kind: text(&c.Cookies.AccessName, allowedCookieName, isCookieName),
			doc: "Name of the access token's cookie.",
		},
		{
			key: "cookies.refresh_name", def: "sRefreshToken", kind: text(&c.Cookies.RefreshName, allowedCookieName, isCookieName),
			doc: "Name of the refresh token's cookie.",
		},
		{
			key: "cookies.domain", kind: optional(text(&c.Cookies.Domain, "a domain name in lower case, without a leading dot", isCookieDomain)),
			doc: "Domain of the cookies; empty keeps them to the one host, which is safer.",
		},
		{
			key: "cookies.same_site", def: "lax", kind: oneOf(&c.Cookies.SameSite, "lax", "strict", "none"),
			doc: "SameSite of the cookies; none requires `cookies.secure`.",
		},
		{
			key: "cookies.secure", def: "true", kind: boolean(&c.Cookies.Secure),
			doc: "Whether browsers send the cookies over TLS only; false is for development.",
		},
		{
			key: "cookies.host_prefix", def: "false", kind: boolean(&c.Cookies.HostPrefix),
			doc: "Puts `__Host-` before the name of cookies with Path=/, so that no sibling host can set them; requires `cookies.secure` and no `cookies.domain`. Recommended wherever there is TLS.",
		},
		{
			key: "cookies.partitioned", def: "false", kind: boolean(&c.Cookies.Partitioned),
			doc: "Marks the cookies `Partitioned` (CHIPS), for an app in a frame of another site's page: a browser that sends no third-party cookies sends these, and each site that frames the app has sessions of its own. Requires `cookies.secure` and `cookies.same_site: none`; `cookies.domain` and `cookies.host_prefix` go with it. Where SameSite is none, cookies of the other kind are deleted.",
		},
		{
			key: "cookies.frontend_domain", kind: optional(text(&c.Cookies.FrontendDomain, "a domain name in lower case, without a leading dot", isCookieDomain)),
			doc: "Where a web SDK keeps the cookies that scripts read: its websiteRootDomain or sessionTokenFrontendDomain, without a leading dot. For `sdk_cookies` of the sessions API; empty is the host, as by the SDKs' default.",
		},
		{
			key: "cookies.former_paths", kind: list(&c.Cookies.FormerPaths, "paths, each "+allowedPath, isPath),
			doc: "Paths at which an earlier system set cookies of these names; they are deleted there.",
		},

		{
			key: "paths.auth", def: "/auth", kind: text(&c.Paths.Auth, allowedPath+", other than /", func(s string) bool { return s != "/" && isPath(s) }),
			doc: "The path that belongs to sessiongate whole; the Path of the refresh token's cookie.",
		},
		{
			key: "paths.refresh", def: "/auth/session/refresh", kind: text(&c.Paths.Refresh, allowedPath+", under paths.auth", isPath),
			doc: "Where clients refresh (POST).",
		},
		{
			key: "paths.signout", def: "/auth/signout", kind: text(&c.Paths.Signout, allowedPath+", under paths.auth", isPath),
			doc: "Where clients sign out (POST).",
		},

		{
			key: "responses.session_expired_status", def: "440", kind: integer(&c.Responses.SessionExpiredStatus, 400, 499),
			doc: "HTTP status that asks the client to refresh; older frontends know 401. Not 403, 404, 405, 409, 413 or 429.",
		},
		{
			key: "responses.on_unauthorised", def: "redirect", kind: oneOf(&c.Responses.OnUnauthorised, authz.OnUnauthorisedNames()...),
			doc: "Answer to whoever is not signed in where the route does not say: to the login page, 401 for scripts only, a fixed status, or (440) `responses.session_expired_status`.",
		},

		{
			key: "responses.denial_header", def: "false", kind: boolean(&c.Responses.DenialHeader),
			doc: "Whether the response header `x-sessiongate-denial` tells clients why they were denied, by the codes of [denials.md](denials.md); for development.",
		},

		{
			key: "api.keys", secret: true, kind: list(&c.API.Keys, "NAME:SECRET, the name 1 to 64 of a-z, 0-9, - and _, the secret "+allowedAPISecret, isAPIKey),
			doc: "Callers of the sessions API and their secrets.",
		},
		{
			key: "api.key_files", kind: list(&c.API.KeyFiles, "NAME:/PATH, the name 1 to 64 of a-z, 0-9, - and _, the path absolute", isAPIKeyFile),
			doc: "Callers of the sessions API and the files that hold their secrets.",
		},
		{
			// Secret, for somebody may put a key there instead of its digest.
			key: "api.key_hashes", secret: true, kind: list(&c.API.KeyHashes, "NAME:SHA256, the name 1 to 64 of a-z, 0-9, - and _, the SHA-256 of the secret in 64 lower-case hexadecimal digits", isAPIKeyHash),
			doc: "Callers of the sessions API and the SHA-256 of their secrets, so that this process is given none: `sessiongate keys digest FILE` prints it. Only for random secrets, as `sessiongate keys new` makes them.",
		},
		{
			key: "api.scopes", kind: list(&c.API.Scopes, "NAME:SCOPE+SCOPE..., a caller's name and what it may do: "+sessionhttp.ScopeNames(), isAPIScopes),
			doc: "What a caller of the sessions API may do; one that is not named here may do everything.",
		},
		{
			key: "api.body_max", def: "64KiB", kind: size(&c.API.BodyMax, 4<<10, 16<<20),
			doc: "Largest request body of the sessions API.",
		},

		{
			key: "feed.poll_interval", def: "200ms", kind: duration(&c.Feed.PollInterval, 50*time.Millisecond, time.Second),
			doc: "How often ended sessions are read from the database.",
		},
		{
			key: "feed.bound", def: "1s", kind: duration(&c.Feed.Bound, 100*time.Millisecond, 10*time.Second),
			doc: "Age from which the feed counts as stale: then a token of an unknown key is answered 503, and no verdict. At least twice `feed.poll_interval`.",
		},

		{
			key: "promotion.queue", def: "4096", kind: integer(&c.Promotion.Queue, 1, 1_000_000),
			doc: "Promotions that may wait; more are dropped, which costs a later refresh one more statement. At least `promotion.batch`.",
		},
		{
			key: "promotion.batch", def: "256", kind: integer(&c.Promotion.Batch, 1, 10_000),
			doc: "Most promotions in one transaction.",
		},

		{
			key: "cache.tokens", def: "100000", kind: integer(&c.Cache.Tokens, 1, 10_000_000),
			doc: "Verified access tokens kept in memory, each with what Envoy is told of its session: some 1.6 KiB with small claims, so 100000 take 160 MiB. The signature of one that is not there is checked again.",
		},
		{
			key: "cache.unverified_cpu", def: "5", kind: integer(&c.Cache.UnverifiedCPU, 1, 100),
			doc: "Percent of all cores that bad signatures of access tokens without a tag may take: invented ones, and those of a former version wait with them. Beyond it such tokens are answered with 503; all others are not concerned.",
		},

		{
			key: "sweep.interval", def: "1m", kind: duration(&c.Sweep.Interval, time.Second, day),
			doc: "How often expired rows are deleted.",
		},
		{
			key: "sweep.batch", def: "500", kind: integer(&c.Sweep.Batch, 1, 10_000),
			doc: "Most rows deleted in one statement.",
		},

		{
			key: "http.header_max", def: "64KiB", kind: size(&c.HTTP.HeaderMax, 4<<10, 1<<20),
			doc: "Largest request header of the public and internal listeners.",
		},
		{
			key: "http.read_timeout", def: "10s", kind: duration(&c.HTTP.ReadTimeout, 100*time.Millisecond, 5*time.Minute),
			doc: "Longest that reading one request may take.",
		},
		{
			key: "http.idle_timeout", def: "1h15m", kind: duration(&c.HTTP.IdleTimeout, time.Second, day),
			doc: "How long an idle connection stays open; longer than Envoy's upstream idle timeout (1h unless set), lest Envoy write to a connection that just closed.",
		},

		{
			key: "grpc.max_message", def: "256KiB", kind: size(&c.GRPC.MaxMessage, 64<<10, 16<<20),
			doc: "Largest message that Envoy may send; more than Envoy's own limit on headers.",
		},
		{
			key: "grpc.max_streams", def: "1000", kind: integer(&c.GRPC.MaxStreams, 1, 1_000_000),
			doc: "Most checks at once on one connection.",
		},
		{
			key: "grpc.max_calls", def: "8192", kind: integer(&c.GRPC.MaxCalls, 32, 1_000_000),
			doc: "Most checks at once over all connections, some 14 KiB each; beyond it a connection may have 32. It keeps a flood on many connections from taking the memory.",
		},
		{
			key: "grpc.connection_age", def: "5m", kind: duration(&c.GRPC.ConnectionAge, time.Second, day),
			doc: "Age at which a connection is closed gently, so that load spreads over new replicas.",
		},
		{
			key: "grpc.connection_age_grace", def: "1m", kind: duration(&c.GRPC.ConnectionAgeGrace, time.Second, time.Hour),
			doc: "How long the checks of such a connection may still take.",
		},

		{
			key: "memory.limit_percent", def: "90", kind: integer(&c.Memory.LimitPercent, 0, 100),
			doc: "Share of the container's memory limit (its cgroup's) from which on garbage is collected ever sooner. The environment variable `GOMEMLIMIT` wins; without a limit of the container, or with 0, there is none.",
		},

		{
			key: "shutdown.drain_delay", def: "2s", kind: duration(&c.Shutdown.DrainDelay, 0, 5*time.Minute),
			doc: "How long a stopping process still accepts work while it says that it is not ready.",
		},
		{
			key: "shutdown.timeout", def: "15s", kind: duration(&c.Shutdown.Timeout, time.Second, 10*time.Minute),
			doc: "How long it then waits for what is under way.",
		},
		{
			key: "shutdown.linger", def: "7s", kind: duration(&c.Shutdown.Linger, 0, 5*time.Minute),
			doc: "How long, as a part of `shutdown.timeout`, idle HTTP connections stay open after their listener closed; longer than interval and timeout of Envoy's health check (5s and 1s in envoy.yaml), after which Envoy sends nothing more on them.",
		},

		{
			key: "log.level", def: "info", kind: oneOf(&c.Log.Level, "debug", "info", "warn", "error"),
			doc: "The least important lines that are logged.",
		},
		{
			key: "log.format", def: "json", kind: oneOf(&c.Log.Format, "json", "text"),
			doc: "Form of log lines.",
		},
		{
			key: "log.denials_per_second", def: "50", kind: integer(&c.Log.DenialsPerSecond, 0, 1_000_000),
			doc: "Most lines a second about requests that were denied or refused, of each level and listener; the next line says how many were `withheld`. 0 writes all.",
		},

		{
			key: "audit.output", kind: optional(text(&c.Audit.Output, "stdout, or an absolute path", func(s string) bool { return s == auditStdout || isAbsoluteFile(s) })),
			doc: "Where what happened to sessions and keys is written, as lines of JSON: standard output, or a file that is appended to. None: ends alone are kept, in the database. The same on every replica; each event comes to one of them.",
		},

		{
			key: "profiling.listen", kind: optional(loopbackAddress(&c.Profiling.Listen)),
			doc: "Where profiles of the process are served (`/debug/pprof/`, HTTP). Empty: nowhere. A profile shows memory, so only this machine may ask for one: see [profiling.md](profiling.md).",
		},

		{
			key: "tracing.otlp_endpoint", kind: optional(text(&c.Tracing.OTLPEndpoint, "http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH], lower case, without a user, a query or a fragment", isOTLPEndpoint)),
			doc: "Collector to which spans of refreshes, sign-outs and calls of the sessions API are sent (OTLP over HTTP); `/v1/traces` is appended. Empty: there are no spans. See [profiling.md](profiling.md#traces).",
		},
		{
			key: "tracing.sample_percent", def: "100", kind: integer(&c.Tracing.SamplePercent, 0, 100),
			doc: "How many of a hundred requests that belong to no trace get spans. A request with a `traceparent` gets spans where that says that the trace is sampled, and at no other time.",
		},
	}...)
}

// tlsSettings are those of one listener: whose certificates it asks for, and what
// others get.
func tlsSettings(listener string, files *TLSFiles, names *[]string, clients, others string) []setting {
	file := func(p *string) kind { return optional(text(p, "an absolute path", isAbsoluteFile)) }
	cert, key, clientCA := tlsKeys(listener)
	return []setting{
		{
			key: cert, kind: file(&files.Cert),
			doc: "PEM file of the certificate chain that `listen." + listener + "` shows; TLS 1.2 or newer, and nothing else, is then spoken there. Read again when it changes.",
		},
		{key: key, kind: file(&files.Key), doc: "PEM file of that certificate's private key."},
		{
			key: clientCA, kind: file(&files.ClientCA),
			doc: "PEM file of the authorities whose certificates " + clients + " must show at `listen." + listener + "` (mutual TLS). With it, whoever has no certificate of these gets " + others + ".",
		},
		{
			key: clientNamesKey(listener), kind: list(names, "DNS names in lower case without *, and SPIFFE ids spiffe://TRUST-DOMAIN/PATH", isClientName),
			doc: "Who of those may connect to `listen." + listener + "`: a certificate must have one of these, whole, as a subject alternative name; its common name does not count. Empty: any certificate of `" + clientCA + "`.",
		},
	}
}

const allowedCookieName = "1 to 64 characters of a cookie name, without a $ in front or the prefixes __Host-, __Secure- and __Http-"

func isAPIKey(s string) bool {
	name, secret, ok := strings.Cut(s, ":")
	return ok && isAPIName(name) && isAPISecret(secret)
}

func isAPIKeyFile(s string) bool {
	name, file, ok := strings.Cut(s, ":")
	return ok && isAPIName(name) && isAbsoluteFile(file)
}

func isAPIKeyHash(s string) bool {
	name, digest, ok := strings.Cut(s, ":")
	_, err := sessionhttp.ParseKeyDigest(digest)
	return ok && isAPIName(name) && err == nil
}

func isAPIScopes(s string) bool {
	name, scopes, ok := strings.Cut(s, ":")
	_, err := sessionhttp.ParseScopes(scopes)
	return ok && isAPIName(name) && err == nil
}

func hasPassword(databaseURL string) bool {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return false
	}
	_, has := u.User.Password()
	return has
}

// env is the name of the setting's environment variable.
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// restore puts the default back.
func (s setting) restore() {
	s.kind.reset()
	if s.def != "" {
		s.kind.set(s.def)
	}
}

// shown is the value for a fault's text.
func (s setting) shown() string {
	texts := s.kind.texts()
	if s.secret {
		return "(not shown)"
	}
	if s.kind.list {
		return "[" + strings.Join(texts, ", ") + "]"
	}
	if texts[0] == "" {
		return `""`
	}
	return texts[0]
}

// yaml is the value as YAML; false if it is a secret without public part.
func (s setting) yaml() (string, bool) {
	texts := s.kind.texts()
	if s.secret && strings.Join(texts, "") != "" {
		if s.public == nil {
			return redacted, false
		}
		texts = []string{s.public()}
	}
	if s.kind.tag == tagText {
		for i, t := range texts {
			texts[i] = strconv.Quote(t)
		}
	}
	if s.kind.list {
		return "[" + strings.Join(texts, ", ") + "]", true
	}
	return texts[0], true
}

// writeConfig prints c as YAML that load reads again, each line with the place
// its value came from. Secrets stand in comments, as [redacted].
func writeConfig(w io.Writer, c Config, from origins) error {
	var b strings.Builder
	section := ""
	for _, s := range settings(&c) {
		name, indent := s.key, ""
		if group, rest, nested := strings.Cut(s.key, "."); nested {
			if group != section {
				fmt.Fprintf(&b, "\n%s:\n", group)
				section = group
			}
			name, indent = rest, "  "
		}
		if s.kind.read != nil {
			writeRoutes(&b, s, from)
			continue
		}
		value, ok := s.yaml()
		comment := quoteUnlessPlain(from[s.key].String())
		if !ok {
			indent += "# "
		} else if s.secret && hasPassword(string(c.Database.URL)) && s.public != nil {
			comment += ", password " + redacted
		}
		fmt.Fprintf(&b, "%s%s: %s # %s\n", indent, name, value, comment)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeReference prints the reference page of the settings, in Markdown.
func writeReference(w io.Writer) error {
	var c Config
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Made by "sessiongate config --reference" from the table in cmd/sessiongate/settings.go. -->

One YAML file, named by ` + "`--config`" + ` or ` + "`SESSIONGATE_CONFIG`" + `, and optional; dots nest. Every setting is an environment variable
too, which wins over the file. Whatever is unknown, repeated, of the wrong type or out of range stops the process, with every fault
named at once, and then those of the files that it names. ` + "`sessiongate config`" + ` prints what is in effect and where each value came from.

Durations are whole numbers with units, largest first (` + "`30d`, `1h30m`, `200ms`" + `), sizes likewise (` + "`64KiB`" + `). In the environment a
comma, without spaces, separates the items of a list, and an empty variable is an empty list or text. Aliases, anchors, merge keys and tags are not taken.
`)
	section := "-"
	for _, s := range settings(&c) {
		group, _, nested := strings.Cut(s.key, ".")
		if !nested {
			group = ""
		}
		if group != section {
			section = group
			heading := "`" + group + "`"
			if group == "" {
				heading = "Top level"
			}
			fmt.Fprintf(&b, "\n## %s\n\n| Setting | Default | Allowed | Meaning |\n|---|---|---|---|\n", heading)
		}
		def := "`" + s.def + "`"
		if s.def == "" {
			def = "none"
		}
		doc := s.doc
		if s.secret {
			doc += " **Secret.**"
		}
		cell := strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "~", `\~`, "[", `\[`)
		fmt.Fprintf(&b, "| `%s`<br>`%s` | %s | %s | %s |\n", s.key, s.env(), def, cell.Replace(s.kind.allowed), strings.ReplaceAll(doc, "|", `\|`))
	}
	b.WriteString(routesReference)
	_, err := io.WriteString(w, b.String())
	return err
}
