package postgres_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// follower polls from cursor to cursor.
type follower struct {
	t     *testing.T
	store sessions.Store
	since sessions.Cursor
}

// follow begins after what is on the feed. Everything stays young there.
func follow(t *testing.T, c *clocked) *follower {
	t.Helper()
	if err := c.RaiseFeedRetention(t.Context(), 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	return &follower{t, c.Store, poll(t, c, "").Next}
}

// hears wants the next reading to tell of these sessions, each once, and of no others.
func (f *follower) hears(what string, want ...sessions.Handle) {
	f.t.Helper()
	page := poll(f.t, f.store, f.since)
	if page.Resync {
		f.t.Errorf("%s: the feed is read again", what)
	}
	f.since = page.Next
	var got []sessions.Handle
	for _, e := range page.Entries {
		got = append(got, e.Handle)
	}
	byText := func(a, b sessions.Handle) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(got, byText)
	slices.SortFunc(want, byText)
	if !slices.Equal(got, want) {
		f.t.Errorf("%s: told of %v, want %v", what, got, want)
	}
}

const feedEnded = `INSERT INTO sessiongate.feed (kind, handle, reason) VALUES ('ended', $1, 'revoked')`

// end puts the end of some session on the feed.
func end(t *testing.T, conn *pgx.Conn) sessions.Handle {
	t.Helper()
	h := sessions.NewHandle()
	execute(t, conn, feedEnded, h[:])
	return h
}

func execute(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Whatever order transactions begin, write and commit in, each entry is told of
// once, in the reading after its commit; and an open one costs no repetition.
func TestFeedTellsOnceInAnyOrderOfCommits(t *testing.T) {
	t.Parallel()
	c := open(t)
	f := follow(t, c)
	early, late, sub := connect(t, c.url), connect(t, c.url), connect(t, c.url)
	elsewhere := connect(t, database(t, template))
	execute(t, elsewhere, `BEGIN`)
	execute(t, elsewhere, `SELECT pg_current_xact_id()`) // a batch job that takes all day

	execute(t, early, `BEGIN`)
	first := end(t, early)
	f.hears("before any commit")
	direct := []sessions.Handle{end(t, c.conn), end(t, c.conn), end(t, c.conn)}
	f.hears("beside an open one", direct...)
	f.hears("again")
	execute(t, late, `BEGIN`)
	execute(t, late, `SELECT pg_current_xact_id()`)
	f.hears("nothing new")
	execute(t, sub, `BEGIN`)
	execute(t, sub, `SAVEPOINT a`)
	inside := end(t, sub)
	execute(t, sub, `RELEASE a`)
	execute(t, sub, `SAVEPOINT b`)
	end(t, sub)
	execute(t, sub, `ROLLBACK TO b`)
	execute(t, early, `COMMIT`)
	second := end(t, late)
	f.hears("the early one", first)
	execute(t, sub, `COMMIT`)
	execute(t, late, `COMMIT`)
	f.hears("the late ones", second, inside)
	f.hears("again")
	f.hears("and again")
	execute(t, early, `BEGIN`)
	end(t, early)
	f.hears("one that will roll back")
	execute(t, early, `ROLLBACK`)
	f.hears("one that rolled back")
	execute(t, elsewhere, `COMMIT`)
	f.hears("after all")
}

// A reading in pages ends at what was there when it began, and the next one goes on.
func TestFeedPagesBesideCommits(t *testing.T) {
	t.Parallel()
	c := open(t)
	f := follow(t, c)
	open1 := connect(t, c.url)
	execute(t, open1, `BEGIN`)
	held := []sessions.Handle{end(t, open1), end(t, open1), end(t, open1)}
	var told []sessions.Handle
	for range 7 {
		told = append(told, end(t, c.conn))
	}
	since := f.since
	var later []sessions.Handle
	var got []sessions.Handle
	for {
		page, err := c.Poll(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			got = append(got, e.Handle)
		}
		since = page.Next
		if !page.More {
			break
		}
		later = append(later, end(t, c.conn))
		if len(later) == 2 {
			execute(t, open1, `COMMIT`)
		}
	}
	if !slices.Equal(got, told) {
		t.Errorf("told of %v, want %v", got, told)
	}
	f.since = since
	f.hears("what came meanwhile", append(later, held...)...)
}

// A prepared transaction may wait for days.
func TestFeedOfPreparedTransactions(t *testing.T) {
	t.Parallel()
	c := open(t)
	f := follow(t, c)
	name := nextName()
	execute(t, c.conn, `BEGIN`)
	held := end(t, c.conn)
	execute(t, c.conn, fmt.Sprintf(`PREPARE TRANSACTION '%s'`, name))
	f.hears("prepared")
	other := end(t, c.conn)
	f.hears("another", other)
	f.hears("again")
	execute(t, c.conn, fmt.Sprintf(`COMMIT PREPARED '%s'`, name))
	f.hears("committed", held)
	f.hears("again")
}

// Rows that were written elsewhere bring no transaction ids along: not by logical
// replication, and not by a restore of the data alone.
func TestFeedOfReplicatedRows(t *testing.T) {
	t.Parallel()
	c := open(t)
	f := follow(t, c)
	execute(t, c.conn, `SET session_replication_role = replica`)
	var want []sessions.Handle
	for _, xid := range []string{"3", "18446744073709551000", "NULL"} {
		h := sessions.NewHandle()
		execute(t, c.conn, `INSERT INTO sessiongate.feed (xid, kind, handle, reason) VALUES (`+xid+`::text::xid8, 'ended', $1, 'revoked')`, h[:])
		want = append(want, h)
	}
	f.hears("replicated", want...)
	f.hears("again")
}

// Where a dump was restored, the ids of its rows are another server's: they are read
// with the full resync, and neither hide what is new nor come again with it.
func TestFeedOfRestoredRows(t *testing.T) {
	t.Parallel()
	c := open(t)
	restored := sessions.NewHandle()
	execute(t, c.conn, `ALTER TABLE sessiongate.feed DISABLE TRIGGER stamp`)
	for _, xid := range []string{"3", "9000000000000"} {
		execute(t, c.conn, `INSERT INTO sessiongate.feed (xid, kind, handle, reason) VALUES (`+xid+`::text::xid8, 'ended', $1, 'revoked')`, restored[:])
	}
	execute(t, c.conn, `ALTER TABLE sessiongate.feed ENABLE ALWAYS TRIGGER stamp`)
	if err := c.RaiseFeedRetention(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	all := poll(t, c, "")
	if len(all.Entries) != 2 {
		t.Errorf("of all: %v", all.Entries)
	}
	f := &follower{t, c.Store, all.Next}
	f.hears("again")
	f.hears("an end", end(t, c.conn))
	f.hears("again")
}

// A feed that was restored under a running replica is another one, and read again.
func TestFeedThatWasReplaced(t *testing.T) {
	t.Parallel()
	c := open(t)
	f := follow(t, c)
	f.hears("an end", end(t, c.conn))
	for _, how := range []string{
		`TRUNCATE sessiongate.feed`,
		`CREATE TABLE sessiongate.other (LIKE sessiongate.feed INCLUDING ALL);
		ALTER TABLE sessiongate.feed RENAME TO former; ALTER TABLE sessiongate.other RENAME TO feed`,
	} {
		execute(t, c.conn, how)
		h := end(t, c.conn)
		page := poll(t, c, f.since)
		if !page.Resync || len(page.Entries) != 1 || page.Entries[0].Handle != h {
			t.Errorf("%s: again %v, %v", how, page.Resync, page.Entries)
		}
		f.since = page.Next
		f.hears("then", end(t, c.conn))
	}
}

// After a crash of one process the server recovers and goes on under the same postmaster:
// transaction ids that had not reached the disk are given out again, to others. The feed
// is then read again, or an end that got such an id would never be heard of.
func TestFeedAfterACrashOfOneProcess(t *testing.T) {
	t.Parallel()
	server, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := migrated(t.Context(), server, "crash"); err != nil {
		t.Fatal(err)
	}
	store := openAt(t, postgres.Config{URL: server.URL("crash")})
	if err := store.RaiseFeedRetention(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, caughtUp := range []bool{false, true} {
		rec := create(t, store, "alice")
		batch := connect(t, server.URL("postgres"))
		for range 300 { // ids that no commit brings to the disk
			execute(t, batch, `BEGIN`)
			execute(t, batch, `SELECT pg_current_xact_id()`)
			execute(t, batch, `ROLLBACK`)
		}
		since := poll(t, store, "").Next
		other := connect(t, server.URL("postgres"))
		if err := syscall.Kill(int(batch.PgConn().PID()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "the crash", func() bool { return other.Ping(t.Context()) != nil })
		await(t, "the end to be written", func() bool {
			done, err := store.End(t.Context(), rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked})
			return done && err == nil
		})
		if caughtUp { // the ids have, so that they tell nothing any more
			busy := connect(t, server.URL("postgres"))
			for range 600 {
				execute(t, busy, `SELECT pg_current_xact_id()`)
			}
		}
		var page sessions.Page
		await(t, "a poll on a connection that lives", func() (read bool) {
			page, err = sessionstest.ReadFeed(t.Context(), store, since)
			return err == nil
		})
		if !slices.ContainsFunc(page.Entries, func(e sessions.Entry) bool { return e.Handle == rec.Handle }) {
			t.Errorf("an end after the crash is not heard of: again %v, %d entries", page.Resync, len(page.Entries))
		}
	}
}

// A database that took the name of another one is another one, though it is its copy.
func TestFeedOfACopiedDatabase(t *testing.T) {
	t.Parallel()
	c := open(t)
	f := follow(t, c)
	f.hears("an end", end(t, c.conn))
	name := c.conn.Config().Database
	c.Close()
	_ = c.conn.Close(t.Context())
	admin := connect(t, shared.URL("postgres"))
	execute(t, admin, fmt.Sprintf(`CREATE DATABASE %s_copy TEMPLATE %s`, name, name))
	execute(t, admin, fmt.Sprintf(`ALTER DATABASE %s RENAME TO %s_former`, name, name))
	execute(t, admin, fmt.Sprintf(`ALTER DATABASE %s_copy RENAME TO %s`, name, name))
	page := poll(t, openAt(t, postgres.Config{URL: c.url}), f.since)
	if !page.Resync || len(page.Entries) != 1 {
		t.Errorf("again %v, %d entries", page.Resync, len(page.Entries))
	}
}

// A reading of all that is young does not wade through what is old and not swept yet.
func TestFeedPassesOverWhatIsOld(t *testing.T) {
	t.Parallel()
	c := open(t)
	store := openAt(t, postgres.Config{URL: c.url})
	store.SetFeedPage(100)
	if err := store.RaiseFeedRetention(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	execute(t, c.conn, `INSERT INTO sessiongate.feed (kind, handle, reason, at)
		SELECT 'ended', decode(md5(random()::text), 'hex'), 'revoked', now() - interval '90 minutes' FROM generate_series(1, 50000)`)
	young := end(t, c.conn)
	blocks, err := store.PollBlocks(t.Context(), "")
	if err != nil || blocks > 30 {
		t.Errorf("%d blocks, %v", blocks, err)
	}
	if page := poll(t, store, ""); len(page.Entries) != 1 || page.Entries[0].Handle != young {
		t.Errorf("%d entries", len(page.Entries))
	}
}

// The cost of a poll depends on what is new: not on what is young, and not on what came since
// another transaction began. It is counted in blocks, so that no machine is too slow.
func TestFeedCostFollowsWhatIsNew(t *testing.T) {
	t.Parallel()
	c := open(t)
	elsewhere := connect(t, database(t, template))
	execute(t, elsewhere, `BEGIN`)
	execute(t, elsewhere, `SELECT pg_current_xact_id()`)
	store := openAt(t, postgres.Config{URL: c.url})
	store.SetFeedPage(10_000)
	since := poll(t, store, "").Next
	blocks := func(what string) int {
		n, err := store.PollBlocks(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d blocks", what, n)
		return n
	}
	few := blocks("an empty feed")
	const many = 50_000
	for i := range 10 {
		execute(t, c.conn, `INSERT INTO sessiongate.feed (kind, handle, reason)
			SELECT 'ended', decode(md5(random()::text), 'hex'), 'revoked' FROM generate_series(1, $1)`, many/10)
		if i == 0 { // the planner then knows of one transaction only
			execute(t, c.conn, `ANALYZE sessiongate.feed`)
		}
	}
	if got := blocks("50,000 new ones"); got <= few {
		t.Errorf("%d blocks for %d entries: the count counts nothing", got, many)
	}
	page, err := sessionstest.ReadFeed(t.Context(), store, since)
	if err != nil || len(page.Entries) != many {
		t.Fatalf("%d entries, %v", len(page.Entries), err)
	}
	since = page.Next
	if got := blocks("nothing new"); got > few+20 {
		t.Errorf("%d blocks where nothing is new, %d of an empty feed", got, few)
	}
	execute(t, c.conn, feedEnded, make([]byte, 16))
	if got := blocks("one more"); got > few+25 {
		t.Errorf("%d blocks for one entry, %d of an empty feed", got, few)
	}
}
