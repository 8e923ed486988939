// Package authz answers Envoy's question about every request
// (envoy.service.auth.v3.Authorization/Check): it owns the translation of
// Envoy's CheckRequest into what the rules need, the policy of a route, the
// anti-CSRF and Origin rules, and the translation of the outcome into a
// CheckResponse. It implements docs/protocol.md, "What the client sees" and "What the
// upstream sees".
//
// What it promises:
//
//   - Every Check is answered inside a CheckResponse, built in one place
//     (response.go), whatever the request holds. A zero CheckResponse would mean
//     "allowed" to Envoy, and a gRPC error what Envoy was configured to do with one.
//   - Identity headers reach the upstream only from a verified session. Where a
//     request passes without one, they are removed.
//   - An unknown policy key or value denies: a typo never opens a route.
//   - A request does not pass if some server could read its path as that of another
//     entry of the table of routes.
//   - Check waits for nothing: no query, no lock that another request holds.
//   - No cookie is set or cleared, and no token or cookie is logged.
//
// Where to look:
//
//   - Which policy holds? choose in choose.go, and for the table of routes find in
//     routes.go. Which keys has a policy? policykeys.go.
//   - How is a path read? path.go.
//   - Why was a request denied? decide in server.go, with the reasons in denials.go.
//   - With which answer? respond in response.go.
//   - What is counted, logged and told to Envoy? report.go.
//
// The rules come first, and no rule knows how a Check travels. Three files do: wire.go reads a
// CheckRequest without generated code, encode.go writes a CheckResponse without it, and codec.go
// gives both to gRPC. Generated code made some fifty objects of each request and twenty of each
// answer, which cost twice as much as all that the rules do. The answer of a session is made once
// and is kept with its verified token. Fuzzers hold both files to the generated code.
package authz
