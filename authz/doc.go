// Package authz answers Envoy's question about every request
// (envoy.service.auth.v3.Authorization/Check): it owns the translation of
// Envoy's CheckRequest into what the rules need, the policy of a route, the
// anti-CSRF and Origin rules, and the translation of the outcome into a
// CheckResponse. docs/protocol.md, "What the client sees" and "What the upstream
// sees", is what it implements.
//
// What it promises:
//
//   - Every Check is answered inside a CheckResponse, built in one place
//     (response.go), whatever the request holds: a zero CheckResponse means
//     "allowed" to Envoy, and a gRPC error means whatever Envoy was configured
//     to do with one.
//   - Identity headers reach the upstream only from a verified session. Where a
//     request passes without one, they are removed.
//   - An unknown policy key or value denies: a typo never opens a route.
//   - A path that some server could read as that of another entry of the table of
//     routes passes nobody.
//   - Check waits for nothing: no query, no lock that another request holds.
//   - No cookie is set or cleared, and no token or cookie is logged.
//
// Which policy holds? choose in choose.go, and for the table find in routes.go.
// Why was a request denied? decide in server.go. With which answer? respond in
// response.go.
package authz
