// Package sessions owns the life of a session. It creates sessions, verifies their access tokens,
// rotates their refresh tokens, binds them to devices and ends them. docs/protocol.md states the rules
// (R1–R8, V0–V5, I1–I8), docs/bound.md those of devices (B1–B12); the code and its tests name them.
//
// What it promises:
//
//   - Verify reads memory only. It makes no query, takes no global lock and does not wait.
//   - The refresh tokens of a session form one chain. One pure function (rotation.go) decides what a
//     refresh is answered. A refresh token that is reused ends the session.
//   - A session whose browser proved the key of its device gets no token without another proof. One
//     pure function (binding.go) decides. Who has only its cookies ends nothing.
//   - An outage of the store never ends a session. The caller gets [ErrUnavailable], and nothing
//     changes.
//   - Every engine over the same store denies an ended session within Config.FeedBound, as long as
//     the store can be read.
//   - No token appears in an error, an event or a formatted value.
//
// How to start: [New] builds an [Engine] over a [Store]. [Engine.Run] works for it until its
// context ends; from the first [EventReady] on, the engine answers. Then [Engine.Create] signs in,
// [Engine.Verify] judges each request, [Engine.Refresh] rotates the tokens, [Engine.Update] changes
// claims and data, [Engine.Bind] registers the key of a device, [Engine.RefreshBound] answers its
// proofs, and [Engine.End] and [Engine.SignOut] end sessions. The examples run.
//
// What it does not do: it knows nothing of Envoy, HTTP, cookies or SQL. Those are in the packages
// authz, sessionhttp, browser and postgres.
package sessions
