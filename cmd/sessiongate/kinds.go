package main

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sessiongate/sessiongate/internal/settings"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func isAbsoluteFile(s string) bool { return settings.IsText(s) && filepath.IsAbs(s) }

func tcpAddress(p *string) settings.Kind {
	return settings.Text(p, "HOST:PORT, such as 127.0.0.1:9001 (port 0: any free one; no host: every interface)", isTCPAddress)
}

// maxSocketPath is the shortest sun_path of the systems we run on (macOS),
// without its closing zero; the kernel would refuse, or a library cut, more.
const maxSocketPath = 103

func tcpOrUnixAddress(p *string) settings.Kind {
	return settings.Text(p, fmt.Sprintf("HOST:PORT, such as 127.0.0.1:9001 (port 0: any free one; no host: every interface), or unix:/PATH of at most %d bytes", maxSocketPath),
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
// capitals, an address. net/http writes no Domain without a letter.
func isCookieDomain(s string) bool {
	return isDNSName(s) && strings.ContainsAny(s, lower)
}

// isDNSName takes a host in lower case that is no address.
func isDNSName(s string) bool {
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
// lower case, no default port, nothing after it.
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

// publicURL is the part of a database URL that may be printed, and what to say of the rest.
func publicURL(s string) (text, rest string) {
	if hasPassword(s) {
		rest = "password " + settings.Redacted
	}
	return withoutPassword(s), rest
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

const (
	allowedKey       = "the standard base64 of 32 bytes (44 characters)"
	allowedAPISecret = "32 to 256 visible ASCII characters without a comma" //nolint:gosec // describes secrets, is none
)

func isKey(s string) bool {
	raw, err := base64.StdEncoding.DecodeString(s)
	// Decoding skips line ends and loose last bits, so only what encodes to itself is canonical.
	return err == nil && len(raw) == 32 && base64.StdEncoding.EncodeToString(raw) == s
}

func isAPISecret(s string) bool {
	return len(s) >= 32 && len(s) <= 256 && isVisible(s) && !strings.Contains(s, ",")
}

func isAPIName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && onlyOf(s, lower+digits+"-_")
}

func isLine(s string) bool { return s != "" && settings.IsText(s) }

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

// onlyOf says whether s holds no character outside set.
func onlyOf(s, set string) bool { return strings.Trim(s, set) == "" }

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

func isClientName(s string) bool {
	if rest, ok := strings.CutPrefix(s, "spiffe://"); ok {
		return isSPIFFE(rest)
	}
	return isDNSName(s)
}

// isSPIFFE takes TRUST-DOMAIN/PATH of a SPIFFE id (SPIFFE-ID §2), which has one text.
func isSPIFFE(s string) bool {
	domain, path, ok := strings.Cut(s, "/")
	if !ok || domain == "" || len(domain) > 255 || len(s) > 2000 || !onlyOf(domain, lower+digits+"-._") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || !onlyOf(segment, lower+upper+digits+"-._") {
			return false
		}
	}
	return true
}
