// Package sessiondev runs all of sessiongate in one process, in front of an app: for development
// and for the test suites of apps, never for production. It owns the proxy that stands for Envoy,
// and the controls by which a person or a test makes tokens expire, ends sessions, plays a thief
// and takes the store away.
//
// What it promises:
//
//   - One code path for outcomes. For every request the proxy builds the CheckRequest that Envoy
//     would send with the shipped envoy.yaml, asks the process's own [authz.Server], and does what
//     the answer says. It decides nothing by itself about a session.
//   - What envoy.yaml does before and around the check, the proxy does, too: client's identity
//     headers go, paths have one reading, headers leave room, and the auth path has no check.
//     Tests ask the real Envoy the same questions, row by row.
//   - With [Options.Envoy] the real Envoy stands there, with the shipped envoy.yaml and the routes of
//     the proxy. All else is the same.
//   - It listens on this machine alone.
//
// What it does not do: sessions are in memory and end with the process. Keys are made at the start.
// There is no TLS, no HTTP/2, no limit of connections, and the controls have no password. Cookies
// are for plain http.
//
// Where to look:
//
//   - How does it start? [Start] in server.go.
//   - In which order is a request treated? ServeHTTP in proxy.go.
//   - What is asked? check.go. How is a path read? target.go. Which headers go? headers.go.
//   - The real Envoy: envoy.go.
//   - The controls: faults.go for tests, control.go for hands.
package sessiondev
