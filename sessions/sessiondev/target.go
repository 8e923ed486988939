package sessiondev

import (
	"net/http"
	"regexp"
	"strings"
)

// target is what a request asks for, as Envoy reads it.
type target struct {
	path, query string
	hasQuery    bool // also an empty one
}

// String is the target as Envoy's :path has it.
func (t target) String() string {
	if t.hasQuery {
		return t.path + "?" + t.query
	}
	return t.path
}

// readTarget reads the target of a request line as the shipped envoy.yaml has Envoy read it:
// normalize_path, merge_slashes, and REJECT_REQUEST for escaped slashes. Otherwise an open route
// would lead to a guarded page. status is not 0 where Envoy refuses the target.
func readTarget(raw string) (t target, status int) {
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] >= 0x7f || raw[i] == '#' {
			return t, http.StatusBadRequest
		}
	}
	raw, status = withoutOrigin(raw)
	if status != 0 {
		return t, status
	}
	t.path, t.query, t.hasQuery = strings.Cut(raw, "?")
	if t.path == "" {
		if t.hasQuery {
			return t, http.StatusNotFound // no route matches
		}
		t.path = "/"
	}
	if t.path[0] != '/' {
		return t, http.StatusBadRequest
	}
	lower := strings.ToLower(t.path)
	if strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(lower, "%00") {
		return t, http.StatusBadRequest
	}
	t.path = dotParameters.ReplaceAllString(t.path, "/$1")
	t.path = mergedSlashes(resolvedDots(canonicalPath(t.path)))
	return t, 0
}

// dotParameters are the parameters of . and .. segments: some servers ignore them, and climb.
var dotParameters = regexp.MustCompile(`/(\.\.?);[^/]*`)

// withoutOrigin takes scheme and host from an absolute target (RFC 9112 §3.2.2).
func withoutOrigin(raw string) (rest string, status int) {
	scheme, after, absolute := strings.Cut(raw, "://")
	if !absolute || strings.ContainsAny(scheme, "/?") {
		return raw, 0
	}
	switch strings.ToLower(scheme) {
	case "http":
	case "https":
		return "", http.StatusForbidden // without TLS
	default:
		return "", http.StatusBadRequest
	}
	if at := strings.IndexAny(after, "/?"); at >= 0 {
		return after[at:], 0
	}
	return "", 0
}

// canonicalPath decodes the escapes that stand for unreserved characters (RFC 3986 §2.3), escapes
// those that no URL has, and takes \ for /.
func canonicalPath(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '\\':
			b.WriteByte('/')
		case c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]):
			if decoded := unhex(path[i+1])<<4 | unhex(path[i+2]); isUnreserved(decoded) {
				b.WriteByte(decoded)
			} else {
				b.WriteString(path[i : i+3])
			}
			i += 2
		case strings.IndexByte("\"<>^`{|}", c) >= 0:
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

const upperHex = "0123456789ABCDEF"

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// resolvedDots resolves the segments . and .. (RFC 3986 §5.2.4). An empty segment is one, too.
func resolvedDots(path string) string {
	segments := strings.Split(path[1:], "/")
	var kept []string
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".":
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, segment)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// mergedSlashes takes several slashes for one. Of slashes alone Envoy leaves two.
func mergedSlashes(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	merged := strings.Join(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), "/")
	if strings.HasSuffix(path, "/") {
		merged += "/"
	}
	return "/" + merged
}
