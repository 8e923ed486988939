package browser

import (
	"slices"
	"strings"
)

// Initiator is the party that made the browser send a request. The zero value proves nothing.
type Initiator uint8

// The initiators (docs/initiator.md).
const (
	// InitiatorUnknown: no header attests the initiator. The client is no browser, or an old one.
	InitiatorUnknown Initiator = iota
	// InitiatorOwn: a page of the request's own origin, or of an allowed one.
	InitiatorOwn
	// InitiatorUser: a user opens a page, through the address bar or through a link on any page. No
	// script can read the answer.
	InitiatorUser
	// InitiatorForeign: a page of another origin, which may be an attacker's.
	InitiatorForeign
)

func (i Initiator) String() string { return [...]string{"unknown", "own", "user", "foreign"}[i] }

// Evidence is what a request says of its initiator. No page's script can set these headers (Fetch
// standard, "forbidden request-header"). If a header came several times, its values are joined with
// a comma: no browser sends it so.
type Evidence struct {
	Reads bool // GET or HEAD
	// Scheme and Host are the target to which the browser sent the request.
	Scheme, Host string
	Origin       string
	// Site, Mode, Dest and Purpose are Sec-Fetch-Site, -Mode, -Dest and Sec-Purpose.
	Site, Mode, Dest, Purpose string
	Referer                   string
}

// Trust is what a deployment trusts beside the request's own origin.
type Trust struct {
	// Origins may send requests as the signed-in user.
	Origins []Origin
	// Frames: pages of any origin may hold ours in a frame.
	Frames bool
}

// Initiator finds the party that made the client send the request. The rules are those of
// docs/initiator.md, tried from the top. It is pure.
func (e Evidence) Initiator(trust Trust) Initiator {
	origin, parsed := ParseOrigin(e.Origin)
	own, _ := NewOrigin(e.Scheme, e.Host)
	switch {
	case parsed && slices.Contains(trust.Origins, origin): // A1
		return InitiatorOwn
	case e.Origin != "" && e.Origin != nullOrigin && (!parsed || origin != own): // A2
		return InitiatorForeign
	}
	opens := e.Reads && e.Mode == modeNavigate
	inTab := e.Dest == "document" || e.Dest == ""
	ahead := strings.Contains(e.Purpose, "prefetch") // also to prerender
	switch e.Site {
	case "same-origin": // A3
		return InitiatorOwn
	case "none":
		switch referer := refererOrigin(e.Referer); {
		case e.Mode != modeNavigate: // A5: an extension's script, for one
			return InitiatorUnknown
		case ahead && (referer != own || referer == Origin{}) && !slices.Contains(trust.Origins, referer):
			return InitiatorForeign // A8: Chromium sends none for a page's speculation rules, whichever origin the page has
		default: // A4
			return InitiatorUser
		}
	case "same-site", "cross-site":
		switch {
		case !opens || ahead: // A8
			return InitiatorForeign
		case inTab: // A6
			return InitiatorUser
		case trust.Frames, slices.Contains(trust.Origins, refererOrigin(e.Referer)): // A7
			return InitiatorUser
		default:
			return InitiatorForeign // A8: a frame, an object
		}
	case "":
		switch {
		case parsed: // A9
			return InitiatorOwn
		case e.Origin == nullOrigin: // A10
			return InitiatorForeign
		case opens && inTab: // A6
			return InitiatorUser
		default:
			return InitiatorUnknown // A11
		}
	default:
		return InitiatorForeign // A12: repeated, or no value of the standard
	}
}

// nullOrigin is the Origin of a page that shows none: a sandboxed frame, a page whose referrer
// policy hides it, the end of redirects through other sites.
const nullOrigin = "null"

// modeNavigate is the Sec-Fetch-Mode of following a link, typing an address or submitting a form.
const modeNavigate = "navigate"

// refererOrigin is the origin of a Referer (RFC 9110 §10.1.3). A page can hide its own, but cannot
// claim another's.
func refererOrigin(referer string) Origin {
	scheme, rest, _ := strings.Cut(referer, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	origin, _ := ParseOrigin(scheme + "://" + rest)
	return origin
}
