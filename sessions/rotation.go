package sessions

import "time"

// The refresh tokens of a session form one line: the row names the current one,
// a refresh issues a child of it, and the first use of the child promotes it.
// This file decides what a refresh is answered. It reads no clock, no store and
// no randomness, so that every rule can be tested by itself, and every sequence
// of them by the million.

// Windows are the durations that the rules of rotation are made of.
type Windows struct {
	// Attempt, D in docs/protocol.md, is the longest that an honest refresh may
	// take from leaving the browser to its answer's cookies being stored.
	Attempt time.Duration
	// IssuesMax is how often one generation's child may be issued.
	IssuesMax int
	// Sliding is the life that each generated child gives the session again.
	Sliding time.Duration
}

// grace, G, is how long after a promotion (or creation) answers that were
// already under way may still arrive.
func (w Windows) grace() time.Duration { return w.Attempt }

// repeat, W, is how long after its recorded issue a child is issued
// again instead of a sibling. A issue within D/2 of the recorded one is not
// recorded, so every issue has at least 2·D of it left: its answer may take
// D to arrive, and so may the answer to the attempt that overlaps it.
func (w Windows) repeat() time.Duration { return w.Attempt * 5 / 2 }

// Rule names the rule of docs/protocol.md that decided a refresh.
type Rule string

// The rules of refresh.
const (
	R1 Rule = "R1" // does not open
	R2 Rule = "R2" // no such session, or expired
	R3 Rule = "R3" // current, fresh: keep
	R4 Rule = "R4" // current: generate a child
	R5 Rule = "R5" // current: the same child again
	R6 Rule = "R6" // a child: promote it
	R7 Rule = "R7" // previous, within grace: keep
	R8 Rule = "R8" // left the line: theft
)

type answer uint8

const (
	answerEnded      answer = iota // the zero value issues nothing
	answerSuperseded               // 409
	answerKeep                     // a new access token, the refresh token stays
	answerChild                    // the child and its access token
)

// decision is what to answer, after writing next (if it differs from the row
// that was read) or ending the session (if end is set).
type decision struct {
	rule   Rule
	answer answer
	next   Row
	end    Reason
}

// decide is the table of docs/protocol.md, "Refresh", from R2 on: the first case
// that fits. nonce is used only where a child is generated.
func decide(row Row, token refreshToken, client Client, now time.Time, nonce Nonce, w Windows) decision {
	if !now.Before(row.ExpiresAt) || !now.Before(row.AbsoluteExpiresAt) {
		return decision{rule: R2, next: row}
	}
	row = notInFuture(row, now)
	hash := token.hash()
	fresh := now.Before(row.PromotedAt.Add(w.grace()))
	sameClient := row.CurrentClient == client

	switch {
	case hash == row.Current && fresh:
		// A session whose sign-in reported no client belongs to whoever holds
		// its first token.
		if sameClient || row.CurrentClient == (Client{}) {
			return decision{rule: R3, answer: answerKeep, next: row}
		}
		return decision{rule: R3, answer: answerSuperseded, next: row}

	case hash == row.Current && (row.IssuedAt.IsZero() || !now.Before(row.IssuedAt.Add(w.repeat()))):
		next := row
		next.NextNonce, next.NextClient = nonce, client
		next.ExpiresAt = earlier(now.Add(w.Sliding), row.AbsoluteExpiresAt)
		return issueChild(R4, row, next, now, w)

	case hash == row.Current:
		if row.NextClient != client {
			return decision{rule: R5, answer: answerSuperseded, next: row}
		}
		if now.Before(row.IssuedAt.Add(w.Attempt / 2)) {
			return decision{rule: R5, answer: answerChild, next: row}
		}
		return issueChild(R5, row, row, now, w)

	case token.parent == row.Current:
		return decision{rule: R6, answer: answerKeep, next: promoted(row, hash, client, now)}

	case hash == row.Previous && fresh:
		if sameClient {
			return decision{rule: R7, answer: answerKeep, next: row}
		}
		return decision{rule: R7, answer: answerSuperseded, next: row}

	case token.issuedAt.After(row.PromotedAt):
		// A token that is younger than the line it left: only a store that lost
		// writes can show that. Nobody is accused.
		return decision{rule: R8, next: row, end: ReasonRolledBack}

	default:
		return decision{rule: R8, next: row, end: ReasonTheft}
	}
}

// notInFuture is the row on a store whose clock may have been set back: what it says
// of the future was a moment ago at the earliest, so it counts as now, and is written
// so. Else the windows would stay open until the clock has caught up, and keep every
// other network of an honest client out for as long.
func notInFuture(row Row, now time.Time) Row {
	row.PromotedAt, row.IssuedAt = earlier(row.PromotedAt, now), earlier(row.IssuedAt, now)
	return row
}

// issueChild records one more issue of the child that next names, or ends the
// session: an honest client uses what it gets, one that asks for minutes and
// uses nothing is keeping a stolen token alive unseen.
func issueChild(rule Rule, row, next Row, now time.Time, w Windows) decision {
	if row.Issues >= w.IssuesMax {
		return decision{rule: rule, next: row, end: ReasonRefreshAbuse}
	}
	next.IssuedAt, next.Issues = now, row.Issues+1
	return decision{rule: rule, answer: answerChild, next: next}
}

// promoted is the row after its child own was used by client.
func promoted(row Row, own TokenHash, client Client, now time.Time) Row {
	row.Previous, row.Current = row.Current, own
	row.CurrentClient, row.PromotedAt = client, now
	row.NextNonce, row.NextClient, row.IssuedAt, row.Issues = Nonce{}, Client{}, time.Time{}, 0
	return row
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
