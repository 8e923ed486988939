// Package sessions owns the life of a session: how it is created, how its access
// token is verified without any I/O, how its refresh tokens rotate, and how it
// ends. docs/protocol.md states the rules; the code and its tests name them
// (R1–R8, V1–V5, I1–I8).
//
// What it promises:
//
//   - Verify reads memory only: no query, no global lock, no waiting.
//   - The refresh tokens of a session form one line. Which answer a refresh gets
//     is decided by one pure function (rotation.go); a token that left the line
//     ends the session at its next use.
//   - An outage of the store is never a verdict about a session: it is
//     [ErrUnavailable], and nothing of the session changes.
//   - A session that was ended is denied by every engine over the same store
//     within Config.FeedBound, as long as the store can be read.
//   - No token appears in an error, an event or a formatted value.
//
// How to start: [New] builds an [Engine] over a [Store], [Engine.Run] works for it
// until its context ends, and from the first [EventReady] on it answers. Then
// [Engine.Create] signs in, [Engine.Verify] judges each request, [Engine.Refresh]
// renews, [Engine.Update] changes claims, and [Engine.End] and [Engine.SignOut] end;
// [Cookies] puts what they issue into cookies. The examples run.
//
// What it does not do: it knows nothing of Envoy, HTTP routing or SQL. Those
// live in authz, sessions/sessionhttp and sessions/postgres.
package sessions
