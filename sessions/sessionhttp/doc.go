// Package sessionhttp owns what sessiongate says over HTTP: refresh, sign-out, the keys of
// devices and the public keys, which browsers reach through Envoy ([Public]), the sessions
// API for backends ([Internal]) and the health of the process ([Health]).
// docs/protocol.md and docs/bound.md state the answers.
//
// What it promises:
//
//   - One table (errors.go) turns an error into a status and says what the client is to
//     do. The cause goes to the log.
//   - Only an answer to a client whose session has ended clears cookies, and only one
//     that issues tokens sets them. An outage or a superseded refresh leaves the cookies
//     as they are.
//   - Only the answer with the public keys may be cached. No answer repeats a value that
//     the request carried in the wrong place: it could be a token.
//   - A page of a foreign origin can neither refresh, sign out nor see or end the user's
//     sessions (origin.go). It may cause a proof, which only the device can answer. For refreshes by the sessions API, the caller checks the origin.
//   - Every denial has a status that is no success (api_verify.go): a caller of the
//     sessions API that reads only the status admits no denied request.
//
// It sends no CORS headers, for Envoy's cors filter does. It does not decide how many
// refreshes are too many; the engine does.
//
// Where to look: what browsers reach is in public.go and public_*.go, the sessions API in
// api.go and api_*.go, one file for each operation. denials.go has all codes.
package sessionhttp
