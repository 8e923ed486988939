package sessions

import "time"

// The refresh tokens of a session form one chain. The row names the current token, a refresh issues
// a child of it, and the first use of the child promotes it. This file decides what a refresh is
// answered. It reads no clock, no store and no randomness, so tests can try each rule alone and
// millions of sequences.

// windows are the durations of the rules of rotation.
type windows struct {
	// Attempt, D in docs/protocol.md, is the longest that an honest refresh may take, from the
	// moment it leaves the browser until the browser has stored the cookies of the answer.
	Attempt time.Duration
	// IssuesMax is how often the child of one generation may be issued.
	IssuesMax int
	// Sliding is the life that a newly generated child gives the session.
	Sliding time.Duration
}

// grace, G, is how long after a promotion (or creation) an answer may still arrive that was on its
// way before.
func (w windows) grace() time.Duration { return w.Attempt }

// repeat, W, is how long after its recorded issue a child is issued again instead of a sibling. An
// issue within D/2 of the recorded one is not recorded. So every issue has at least 2·D left: its
// answer may take D to arrive, and so may the answer to an attempt that overlaps it.
func (w windows) repeat() time.Duration { return w.Attempt * 5 / 2 }

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
	R8 Rule = "R8" // reused: theft
)

type answer uint8

const (
	answerEnded      answer = iota // the zero value issues nothing
	answerSuperseded               // 409
	answerKeep                     // a new access token; the refresh token stays
	answerChild                    // the child and its access token
)

// decision is what to answer, after one step: write next (if it differs from the row that was
// read), or end the session (if end is set).
type decision struct {
	rule   Rule
	answer answer
	next   Row
	end    Reason
}

// from is d with the device of the refresh, where d writes the row anyway. A refresh that is told
// superseded is perhaps another client's, and leaves the device.
func (d decision) from(device Device, read Row) decision {
	if d.next != read && d.answer != answerSuperseded {
		d.next.Device = device
	}
	return d
}

// decide is the table of docs/protocol.md, "Refresh", from R2 on: the first case that fits. nonce
// is used only if a child is generated.
func decide(row Row, token refreshToken, client Client, now time.Time, nonce Nonce, w windows) decision {
	if !now.Before(row.ExpiresAt) || !now.Before(row.AbsoluteExpiresAt) {
		return decision{rule: R2, next: row}
	}
	row = notInFuture(row, now)
	hash := token.hash()
	fresh := now.Before(row.PromotedAt.Add(w.grace()))
	sameClient := row.CurrentClient == client

	switch {
	case hash == row.Current && fresh:
		// A session whose sign-in reported no client belongs to any client that has its first
		// token.
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
		// The token is younger than the row. Only a store that lost writes can show that, so it is
		// not called a theft.
		return decision{rule: R8, next: row, end: ReasonRolledBack}

	default:
		return decision{rule: R8, next: row, end: ReasonTheft}
	}
}

// Rotation is what R4 writes, and the rows in which it does so. It is known before the row is read, so
// a store can read, compare and write in one statement ([Store.Rotate]). It says of R4 what decide
// says; decide has the last word. Its durations are whole microseconds, as a store's times are.
type Rotation struct {
	Current       TokenHash // of the presented token
	NextNonce     Nonce
	NextClient    Client
	Device        Device
	Grace, Repeat time.Duration // G and W
	Sliding       time.Duration
	IssuesMax     int
	WithData      bool // the record that Rotate returns has Data, too
	// ReadOnly says that no row is expected to fit, so Rotate only reads, which costs a store less.
	ReadOnly bool
}

// rotation is what R4 will write if token turns out to be current.
func rotation(token refreshToken, client Client, nonce Nonce, w windows) Rotation {
	return Rotation{
		Current: token.hash(), NextNonce: nonce, NextClient: client,
		Grace: w.grace(), Repeat: w.repeat(), Sliding: w.Sliding, IssuesMax: w.IssuesMax,
	}
}

// Fits says whether R4 issues a child of the row at that time. A bound session has no children. A row with a time in the future does
// not fit: to decide, that time counts as now, which is within G or W.
func (r Rotation) Fits(row Row, now time.Time) bool {
	return row.Current == r.Current && !row.Bound() &&
		now.Before(row.ExpiresAt) && now.Before(row.AbsoluteExpiresAt) &&
		!now.Before(row.PromotedAt.Add(r.Grace)) &&
		(row.IssuedAt.IsZero() || !now.Before(row.IssuedAt.Add(r.Repeat))) &&
		row.Issues < r.IssuesMax
}

// Next is the row after that issue.
func (r Rotation) Next(row Row, now time.Time) Row {
	row.NextNonce, row.NextClient, row.IssuedAt = r.NextNonce, r.NextClient, now
	row.Issues++
	row.ExpiresAt = earlier(now.Add(r.Sliding), row.AbsoluteExpiresAt)
	row.Device = r.Device
	return row
}

// noChildBefore is the time before which R4 issues no child of the row's tokens, whatever refreshes and
// promotions come until then.
func (w windows) noChildBefore(row Row) time.Time {
	return later(row.PromotedAt.Add(w.grace()), row.IssuedAt.Add(w.repeat()))
}

// notInFuture corrects a row after the store's clock was set back. A time in the future counts as
// now, and is written as now. Otherwise the windows would stay open until the clock has caught up,
// and would refuse the client's other networks for as long.
func notInFuture(row Row, now time.Time) Row {
	row.PromotedAt, row.IssuedAt = earlier(row.PromotedAt, now), earlier(row.IssuedAt, now)
	return row
}

// issueChild records one more issue of the child that next names, or ends the session. The limit
// stops an attacker who keeps a stolen token alive unnoticed: an honest client uses what it gets
// and does not ask for the same child for minutes.
func issueChild(rule Rule, row, next Row, now time.Time, w windows) decision {
	if row.Issues >= w.IssuesMax {
		return decision{rule: rule, next: row, end: ReasonRefreshAbuse}
	}
	next.IssuedAt, next.Issues = now, row.Issues+1
	return decision{rule: rule, answer: answerChild, next: next}
}

// promoted is the row after client used its child own.
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
