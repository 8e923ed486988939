package authz

import (
	_ "embed"
	"fmt"
)

//go:embed hop.html
var hopPage string

var hopCSP = fmt.Sprintf("default-src 'none'; script-src '%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hashOf(hopPage, "script"))

// hop answers a person who comes from another site where cookies are strict: the
// browser has sent none, and does so once a page of this site asks. Or where a service
// worker handed the request on: this page is shown in a tab only, not in a frame. Its
// own request is of the same origin, so there is no second hop.
func hop() reply {
	return page(401, hopPage, hopCSP)
}
