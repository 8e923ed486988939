package sessions

import (
	"testing"
	"time"
)

// The sequences that broke earlier designs, on the pure decision. sessionstest
// plays them through an Engine and a Store.

func (w *world) expect(t *testing.T, r reply, rule Rule, want answer) {
	t.Helper()
	if r.rule != rule || r.answer != want {
		t.Fatalf("answered by %s with %d (%s), want %s with %d\n%s", r.rule, r.answer, r.end, rule, want, w.story())
	}
}

func (w *world) expectEnd(t *testing.T, r reply, why Reason) {
	t.Helper()
	if r.end != why || w.ended != why {
		t.Fatalf("answered by %s with %d (%s), want the end for %s\n%s", r.rule, r.answer, r.end, why, w.story())
	}
}

// signedIn waits until all windows have passed, refreshes and uses the answer.
func (w *world) signedIn(t *testing.T) {
	t.Helper()
	w.well()
	if w.broken != "" || w.ended != "" {
		t.Fatalf("not signed in: %s %s", w.ended, w.story())
	}
}

func (w *world) expectUsed(t *testing.T, p accessPass, want bool) {
	t.Helper()
	if got := w.use(p); got != want {
		t.Fatalf("allowed %v, want %v\n%s", got, want, w.story())
	}
}

// TestScenarios begins each sequence an hour after sign-in from v, so that the
// first token is past its grace and nothing was issued.
func TestScenarios(t *testing.T) {
	for name, play := range map[string]func(*testing.T, *world){
		"burst": func(t *testing.T, w *world) {
			t0 := w.client.refresh
			first := w.refresh(&w.client, netV)
			w.expect(t, first, R4, answerChild)
			for range 49 {
				w.pass(testD / 100)
				r := w.refresh(&jar{refresh: t0}, netV)
				w.expect(t, r, R5, answerChild)
				if r.got.refresh.hash() != first.got.refresh.hash() {
					t.Fatal("another child")
				}
			}
			if w.writes != 1 {
				t.Fatalf("%d writes, want 1", w.writes)
			}
			w.signedIn(t)
		},
		"late_answer": func(t *testing.T, w *world) {
			one, two := w.leave(&w.client, netV), w.leave(&w.client, netV)
			r1, r2 := w.handle(one), w.handle(two)
			w.arrive(one, r1)
			w.use(w.client.access)
			w.promoteAll()
			w.pass(time.Second)
			w.expect(t, w.refresh(&w.client, netV), R3, answerKeep)
			w.use(w.client.access)
			w.promoteAll()
			w.pass(testD - 2*time.Second)
			w.arrive(two, r2)
			w.pass(testG + time.Second)
			w.expect(t, w.refresh(&w.client, netV), R4, answerChild)
			w.signedIn(t)
		},
		"late_straggler": func(t *testing.T, w *world) {
			w.handle(w.leave(&w.client, netV)) // #0; its answer is lost
			w.pass(testW - 3*time.Second)
			one, two := w.leave(&w.client, netV), w.leave(&w.client, netV)
			w.pass(time.Second)
			r1 := w.handle(one)
			w.expect(t, r1, R5, answerChild)
			w.arrive(one, r1)
			w.use(w.client.access)
			w.pass(4 * time.Second)
			r2 := w.handle(two)
			w.expect(t, r2, R5, answerChild)
			w.arrive(two, r2)
			w.promoteAll()
			w.signedIn(t)
		},
		"new_access_token_only": func(t *testing.T, w *world) {
			w.refresh(&w.client, netV)
			w.use(w.client.access)
			w.promoteAll()
			w.pass(testG - time.Second)
			one, two := w.leave(&w.client, netV), w.leave(&w.client, netV)
			r1, r2 := w.handle(one), w.handle(two)
			w.expect(t, r1, R3, answerKeep)
			w.expect(t, r2, R3, answerKeep)
			w.arrive(one, r1)
			w.pass(2 * time.Second)
			w.expect(t, w.refresh(&w.client, netV), R4, answerChild)
			w.use(w.client.access)
			w.promoteAll()
			w.pass(testD - 3*time.Second)
			w.arrive(two, r2)
			w.signedIn(t)
		},
		"two_networks": func(t *testing.T, w *world) {
			one, two := w.leave(&w.client, netV), w.leave(&w.client, netW)
			r1, r2 := w.handle(one), w.handle(two)
			w.expect(t, r1, R4, answerChild)
			w.expect(t, r2, R5, answerSuperseded)
			w.arrive(two, r2)
			w.arrive(one, r1)
			w.expectUsed(t, w.client.access, true)
			w.expect(t, w.refresh(&w.client, netW), R6, answerKeep)
			w.signedIn(t)
		},
		"hop": func(t *testing.T, w *world) {
			w.handle(w.leave(&w.client, netV)) // its answer is lost
			issued := w.now
			for w.now.Before(issued.Add(testW - 2*time.Second)) {
				w.pass(2 * time.Second)
				w.expect(t, w.refresh(&w.client, netW), R5, answerSuperseded)
			}
			w.now = issued.Add(testW)
			w.expect(t, w.refresh(&w.client, netW), R4, answerChild)
			w.expectUsed(t, w.client.access, true)
			w.signedIn(t)
		},
		"lost_promotions": func(t *testing.T, w *world) {
			w.refresh(&w.client, netV)
			w.use(w.client.access)
			w.promotions = nil // with the replica
			w.pass(time.Hour)
			r := w.refresh(&w.client, netV)
			w.expect(t, r, R6, answerKeep)
			if r.got.access.parent != (TokenHash{}) || r.got.access.own != w.client.refresh.hash() {
				t.Fatal("the new access token is not the current token's")
			}
			w.signedIn(t)
		},
		"late_ancestor": func(t *testing.T, w *world) {
			w.refresh(&w.client, netV)
			t1 := w.client.access
			w.use(t1)
			late := w.promotions
			w.promotions = nil
			w.pass(time.Hour)
			for range 2 { // T1 by its refresh, then T2 and T3 by theirs
				w.refresh(&w.client, netV)
				w.pass(testG)
				w.expect(t, w.refresh(&w.client, netV), R4, answerChild)
			}
			w.refresh(&w.client, netV)
			w.promotions = late
			w.promoteAll()
			w.expectUsed(t, t1, false)
			w.expectUsed(t, w.client.access, true)
			w.signedIn(t)
		},
		"idle": func(t *testing.T, w *world) {
			w.pass(29 * 24 * time.Hour)
			w.expect(t, w.refresh(&w.client, netV), R4, answerChild)
			w.use(w.client.access)
			w.promotions = nil
			w.pass(time.Hour)
			w.expect(t, w.refresh(&w.client, netV), R6, answerKeep)
			w.pass(29 * 24 * time.Hour)
			w.signedIn(t)
		},
		"thief_first_within_grace": func(t *testing.T, w *world) {
			w.thief = w.client
			w.refresh(&w.thief, netX)
			w.use(w.thief.access)
			w.promoteAll()
			w.pass(testG - tick)
			w.expect(t, w.refresh(&w.client, netV), R7, answerSuperseded)
			w.pass(tick)
			w.expectEnd(t, w.refresh(&w.client, netV), ReasonTheft)
		},
		"thief_first_after_grace": func(t *testing.T, w *world) {
			w.thief = w.client
			w.refresh(&w.thief, netX)
			w.use(w.thief.access)
			w.promoteAll()
			w.pass(testG)
			w.expectEnd(t, w.refresh(&w.client, netV), ReasonTheft)
			w.expectUsed(t, w.thief.access, false)
		},
		"victim_first_within_grace": func(t *testing.T, w *world) {
			w.thief = w.client
			w.refresh(&w.client, netV)
			w.use(w.client.access)
			w.promoteAll()
			w.pass(testG - tick)
			w.expect(t, w.refresh(&w.thief, netX), R7, answerSuperseded)
		},
		"victim_first_after_grace": func(t *testing.T, w *world) {
			w.thief = w.client
			w.refresh(&w.client, netV)
			w.use(w.client.access)
			w.promoteAll()
			w.pass(testG)
			w.expectEnd(t, w.refresh(&w.thief, netX), ReasonTheft)
		},
		"sibling": func(t *testing.T, w *world) {
			w.thief = w.client
			w.refresh(&w.thief, netX)
			w.pass(time.Hour)
			w.refresh(&w.client, netV)
			w.use(w.client.access)
			w.promoteAll()
			w.expectUsed(t, w.thief.access, true) // the engines do not know yet
			w.promoteAll()
			w.expectUsed(t, w.thief.access, false)
			w.expectEnd(t, w.refresh(&w.thief, netX), ReasonTheft)
		},
		"idle_session": func(t *testing.T, w *world) {
			w.thief = w.client
			for range 3 * 24 {
				w.refresh(&w.thief, netX)
				w.use(w.thief.access)
				w.promoteAll()
				w.pass(time.Hour)
			}
			w.expectEnd(t, w.refresh(&w.client, netV), ReasonTheft)
		},
		"poll": func(t *testing.T, w *world) {
			start := w.now
			for w.ended == "" && w.now.Before(start.Add(time.Hour)) {
				w.refresh(&jar{refresh: w.client.refresh}, netX)
				w.pass(time.Second)
			}
			if w.ended != ReasonRefreshAbuse || w.now.Before(start.Add(time.Minute)) || w.writes > testWindows.IssuesMax {
				t.Fatalf("ended %q after %s and %d writes", w.ended, w.now.Sub(start), w.writes)
			}
		},
		"lost_write_issue": func(t *testing.T, w *world) {
			w.refresh(&w.client, netV)
			w.forget()
			w.expectUsed(t, w.client.access, true)
			w.signedIn(t)
		},
		"lost_write_promotion": func(t *testing.T, w *world) {
			w.refresh(&w.client, netV)
			w.use(w.client.access)
			w.promoteAll()
			w.forget()
			w.expect(t, w.refresh(&w.client, netV), R6, answerKeep)
			w.signedIn(t)
		},
		"restore": func(t *testing.T, w *world) {
			yesterday := w.row
			for range 2 {
				w.pass(time.Hour)
				w.refresh(&w.client, netV)
				w.use(w.client.access)
				w.promoteAll()
			}
			w.row = yesterday
			w.expectEnd(t, w.refresh(&w.client, netV), ReasonRolledBack)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(decide)
			w.traced = true
			w.pass(time.Hour)
			play(t, w)
			if w.broken != "" {
				t.Fatal(w.story())
			}
		})
	}
}
