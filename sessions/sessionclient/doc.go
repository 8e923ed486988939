// Package sessionclient calls the sessions API of sessiongate, for login services and other
// backends in Go. It owns the requests to /v1, the types of their answers and the errors.
//
// What it promises:
//
//   - It imports the standard library alone.
//   - A session is there, or an access token allowed, only where the error is nil.
//   - A denial or a refusal is an [*Error]. Callers tell them apart with errors.Is and the
//     errors of this package.
//   - No error, and no value that fmt, slog or encoding/json prints, has a token, a cookie or the
//     API key in it. A [Token] is revealed by a conversion to string alone. redacted.go names
//     where fmt asks no method, and so prints one.
//   - The API key goes to BaseURL alone: no redirect is followed, and no proxy is used but that of
//     the caller's own Transport.
//   - Each call ends within a time, and reads a bounded answer.
//
// It repeats nothing by itself. A creation that is repeated makes two sessions, and only the caller
// knows whether a refresh still has its time: see [Client.Refresh]. Verify, Get, List, End and
// EndUser may be repeated by the caller as often as it likes; [Error.RetryAfter] says when.
//
// Where to look:
//
//   - What may be asked? client.go. What is answered? answers.go.
//   - What went wrong? errors.go.
//   - What is sent, and how is it bounded? call.go.
package sessionclient
