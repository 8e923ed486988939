package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// whenFileChanges is the reload of settings that name a file which is read again.
const whenFileChanges = "within 5 seconds where the file changes; at the next start where its path does"

// table is the one table from which the file, the environment, faults, the printed
// configuration, the reference page and the JSON Schema are made. Its kinds fill c.
//
// A default that stands here is the process's own, or differs from the package's on purpose.
// All others are what [defaults] took from the packages.
func table(c *Config) *settings.Table {
	return &settings.Table{Prefix: "SESSIONGATE_", Listing: "sessiongate config --reference", Settings: entries(c)}
}

func entries(c *Config) []settings.Setting {
	day := 24 * time.Hour
	all := []settings.Setting{
		{
			Key: "key", Secret: true, Kind: settings.Optional(settings.Text(&c.Key, allowedKey, isKey)),
			Doc: "Key-encryption key. It wraps the signing and sealing keys in the database. It is the same on every replica. `sessiongate keys new` makes one.",
		},
		{
			Key: "key_file", Kind: settings.Optional(settings.Text(&c.KeyFile, "an absolute path", isAbsoluteFile)),
			Doc: "File that holds the key-encryption key, instead of `key`.",
		},
		{
			Key: "key_previous", Secret: true, Kind: settings.Optional(settings.Text(&c.KeyPrevious, allowedKey, isKey)),
			Doc: "The key-encryption key that `key` replaces. Set it until `sessiongate keys rewrap` has run. Keys that either of them wrapped can be opened.",
		},
		{
			Key: "key_previous_file", Kind: settings.Optional(settings.Text(&c.KeyPreviousFile, "an absolute path", isAbsoluteFile)),
			Doc: "File that holds the former key-encryption key, instead of `key_previous`.",
		},
		{
			Key: "issuer", Field: "Issuer", Kind: settings.Text(&c.Engine.Issuer, "1 to 128 visible ASCII characters", func(s string) bool { return s != "" && len(s) <= 128 && isVisible(s) }),
			Doc: "The `iss` of access tokens. After a change every client must refresh once.",
		},
		{
			// authz has no default: only the deployment knows its login page.
			Key: "login_url", Default: "/login", Field: "LoginURL", Kind: settings.Text(&c.Check.LoginURL, "a path on the same host, or an absolute http or https URL, without a fragment", isLoginURL),
			Doc: "The page to which a user without a session is redirected.",
		},
		{
			// authz's zero value is the strictest. It would refuse every page that does not send the
			// token; attested is as safe where browsers attest, and needs no change of the pages.
			Key: "anti_csrf", Default: "attested", Kind: enumerated(&c.Check.Default.AntiCSRF, authz.AntiCSRFModes()),
			Doc: "Which requests must carry the anti-CSRF token, where their route does not say. `attested`: those for which no browser attests that no other site sent them. `always`: all that can carry it. `unsafe`: like `attested`, without requests of a safe method. `off`: none. See [initiator.md](initiator.md).",
		},
		{
			Key: "allowed_origins", Kind: settings.List(&c.HTTP.AllowedOrigins, "origins SCHEME://HOST[:PORT], lower case, without a default port, a path or *", isOrigin),
			Doc: "Other origins whose pages may send requests as the signed-in user: call, refresh, sign out, open WebSockets and event streams, and hold pages in a frame.",
		},
		{
			Key: "strip_cookies", Kind: settings.Boolean(&c.Check.StripCookies),
			Doc: "Whether the session's tokens (cookies and bearer token) are removed from requests to the upstream. The copies of tokens that web SDKs keep in cookies of their own are always removed.",
		},
		{
			Key: "routes", Kind: routes(&c.Check.Routes),
			Doc: "Policies for hosts, paths and methods, where Envoy's routes cannot carry `context_extensions`: see [The routes table](#the-routes-table).",
		},

		{
			Key: "listen.authz", Default: "127.0.0.1:9001", Kind: tcpOrUnixAddress(&c.Listen.Authz),
			Doc: "Address at which Envoy asks about requests (gRPC ext_authz). Only Envoy may reach it.",
		},
		{
			Key: "listen.public", Default: "127.0.0.1:9002", Kind: tcpAddress(&c.Listen.Public),
			Doc: "Address to which Envoy sends the auth path (HTTP): refresh, sign-out and JWKS.",
		},
		{
			Key: "listen.internal", Default: "127.0.0.1:9003", Kind: tcpAddress(&c.Listen.Internal),
			Doc: "Address at which backends create and end sessions, with health and metrics (HTTP). Never route it to the outside.",
		},
		{
			Key: "listen.address_file", Kind: settings.Optional(settings.Text(&c.Listen.AddressFile, "an absolute path", isAbsoluteFile)),
			Doc: "File into which the process writes its real addresses, as JSON, once it listens. Useful with port 0.",
		},
		{
			Key: "listen.max_connections", Default: "10000", Kind: settings.Integer(&c.Listen.MaxConnections, 16, 1_000_000),
			Doc: "Most connections open at once on each listener. One more connection closes the one that has been idle for longest, or waits until one is idle. So a flood at one listener does not reach the others.",
		},
	}
	all = append(all, tlsSettings("authz", &c.TLS.Authz, &c.TLS.Names.Authz, "Envoy", "nothing")...)
	all = append(all, tlsSettings("public", &c.TLS.Public, &c.TLS.Names.Public, "Envoy", "nothing")...)
	all = append(all, tlsSettings("internal", &c.TLS.Internal, &c.TLS.Names.Internal, "backends", "`/healthz` and `/readyz` only, which probes ask without one")...)
	return append(all, []settings.Setting{
		{
			Key: "database.url", Secret: true, Kind: settings.Optional(settings.Text(&c.Database.URL, allowedDatabaseURL, isDatabaseURL)),
			Public: func() (text, rest string) { return publicURL(string(c.Database.URL)) },
			Doc:    "The Postgres database of the sessions. The password in it is a secret. Of several hosts, or several addresses of one name, the primary is used.",
		},
		{
			Key: "database.password_file", Kind: settings.Optional(settings.Text(&c.Database.PasswordFile, "an absolute path", isAbsoluteFile)),
			Doc: "File that holds the database password, instead of one in `database.url`.",
		},
		{
			Key: "database.max_connections", Kind: settings.Integer(&c.Store.MaxConnections, 2, 1000),
			Doc: "Most connections that this process opens to the database. One more follows the feed, and one more delivers audit events.",
		},
		{
			Key: "database.statement_timeout", Kind: settings.Duration(&c.Store.StatementTimeout, 100*time.Millisecond, time.Minute),
			Doc: "Longest that one statement may take.",
		},
		{
			Key: "database.connect_timeout", Kind: settings.Duration(&c.Store.ConnectTimeout, 100*time.Millisecond, time.Minute),
			Doc: "Longest that opening a connection to one host may take. A host that does not answer at all gets half of it.",
		},
		{
			Key: "database.prepared_statements", Kind: settings.OneOf(&c.Store.PreparedStatements, postgres.PrepareDirect, postgres.PrepareAlways, postgres.PrepareNever),
			Doc: "Whether statements are prepared by name, once for each connection. This saves most of the database's work. `auto`: on direct connections, and not through a pooler, which is recognised. `on`: through a pooler, too. It must keep track of names, as PgBouncer does from 1.21 with `max_prepared_statements`, and the role needs `enable_seqscan = off`: see [operations.md](operations.md). `off`: never.",
		},
		{
			Key: "database.migrate", Default: "true", Kind: settings.Boolean(&c.Database.Migrate),
			Doc: "Whether `serve` brings the schema up to date at its start. If not, run `sessiongate migrate` first.",
		},

		{
			Key: "session.access_token_life", Field: "AccessTokenLife", Kind: settings.Duration(&c.Engine.AccessTokenLife, 2*time.Second, day),
			Doc: "How long an access token is good. A stolen one works at most that long. At least twice `session.refresh_attempt_max`.",
		},
		{
			Key: "session.sliding_life", Field: "SlidingLife", Kind: settings.Duration(&c.Engine.SlidingLife, 5*time.Second, 400*day),
			Doc: "How long a session lives without a refresh. At least twice `session.access_token_life` plus `session.refresh_attempt_max`.",
		},
		{
			Key: "session.absolute_life", Field: "AbsoluteLife", Kind: settings.Duration(&c.Engine.AbsoluteLife, 5*time.Second, sessions.AbsoluteLifeMax),
			Doc: "How long a session lives at most, however often it is refreshed. At least `session.sliding_life`. Browsers keep no cookie beyond 400 days.",
		},
		{
			Key: "session.refresh_attempt_max", Field: "RefreshAttemptMax", Kind: settings.Duration(&c.Engine.RefreshAttemptMax, time.Second, time.Minute),
			Doc: "D of the protocol: the longest that an honest refresh may take, from the browser and back. Envoy's timeout on the auth path must be half of it.",
		},
		{
			Key: "session.issues_max", Field: "IssuesMax", Kind: settings.Integer(&c.Engine.IssuesMax, 5, 1000),
			Doc: "How often one generation of a session's refresh token may be issued unused before the session ends as abused.",
		},
		{
			Key: "session.max_per_user", Field: "PerUser.Max", Kind: settings.Integer(&c.Engine.PerUser.Max, 0, 10_000),
			Doc: "How many sessions one user may have at once. It counts over all replicas, and must be the same on each. 0 is no limit. Expired sessions do not count.",
		},
		{
			// The zero value of the package rejects. A user who is locked out by forgotten sessions
			// costs more than an old session that ends.
			Key: "session.when_full", Default: "evict_oldest", Kind: settings.Choice(&c.Engine.PerUser.EvictOldest, []string{"evict_oldest", "reject"}, []bool{true, false}),
			Doc: "What a sign-in beyond `session.max_per_user` does. `evict_oldest`: it ends the user's oldest sessions. `reject`: it is refused with 409.",
		},
		{
			Key: "session.device_address", Kind: enumerated(&c.HTTP.Device.Address, sessions.AddressDetails()),
			Doc: "What is kept of the address of a session's device, for its user to recognise it. `none`: nothing. `network`: the /24, or the /64 in IPv6. `full`: the whole address. After a change the next refresh of a session writes it again, or forgets it.",
		},
		{
			Key: "session.device_user_agent", Kind: settings.Boolean(&c.HTTP.Device.UserAgent),
			Doc: "Whether the User-Agent of a session's device is kept, for its user to recognise it: at most 200 characters, without those that cannot be seen.",
		},

		{
			// The package has no bound on refreshes: the right one depends on the clients. These four
			// suit a process that the Internet reaches.
			Key: "refresh.per_session_rate", Default: "10", Field: "RefreshesPerSession", Kind: settings.Integer(&c.Engine.RefreshesPerSession.PerSecond, 0, 1000),
			Doc: "How many refreshes a second a session gets from this process in the long run. 0 is no limit. Each refresh token is counted by itself. A refresh that comes too soon is answered 429 with `Retry-After`, and changes nothing.",
		},
		{
			Key: "refresh.per_session_burst", Default: "2000", Kind: settings.Integer(&c.Engine.RefreshesPerSession.Burst, 10, 100_000),
			Doc: "How many refreshes of a session may come at once, as from many tabs.",
		},
		{
			Key: "refresh.per_address_rate", Default: "200", Field: "RefreshesPerAddress", Kind: settings.Integer(&c.Engine.RefreshesPerAddress.PerSecond, 0, 1_000_000),
			Doc: "How many refreshes a second a network of clients (/24, or /64 in IPv6) gets from this process in the long run, with any tokens. 0 is no limit. Where Envoy reports no address, there is no limit.",
		},
		{
			Key: "refresh.per_address_burst", Default: "10000", Kind: settings.Integer(&c.Engine.RefreshesPerAddress.Burst, 10, 1_000_000),
			Doc: "How many refreshes of a network may come at once, as from a company whose people share an address.",
		},

		{
			// One release later: a former version, which runs beside this one in a rollout, would refresh a
			// bound session without a proof.
			Key: "binding.mode", Field: "Binding.Offer", Kind: settings.Choice(&c.Engine.Binding.Offer, []string{"off", "offer"}, []bool{false, true}),
			Doc: "Whether browsers that can (Device Bound Session Credentials) bind their session to the device, so that copied cookies are worthless. `offer`: a sign-in offers it; clients that cannot notice nothing. `off`: no sign-in offers it; sessions that are bound stay bound. Switch it on when every replica has a version that knows it. Browsers bind over TLS alone. It requires no `cookies.domain`, and a `cookies.same_site` other than none. See [bound.md](bound.md).",
		},
		{
			// A browser signs only so often, and some begin to prove well before the cookie ends.
			Key: "binding.access_token_life", Field: "Binding.AccessTokenLife", Kind: settings.Duration(&c.Engine.Binding.AccessTokenLife, 5*time.Minute, day),
			Doc: "How long an access token of a bound session is good, and the first one of a session that may be bound. A stolen one works at most that long. The browser proves its key as often. At most `session.access_token_life`.",
		},
		{
			Key: "binding.challenge_life", Field: "Binding.ChallengeLife", Kind: settings.Duration(&c.Engine.Binding.ChallengeLife, 10*time.Second, 10*time.Minute),
			Doc: "How old a challenge may be that a browser has signed. An attacker that captured a proof and has the refresh token can send it again for so long. At least `session.refresh_attempt_max`.",
		},
		{
			Key: "binding.lost_after", Field: "Binding.LostAfter", Kind: settings.Duration(&c.Engine.Binding.LostAfter, time.Minute, day),
			Doc: "How long a browser that has lost the key of its session is told to wait, before it has to sign in. The session is not ended. A browser that has the key and cannot prove now is told to wait for longer.",
		},
		{
			Key: "binding.cookie_name", Field: "Binding.CookieName", Kind: settings.Text(&c.HTTP.Binding.CookieName, allowedCookieName, isCookieName),
			Doc: "Name of the bound cookie. It is no secret: while the browser has it, it proves nothing. The cookie of a browser that waits is called so with Wait after it.",
		},
		{
			Key: "binding.exclude", Field: "Binding.Exclude", Kind: settings.List(&c.HTTP.Binding.Exclude, "paths, each "+allowedPath, isPath),
			Doc: "Paths, with all below them, whose requests do not wait until the browser has proven its key: those without a check, such as static files. Not the paths of refresh and sign-out, nor one above them.",
		},

		{
			// Not below the longest life of an access token and four of the longest
			// delay; then no rule has to join these settings.
			Key: "keys.rotate_every", Field: "RotateKeysEvery", Kind: settings.Duration(&c.Engine.RotateKeysEvery, day, 400*day),
			Doc: "Age at which the signing key and the sealing key get a successor.",
		},
		{
			Key: "keys.activation_delay", Field: "KeyActivationDelay", Kind: settings.Duration(&c.Engine.KeyActivationDelay, sessionhttp.JWKSMaxAge+time.Minute, 6*time.Hour),
			Doc: "How long a new key is published before it signs or seals. By then every replica has heard of it (`feed.bound`), and every verifier that caches the JWK Set, which may be for 5m, has read it again.",
		},

		{
			Key: "cookies.access_name", Field: "AccessName", Kind: settings.Text(&c.HTTP.Cookies.AccessName, allowedCookieName, isCookieName),
			Doc: "Name of the access token's cookie.",
		},
		{
			Key: "cookies.refresh_name", Field: "RefreshName", Kind: settings.Text(&c.HTTP.Cookies.RefreshName, allowedCookieName, isCookieName),
			Doc: "Name of the refresh token's cookie.",
		},
		{
			Key: "cookies.domain", Field: "Domain", Kind: settings.Optional(settings.Text(&c.HTTP.Cookies.Domain, "a domain name in lower case with at least one letter, without a leading dot", isCookieDomain)),
			Doc: "Domain of the cookies. Empty keeps them to the one host, which is safer.",
		},
		{
			Key: "cookies.same_site", Field: "SameSite", Kind: settings.Choice(&c.HTTP.Cookies.SameSite, []string{"lax", "strict", "none"},
				[]http.SameSite{http.SameSiteLaxMode, http.SameSiteStrictMode, http.SameSiteNoneMode}),
			Doc: "SameSite of the cookies. `none` requires `cookies.secure`.",
		},
		{
			Key: "cookies.secure", Field: "Secure", Kind: settings.Boolean(&c.HTTP.Cookies.Secure),
			Doc: "Whether browsers send the cookies over TLS only. `false` is for development.",
		},
		{
			Key: "cookies.host_prefix", Field: "HostPrefix", Kind: settings.Boolean(&c.HTTP.Cookies.HostPrefix),
			Doc: "Puts `__Host-` before the name of cookies with Path=/, so that no sibling host can set them. It requires `cookies.secure` and no `cookies.domain`. Recommended wherever there is TLS.",
		},
		{
			Key: "cookies.partitioned", Field: "Partitioned", Kind: settings.Boolean(&c.HTTP.Cookies.Partitioned),
			Doc: "Marks the cookies `Partitioned` (CHIPS), for an app in a frame of another site's page. A browser that sends no third-party cookies sends these. Each site that frames the app has sessions of its own. It requires `cookies.secure` and `cookies.same_site: none`, and works with `cookies.domain` and `cookies.host_prefix`. Where SameSite is none, cookies of the other kind are deleted.",
		},
		{
			Key: "cookies.frontend_domain", Field: "FrontendDomain", Kind: settings.Optional(settings.Text(&c.HTTP.Cookies.FrontendDomain, "a domain name in lower case with at least one letter, without a leading dot", isCookieDomain)),
			Doc: "Domain at which a web SDK keeps the cookies that scripts read: its websiteRootDomain or sessionTokenFrontendDomain, without a leading dot. It is for `sdk_cookies` of the sessions API. Empty is the host, the SDKs' default.",
		},
		{
			Key: "cookies.former_paths", Field: "FormerPaths", Kind: settings.List(&c.HTTP.Cookies.FormerPaths, "paths, each "+allowedPath, isPath),
			Doc: "Paths at which an earlier system set cookies of these names. The cookies are deleted there.",
		},

		{
			Key: "paths.auth", Field: "AuthPath", Kind: settings.Text(&c.HTTP.Cookies.AuthPath, allowedPath+", other than /", func(s string) bool { return s != "/" && isPath(s) }),
			Doc: "The path under which every request belongs to sessiongate. It is the Path of the refresh token's cookie.",
		},
		{
			Key: "paths.refresh", Field: "RefreshPath", Kind: settings.Text(&c.HTTP.RefreshPath, allowedPath+", under paths.auth", isPath),
			Doc: "Where clients refresh (POST).",
		},
		{
			Key: "paths.bind", Field: "Binding.BindPath", Kind: settings.Optional(settings.Text(&c.HTTP.Binding.BindPath, allowedPath+", under paths.auth", isPath)),
			Doc: "Where browsers register the key of their device (POST). Only browsers call it. Empty: `session/bind` under `paths.auth`.",
		},
		{
			Key: "paths.bound", Field: "Binding.BoundPath", Kind: settings.Optional(settings.Text(&c.HTTP.Binding.BoundPath, allowedPath+", under paths.auth", isPath)),
			Doc: "Where browsers prove that they have that key (POST). Only browsers call it. Empty: `session/bound` under `paths.auth`. Sessions that are bound keep the path of their registration: do not change it while there are any.",
		},
		{
			Key: "paths.signout", Field: "SignoutPath", Kind: settings.Text(&c.HTTP.SignoutPath, allowedPath+", under paths.auth", isPath),
			Doc: "Where clients sign out (POST).",
		},

		{
			Key: "own_sessions.enabled", Field: "OwnSessions.Enabled", Kind: settings.Boolean(&c.HTTP.OwnSessions.Enabled),
			Doc: "Whether a signed-in user may see and end their own sessions at `paths.auth`/sessions, without a backend: see [own-sessions.md](own-sessions.md).",
		},
		{
			Key: "own_sessions.reauth_within", Field: "OwnSessions.ReauthWithin", Kind: settings.Duration(&c.HTTP.OwnSessions.ReauthWithin, sessionhttp.LeastReauthWithin, day),
			Doc: "How long ago the sign-in of a session may be that ends other sessions of its user. A stolen access token brings no sign-in about, so its thief cannot throw the owner out, unless the owner signed in with that session within this time.",
		},

		{
			Key: "responses.session_expired_status", Field: "SessionExpiredStatus", Kind: settings.Integer(&c.HTTP.SessionExpiredStatus, 400, 499),
			Doc: "HTTP status that asks the client to refresh. Older frontends know 401. Not 403, 404, 405, 409, 413 or 429.",
		},
		{
			Key: "responses.on_unauthorised", Kind: enumerated(&c.Check.Default.OnUnauthorised, authz.OnUnauthorisedNames()),
			Doc: "Answer to a request without a session, where its route does not say. `redirect`: to the login page. `auto`: the same, but 401 to a script. `401` and `403`: that status. `440`: `responses.session_expired_status`.",
		},

		{
			Key: "responses.denial_header", Kind: settings.Boolean(&c.HTTP.DenialHeader),
			Doc: "Whether the response header `x-sessiongate-denial` tells clients why they were denied, by the codes of [denials.md](denials.md). It is for development.",
		},

		{
			Key: "api.keys", Secret: true, Kind: settings.List(&c.API.Keys, "NAME:SECRET, the name 1 to 64 of a-z, 0-9, - and _, the secret "+allowedAPISecret, isAPIKey),
			Doc: "Callers of the sessions API and their secrets.",
		},
		{
			Key: "api.key_files", Kind: settings.List(&c.API.KeyFiles, "NAME:/PATH, the name 1 to 64 of a-z, 0-9, - and _, the path absolute", isAPIKeyFile),
			Doc: "Callers of the sessions API and the files that hold their secrets.",
		},
		{
			// Secret, for an operator may put a key there instead of its digest.
			Key: "api.key_hashes", Secret: true, Kind: settings.List(&c.API.KeyHashes, "NAME:SHA256, the name 1 to 64 of a-z, 0-9, - and _, the SHA-256 of the secret in 64 lower-case hexadecimal digits", isAPIKeyHash),
			Doc: "Callers of the sessions API and the SHA-256 of their secrets, so that this process gets no secret. `sessiongate keys digest FILE` prints it. Only for random secrets, as `sessiongate keys new` makes them.",
		},
		{
			Key: "api.scopes", Kind: settings.List(&c.API.Scopes, "NAME:SCOPE+SCOPE..., a caller's name and what it may do: "+sessionhttp.ScopeNames(), isAPIScopes),
			Doc: "What a caller of the sessions API may do. A caller that is not named here may do everything.",
		},
		{
			Key: "api.body_max", Kind: settings.Size(&c.HTTP.BodyMax, 4<<10, 16<<20),
			Doc: "Largest request body of the sessions API.",
		},

		{
			Key: "feed.poll_interval", Field: "FeedPoll", Kind: settings.Duration(&c.Engine.FeedPoll, 50*time.Millisecond, time.Second),
			Doc: "How often ended sessions are read from the database.",
		},
		{
			Key: "feed.bound", Field: "FeedBound", Kind: settings.Duration(&c.Engine.FeedBound, 100*time.Millisecond, 10*time.Second),
			Doc: "Age from which the feed counts as stale. A token of an unknown key is then answered 503. At least twice `feed.poll_interval`.",
		},

		{
			Key: "promotion.queue", Field: "PromotionQueue", Kind: settings.Integer(&c.Engine.PromotionQueue, 1, 1_000_000),
			Doc: "Promotions that may wait. More are dropped, which costs a later refresh one more statement. At least `promotion.batch`.",
		},
		{
			Key: "promotion.batch", Field: "PromotionBatch", Kind: settings.Integer(&c.Engine.PromotionBatch, 1, 10_000),
			Doc: "Most promotions in one transaction.",
		},

		{
			Key: "cache.tokens", Field: "CachedTokens", Kind: settings.Integer(&c.Engine.CachedTokens, 1, 10_000_000),
			Doc: "Verified access tokens kept in memory, each with what Envoy is told of its session. One takes some 2.5 KB with small claims, so 100000 take 250 MB. For a token that is not there, the signature is checked again.",
		},
		{
			Key: "cache.unverified_cpu", Field: "UnverifiedCPU", Kind: settings.Integer(&c.Engine.UnverifiedCPU, 1, 100),
			Doc: "Percent of all cores that bad signatures of access tokens without a tag may take. An attacker invents such tokens, and a former version made them. Beyond this share they are answered with 503. All other tokens are not affected.",
		},

		{
			Key: "sweep.interval", Field: "SweepPause", Kind: settings.Duration(&c.Engine.SweepPause, time.Second, day),
			Doc: "How often expired rows are deleted.",
		},
		{
			Key: "sweep.batch", Field: "SweepBatch", Kind: settings.Integer(&c.Engine.SweepBatch, 1, 10_000),
			Doc: "Most rows deleted in one statement.",
		},

		{
			Key: "http.header_max", Default: "64KiB", Kind: settings.Size(&c.Listen.HeaderMax, 4<<10, 1<<20),
			Doc: "Largest request header of the public and internal listeners.",
		},
		{
			Key: "http.read_timeout", Default: "10s", Kind: settings.Duration(&c.Listen.ReadTimeout, 100*time.Millisecond, 5*time.Minute),
			Doc: "Longest that reading one request may take.",
		},
		{
			Key: "http.idle_timeout", Default: "1h15m", Kind: settings.Duration(&c.Listen.IdleTimeout, time.Second, day),
			Doc: "How long an idle connection stays open. Make it longer than Envoy's upstream idle timeout (1h unless set): otherwise Envoy may write to a connection that has just closed.",
		},

		{
			Key: "grpc.max_message", Kind: settings.Size(&c.GRPC.MaxMessage, 64<<10, 16<<20),
			Doc: "Largest message that Envoy may send. Make it more than Envoy's own limit on headers.",
		},
		{
			Key: "grpc.max_streams", Kind: settings.Integer(&c.GRPC.MaxStreams, 1, 1_000_000),
			Doc: "Most checks at once on one connection.",
		},
		{
			Key: "grpc.max_calls", Kind: settings.Integer(&c.GRPC.MaxCalls, 32, 1_000_000),
			Doc: "Most checks at once over all connections, some 14 KiB each. Beyond it each connection may still have 32 checks. So a flood on many connections cannot take all memory.",
		},
		{
			Key: "grpc.connection_age", Kind: settings.Duration(&c.GRPC.ConnectionAge, time.Second, day),
			Doc: "Age at which a connection is closed gently, so that load spreads over new replicas.",
		},
		{
			Key: "grpc.connection_age_grace", Kind: settings.Duration(&c.GRPC.ConnectionAgeGrace, time.Second, time.Hour),
			Doc: "How long the checks of such a connection may still take.",
		},
		{
			Key: "grpc.stream_workers", Kind: settings.Integer(&c.GRPC.StreamWorkers, 1, 100_000),
			Doc: "How many goroutines wait for checks. A check that finds none free gets a goroutine of its own, which costs about a fifth more CPU: see [performance.md](performance.md#settings).",
		},
		{
			Key: "grpc.read_buffer", Kind: settings.Size(&c.GRPC.ReadBuffer, 1<<10, 1<<20),
			Doc: "How many bytes one read of a connection takes. A smaller one makes more reads and writes; with a greater one, a flood of checks that are reset at once costs more memory.",
		},
		{
			Key: "grpc.write_buffer", Kind: settings.Size(&c.GRPC.WriteBuffer, 1<<10, 1<<20),
			Doc: "How many bytes of answers are gathered for one write to a connection.",
		},

		{
			Key: "memory.limit_percent", Default: "90", Kind: settings.Integer(&c.Memory.LimitPercent, 0, 100),
			Doc: "Share of the container's memory limit (its cgroup's) from which garbage is collected more often. The environment variable `GOMEMLIMIT` wins. Without a limit of the container, or with 0, there is no limit.",
		},
		{
			// Go's own default is 100. A check leaves some KiB of garbage and hardly anything that
			// lives, so collecting less often costs little memory: see performance.md.
			Key: "memory.gc_percent", Default: "400", Kind: settings.Integer(&c.Memory.GCPercent, 10, 10_000),
			Doc: "How much the heap may grow, in percent of what lives in it, before garbage is collected. Less saves memory and costs CPU. The environment variable `GOGC` wins. Near the memory limit, garbage is collected sooner.",
		},

		{
			Key: "shutdown.drain_delay", Default: "2s", Kind: settings.Duration(&c.Shutdown.DrainDelay, 0, 5*time.Minute),
			Doc: "How long a stopping process still accepts work while it says that it is not ready.",
		},
		{
			Key: "shutdown.timeout", Default: "15s", Kind: settings.Duration(&c.Shutdown.Timeout, time.Second, 10*time.Minute),
			Doc: "How long a stopping process then waits for requests under way.",
		},
		{
			Key: "shutdown.linger", Default: "7s", Kind: settings.Duration(&c.Shutdown.Linger, 0, 5*time.Minute),
			Doc: "How long, as a part of `shutdown.timeout`, idle HTTP connections stay open after their listener closed. Make it longer than interval and timeout of Envoy's health check (5s and 1s in envoy.yaml). After these Envoy sends nothing more on them.",
		},

		{
			Key: "log.level", Default: "info", Kind: settings.OneOf(&c.Log.Level, "debug", "info", "warn", "error"),
			Doc: "The least important lines that are logged.",
		},
		{
			Key: "log.format", Default: "json", Kind: settings.OneOf(&c.Log.Format, "json", "text"),
			Doc: "Form of log lines.",
		},
		{
			Key: "log.denials_per_second", Default: "50", Kind: settings.Integer(&c.Log.DenialsPerSecond, 0, 1_000_000),
			Doc: "Most log lines a second about requests that were denied or refused, for each level and listener. The next line says how many were `withheld`. 0 writes all.",
		},

		{
			Key: "audit.output", Kind: settings.Optional(settings.Text(&c.Audit.Output, "stdout, or an absolute path", func(s string) bool { return s == auditStdout || isAbsoluteFile(s) })),
			Doc: "Where audit events of sessions and keys are written, as lines of JSON: standard output, or a file that is appended to. Empty: only the ends of sessions are kept, in the database. Set the same on every replica: each event goes to one of them.",
		},

		{
			Key: "profiling.listen", Kind: settings.Optional(loopbackAddress(&c.Profiling.Listen)),
			Doc: "Where profiles of the process are served (`/debug/pprof/`, HTTP). Empty: nowhere. A profile shows memory, so only this machine may ask for one: see [profiling.md](profiling.md).",
		},

		{
			Key: "tracing.otlp_endpoint", Kind: settings.Optional(settings.Text(&c.Tracing.OTLPEndpoint, "http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH], lower case, without a user, a query or a fragment", isOTLPEndpoint)),
			Doc: "Collector to which spans of refreshes, sign-outs and calls of the sessions API are sent (OTLP over HTTP); `/v1/traces` is appended. Empty: there are no spans. See [profiling.md](profiling.md#traces).",
		},
		{
			Key: "tracing.sample_percent", Default: "100", Kind: settings.Integer(&c.Tracing.SamplePercent, 0, 100),
			Doc: "How many of a hundred traces get spans. A trace whose `traceparent` says that it is not sampled gets none. The trace id decides, so processes with the same percent keep the same traces. 0: no request gets spans.",
		},
	}...)
}

// tlsSettings are those of one listener: whose certificates it asks for, and what
// others get.
func tlsSettings(listener string, files *TLSFiles, names *[]string, clients, others string) []settings.Setting {
	file := func(p *string) settings.Kind {
		return settings.Optional(settings.Text(p, "an absolute path", isAbsoluteFile))
	}
	cert, key, clientCA := tlsKeys(listener)
	return []settings.Setting{
		{
			Key: cert, Reload: whenFileChanges, Kind: file(&files.Cert),
			Doc: "PEM file of the certificate chain that `listen." + listener + "` shows. That listener then takes only TLS 1.2 or newer.",
		},
		{Key: key, Reload: whenFileChanges, Kind: file(&files.Key), Doc: "PEM file of that certificate's private key."},
		{
			Key: clientCA, Reload: whenFileChanges, Kind: file(&files.ClientCA),
			Doc: "PEM file of the authorities whose certificates " + clients + " must show at `listen." + listener + "` (mutual TLS). A client without such a certificate then gets " + others + ".",
		},
		{
			Key: clientNamesKey(listener), Kind: settings.List(names, "DNS names in lower case without *, and SPIFFE ids spiffe://TRUST-DOMAIN/PATH", isClientName),
			Doc: "Names of the clients that may connect to `listen." + listener + "`. A certificate must have one of these, as a whole, as a subject alternative name. Its common name does not count. Empty: any certificate of `" + clientCA + "`.",
		},
	}
}

// enumerated is the kind of a value that is the place of its name.
func enumerated[T ~uint8](p *T, names []string) settings.Kind {
	values := make([]T, len(names))
	for i := range values {
		values[i] = T(i)
	}
	return settings.Choice(p, names, values)
}

// Format implements [fmt.Formatter]: the settings by key, without secrets, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) {
	text, _ := c.MarshalJSON()
	_, _ = s.Write(text)
}

// MarshalJSON implements [json.Marshaler], for logs.
func (c Config) MarshalJSON() ([]byte, error) { return table(&c).JSON() }
