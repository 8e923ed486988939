package sessionhttp

import (
	"context"
	"log/slog"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Config is the configuration of the handlers. Start from [Defaults].
type Config struct {
	Cookies browser.Cookies
	// RefreshPath and SignoutPath are exact paths under Cookies.AuthPath, or the
	// refresh token's cookie never arrives.
	RefreshPath, SignoutPath string
	// Binding is where browsers register and prove the key of a device. Its paths are as the others.
	Binding browser.Binding
	// SessionExpiredStatus answers a refresh of a session that has ended, and a sign-out
	// that must refresh first ([browser.CanMeanExpired]).
	SessionExpiredStatus int
	// AllowedOrigins are other origins whose pages may refresh and sign out:
	// SCHEME://HOST[:PORT].
	AllowedOrigins []string
	// Device says what is kept of the browser of a session, for its user to recognise it.
	Device sessions.DeviceFacts
	// OwnSessions are the calls of users for their own sessions.
	OwnSessions OwnSessions
	// RefreshAttemptMax is D: answers at the auth path come within
	// [sessions.AnswerWithin] of it. 0: as in Defaults.
	RefreshAttemptMax time.Duration
	// BodyMax bounds a body of the sessions API, in bytes.
	BodyMax int64
	// APIKeys are those of the callers of the sessions API, by the caller's name, which
	// the audit has as the actor. Without any, the API refuses every call.
	APIKeys map[string]APIKey
	// Beside is what the caller serves beside [Internal] on its listener: paths, and what is there. The
	// page at / names them.
	Beside [][2]string
	// Log gets a line for every denial. nil: slog.Default().
	Log *slog.Logger
	// DenialHeader tells clients the code of a denial, in [browser.HeaderDenial].
	DenialHeader bool
	// Observe is called for every answer, with the request's context, from any
	// goroutine. It must not wait. nil: answers are not counted.
	Observe func(context.Context, Observation)
}

// Observation is what may be counted of an answer: of each field there are few values,
// whatever a client sends.
type Observation struct {
	// Route is the pattern that the path matched, or "other"; Method one of HTTP's
	// own (RFC 9110 §9, PATCH), or "other".
	Route, Method string
	Status        int    // 0: the client was cut off
	Code          string // of one of Denials or sessions.Denials; empty for a success
	Rule          string // of docs/protocol.md, that decided a refresh or denied an access token; empty where none did
	Took          time.Duration
}

// Defaults is a Config without API keys.
func Defaults() Config {
	return Config{
		Cookies:              browser.DefaultCookies(),
		RefreshPath:          "/auth/session/refresh",
		SignoutPath:          "/auth/signout",
		Binding:              browser.DefaultBinding(),
		SessionExpiredStatus: 440,
		OwnSessions:          OwnSessions{ReauthWithin: 10 * time.Minute},
		Device:               sessions.DeviceFacts{Address: sessions.AddressNetwork, UserAgent: true},
		RefreshAttemptMax:    sessions.Defaults().RefreshAttemptMax,
		BodyMax:              64 << 10,
		Log:                  slog.Default(),
	}
}

// RequestMax bounds the work on one request of the sessions API, whose callers have
// timeouts of their own. A server's WriteTimeout must be longer. The requests of browsers
// have a shorter bound.
const RequestMax = 10 * time.Second

// server is what both listeners share.
type server struct {
	engine *sessions.Engine
	cfg    Config
	// cookies are those of cfg.
	cookies *browser.CookieWriter
	trust   browser.Trust
	// answerMax bounds the time from a request's header to its answer.
	answerMax time.Duration
	// vary are the headers on which answers depend. A cache must not give one client the
	// answer to another, and some caches keep answers that are no-store.
	vary string
}

func newServer(engine *sessions.Engine, cfg Config) (server, error) {
	trust, err := cfg.check()
	if err != nil {
		return server{}, err
	}
	cfg.Binding = cfg.Binding.At(cfg.Cookies)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return server{engine: engine, cfg: cfg, cookies: browser.NewCookieWriter(cfg.Cookies), trust: trust, answerMax: RequestMax, vary: "Authorization, Content-Type"}, nil
}
