package sessions

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

const (
	testD = 10 * time.Second // D
	testG = testD
	testW = testD * 5 / 2
	tick  = time.Microsecond // the resolution of a store's clock
)

var (
	testWindows      = windows{Attempt: testD, IssuesMax: 20, Sliding: 30 * 24 * time.Hour}
	testEpoch        = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	netV, netW, netX = Client{'v'}, Client{'w'}, Client{'x'} // two networks of the client, one of an attacker
	nonceA           = Nonce{'a'}
	nonceB           = Nonce{'b'}
	prefixes         = cmpopts.EquateComparable(netip.Prefix{})
	testDevice       = Device{UserAgent: "a browser"}
)

// signIn gives the first token of a session and the row that names it, as they
// are after a sign-in from client at at.
func signIn(at time.Time, client Client) (refreshToken, Row) {
	t := newRefreshToken(NewHandle(), TransportCookie)
	t.issuedAt = at
	return t, Row{
		Handle: t.handle, UserID: "alice", Current: t.hash(), CurrentClient: client, PromotedAt: at,
		CreatedAt: at, ExpiresAt: at.Add(testWindows.Sliding), AbsoluteExpiresAt: at.Add(100 * 24 * time.Hour),
	}
}

func childAt(t refreshToken, n Nonce, at time.Time) refreshToken {
	c := t.child(n)
	c.issuedAt = at
	return c
}

// TestDecide has a case for each side of each boundary of R2 to R8. The token chain at that time:
// t0 is of the sign-in; t1 is its child, which was used and is current; t2 is the child of t1 that
// was issued to v.
func TestDecide(t *testing.T) {
	t0, created := signIn(testEpoch, netV)
	t1 := childAt(t0, nonceA, testEpoch.Add(time.Hour))
	promotedAt := testEpoch.Add(time.Hour + time.Minute)
	row := promoted(created, t1.hash(), netV, promotedAt)
	issuedAt := promotedAt.Add(time.Hour)
	issued := row
	issued.NextNonce, issued.NextClient, issued.IssuedAt, issued.Issues = nonceB, netV, issuedAt, 1
	t2 := childAt(t1, nonceB, issuedAt)
	sibling := childAt(t1, Nonce{'s'}, issuedAt.Add(-time.Minute))
	attacker := newRefreshToken(t0.handle, TransportCookie)
	attacker.issuedAt = testEpoch

	edit := func(r Row, f func(*Row)) Row { f(&r); return r }
	generated := func(r Row, c Client, at time.Time) Row {
		return edit(r, func(r *Row) {
			r.NextNonce, r.NextClient, r.IssuedAt, r.Issues = nonceA, c, at, r.Issues+1
			r.ExpiresAt = at.Add(testWindows.Sliding)
		})
	}
	renewed := func(r Row, at time.Time) Row {
		return edit(r, func(r *Row) { r.IssuedAt = at; r.Issues++ })
	}
	keeps := func(rule Rule, r Row) decision { return decision{rule: rule, answer: answerKeep, next: r} }
	conflict := func(rule Rule, r Row) decision { return decision{rule: rule, answer: answerSuperseded, next: r} }
	gives := func(rule Rule, r Row) decision { return decision{rule: rule, answer: answerChild, next: r} }
	isEnded := func(r Row) decision { return decision{rule: R2, answer: answerEnded, next: r} }
	ends := func(rule Rule, r Row, why Reason) decision { return decision{rule: rule, next: r, end: why} }

	late := row.ExpiresAt.Add(-time.Hour) // a long absence
	absolute := edit(row, func(r *Row) { r.ExpiresAt = r.AbsoluteExpiresAt })
	lateAbsolute := row.AbsoluteExpiresAt.Add(-time.Hour)
	limit := edit(issued, func(r *Row) { r.Issues = testWindows.IssuesMax })
	last := edit(issued, func(r *Row) { r.Issues = testWindows.IssuesMax - 1 })
	none := edit(row, func(r *Row) { r.CurrentClient = Client{} })
	withIssuedAt := func(t refreshToken, at time.Time) refreshToken { t.issuedAt = at; return t }

	for _, tc := range []struct {
		name   string
		row    Row
		token  refreshToken
		client Client
		now    time.Time
		want   decision
	}{
		{"R2 at sliding expiry", row, t1, netV, row.ExpiresAt, isEnded(row)},
		{"R2 at absolute expiry", absolute, t1, netV, row.AbsoluteExpiresAt, isEnded(absolute)},
		{"R2 comes before theft", row, attacker, netX, row.ExpiresAt, isEnded(row)},
		{"R4 just before sliding expiry", row, t1, netV, row.ExpiresAt.Add(-tick), gives(R4, generated(row, netV, row.ExpiresAt.Add(-tick)))},

		{"R3 at promotion", row, t1, netV, promotedAt, keeps(R3, row)},
		{"R3 just before G", row, t1, netV, promotedAt.Add(testG - tick), keeps(R3, row)},
		{"R3 other client", row, t1, netW, promotedAt.Add(testG - tick), conflict(R3, row)},
		{"R3 no client recorded", none, t1, netW, promotedAt, keeps(R3, none)},
		{"R3 the first token", created, t0, netV, testEpoch, keeps(R3, created)},
		{"R4 at G", row, t1, netV, promotedAt.Add(testG), gives(R4, generated(row, netV, promotedAt.Add(testG)))},

		{"R4 nothing issued", row, t1, netW, late, gives(R4, generated(row, netW, late))},
		{"R4 at W after a issue", issued, t1, netW, issuedAt.Add(testW), gives(R4, generated(issued, netW, issuedAt.Add(testW)))},
		{"R4 last issue allowed", last, t1, netV, issuedAt.Add(testW), gives(R4, generated(last, netV, issuedAt.Add(testW)))},
		{"R4 beyond the limit", limit, t1, netV, issuedAt.Add(testW), ends(R4, edit(limit, func(r *Row) {
			r.NextNonce, r.ExpiresAt = nonceA, issuedAt.Add(testW+testWindows.Sliding)
		}), ReasonRefreshAbuse)},
		{"R4 slides to the absolute expiry at most", absolute, t1, netV, lateAbsolute, gives(R4, edit(generated(absolute, netV, lateAbsolute), func(r *Row) {
			r.ExpiresAt = r.AbsoluteExpiresAt
		}))},

		{"R5 at the issue", issued, t1, netV, issuedAt, gives(R5, issued)},
		{"R5 just before D/2: no write", issued, t1, netV, issuedAt.Add(testD/2 - tick), gives(R5, issued)},
		{"R5 at D/2: renewed", issued, t1, netV, issuedAt.Add(testD / 2), gives(R5, renewed(issued, issuedAt.Add(testD/2)))},
		{"R5 just before W", issued, t1, netV, issuedAt.Add(testW - tick), gives(R5, renewed(issued, issuedAt.Add(testW-tick)))},
		{"R5 other client", issued, t1, netW, issuedAt.Add(testW - tick), conflict(R5, issued)},
		{"R5 other client before D/2", issued, t1, netW, issuedAt, conflict(R5, issued)},
		{"R5 last issue allowed", last, t1, netV, issuedAt.Add(testD / 2), gives(R5, renewed(last, issuedAt.Add(testD/2)))},
		{"R5 at the limit before D/2: no write, so no count", limit, t1, netV, issuedAt.Add(testD/2 - tick), gives(R5, limit)},
		{"R5 beyond the limit", limit, t1, netV, issuedAt.Add(testD / 2), ends(R5, limit, ReasonRefreshAbuse)},
		{"R5 other client at the limit", limit, t1, netW, issuedAt.Add(testD / 2), conflict(R5, limit)},

		{"R6 the child", issued, t2, netV, issuedAt.Add(time.Hour), keeps(R6, promoted(issued, t2.hash(), netV, issuedAt.Add(time.Hour)))},
		{"R6 from another network", issued, t2, netW, issuedAt, keeps(R6, promoted(issued, t2.hash(), netW, issuedAt))},
		{"R6 a sibling", issued, sibling, netX, issuedAt, keeps(R6, promoted(issued, sibling.hash(), netX, issuedAt))},
		{"R6 a row that forgot its issue", row, t2, netV, issuedAt, keeps(R6, promoted(row, t2.hash(), netV, issuedAt))},

		{"R7 just before G", row, t0, netV, promotedAt.Add(testG - tick), keeps(R7, row)},
		{"R7 other client", row, t0, netX, promotedAt.Add(testG - tick), conflict(R7, row)},
		{"R8 the previous one at G", row, t0, netV, promotedAt.Add(testG), ends(R8, row, ReasonTheft)},

		{"R8 another token within G", row, attacker, netV, promotedAt, ends(R8, row, ReasonTheft)},
		{"R8 another token", row, attacker, netV, late, ends(R8, row, ReasonTheft)},
		{"R8 a sibling of the current one", row, withIssuedAt(childAt(t0, nonceB, promotedAt), promotedAt), netV, late, ends(R8, row, ReasonTheft)},
		{"R8 issued after the promotion", row, withIssuedAt(attacker, promotedAt.Add(tick)), netV, late, ends(R8, row, ReasonRolledBack)},
		{"R8 a grandchild", row, childAt(t2, nonceA, issuedAt), netV, late, ends(R8, row, ReasonRolledBack)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide(tc.row, tc.token, tc.client, tc.now, nonceA, testWindows)
			if tc.want.end != "" { // the row is about to be deleted
				got.next, tc.want.next = Row{}, Row{}
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(decision{}), prefixes); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecidePromotionStartsAfresh spells out what R6 writes, which the table
// above takes from the code.
func TestDecidePromotionStartsAfresh(t *testing.T) {
	t0, row := signIn(testEpoch, netV)
	row.NextNonce, row.NextClient, row.IssuedAt, row.Issues = nonceA, netV, testEpoch.Add(time.Hour), 7
	t1 := childAt(t0, nonceA, row.IssuedAt)
	now := row.IssuedAt.Add(time.Hour)

	got := decide(row, t1, netW, now, nonceB, testWindows)
	want := Row{
		Handle: row.Handle, UserID: row.UserID, Current: t1.hash(), Previous: t0.hash(), CurrentClient: netW, PromotedAt: now,
		CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt, AbsoluteExpiresAt: row.AbsoluteExpiresAt,
	}
	if diff := cmp.Diff(want, got.next, prefixes); diff != "" {
		t.Errorf("row after R6 (-want +got):\n%s", diff)
	}
}

// The store's clock was set back by an hour. A future time in the row counts from the first refresh
// that sees it. Other networks wait for one window, not for an hour, and no theft is reported.
func TestDecideAfterTheClockWasSetBack(t *testing.T) {
	t0, created := signIn(testEpoch, netV)
	t1 := childAt(t0, nonceA, testEpoch.Add(2*time.Hour))
	row := promoted(created, t1.hash(), netV, testEpoch.Add(2*time.Hour))
	issued := row
	issued.NextNonce, issued.NextClient, issued.IssuedAt, issued.Issues = nonceB, netV, row.PromotedAt.Add(testG), 1
	now := row.PromotedAt.Add(-time.Hour)
	for _, step := range []struct {
		name   string
		row    *Row
		token  refreshToken
		from   Client
		later  time.Duration
		rule   Rule
		answer answer
	}{
		{"the previous one, from the client", &row, t0, netV, 0, R7, answerKeep},
		{"another network", &row, t1, netW, testG - tick, R3, answerSuperseded},
		{"the previous one, from a network", &row, t0, netW, testG - tick, R7, answerSuperseded},
		{"another network, a window later", &row, t1, netW, testG, R4, answerChild},
		{"another network, of a child", &issued, t1, netW, 0, R3, answerSuperseded},
		{"another network, after the grace", &issued, t1, netW, testG, R5, answerSuperseded},
		{"the client", &issued, t1, netV, testG, R5, answerChild},
		{"another network, two windows later", &issued, t1, netW, testW, R4, answerChild},
	} {
		d := decide(*step.row, step.token, step.from, now.Add(step.later), Nonce{'n'}, testWindows)
		if d.rule != step.rule || d.answer != step.answer || d.end != "" {
			t.Errorf("%s: %s %d %s, want %s %d", step.name, d.rule, d.answer, d.end, step.rule, step.answer)
		}
		if d.next.PromotedAt.After(now) || d.next.IssuedAt.After(now.Add(step.later)) {
			t.Errorf("%s: left promoted at %s, issued at %s", step.name, d.next.PromotedAt, d.next.IssuedAt)
		}
		if step.answer != answerChild {
			*step.row = d.next
		}
	}
}

// TestDecideAlways holds what no row, token, client or time may break.
func TestDecideAlways(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		t0, row := signIn(testEpoch, rapid.SampledFrom([]Client{{}, netV, netW}).Draw(rt, "signed in from"))
		t1 := childAt(t0, nonceA, testEpoch.Add(time.Hour))
		attacker := newRefreshToken(t0.handle, TransportCookie)
		offset := rapid.SampledFrom([]time.Duration{0, tick, testD / 2, testG, testW, time.Hour, testWindows.Sliding, 99 * 24 * time.Hour, 100 * 24 * time.Hour})
		near := rapid.SampledFrom([]time.Duration{-tick, 0, tick})
		if rapid.Bool().Draw(rt, "promoted") {
			row = promoted(row, t1.hash(), netV, testEpoch.Add(offset.Draw(rt, "promoted at")))
		}
		if rapid.Bool().Draw(rt, "issued") {
			row.NextNonce, row.NextClient = nonceB, rapid.SampledFrom([]Client{netV, netW}).Draw(rt, "next client")
			row.IssuedAt = row.PromotedAt.Add(offset.Draw(rt, "issued at"))
			row.Issues = rapid.SampledFrom([]int{1, 19, 20}).Draw(rt, "issues")
		}
		row.ExpiresAt = earlier(row.PromotedAt.Add(testWindows.Sliding), row.AbsoluteExpiresAt)
		base := rapid.SampledFrom([]time.Time{row.PromotedAt, row.IssuedAt, row.ExpiresAt}).Draw(rt, "base")
		if base.IsZero() {
			base = row.CreatedAt
		}
		now := base.Add(offset.Draw(rt, "now")).Add(near.Draw(rt, "near"))
		token := rapid.SampledFrom([]refreshToken{t0, t1, t1.child(nonceA), t1.child(nonceB), t0.child(nonceB), attacker}).Draw(rt, "token")
		client := rapid.SampledFrom([]Client{{}, netV, netW, netX}).Draw(rt, "client")

		d := decide(row, token, client, now, Nonce{'n'}, testWindows)
		expired := !now.Before(row.ExpiresAt)
		switch {
		case d.next.ExpiresAt.After(row.AbsoluteExpiresAt), !d.next.AbsoluteExpiresAt.Equal(row.AbsoluteExpiresAt):
			rt.Fatalf("I5: expires %v, absolutely %v, was %v", d.next.ExpiresAt, d.next.AbsoluteExpiresAt, row.AbsoluteExpiresAt)
		case d.next.ExpiresAt.Before(row.ExpiresAt):
			rt.Fatalf("%s shortened the session", d.rule)
		case expired != (d.rule == R2):
			rt.Fatalf("expired %v, but %s decided", expired, d.rule)
		case expired && (d.next != row || d.answer != answerEnded || d.end != ""):
			rt.Fatalf("an expired session was touched: %+v", d)
		case d.answer == answerChild && d.rule != R4 && d.rule != R5:
			rt.Fatalf("%s issued a refresh token", d.rule)
		case d.answer == answerChild && token.hash() != row.Current:
			rt.Fatalf("a token that is not current was given a child")
		case d.end != "" && d.answer != answerEnded:
			rt.Fatalf("ended and answered: %+v", d)
		case d.answer == answerSuperseded && d.next != notInFuture(row, now):
			rt.Fatalf("409 wrote: %+v", d)
		case d.next.Issues > testWindows.IssuesMax:
			rt.Fatalf("%d issues", d.next.Issues)
		case d.next.Current != row.Current && (d.rule != R6 || d.next.Previous != row.Current || token.parent != row.Current):
			rt.Fatalf("%s moved the chain: %+v", d.rule, d.next)
		}
	})
}

// TestDecideBoundAlways holds what no bound row, request or time may break.
func TestDecideBoundAlways(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		t0, row := signIn(testEpoch, netV)
		keys := map[string]BoundKey{"none": {}, "own": ownKey, "another": thiefKey}
		name := rapid.SampledFrom([]string{"none", "own", "another"})
		row.BoundKey = keys[name.Draw(rt, "key")]
		if rapid.Bool().Draw(rt, "issued") {
			row.NextNonce, row.NextClient, row.IssuedAt, row.Issues = nonceA, netV, testEpoch.Add(time.Hour), 1
		}
		if row.BoundKey != (BoundKey{}) && rapid.Bool().Draw(rt, "bound") {
			row.BoundAt, row.NextNonce, row.NextClient, row.IssuedAt, row.Issues = testEpoch, Nonce{}, Client{}, time.Time{}, 0
		}
		offset := rapid.SampledFrom([]time.Duration{-tick, 0, tick, testBound.WriteMost, testBound.LostAfter, 20 * 24 * time.Hour})
		base := rapid.SampledFrom([]time.Time{testEpoch, row.ExpiresAt, row.AbsoluteExpiresAt, row.AbsoluteExpiresAt.Add(-time.Hour)})
		now := base.Draw(rt, "base").Add(offset.Draw(rt, "offset"))
		row.ExpiresAt = earlier(base.Draw(rt, "expires at").Add(offset.Draw(rt, "expires")), row.AbsoluteExpiresAt)
		s := asked{
			way: rapid.SampledFrom([]way{wayRegister, wayProve, wayPlain}).Draw(rt, "way"), token: t0, key: keys[name.Draw(rt, "proof")],
			fresh: rapid.Bool().Draw(rt, "fresh"), again: rapid.Bool().Draw(rt, "again"), skipped: rapid.Bool().Draw(rt, "skipped"),
			waitsSince: rapid.SampledFrom([]time.Time{{}, now, now.Add(-testBound.LostAfter), now.Add(tick - testBound.LostAfter), now.Add(time.Hour)}).Draw(rt, "waits since"),
		}
		d := decideBound(row, s, now, testBound)
		alive, proven := now.Before(row.EndsAt()), s.key != BoundKey{} && s.key == row.BoundKey
		switch {
		case d.next.ExpiresAt.After(row.AbsoluteExpiresAt), !d.next.AbsoluteExpiresAt.Equal(row.AbsoluteExpiresAt):
			rt.Fatalf("expires %v, absolutely %v", d.next.ExpiresAt, d.next.AbsoluteExpiresAt)
		case d.next.ExpiresAt.Before(earlier(row.ExpiresAt, now.Add(testBound.Sliding))):
			rt.Fatalf("%s shortened the session", d.rule)
		case !alive && d.next != row:
			rt.Fatalf("an expired session was touched: %+v", d)
		case s.way == wayPlain && d.next != row:
			rt.Fatalf("a plain refresh wrote: %+v", d)
		case row.BoundKey != (BoundKey{}) && d.next.BoundKey != row.BoundKey:
			rt.Fatal("the key was replaced")
		case row.Bound() && !d.next.BoundAt.Equal(row.BoundAt) && (d.answer != boundProven || !d.next.BoundAt.Equal(now)):
			rt.Fatalf("%s says that the key was proven at %v", d.rule, d.next.BoundAt)
		case d.next.Bound() && (d.next.NextNonce != Nonce{} || d.next.BoundKey == BoundKey{}):
			rt.Fatalf("bound with a child, or without a key: %+v", d.next)
		case d.next.Bound() && !row.Bound() && d.rule != B4:
			rt.Fatalf("bound by %s", d.rule)
		case (d.answer == boundProven) != (s.way == wayProve && alive && proven):
			rt.Fatalf("%s answers %d", d.rule, d.answer)
		case d.answer == boundUnbound && row.Bound() && alive:
			rt.Fatal("the rules of rotation run for a bound session")
		case d.answer == boundEnded && alive:
			rt.Fatal("told ended before the end")
		case d.answer == boundLost && (s.skipped || !s.again || s.fresh || s.waitsSince.IsZero() || now.Sub(s.waitsSince) < testBound.LostAfter):
			rt.Fatal("told lost early")
		}
	})
}

// agree fails unless the rotation of token says of the row what decide says.
func agree(tb rapid.TB, row Row, token refreshToken, client Client, now time.Time, w windows) {
	tb.Helper()
	d := decide(row, token, client, now, Nonce{'n'}, w)
	r := rotation(token, client, Nonce{'n'}, w)
	r.Device = testDevice
	// A bound session has no child, whatever its times are, and its rules are others while it lives.
	bound := row
	bound.BoundKey, bound.BoundAt = BoundKey{2}, row.CreatedAt
	bound.NextNonce, bound.NextClient, bound.IssuedAt, bound.Issues = Nonce{}, Client{}, time.Time{}, 0
	if r.Fits(bound, now) {
		tb.Fatalf("a bound row fits at %s: %+v", now, bound)
	}
	switch d := decideBound(bound, asked{way: wayPlain, token: token}, now, testBound); {
	case d.next != bound:
		tb.Fatalf("a plain refresh wrote a bound row: %+v", d)
	case now.Before(bound.EndsAt()) != (d.answer == boundProve):
		tb.Fatalf("a plain refresh at %s of %+v: %s %d", now, bound, d.rule, d.answer)
	}
	d = d.from(testDevice, row)
	issues := d.rule == R4 && d.answer == answerChild
	switch fits := r.Fits(row, now); {
	case fits != issues:
		tb.Fatalf("fits %v, but %s decides with %d, at %s of %+v", fits, d.rule, d.answer, now, row)
	case fits && r.Next(row, now) != d.next:
		tb.Fatalf("wrote (-decided +written):\n%s", cmp.Diff(d.next, r.Next(row, now), prefixes))
	}
}

// TestRotationIsR4: a row fits if and only if R4 issues a child of it, and then the rotation writes
// what R4 writes. Each time of the row is on each side of each border, and in the future.
func TestRotationIsR4(t *testing.T) {
	t0, created := signIn(testEpoch, netV)
	t1 := childAt(t0, nonceA, testEpoch)
	now := testEpoch.Add(50 * 24 * time.Hour)
	var times []time.Time
	for _, ago := range []time.Duration{-time.Hour, 0, testD / 2, testG, testW, time.Hour, testWindows.Sliding} {
		for _, near := range []time.Duration{-tick, 0, tick} {
			times = append(times, now.Add(near-ago))
		}
	}
	rows, fitting := 0, 0
	for _, promotedAt := range times {
		for _, issuedAt := range append(times, time.Time{}) {
			for _, expiresAt := range []time.Time{now.Add(-tick), now, now.Add(tick), now.Add(time.Hour)} {
				for _, absolute := range []time.Time{now.Add(-tick), now, now.Add(tick), now.Add(testWindows.Sliding), now.Add(testWindows.Sliding + tick)} {
					for _, issues := range []int{1, 19, 20, 21} {
						row := promoted(created, t1.hash(), netV, promotedAt)
						row.ExpiresAt, row.AbsoluteExpiresAt = expiresAt, absolute
						if !issuedAt.IsZero() {
							row.NextNonce, row.NextClient, row.IssuedAt, row.Issues = nonceB, netV, issuedAt, issues
						}
						for _, token := range []refreshToken{t0, t1, t1.child(nonceB)} {
							agree(t, row, token, netW, now, testWindows)
							rows++
							if rotation(token, netW, Nonce{'n'}, testWindows).Fits(row, now) {
								fitting++
							}
						}
					}
				}
			}
		}
	}
	if fitting < 1000 || fitting > rows/2 {
		t.Errorf("%d of %d rows fit", fitting, rows)
	}
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.Custom(func(rt *rapid.T) time.Time {
			return now.Add(time.Duration(rapid.Int64Range(-int64(testW/tick)*2, int64(testW/tick)*2).Draw(rt, "µs")) * tick)
		})
		w := windows{
			Attempt: 2 * tick * time.Duration(rapid.Int64Range(1, int64(testD/tick)).Draw(rt, "D")), IssuesMax: rapid.IntRange(1, 3).Draw(rt, "most"),
			Sliding: tick * time.Duration(rapid.Int64Range(1, int64(testW/tick)).Draw(rt, "sliding")),
		}
		row := promoted(created, t1.hash(), netV, at.Draw(rt, "promoted at"))
		row.ExpiresAt, row.AbsoluteExpiresAt = at.Draw(rt, "expires at"), at.Draw(rt, "absolutely")
		if rapid.Bool().Draw(rt, "issued") {
			row.NextNonce, row.NextClient, row.IssuedAt, row.Issues = nonceB, netV, at.Draw(rt, "issued at"), rapid.IntRange(1, 4).Draw(rt, "issues")
		}
		token := rapid.SampledFrom([]refreshToken{t0, t1, t1.child(nonceB)}).Draw(rt, "token")
		agree(rt, row, token, rapid.SampledFrom([]Client{{}, netV, netW}).Draw(rt, "client"), now, w)
	})
}
