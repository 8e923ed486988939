package postgres_test

import (
	"fmt"
	"testing"

	"github.com/sessiongate/sessiongate/sessions"
)

// The migration of devices rewrites no session, and sessions without a device are read. The former version
// continues to write: it names no column that it does not know.
func TestSessionsFromBeforeDevices(t *testing.T) {
	t.Parallel()
	c := open(t)
	schemaAt(c, 4)
	former := func(n int) sessions.Handle {
		c.exec(fmt.Sprintf(`
			WITH s AS (
				INSERT INTO sessiongate.active_sessions (handle, user_id, current_hash, promoted_at, created_at, expires_at, absolute_expires_at)
				VALUES (decode(repeat('%02d', 16), 'hex'), 'alice', decode(repeat('%02d', 32), 'hex'), now(), now(), now() + interval '1 h', now() + interval '1 h')
				RETURNING handle
			)
			INSERT INTO sessiongate.session_attributes (handle, claims, data) SELECT handle, '{}', '{}' FROM s`, n, n))
		var h sessions.Handle
		for i := range h {
			h[i] = byte(n)
		}
		return h
	}
	first := former(1)
	const file = `SELECT pg_relation_filenode('sessiongate.active_sessions')::int`
	before := c.count(file)
	if n, err := c.Migrate(t.Context()); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if after := c.count(file); after != before {
		t.Error("the sessions were written again")
	}
	for _, h := range []sessions.Handle{first, former(2)} {
		rec, _, err := c.Get(t.Context(), h)
		if err != nil || rec.Device != (sessions.Device{}) || rec.UserID != "alice" {
			t.Errorf("%+v, %v", rec.Row, err)
		}
	}
}
