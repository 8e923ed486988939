# The token in the cookie is verified with the keys of data.jwks; its subject goes to the system.
package envoy.authz

import rego.v1

default allow := {"allowed": false}

allow := {"allowed": true, "headers": {data.header: payload.sub}} if {
	some part in split(input.attributes.request.http.headers.cookie, "; ")
	startswith(part, data.cookie)
	token := substring(part, count(data.cookie), -1)
	[valid, _, payload] := io.jwt.decode_verify(token, {"cert": data.jwks, "alg": "ES256"})
	valid
}
