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
	verdicts := slices.DeleteFunc(authz.Verdicts(), func(v *authz.Verdict) bool { return v.Outcome == sessions.Allow || v.Code == "other" })
	slices.SortFunc(verdicts, func(a, b *authz.Verdict) int {
		return cmp.Or(cmp.Compare(order(a.Outcome), order(b.Outcome)), strings.Compare(a.Code, b.Code))
	})
	var b strings.Builder
	b.WriteString(denialsHead)
	for _, v := range verdicts {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s. |\n", v.Code, v.Outcome, v.Rule, sentence(v.Why))
	}
	b.WriteString(denialsMiddle)
	for _, r := range sessionhttp.Refusals() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Code, r.Why)
	}
	b.WriteString(denialsTail)
	_, err := io.WriteString(w, b.String())
	return err
}

// order puts what a client can mend first.
func order(o sessions.Outcome) int {
	return slices.Index([]sessions.Outcome{sessions.TryRefresh, sessions.Unauthorised, sessions.Forbidden, sessions.Unavailable}, o)
}

func sentence(words string) string { return strings.ToUpper(words[:1]) + words[1:] }

const denialsHead = `# Why a request was denied

<!-- Made by "sessiongate denials" from the tables in sessions/errors.go, authz/server.go and sessions/sessionhttp/errors.go. -->

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

What a client does follows from the outcome:

- TRY_REFRESH: refresh once, take over the ` + "`anti-csrf`" + ` header of the answer, and repeat the request
  once.
- UNAUTHORISED: sign in.
- FORBIDDEN: do not repeat the request.
- UNAVAILABLE: wait for ` + "`Retry-After`" + `, then repeat the request.

| Code | Outcome | Rule | Meaning |
|---|---|---|---|
`

const denialsMiddle = `
## Refresh, sign-out and the sessions API

Verifying a token by the sessions API answers with the codes above. Beside them:

| Code | Meaning |
|---|---|
`

const denialsTail = `
## Allowed requests

Where a request passes, the metric, the log (level ` + "`debug`" + `) and the metadata say what let it pass:
` + "`session`, `optional`, `login_page`, `auth_path` or `preflight`" + `.
`
