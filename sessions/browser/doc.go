// Package browser owns how a session looks to a browser: which cookies hold its tokens,
// which headers its scripts read, and what a request says of the page that sent it.
// docs/protocol.md and docs/initiator.md state the rules.
//
// What it promises:
//
//   - A token is in one cookie or one header, and nowhere else. What sets or deletes a
//     cookie deletes it wherever else it may be.
//   - Everything that reads a request is a pure function of the request's headers, in time
//     that is linear in their length, and believes nothing that a page's script can write.
//   - What a client chose (its Host, its Cookie header) never becomes an attribute or a
//     cookie of another name.
//
// What it does not do: it decides nothing about a session. That is the engine's, in
// package sessions, which knows no HTTP.
package browser
