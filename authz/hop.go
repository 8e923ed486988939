package authz

import (
	_ "embed"
	"fmt"
)

//go:embed hop.html
var hopPage string

var hopCSP = fmt.Sprintf("default-src 'none'; script-src '%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hashOf(hopPage, "script"))

// hop is the page for a request that comes from another site without the session's
// cookies. Where cookies are strict, the browser kept them back, and sends them once a
// page of this site asks. Where a service worker passed the request on, this page is shown
// in a tab only, not in a frame. The page's own request is of the same origin, so there is
// no second hop.
func hop() reply {
	return page(401, hopPage, hopCSP)
}
