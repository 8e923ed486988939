package authz

import (
	_ "embed"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
)

//go:embed hop.html
var hopPage string

var hopCSP = fmt.Sprintf("default-src 'none'; script-src '%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hashOf(hopPage, "script"))

// hop answers a person who comes from another site where cookies are strict: the
// browser has sent none, and does so once a page of this site asks. Or where a service
// worker handed the request on: this page is shown in a tab only, not in a frame. Its
// own request is of the same origin, so there is no second hop.
func hop() answer {
	return answer{
		code: code.Code_UNAUTHENTICATED, status: 401, body: hopPage,
		headers: []*corev3.HeaderValueOption{
			header("content-type", "text/html; charset=utf-8"),
			header("content-security-policy", hopCSP),
			header("x-content-type-options", "nosniff"),
			header("referrer-policy", "same-origin"),
		},
	}
}
