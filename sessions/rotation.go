package sessions

import "time"

// The refresh tokens of a session form one line: the row names the current one,
// a refresh hands out a child of it, and the first use of the child promotes it.
// This file decides what a refresh is answered. It reads no clock, no store and
// no randomness, so that every rule can be tested by itself, and every sequence
// of them by the million.

// Windows are the durations that the rules of rotation are made of.
type Windows struct {
	// Attempt, D in docs/protocol.md, is the longest that an honest refresh may
	// take from leaving the browser to its answer's cookies being stored.
	Attempt time.Duration
	// HandOutsMax is how often one generation's child may be handed out.
	HandOutsMax int
	// Sliding is the life that each drawn child gives the session anew.
	Sliding time.Duration
}

// grace, G, is how long after a promotion (or creation) answers that were
// already under way may still arrive.
func (w Windows) grace() time.Duration { return w.Attempt }

// repeat, W, is how long after its recorded hand-out a child is handed out
// again instead of a sibling. A hand-out within D/2 of the recorded one is not
// recorded, so every hand-out has at least 2·D of it left: its answer may take
// D to arrive, and so may the answer to the attempt that overlaps it.
func (w Windows) repeat() time.Duration { return w.Attempt * 5 / 2 }

// Rule names the rule of docs/protocol.md that decided a refresh.
type Rule string

// The rules of refresh.
const (
	R1 Rule = "R1" // does not open
	R2 Rule = "R2" // no such session, or expired
	R3 Rule = "R3" // current, fresh: keep
	R4 Rule = "R4" // current: draw a child
	R5 Rule = "R5" // current: the same child again
	R6 Rule = "R6" // a child: promote it
	R7 Rule = "R7" // previous, within grace: keep
	R8 Rule = "R8" // left the line: theft
)

type answer uint8

const (
	answerOver       answer = iota // the zero value hands out nothing
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
// that fits. nonce is used only where a child is drawn.
func decide(row Row, token refreshToken, client Client, now time.Time, nonce Nonce, w Windows) decision {
	if !now.Before(row.ExpiresAt) || !now.Before(row.AbsoluteExpiresAt) {
		return decision{rule: R2, next: row}
	}
	row = notInFuture(row, now)
	mark := token.mark()
	fresh := now.Before(row.PromotedAt.Add(w.grace()))
	sameClient := row.CurrentClient == client

	switch {
	case mark == row.Current && fresh:
		// A session whose sign-in reported no client belongs to whoever holds
		// its first token.
		if sameClient || row.CurrentClient == (Client{}) {
			return decision{rule: R3, answer: answerKeep, next: row}
		}
		return decision{rule: R3, answer: answerSuperseded, next: row}

	case mark == row.Current && (row.HandedAt.IsZero() || !now.Before(row.HandedAt.Add(w.repeat()))):
		next := row
		next.NextNonce, next.NextClient = nonce, client
		next.ExpiresAt = earlier(now.Add(w.Sliding), row.AbsoluteExpiresAt)
		return handOut(R4, row, next, now, w)

	case mark == row.Current:
		if row.NextClient != client {
			return decision{rule: R5, answer: answerSuperseded, next: row}
		}
		if now.Before(row.HandedAt.Add(w.Attempt / 2)) {
			return decision{rule: R5, answer: answerChild, next: row}
		}
		return handOut(R5, row, row, now, w)

	case token.parent == row.Current:
		return decision{rule: R6, answer: answerKeep, next: promoted(row, mark, client, now)}

	case mark == row.Previous && fresh:
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
	row.PromotedAt, row.HandedAt = earlier(row.PromotedAt, now), earlier(row.HandedAt, now)
	return row
}

// handOut records one more hand-out of the child that next names, or ends the
// session: an honest client uses what it gets, one that asks for minutes and
// uses nothing is keeping a stolen token alive unseen.
func handOut(rule Rule, row, next Row, now time.Time, w Windows) decision {
	if row.HandOuts >= w.HandOutsMax {
		return decision{rule: rule, next: row, end: ReasonRefreshAbuse}
	}
	next.HandedAt, next.HandOuts = now, row.HandOuts+1
	return decision{rule: rule, answer: answerChild, next: next}
}

// promoted is the row after its child own was used by client.
func promoted(row Row, own Mark, client Client, now time.Time) Row {
	row.Previous, row.Current = row.Current, own
	row.CurrentClient, row.PromotedAt = client, now
	row.NextNonce, row.NextClient, row.HandedAt, row.HandOuts = Nonce{}, Client{}, time.Time{}, 0
	return row
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
