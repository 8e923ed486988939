package authz

import (
	"net/url"
	"strings"
)

// loginURLMax leaves room for return_to in a Location header.
const loginURLMax = 2048 // bytes

func isLoginURL(text string) bool {
	if len(text) > loginURLMax || !isVisible(text) || strings.ContainsAny(text, `\#`) {
		return false
	}
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(text, scheme); ok {
			return rest != "" && rest[0] != '/' && rest[0] != '?'
		}
	}
	return isLocal(text)
}

// isLocal says whether text is a path of the same host. "//host" and "/\host"
// are other hosts to a browser: an open redirect.
func isLocal(text string) bool {
	return strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//") && !strings.Contains(text, `\`)
}

// isVisible says whether text has only the characters ! to ~: none can end a header.
func isVisible(text string) bool {
	for i := range len(text) {
		if text[i] < 0x21 || text[i] > 0x7e {
			return false
		}
	}
	return true
}

// isPathOf says whether path is that of a login address on the same host.
func isPathOf(loginURL, path string) bool {
	local, _, _ := strings.Cut(loginURL, "?")
	return isLocal(local) && local == path
}

// returnToMax bounds what of a request goes into a Location header.
const returnToMax = 2048 // bytes

// loginLocation is the login address. It has return_to where the route wants it
// and the browser would come back by the same request.
func loginLocation(r *request, p Policy) string {
	if !p.ReturnTo || !r.reads() || !r.wantsPage() {
		return p.LoginURL
	}
	target := r.path
	if r.query != "" {
		target += "?" + r.query
	}
	if !IsReturnTo(target) {
		return p.LoginURL
	}
	return withQuery(p.LoginURL, "return_to="+url.QueryEscape(target))
}

// IsReturnTo says whether a login page may lead back to text: it is a path of the same host.
func IsReturnTo(text string) bool {
	return isLocal(text) && isVisible(text) && len(text) <= returnToMax
}

func withQuery(address, parameter string) string {
	if strings.Contains(address, "?") {
		return address + "&" + parameter
	}
	return address + "?" + parameter
}
