package postgres_test

import (
	"context"
	"encoding/base64"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// audited is a store that writes an event for each change. Each delivery is that of
// the next of several processes.
type audited struct {
	*clocked

	processes []*postgres.Store
	next      atomic.Int64
}

func openNoting(t *testing.T, cfg postgres.Config) *postgres.Store {
	t.Helper()
	store := openAt(t, cfg)
	store.AuditChanges()
	return store
}

func openAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{clocked: open(t)}
	for range 2 {
		a.processes = append(a.processes, openNoting(t, postgres.Config{URL: a.url}))
	}
	a.Store = a.processes[0]
	return a
}

func (a *audited) DeliverAudit(ctx context.Context, limit int, deliver func([]sessions.AuditEvent) error) (int, error) {
	return a.processes[int(a.next.Add(1))%len(a.processes)].DeliverAudit(ctx, limit, deliver)
}

func TestAudit(t *testing.T) {
	t.Parallel()
	sessionstest.Audit(t, func(t *testing.T) sessionstest.ClockedStore { return openAudited(t) })
}

// An engine that delivers audit events makes the store write them: there is no second switch that
// could be forgotten.
func TestAuditIsOneSwitch(t *testing.T) {
	t.Parallel()
	kek, err := sessions.ParseKeyEncryptionKey(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	for want, take := range []func(context.Context, []sessions.AuditEvent) error{
		nil, func(context.Context, []sessions.AuditEvent) error { return nil },
	} {
		store := openAt(t, postgres.Config{URL: open(t).url})
		cfg := sessions.Defaults()
		cfg.KeyEncryptionKey, cfg.Audit = kek, take
		if _, err := sessions.New(store, cfg); err != nil {
			t.Fatal(err)
		}
		create(t, store, "alice")
		if events := taken(t, store); len(events) != want {
			t.Errorf("with a receiver: %t, events %v", take != nil, events)
		}
	}
}

// The statements are others where they write events.
func TestConformanceAudited(t *testing.T) {
	t.Parallel()
	sessionstest.Conformance(t, func(t *testing.T) sessionstest.ClockedStore { return openAudited(t) })
}

// taken delivers what is there.
func taken(t *testing.T, store *postgres.Store) (events []sessions.AuditEvent) {
	t.Helper()
	if _, err := store.DeliverAudit(t.Context(), 100, func(batch []sessions.AuditEvent) error {
		events = slices.Clone(batch)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return events
}

func kinds(events []sessions.AuditEvent) (kinds []sessions.AuditKind) {
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// A change and its event go together or not at all (I7).
func TestChangeAndEventAreOneTransaction(t *testing.T) {
	t.Parallel()
	c := openAudited(t)
	rec := create(t, c.Store, "alice")
	if n := len(taken(t, c.Store)); n != 1 {
		t.Fatalf("%d events", n)
	}
	changes := map[string]func() error{
		"Create": func() error {
			_, err := c.Create(t.Context(), sessions.NewRecord{
				Handle: sessions.NewHandle(), UserID: "alice", Current: tokenHash(1), Claims: []byte(`{}`), Data: []byte(`{}`),
				SlidingLife: time.Hour, AbsoluteLife: time.Hour,
			})
			return err
		},
		"Swap": func() error { _, err := c.Swap(t.Context(), rec.Row, issued(rec), sessions.R4); return err },
		"Update": func() error {
			_, err := c.Update(t.Context(), rec.Handle, sessions.Attributes{Claims: []byte(`{"a":1}`)})
			return err
		},
		"AddKey": func() error {
			_, err := c.AddKey(t.Context(), sessions.StoredKey{Kind: sessions.KeySigning, Generation: 1, ID: sessions.KeyID{1}, Wrapped: []byte{1}}, 0)
			return err
		},
	}
	c.exec(`CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$`)
	c.exec(`CREATE CONSTRAINT TRIGGER broken AFTER INSERT ON sessiongate.audit_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION broken()`)
	for name, change := range changes {
		if err := change(); err == nil {
			t.Errorf("%s reports success without an event", name)
		}
	}
	got, _, err := c.Get(t.Context(), rec.Handle)
	if diff := cmp.Diff(rec, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" || err != nil {
		t.Errorf("changed without an event: %v\n%s", err, diff)
	}
	if n := c.count(`SELECT (SELECT count(*) FROM sessiongate.active_sessions) + (SELECT count(*) FROM sessiongate.keys)`); n != 1 {
		t.Errorf("%d sessions and keys", n)
	}
	if events := taken(t, c.Store); len(events) > 0 {
		t.Errorf("what was rolled back is told: %v", events)
	}
	c.exec(`DROP TRIGGER broken ON sessiongate.audit_events`)
	for name, change := range changes {
		if err := change(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(taken(t, c.Store)); n != len(changes) {
		t.Errorf("%d events, want %d", n, len(changes))
	}
}

// A session that waits for its commit keeps no other from being told of, and is
// told of later, under its lower id.
func TestAuditWaitsForNoTransaction(t *testing.T) {
	t.Parallel()
	c := openAudited(t)
	slow := create(t, c.Store, "slow")
	taken(t, c.Store)
	c.exec(`BEGIN`)
	c.exec(`WITH gone AS (DELETE FROM sessiongate.active_sessions RETURNING handle, user_id)
		INSERT INTO sessiongate.audit_events (kind, handle, user_id, reason, actor) SELECT 'ended', handle, user_id, 'revoked', '' FROM gone`)
	fast := create(t, c.Store, "fast")
	first := taken(t, c.Store)
	c.exec(`COMMIT`)
	second := taken(t, c.Store)
	if len(first) != 1 || len(second) != 1 || first[0].Handle != fast.Handle || second[0].Handle != slow.Handle || second[0].ID >= first[0].ID {
		t.Errorf("%v, then %v", first, second)
	}
}

// A delivery that dies, or hangs until the server has had enough, loses nothing:
// another process has the same events then.
func TestAuditDelivererThatIsGone(t *testing.T) {
	t.Parallel()
	c := openAudited(t)
	one, two := c.processes[0], c.processes[1]
	const deliverers = ` FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`
	for name, leaves := range map[string]func(){
		"killed": func() { c.count(`SELECT count(pg_terminate_backend(pid))` + deliverers) },
		"hangs":  func() {}, // the server ends it
	} {
		create(t, one, "alice")
		one.SetDeliverMax(time.Minute)
		if name == "hangs" {
			one.SetDeliverMax(50 * time.Millisecond)
		}
		var first []sessions.AuditEvent
		n, err := one.DeliverAudit(t.Context(), 10, func(events []sessions.AuditEvent) error {
			first = slices.Clone(events)
			if name == "killed" {
				// It holds back neither vacuum nor the feed's cursor.
				if n := c.count(`SELECT count(*)` + deliverers + ` AND backend_xid IS NULL AND backend_xmin IS NULL`); n != 1 {
					t.Errorf("%d deliverers without a snapshot, want 1", n)
				}
			}
			leaves()
			await(t, "the end of the connection", func() bool { return c.count(`SELECT count(*)`+deliverers) == 0 })
			return nil
		})
		if err == nil || n != 0 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if diff := cmp.Diff(first, taken(t, two)); diff != "" || len(first) != 1 {
			t.Errorf("%s: delivered %d, and then (-first +second):\n%s", name, len(first), diff)
		}
		create(t, one, "alice")
		if events := taken(t, one); len(events) != 1 {
			t.Errorf("%s: afterwards %v", name, events)
		}
	}
}

// The server gives a delivery its own time, not that of any transaction.
func TestAuditDelivererMayBeSlow(t *testing.T) {
	t.Parallel()
	c := openAudited(t)
	store := openNoting(t, postgres.Config{URL: c.url, StatementTimeout: 2 * time.Second})
	create(t, c.Store, "alice")
	n, err := store.DeliverAudit(t.Context(), 10, func([]sessions.AuditEvent) error {
		await(t, "more than a transaction may be idle", func() bool {
			return c.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
				AND state = 'idle in transaction' AND clock_timestamp() - state_change < interval '5 s'`) == 0
		})
		return nil
	})
	if n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// Refreshes that wait for a lock, and hold every connection of the pool, keep no
// event back.
func TestAuditHasAConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	c := openAudited(t)
	store := openNoting(t, postgres.Config{URL: c.url, MaxConnections: 1})
	rec := create(t, store, "alice")
	c.exec(`BEGIN`)
	c.exec(`SELECT FROM sessiongate.active_sessions FOR UPDATE`)
	done := make(chan error, 1)
	go func() { _, err := store.Swap(t.Context(), rec.Row, issued(rec), sessions.R4); done <- err }()
	awaitWaiting(t, c.conn, "transactionid")
	if events := taken(t, store); len(events) != 1 {
		t.Errorf("%v", events)
	}
	c.exec(`ROLLBACK`)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := kinds(taken(t, store)); !slices.Equal(got, []sessions.AuditKind{sessions.AuditRefreshed}) {
		t.Errorf("%v", got)
	}
}

// Without a receiver of audit events, only ends are events.
func TestWithoutAuditEndsAloneAreEvents(t *testing.T) {
	t.Parallel()
	c := open(t)
	rec := create(t, c.Store, "alice")
	if done, err := c.Swap(t.Context(), rec.Row, issued(rec), sessions.R4); !done || err != nil {
		t.Fatal(done, err)
	}
	if _, err := c.Update(t.Context(), rec.Handle, sessions.Attributes{Claims: []byte(`{}`), Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddKey(t.Context(), sessions.StoredKey{Kind: sessions.KeySigning, Generation: 1, Wrapped: []byte{1}}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.End(t.Context(), rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
		t.Fatal(err)
	}
	if got := kinds(taken(t, c.Store)); !slices.Equal(got, []sessions.AuditKind{sessions.AuditEnded}) {
		t.Errorf("%v", got)
	}
}

// What the former version wrote, before the migration and beside the new one, is
// delivered with the rest.
func TestAuditOfTheFormerVersion(t *testing.T) {
	t.Parallel()
	const formerly = `INSERT INTO sessiongate.events (kind, handle, user_id, reason, actor)
		VALUES ('ended', decode(repeat('01', 16), 'hex'), 'alice', 'revoked', 'shop')`
	c := openAudited(t)
	schemaAt(c.clocked, 1)
	c.exec(formerly)
	if n, err := c.Migrate(t.Context()); n != 5 || err != nil {
		t.Fatalf("applied %d, %v", n, err)
	}
	c.exec(formerly)
	create(t, c.Store, "bob")
	if got := kinds(taken(t, c.Store)); !slices.Equal(got, []sessions.AuditKind{sessions.AuditEnded, sessions.AuditEnded, sessions.AuditCreated}) {
		t.Errorf("%v", got)
	}
}
