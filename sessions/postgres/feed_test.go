package postgres_test

import (
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
)

// An entry that was written before another and committed after it is not hidden
// from whoever read the other.
func TestFeedShowsLateCommits(t *testing.T) {
	t.Parallel()
	c := open(t)
	early, late := create(t, c.Store, "alice"), create(t, c.Store, "bob")
	page, err := c.Poll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	c.exec(`BEGIN`)
	c.exec(`INSERT INTO sessiongate.feed (kind, handle, reason) VALUES ('ended', $1, 'revoked')`, late.Handle[:])
	if _, err := c.End(t.Context(), early.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		t.Fatal(err)
	}
	heard := func(since sessions.Cursor) (sessions.Cursor, map[sessions.Handle]bool) {
		page, err := c.Poll(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		handles := map[sessions.Handle]bool{}
		for _, e := range page.Entries {
			handles[e.Handle] = true
		}
		return page.Next, handles
	}
	next, handles := heard(page.Next)
	if !handles[early.Handle] || handles[late.Handle] {
		t.Fatalf("before the commit: %v", handles)
	}
	next, _ = heard(next)
	c.exec(`COMMIT`)
	if _, handles = heard(next); !handles[late.Handle] {
		t.Error("the late commit is hidden")
	}
}
