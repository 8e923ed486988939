// Package sessionhttp owns what sessiongate says over HTTP: refresh, sign-out and
// the public keys, which browsers reach through Envoy ([Public]), the sessions API
// for backends ([Internal]) and the health of the process ([Health]).
// docs/protocol.md states the answers.
//
// What it promises:
//
//   - One table (errors.go) turns an error into a status. A client learns what it
//     may know from it; the cause goes to the log.
//   - Only an answer to a client whose session is over clears cookies, and only one
//     that issues tokens sets them: an outage or a superseded refresh leaves
//     what the browser has as it is.
//   - No answer but the public keys may be cached, and no answer repeats a value
//     that the request carried in the wrong place: it could be a token.
//   - A page of a foreign origin can neither refresh nor sign out (origin.go); for
//     refreshes by the sessions API that is the caller's to judge.
//   - A caller of the sessions API that looks at nothing but the status lets nobody
//     in who was denied (verify.go).
//
// What it does not do: it sends no CORS headers, for Envoy's cors filter alone
// does, and it limits no rates.
package sessionhttp
