package main

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A kind reads, describes and prints the values of one setting. It is bound to
// the field of a [Config] that it fills. Every kind has one strict text form,
// the same in the file and in the environment.
type kind struct {
	allowed string // continues "allowed: "
	tag     string // the YAML type of its scalars; "" for any
	list    bool   // set appends, and may be called any number of times
	reset   func()
	set     func(text string) bool // false: not allowed, nothing changed
	texts   func() []string        // what set would read back; exactly one unless list
	// read takes the place of set where a value is more than a scalar or a list
	// of scalars; in the environment it is YAML, too.
	read func(r *reader, key string, value *yaml.Node)
}

// The YAML types (YAML 1.2 §10.3.2) of scalars.
const (
	tagText    = "!!str"
	tagInteger = "!!int"
	tagBoolean = "!!bool"
)

func scalar[T any](p *T, tag, allowed string, parse func(string) (T, bool), format func(T) string) kind {
	return kind{
		allowed: allowed,
		tag:     tag,
		reset:   func() { *p = *new(T) },
		set: func(text string) bool {
			v, ok := parse(text)
			if ok {
				*p = v
			}
			return ok
		},
		texts: func() []string { return []string{format(*p)} },
	}
}

func text[T ~string](p *T, allowed string, ok func(string) bool) kind {
	return scalar(p, tagText, allowed,
		func(s string) (T, bool) { return T(s), ok(s) },
		func(v T) string { return string(v) })
}

// optional makes a kind that also takes the empty text, for "not set".
func optional(k kind) kind {
	set, reset := k.set, k.reset
	k.allowed = "empty, or " + k.allowed
	k.set = func(text string) bool {
		if text == "" {
			reset()
			return true
		}
		return set(text)
	}
	return k
}

// list takes any number of items, none of them twice. In the environment a
// comma separates them, so none may contain one.
func list[T ~string](p *[]T, allowed string, ok func(string) bool) kind {
	return kind{
		allowed: "a list (in the environment: separated by commas), without repetition, of " + allowed,
		tag:     tagText,
		list:    true,
		reset:   func() { *p = nil },
		set: func(text string) bool {
			if !ok(text) || strings.Contains(text, ",") || slices.Contains(*p, T(text)) {
				return false
			}
			*p = append(*p, T(text))
			return true
		},
		texts: func() []string {
			texts := make([]string, len(*p))
			for i, v := range *p {
				texts[i] = string(v)
			}
			return texts
		},
	}
}

func oneOf(p *string, choices ...string) kind {
	k := text(p, "one of "+strings.Join(choices, ", "), func(s string) bool { return slices.Contains(choices, s) })
	k.tag = "" // 401 and off are not text in every dialect of YAML
	return k
}

func boolean(p *bool) kind {
	return scalar(p, tagBoolean, "true or false",
		func(s string) (bool, bool) { return s == "true", s == "true" || s == "false" },
		strconv.FormatBool)
}

// integer takes plain decimal digits: 012 is neither 12 nor 10 here.
func integer(p *int, lowest, highest int) kind {
	return scalar(p, tagInteger, fmt.Sprintf("a whole number from %d to %d", lowest, highest),
		func(s string) (int, bool) {
			n, err := strconv.Atoi(s)
			return n, err == nil && strconv.Itoa(n) == s && n >= lowest && n <= highest
		},
		strconv.Itoa)
}

func duration(p *time.Duration, lowest, highest time.Duration) kind {
	return scalar(p, tagText,
		fmt.Sprintf("a duration from %s to %s, in whole d, h, m, s and ms, such as 1h30m", formatDuration(lowest), formatDuration(highest)),
		func(s string) (time.Duration, bool) {
			n, ok := parseUnits(s, durationUnits)
			return time.Duration(n), ok && time.Duration(n) >= lowest && time.Duration(n) <= highest
		},
		formatDuration)
}

func formatDuration(d time.Duration) string { return formatUnits(int64(d), durationUnits) }

// size is a number of bytes.
func size(p *int, lowest, highest int) kind {
	format := func(n int) string { return formatUnits(int64(n), sizeUnits) }
	return scalar(p, tagText,
		fmt.Sprintf("a size from %s to %s, in whole MiB, KiB and B, such as 64KiB", format(lowest), format(highest)),
		func(s string) (int, bool) {
			n, ok := parseUnits(s, sizeUnits)
			return int(n), ok && n >= int64(lowest) && n <= int64(highest)
		},
		format)
}

type unit struct {
	name string
	size int64
}

// From largest to smallest; the last is the resolution of the kind.
var (
	durationUnits = []unit{
		{"d", int64(24 * time.Hour)},
		{"h", int64(time.Hour)},
		{"m", int64(time.Minute)},
		{"s", int64(time.Second)},
		{"ms", int64(time.Millisecond)},
	}
	sizeUnits = []unit{{"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
)

// parseUnits reads counts with units, largest first, each at most once. Counts
// are whole, for [time.ParseDuration] silently cuts 0.1ns to 0, and a number
// without unit is refused, for nobody sees whether 10 means seconds.
func parseUnits(s string, units []unit) (int64, bool) {
	var total int64
	for s != "" {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end < 1 || (s[0] == '0' && end > 1) {
			return 0, false
		}
		count, err := strconv.ParseInt(s[:end], 10, 64)
		if err != nil {
			return 0, false
		}
		s = s[end:]
		end = strings.IndexAny(s, digits)
		if end < 0 {
			end = len(s)
		}
		i := slices.IndexFunc(units, func(u unit) bool { return u.name == s[:end] })
		if i < 0 || count > (math.MaxInt64-total)/units[i].size {
			return 0, false
		}
		total += count * units[i].size
		units, s = units[i+1:], s[end:]
		if s == "" {
			return total, true
		}
	}
	return 0, false
}

func formatUnits(n int64, units []unit) string {
	if n == 0 {
		return "0" + units[max(0, len(units)-2)].name
	}
	var b strings.Builder
	for _, u := range units {
		if n >= u.size {
			fmt.Fprintf(&b, "%d%s", n/u.size, u.name)
			n %= u.size
		}
	}
	return b.String()
}

func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isText refuses what a terminal, a log or a printed configuration would show
// as something else than it is.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isAbsoluteFile(s string) bool { return isText(s) && filepath.IsAbs(s) }

func tcpAddress(p *string) kind {
	return text(p, "HOST:PORT, such as 127.0.0.1:9001 (port 0: any free one; no host: every interface)", isTCPAddress)
}

// maxSocketPath is the shortest sun_path of the systems we run on (macOS),
// without its closing zero; the kernel would refuse, or a library cut, more.
const maxSocketPath = 103

func tcpOrUnixAddress(p *string) kind {
	return text(p, fmt.Sprintf("HOST:PORT, such as 127.0.0.1:9001 (port 0: any free one; no host: every interface), or unix:/PATH of at most %d bytes", maxSocketPath),
		func(s string) bool {
			if strings.HasPrefix(s, "unix:") {
				return isSocket(s)
			}
			return isTCPAddress(s)
		})
}

func isSocket(s string) bool {
	file, ok := strings.CutPrefix(s, "unix:")
	return ok && isAbsoluteFile(file) && len(file) <= maxSocketPath
}

func isTCPAddress(s string) bool {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !isPort(s[i+1:]) {
		return false
	}
	host := s[:i]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return ok && err == nil && a.Is6() && isVisible(inner)
	}
	return host == "" || isHost(host)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == s
}

// isHost takes an IPv4 address or the labels of RFC 1123 §2.1.
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || !onlyOf(label, lower+upper+digits+"-") || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	if strings.Trim(s, digits+".") == "" { // 999.1.2 would be asked of a resolver
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is4()
	}
	return true
}

// isCookieDomain refuses what browsers refuse or rewrite: a leading dot,
// capitals, an address.
func isCookieDomain(s string) bool {
	return isHost(s) && strings.ToLower(s) == s && strings.Trim(s, digits+".") != ""
}

// isCookieName takes the token of RFC 6265 §4.1.1. The prefixes are refused,
// for cookies.host_prefix alone decides about them; so is $, for a name that begins
// with it is no cookie's where clients speak RFC 2965.
func isCookieName(s string) bool {
	l := strings.ToLower(s)
	return s != "" && len(s) <= 64 && onlyOf(s, lower+upper+digits+"!#$%&'*+-.^_`|~") &&
		!strings.HasPrefix(l, "$") && !strings.HasPrefix(l, "__host-") && !strings.HasPrefix(l, "__secure-") && !strings.HasPrefix(l, "__http-")
}

const allowedPath = "an absolute path of letters, digits and -._~/, without . or .. segments or a slash at its end"

// isPath takes a path that Envoy's normalisation and a cookie's Path
// (RFC 6265 §5.1.4) leave as it is, so that all three mean the same.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") && len(s) <= 256 && onlyOf(s, lower+upper+digits+"-._~/") && path.Clean(s) == s
}

// isBelow says whether p is dir or lies below it, as a cookie's Path matches.
func isBelow(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// isLoginURL refuses whatever a browser would take to another host than it
// reads like: //host, backslashes, a user part.
func isLoginURL(s string) bool {
	if len(s) > 1024 || !isVisible(s) || strings.ContainsAny(s, "\\#\"<>^`{|}") {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Opaque != "" {
		return false
	}
	if u.Scheme == "" {
		return u.Host == "" && strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//")
	}
	return isOrigin(u.Scheme + "://" + u.Host)
}

// isOrigin takes the serialised origin of RFC 6454 §6.2, as a browser sends it:
// lower case, no default port, nothing behind.
func isOrigin(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || (scheme != "http" && scheme != "https") || strings.ToLower(rest) != rest {
		return false
	}
	if i := strings.LastIndexByte(rest, ':'); i < 0 || strings.HasSuffix(rest, "]") {
		rest += ":1"
	} else if port := rest[i+1:]; port == "0" || (scheme == "http" && port == "80") || (scheme == "https" && port == "443") {
		return false
	}
	return !strings.HasPrefix(rest, ":") && isTCPAddress(rest)
}

const allowedDatabaseURL = "postgres://USER[:PASSWORD]@HOST[:PORT][,HOST[:PORT]...]/DATABASE[?OPTION=VALUE] (a socket: postgres:///DATABASE?host=/DIRECTORY&user=USER), " +
	"without the options password, sslpassword and those that are settings of their own (pool_max_conns, connect_timeout, statement_timeout)"

// isDatabaseURL wants the URL form only: its one place for a password is what
// redaction knows. No fault may quote url.Parse, for it repeats its input.
func isDatabaseURL(s string) bool {
	u, err := parseDatabaseURL(s)
	if err != nil || !isVisible(s) || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Opaque != "" || u.Fragment != "" || len(u.Path) < 2 {
		return false
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return false
	}
	for option := range query {
		switch strings.ToLower(option) {
		case "password", "sslpassword", "pool_max_conns", "connect_timeout", "statement_timeout":
			return false
		}
	}
	return true
}

// parseDatabaseURL is url.Parse where there may be several hosts, each with a port of
// its own, or without.
func parseDatabaseURL(s string) (*url.URL, error) {
	scheme, rest, _ := strings.Cut(s, "://")
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	start := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := rest[start:end]
	for host := range strings.SplitSeq(hosts, ",") {
		if _, err := url.Parse("postgres://" + host); err != nil {
			return nil, err
		}
	}
	first, _, several := strings.Cut(hosts, ",")
	if !several {
		return url.Parse(s)
	}
	u, err := url.Parse(scheme + "://" + rest[:start] + first + rest[end:])
	if err != nil {
		return nil, err
	}
	u.Host = hosts
	return u, nil
}

// withoutPassword is the part of a database URL that may be printed.
func withoutPassword(s string) string {
	u, err := parseDatabaseURL(s)
	if err != nil {
		return ""
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}
