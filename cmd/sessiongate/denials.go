package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sessiongate/sessiongate/authz"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/sessionhttp"
)

// writeDenials prints the page of the codes, in Markdown.
func writeDenials(w io.Writer) error {
	var b strings.Builder
	b.WriteString(denialsHead)
	writeDenialRows(&b, slices.Concat(sessions.Denials(), authz.Denials()))
	b.WriteString(denialsMiddle)
	writeDenialRows(&b, sessionhttp.Denials())
	b.WriteString(denialsTail)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeDenialRows(b *strings.Builder, denials []*sessions.Denial) {
	slices.SortFunc(denials, func(a, b *sessions.Denial) int {
		return cmp.Or(cmp.Compare(order(a.Outcome), order(b.Outcome)), strings.Compare(a.Code, b.Code))
	})
	for _, d := range denials {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s. |\n", d.Code, d.Outcome, d.Rule, sentence(d.Message))
	}
}

// order puts what a client can mend first.
func order(o sessions.Outcome) int {
	return slices.Index([]sessions.Outcome{sessions.TryRefresh, sessions.Unauthorised, sessions.Forbidden, sessions.Unavailable}, o)
}

func sentence(words string) string { return strings.ToUpper(words[:1]) + words[1:] }

const denialsHead = `# Why a request was denied

<!-- Made by "sessiongate denials" from the tables in sessions/errors.go, authz/denials.go and sessions/sessionhttp/denials.go. -->

Each denial has a stable code. The same code is in five places:

| Place | Name |
|---|---|
| the log line ` + "`check`" + ` or ` + "`request refused`" + ` | ` + "`code`" + `, with ` + "`user_id` and `session`" + ` where a good token named them |
| the metric ` + "`sessiongate_checks_total` or `sessiongate_http_requests_total`" + ` | label ` + "`code`" + ` |
| Envoy's dynamic metadata and access log | ` + "`envoy.filters.http.ext_authz:code`" + ` |
| the response header, with the setting ` + "`responses.denial_header: true`" + ` | ` + "`x-sessiongate-denial`" + ` |
| a problem (RFC 9457) of the sessions API | member ` + "`code`" + ` |

The header is off by default: it also helps an attacker who looks for a way in.

## Checks

The outcome says what the client is to do:

- TRY_REFRESH: refresh once, take over the ` + "`anti-csrf`" + ` header of the answer, and repeat
  the request once.
- UNAUTHORISED: sign in.
- FORBIDDEN: do not repeat the request as it is.
- UNAVAILABLE: wait for ` + "`Retry-After`" + `, then repeat the request.

| Code | Outcome | Rule | Meaning |
|---|---|---|---|
`

const denialsMiddle = `
## Refresh, sign-out and the sessions API

The sessions API verifies a token with the codes above. These are the other codes; the
outcomes mean the same.

| Code | Outcome | Rule | Meaning |
|---|---|---|---|
`

const denialsTail = `
## Allowed requests

Where a request passes, the metric, the log (level ` + "`debug`" + `) and the metadata say what let it pass:
` + "`session`, `optional`, `login_page`, `auth_path` or `preflight`" + `.
`
