package postgres_test

import (
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// A session, its feed entry and its event go together or not at all (I7).
func TestEndIsOneTransaction(t *testing.T) {
	t.Parallel()
	c := open(t)
	if err := c.RaiseFeedRetention(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	rec, kept := create(t, c.Store, "alice"), create(t, c.Store, "alice")
	why := sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "the back office"}
	ends := map[string]func() error{
		"End":     func() error { _, err := c.End(t.Context(), rec.Handle, why); return err },
		"EndIf":   func() error { _, err := c.EndIf(t.Context(), rec.Row, why); return err },
		"EndUser": func() error { _, err := c.EndUser(t.Context(), "alice", why); return err },
		"EndOthers": func() error {
			_, err := c.EndOthers(t.Context(), "alice", kept.Handle, why)
			return err
		},
	}
	c.exec(`CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$`)
	for _, table := range []string{"audit_events", "feed"} {
		c.exec(`CREATE TRIGGER broken BEFORE INSERT ON sessiongate.` + table + ` FOR EACH ROW EXECUTE FUNCTION broken()`)
		for name, end := range ends {
			if err := end(); err == nil {
				t.Errorf("%s reports success without %s", name, table)
			}
			if got, _, err := c.Get(t.Context(), rec.Handle); err != nil || got.Row != rec.Row {
				t.Errorf("%s without %s: the session: %+v, %v", name, table, got, err)
			}
			if page, err := c.Poll(t.Context(), ""); len(page.Entries) != 0 || err != nil {
				t.Errorf("%s without %s: the feed: %v, %v", name, table, page.Entries, err)
			}
			if n := c.count(`SELECT count(*) FROM sessiongate.audit_events`); n != 0 {
				t.Errorf("%s without %s: %d events", name, table, n)
			}
		}
		c.exec(`DROP TRIGGER broken ON sessiongate.` + table)
	}
	if err := ends["EndIf"](); err != nil {
		t.Fatal(err)
	}
	if n := c.count(`SELECT count(*) FROM sessiongate.audit_events
		WHERE kind = 'ended' AND handle = $1 AND user_id = 'alice' AND reason = 'revoked' AND actor = $2`, rec.Handle[:], why.Actor); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := c.count(`SELECT count(*) FROM sessiongate.session_attributes`); n != 1 {
		t.Errorf("%d attributes of the one session that is left", n)
	}
}

// All older sessions end, on whatever page they are, and no others.
func TestEndCreatedBefore(t *testing.T) {
	t.Parallel()
	for _, page := range []int{1, 2, 3, 4, 7, 8} {
		c := open(t)
		c.SetEndPage(page)
		if err := c.RaiseFeedRetention(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		old := map[sessions.Handle]bool{}
		for range 4 {
			old[create(t, c.Store, "alice").Handle] = true
		}
		c.Advance(time.Minute)
		var young []sessions.Record
		for range 3 {
			young = append(young, create(t, c.Store, "alice"))
		}
		why := sessions.Ending{Reason: sessions.ReasonRevoked, Actor: "operator"}
		if n, err := c.EndCreatedBefore(t.Context(), young[0].CreatedAt, why); n != len(old) || err != nil {
			t.Errorf("pages of %d: %d ended, %v; want %d", page, n, err, len(old))
		}
		for _, e := range poll(t, c, "").Entries {
			if e.Kind != sessions.EntryEnded || e.Reason != sessions.ReasonRevoked || !old[e.Handle] {
				t.Errorf("pages of %d: on the feed: %+v", page, e)
			}
			delete(old, e.Handle)
		}
		if len(old) > 0 {
			t.Errorf("pages of %d: %d are not on the feed", page, len(old))
		}
		for _, rec := range young {
			if _, _, err := c.Get(t.Context(), rec.Handle); err != nil {
				t.Errorf("pages of %d: a younger one: %v", page, err)
			}
		}
		if n, err := c.EndCreatedBefore(t.Context(), young[0].CreatedAt, why); n != 0 || err != nil {
			t.Errorf("pages of %d: again: %d ended, %v", page, n, err)
		}
	}
}
