package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
)

// schemaAt makes the schema again as it was at a version, empty.
func schemaAt(c *clocked, version int) {
	c.t.Helper()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) < version {
		c.t.Fatalf("migrations: %v, %v", files, err)
	}
	slices.Sort(files)
	c.exec(`ALTER TABLE sessiongate.schema_versions SET SCHEMA public`)
	c.exec(`DROP SCHEMA sessiongate CASCADE`)
	c.exec(`CREATE SCHEMA sessiongate`)
	c.exec(`ALTER TABLE schema_versions SET SCHEMA sessiongate`)
	c.exec(fmt.Sprintf(`DELETE FROM sessiongate.schema_versions WHERE version_id > %d`, version))
	for _, file := range files[:version] {
		text, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		c.exec(string(text))
	}
}

// A backup holds the tables for hours. The migration of names must not hold all traffic behind it: it gives up,
// and asks again. What the former version wrote on the feed is read, and each version reads what the other writes.
func TestNamesBesideABackup(t *testing.T) {
	t.Parallel()
	c := open(t)
	schemaAt(c, 3)
	c.exec(`UPDATE sessiongate.horizon SET horizon = '1 hour'`)
	const lost = `INSERT INTO sessiongate.feed (kind, handle, %s) VALUES ('lost', decode(repeat('%02d', 16), 'hex'), decode(repeat('%02d', 32), 'hex'))`
	c.exec(fmt.Sprintf(lost, "mark", 1, 1))

	other := connect(t, c.url)
	backup, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Exec(t.Context(), `LOCK TABLE sessiongate.sessions IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	c.SetMigratePause(time.Millisecond)
	done := make(chan error, 1)
	go func() {
		n, err := c.Migrate(t.Context())
		if err == nil && n != 3 { // this one, that of devices and that of their keys
			err = fmt.Errorf("applied %d", n)
		}
		done <- err
	}()
	for _, asks := range []int{1, 0, 1} { // it asks, gives up, and asks again
		for c.count(`SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = 'sessiongate.sessions'::regclass`) != asks {
			select {
			case err := <-done:
				t.Fatalf("migrated beside the backup: %v", err)
			default:
			}
		}
	}
	if err := backup.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	c.exec(fmt.Sprintf(lost, "mark", 2, 2))
	c.exec(fmt.Sprintf(lost, "token_hash", 3, 3))
	entries, cursor := 0, sessions.Cursor("")
	for more := true; more; {
		page, err := c.Poll(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			entries++
			if e.TokenHash == (sessions.TokenHash{}) || e.TokenHash[0] != e.Handle[0] || e.TokenHash[31] != e.Handle[0] {
				t.Errorf("%x of %x", e.TokenHash, e.Handle)
			}
		}
		cursor, more = page.Next, page.More
	}
	if entries != 3 {
		t.Errorf("%d entries", entries)
	}
	if n := c.count(`SELECT count(*) FROM sessiongate.feed WHERE mark IS NULL`); n != 0 {
		t.Errorf("the former version does not see %d entries", n)
	}
}
