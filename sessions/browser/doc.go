// Package browser owns what a browser sees of a session: the cookies that hold its tokens, the
// headers that its scripts read, what it sends to bind a session to its device (bound.go), and what a
// request reveals of the page that sent it. docs/protocol.md, docs/bound.md and docs/initiator.md state
// the rules.
//
// What it promises:
//
//   - A token is in one cookie or one header, and nowhere else. What sets or deletes a cookie also
//     deletes every other cookie of its name that the browser may have.
//   - Everything that reads a request is a pure function of its headers. It takes time linear in
//     their length, and trusts nothing that a script of a page can write.
//   - What a client chooses (its Host, its Cookie header) never becomes an attribute or a cookie of
//     another name.
//
// What it does not do: it decides nothing about a session. Package sessions does, and knows no
// HTTP.
package browser
