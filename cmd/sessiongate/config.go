package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions/browser"
)

// Config is the configuration of the process. What each field means, its
// default and its range stand in the table of settings (settings.go), which
// fills it. Fields that hold a secret are of type [Secret].
type Config struct {
	Listen struct {
		Authz       string // HOST:PORT or unix:/PATH
		Public      string
		Internal    string
		AddressFile string

		MaxConnections int
	}
	TLS struct {
		Authz, Public, Internal TLSFiles
		// Names are those of the clients that each listener lets in.
		Names struct{ Authz, Public, Internal []string }
	}
	Database struct {
		URL              Secret
		PasswordFile     string
		MaxConnections   int
		StatementTimeout time.Duration
		ConnectTimeout   time.Duration
		Migrate          bool
	}
	Key             Secret
	KeyFile         string
	KeyPrevious     Secret
	KeyPreviousFile string
	Keys            struct {
		RotateEvery     time.Duration
		ActivationDelay time.Duration
	}
	Issuer  string
	Session struct {
		AccessTokenLife   time.Duration
		SlidingLife       time.Duration
		AbsoluteLife      time.Duration
		RefreshAttemptMax time.Duration
		IssuesMax         int
		MaxPerUser        int
		WhenFull          string // evict_oldest or reject
	}
	Refresh struct { // 0 a second: as often as anybody likes
		PerSessionRate  int
		PerSessionBurst int
		PerAddressRate  int
		PerAddressBurst int
	}
	Cookies struct {
		AccessName     string
		RefreshName    string
		Domain         string
		SameSite       string // lax, strict or none
		Secure         bool
		HostPrefix     bool
		Partitioned    bool
		FrontendDomain string
		FormerPaths    []string
	}
	Paths struct {
		Auth    string
		Refresh string
		Signout string
	}
	LoginURL  string
	Responses struct {
		SessionExpiredStatus int
		OnUnauthorised       string // one of authz.OnUnauthorisedNames
		DenialHeader         bool
	}
	AntiCSRF       string // always, unsafe or off
	AllowedOrigins []string
	StripCookies   bool
	Routes         []authz.Route
	API            struct {
		Keys      []Secret // NAME:SECRET
		KeyFiles  []string // NAME:/PATH
		KeyHashes []string // NAME:SHA256
		Scopes    []string // NAME:SCOPE+SCOPE
		BodyMax   int      // bytes
	}
	Feed struct {
		PollInterval time.Duration
		Bound        time.Duration
	}
	Promotion struct {
		Queue int
		Batch int
	}
	Cache struct {
		Tokens        int
		UnverifiedCPU int // percent
	}
	Sweep struct {
		Interval time.Duration
		Batch    int
	}
	HTTP struct {
		HeaderMax   int // bytes
		ReadTimeout time.Duration
		IdleTimeout time.Duration
	}
	GRPC struct {
		MaxMessage         int // bytes
		MaxStreams         int
		MaxCalls           int
		ConnectionAge      time.Duration
		ConnectionAgeGrace time.Duration
	}
	Memory struct {
		LimitPercent int // 0: none of ours
	}
	Shutdown struct {
		DrainDelay time.Duration
		Linger     time.Duration
		Timeout    time.Duration
	}
	Log struct {
		Level            string // debug, info, warn or error
		Format           string // json or text
		DenialsPerSecond int    // 0: all
	}
	Audit struct {
		Output string // stdout, a path, or empty
	}
	Profiling struct {
		Listen string // LOOPBACK:PORT or unix:/PATH; empty: off
	}
	Tracing struct {
		OTLPEndpoint  string // empty: off
		SamplePercent int
	}
}

// An origin is where a value came from; the zero origin is the default.
type origin struct {
	file string
	line int
	env  string
}

func (o origin) String() string {
	switch {
	case o.env != "":
		return o.env
	case o.line > 0:
		return fmt.Sprintf("%s:%d", o.file, o.line)
	case o.file != "":
		return o.file
	default:
		return "default"
	}
}

// origins has an entry for each key that is not at its default.
type origins map[string]origin

// A fault is one thing wrong with the configuration. It never holds a secret.
type fault struct {
	at      origin
	key     string // "" if it concerns none
	found   string
	allowed string
}

func (f fault) Error() string {
	var b strings.Builder
	if f.at != (origin{}) {
		fmt.Fprintf(&b, "%s: ", f.at)
	}
	if f.key != "" {
		fmt.Fprintf(&b, "%s: ", f.key)
	}
	fmt.Fprintf(&b, "found %s; allowed: %s", f.found, f.allowed)
	return b.String()
}

// faults are all that is wrong, one a line: the file's in its order, then those
// of the environment by name.
type faults []fault

func (all faults) Error() string {
	lines := make([]string, len(all))
	for i, f := range all {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

func (all faults) sorted() faults {
	slices.SortStableFunc(all, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.at.env, b.at.env), cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.key, b.key))
	})
	return all
}

const (
	envPrefix = "SESSIONGATE_"
	// envConfig names the file where no flag does. It is no setting.
	envConfig = envPrefix + "CONFIG"
	// maxConfigFile bounds the file; the longest sensible one is a hundredth of it.
	maxConfigFile = 1 << 20
)

// load reads the configuration from a file (if file or SESSIONGATE_CONFIG names
// one) and from the environment, which wins. needs say what the command that is
// run needs beyond. An error is of type [faults] and holds everything that is
// wrong, not only the first.
func load(file string, environ []string, needs ...func(Config) error) (Config, origins, error) {
	if file == "" {
		for _, e := range environ {
			if value, ok := strings.CutPrefix(e, envConfig+"="); ok {
				file = value
			}
		}
	}
	if file == "" {
		return parse("", nil, environ, needs...)
	}
	content, err := readFile(file, maxConfigFile)
	if err != nil {
		return Config{}, nil, faults{{at: origin{file: file}, found: reason(err).Error(), allowed: "a readable file of at most 1MiB"}}
	}
	return parse(file, content, environ, needs...)
}

// tooLong is a file that is longer than somebody who names it can mean.
type tooLong struct {
	file string
	most int // bytes
}

func (e *tooLong) Error() string {
	return fmt.Sprintf("%q is longer than %s", e.file, formatUnits(int64(e.most), sizeUnits))
}

// readFile reads a file that the operator names, of at most so many bytes: a wrong
// path (a device, a log) is a fault, and no endless read.
func readFile(file string, most int) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > most {
		return nil, &tooLong{file, most}
	}
	return content, nil
}

// reason drops the path from err where a fault names it already.
func reason(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	if long := (*tooLong)(nil); errors.As(err, &long) {
		return errors.New("a longer file")
	}
	return err
}

func parse(file string, content []byte, environ []string, needs ...func(Config) error) (Config, origins, error) {
	r := newReader(file)
	r.readFile(content)
	r.readEnviron(environ)
	for _, rule := range rules(r.config) {
		r.check(rule)
	}
	for _, need := range needs {
		var missing faults
		_ = errors.As(need(*r.config), &missing)
		for _, m := range missing {
			if !slices.ContainsFunc(r.faults, func(f fault) bool { return f.key == m.key }) {
				r.faults = append(r.faults, m)
			}
		}
	}
	if len(r.faults) > 0 {
		return Config{}, nil, r.faults.sorted()
	}
	return *r.config, r.origins, nil
}

// A rule joins several settings. It is looked at only where each of them is
// sound by itself.
type rule struct {
	keys []string
	ok   bool
	must string
}

func rules(c *Config) []rule {
	all := []rule{
		{
			[]string{"session.access_token_life", "session.refresh_attempt_max"},
			c.Session.AccessTokenLife >= 2*c.Session.RefreshAttemptMax,
			"session.access_token_life at least twice session.refresh_attempt_max",
		},
		{
			[]string{"session.sliding_life", "session.access_token_life", "session.refresh_attempt_max"},
			c.Session.SlidingLife >= 2*c.Session.AccessTokenLife+c.Session.RefreshAttemptMax,
			"session.sliding_life at least twice session.access_token_life plus session.refresh_attempt_max",
		},
		{
			[]string{"session.absolute_life", "session.sliding_life"},
			c.Session.AbsoluteLife >= c.Session.SlidingLife,
			"session.absolute_life at least session.sliding_life",
		},
		{
			[]string{"cookies.host_prefix", "cookies.secure"},
			!c.Cookies.HostPrefix || c.Cookies.Secure,
			"cookies.host_prefix only with cookies.secure, for browsers refuse such a cookie",
		},
		{
			[]string{"cookies.host_prefix", "cookies.domain"},
			!c.Cookies.HostPrefix || c.Cookies.Domain == "",
			"cookies.host_prefix only without cookies.domain, for browsers refuse such a cookie",
		},
		{
			[]string{"cookies.same_site", "cookies.secure"},
			c.Cookies.SameSite != "none" || c.Cookies.Secure,
			"cookies.same_site none only with cookies.secure, for browsers refuse such a cookie",
		},
		{
			[]string{"cookies.partitioned", "cookies.secure"},
			!c.Cookies.Partitioned || c.Cookies.Secure,
			"cookies.partitioned only with cookies.secure, for browsers refuse such a cookie",
		},
		{
			[]string{"cookies.partitioned", "cookies.same_site"},
			!c.Cookies.Partitioned || c.Cookies.SameSite == "none",
			"cookies.partitioned only with cookies.same_site none, for browsers send no other cookie from another site's frame",
		},
		{
			[]string{"cookies.access_name", "cookies.refresh_name"},
			!strings.EqualFold(c.Cookies.AccessName, c.Cookies.RefreshName),
			"two different cookie names",
		},
		{
			[]string{"cookies.former_paths", "paths.auth"},
			!slices.Contains(c.Cookies.FormerPaths, c.Paths.Auth),
			"cookies.former_paths without paths.auth, where the refresh token lives now",
		},
		{
			[]string{"paths.refresh", "paths.auth"},
			isBelow(c.Paths.Refresh, c.Paths.Auth),
			"paths.refresh under paths.auth, the only place to which browsers send the refresh token",
		},
		{
			[]string{"paths.signout", "paths.auth"},
			isBelow(c.Paths.Signout, c.Paths.Auth),
			"paths.signout under paths.auth, the only place to which browsers send the refresh token",
		},
		{
			[]string{"paths.refresh", "paths.signout"},
			c.Paths.Refresh != c.Paths.Signout,
			"two different paths",
		},
		{
			[]string{"login_url", "paths.auth"},
			!isBelow(loginPath(c.LoginURL), c.Paths.Auth),
			"login_url outside paths.auth, where sessiongate answers 404 to everything it does not know",
		},
		{
			[]string{"responses.session_expired_status"},
			browser.CanMeanExpired(c.Responses.SessionExpiredStatus),
			browser.AllowedExpired,
		},
		{
			[]string{"feed.bound", "feed.poll_interval"},
			c.Feed.Bound >= 2*c.Feed.PollInterval,
			"feed.bound at least twice feed.poll_interval",
		},
		{
			[]string{"promotion.queue", "promotion.batch"},
			c.Promotion.Queue >= c.Promotion.Batch,
			"promotion.queue at least promotion.batch",
		},
		{
			[]string{"key", "key_file"},
			c.Key == "" || c.KeyFile == "",
			"one of key and key_file",
		},
		{
			[]string{"key_previous", "key_previous_file"},
			c.KeyPrevious == "" || c.KeyPreviousFile == "",
			"one of key_previous and key_previous_file",
		},
		{
			[]string{"database.password_file", "database.url"},
			c.Database.PasswordFile == "" || !hasPassword(string(c.Database.URL)),
			"a password in one of database.url and database.password_file",
		},
		{
			[]string{"api.keys", "api.key_files", "api.key_hashes"},
			!repeatedName(c),
			"one secret for a caller's name, over api.keys, api.key_files and api.key_hashes",
		},
		{
			[]string{"api.scopes"},
			!repeated(c.API.Scopes),
			"all scopes of a caller in one entry",
		},
	}
	all = append(all, c.tlsRules()...)
	all = append(all, rule{
		[]string{"shutdown.linger", "shutdown.timeout"},
		c.Shutdown.Linger < c.Shutdown.Timeout,
		"shutdown.linger below shutdown.timeout, which it is a part of",
	})
	listeners := []struct{ key, address string }{
		{"listen.authz", c.Listen.Authz}, {"listen.public", c.Listen.Public}, {"listen.internal", c.Listen.Internal}, {"profiling.listen", c.Profiling.Listen},
	}
	for i, a := range listeners {
		for _, b := range listeners[i+1:] {
			all = append(all, rule{
				[]string{b.key, a.key},
				a.address != b.address || strings.HasSuffix(a.address, ":0"),
				"an address of its own for each listener",
			})
		}
	}
	return all
}

// loginPath is the path of a login page on this host, "" for one elsewhere.
func loginPath(loginURL string) string {
	if !strings.HasPrefix(loginURL, "/") {
		return ""
	}
	p, _, _ := strings.Cut(loginURL, "?")
	return p
}

func repeatedName(c *Config) bool { return repeated(callers(c)) }

// repeated says whether two entries NAME:WHATEVER have one name.
func repeated(entries []string) bool {
	seen := make(map[string]bool)
	for _, k := range entries {
		name, _, _ := strings.Cut(k, ":")
		if seen[name] {
			return true
		}
		seen[name] = true
	}
	return false
}

// forServe says what serve needs beyond a sound configuration.
func forServe(c Config) error {
	var all faults
	if missing := faults(nil); errors.As(forMigrate(c), &missing) {
		all = missing
	}
	if missing := faults(nil); errors.As(forKeys(c), &missing) {
		all = append(all, missing...)
	}
	all = append(all, unknownCallers(c)...)
	if len(all) > 0 {
		return all
	}
	return nil
}

// forKeys says what opening the stored keys needs beyond a sound configuration.
func forKeys(c Config) error {
	if c.Key == "" && c.KeyFile == "" {
		return faults{{
			key: "key", found: "no key-encryption key",
			allowed: "SESSIONGATE_KEY, or key_file with the path of a file made by `sessiongate keys new FILE`; every replica needs the same one",
		}}
	}
	return nil
}

// forMigrate says what migrate needs beyond a sound configuration.
func forMigrate(c Config) error {
	if c.Database.URL == "" {
		return faults{{key: "database.url", found: "no database", allowed: allowedDatabaseURL}}
	}
	return nil
}
