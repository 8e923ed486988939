package sessions

import (
	"errors"
	"testing"
)

// An access token that lost, or whose claims have changed, is of a session that
// may live: to say that it is signed out would be wrong.
func TestSignOutByATokenThatIsNotGood(t *testing.T) {
	e := offline(t)
	text := issueAt(t, e, testEpoch, `{}`).Access.Reveal()
	access, denial := e.Verify(TransportCookie, []string{text})
	if denial != nil {
		t.Fatal(denial)
	}
	e.feed.add(Entry{Kind: EntryLost, Handle: access.Handle, TokenHash: access.lineage.own, At: testEpoch})
	if err := e.SignOut(t.Context(), SignOutRequest{Transport: TransportCookie, Access: []string{text}}); !errors.Is(err, DenyExpired) {
		t.Errorf("signing out: %v, want a refresh first", err)
	}
}
