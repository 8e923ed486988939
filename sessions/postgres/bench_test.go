package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/sessionstest"
)

// BenchmarkAudit measures what the audit costs a sign-in and a refresh: the same
// writers on a store without it and on one with it, whose events are delivered
// meanwhile, in turns, so that whatever else the machine does is done to both. The
// metric "with/without" is the ratio of their times.
func BenchmarkAudit(b *testing.B) {
	const writers = 8
	durable, err := cluster.Start(b.Context(), cluster.Options{Durable: true})
	if err != nil {
		b.Fatal(err)
	}
	defer durable.Stop()
	for name, act := range map[string]func(context.Context, *postgres.Store, *sessions.Row) error{
		"create": func(ctx context.Context, store *postgres.Store, row *sessions.Row) error {
			rec, err := store.Create(ctx, sessions.NewRecord{
				Handle: sessions.NewHandle(), UserID: "alice", Current: tokenHash(1), Claims: []byte(`{}`), Data: []byte(`{}`),
				SlidingLife: time.Hour, AbsoluteLife: time.Hour, Actor: "shop",
			})
			*row = rec.Row
			return err
		},
		"refresh": func(ctx context.Context, store *postgres.Store, row *sessions.Row) error {
			next := *row
			next.NextNonce, next.IssuedAt, next.Issues = sessions.Nonce{1}, row.CreatedAt.Add(time.Duration(row.Issues)*time.Second), row.Issues+1
			_, err := store.Swap(ctx, *row, next, sessions.R4)
			*row = next
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			var took [2]time.Duration
			var stores [2]*postgres.Store
			var rows [2][writers]sessions.Row
			stop := make(chan struct{})
			var deliverer errgroup.Group
			for i := range stores {
				if err := migrated(b.Context(), durable, fmt.Sprint(name, i)); err != nil {
					b.Fatal(err)
				}
				store, err := postgres.Open(b.Context(), postgres.Config{URL: durable.URL(fmt.Sprint(name, i))})
				if err != nil {
					b.Fatal(err)
				}
				if i == 1 {
					store.AuditChanges()
				}
				defer store.Close()
				stores[i] = store
				for n := range rows[i] {
					rec, err := store.Create(b.Context(), sessions.NewRecord{
						Handle: sessions.NewHandle(), UserID: "alice", Current: tokenHash(1), Claims: []byte(`{}`), Data: []byte(`{}`),
						SlidingLife: time.Hour, AbsoluteLife: time.Hour,
					})
					if err != nil {
						b.Fatal(err)
					}
					rows[i][n] = rec.Row
				}
			}
			deliverer.Go(func() error {
				for {
					if _, err := stores[1].DeliverAudit(b.Context(), 500, func([]sessions.AuditEvent) error { return nil }); err != nil {
						return err
					}
					select {
					case <-stop:
						return nil
					case <-time.After(100 * time.Millisecond):
					}
				}
			})
			const turn = 50
			for b.Loop() {
				for i, store := range stores {
					began := time.Now()
					var g errgroup.Group
					for n := range writers {
						g.Go(func() error {
							for range turn {
								if err := act(b.Context(), store, &rows[i][n]); err != nil {
									return err
								}
							}
							return nil
						})
					}
					if err := g.Wait(); err != nil {
						b.Fatal(err)
					}
					took[i] += time.Since(began)
				}
			}
			close(stop)
			if err := deliverer.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "with/without")
			b.ReportMetric(float64(took[0].Microseconds())/float64(b.N*turn*writers), "µs-without")
		})
	}
}

// BenchmarkPoll measures a poll that finds nothing new, on a feed to which entries were
// appended since a transaction began, anywhere in the server, which is still open; and
// on the same feed after its end, in turns. The metric "open/closed" is the ratio.
func BenchmarkPoll(b *testing.B) {
	server, err := cluster.Start(b.Context(), cluster.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Stop()
	if err := migrated(b.Context(), server, "feed"); err != nil {
		b.Fatal(err)
	}
	store, err := postgres.Open(b.Context(), postgres.Config{URL: server.URL("feed")})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := store.RaiseFeedRetention(b.Context(), 1000*time.Hour); err != nil {
		b.Fatal(err)
	}
	writer := connect(b, server.URL("feed"))
	for _, entries := range []int{10_000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(entries), func(b *testing.B) {
			execute(b, writer, `TRUNCATE sessiongate.feed`)
			before, err := sessionstest.ReadFeed(b.Context(), store, "")
			if err != nil {
				b.Fatal(err)
			}
			job := connect(b, server.URL("postgres"))
			execute(b, job, `BEGIN`)
			execute(b, job, `SELECT pg_current_xact_id()`)
			for range 100 {
				execute(b, writer, `INSERT INTO sessiongate.feed (kind, handle, reason)
					SELECT 'ended', decode(md5(random()::text), 'hex'), 'revoked' FROM generate_series(1, $1::int)`, entries/100)
			}
			began := time.Now()
			open, err := sessionstest.ReadFeed(b.Context(), store, before.Next)
			if err != nil || len(open.Entries) != entries {
				b.Fatal(len(open.Entries), err)
			}
			reading, whole := time.Since(began), time.Now()
			if _, err := sessionstest.ReadFeed(b.Context(), store, ""); err != nil {
				b.Fatal(err)
			}
			wholeReading := time.Since(whole)
			var took [2]time.Duration
			for b.Loop() {
				for i, since := range []sessions.Cursor{open.Next, ""} {
					if i == 1 {
						execute(b, job, `COMMIT`)
						page, err := store.Poll(b.Context(), open.Next)
						if err != nil {
							b.Fatal(err)
						}
						since = page.Next
					}
					began := time.Now()
					for range 100 {
						if page, err := store.Poll(b.Context(), since); err != nil || len(page.Entries) != 0 {
							b.Fatal(len(page.Entries), err)
						}
					}
					took[i] += time.Since(began)
				}
				execute(b, job, `BEGIN`)
				execute(b, job, `SELECT pg_current_xact_id()`)
				if page, err := store.Poll(b.Context(), open.Next); err != nil {
					b.Fatal(err)
				} else {
					open.Next = page.Next
				}
			}
			b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "open/closed")
			b.ReportMetric(float64(took[0].Microseconds())/float64(100*b.N), "us/poll")
			b.ReportMetric(float64(reading.Milliseconds()), "ms/all-new")
			b.ReportMetric(float64(wholeReading.Milliseconds()), "ms/whole")
			execute(b, job, `COMMIT`)
		})
	}
}

// BenchmarkHeard measures how long a replica goes on allowing a session that was ended
// elsewhere, while this many entries arrive in the transactions of a mass sign-out, and a
// transaction that began before them stays open. The bound is 1 s.
func BenchmarkHeard(b *testing.B) {
	server, err := cluster.Start(b.Context(), cluster.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Stop()
	for _, entries := range []int{10_000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(entries), func(b *testing.B) {
			name := nextName()
			if err := migrated(b.Context(), server, name); err != nil {
				b.Fatal(err)
			}
			job := connect(b, server.URL("postgres"))
			execute(b, job, `BEGIN`)
			execute(b, job, `SELECT pg_current_xact_id()`)
			cfg := sessions.Defaults()
			cfg.KeyEncryptionKey = kek(b, make([]byte, 32))
			var engines [2]*sessions.Engine
			for i := range engines {
				store, err := postgres.Open(b.Context(), postgres.Config{URL: server.URL(name)})
				if err != nil {
					b.Fatal(err)
				}
				defer store.Close()
				engines[i] = sessionstest.StartEngine(b, store, cfg)
			}
			writer := connect(b, server.URL(name))
			var heard []time.Duration
			for b.Loop() {
				done := make(chan error, 1)
				go func() {
					const each = 5_000 // as one statement of EndCreatedBefore
					for range entries / each {
						if _, err := writer.Exec(b.Context(), `INSERT INTO sessiongate.feed (kind, handle, reason)
							SELECT 'ended', decode(md5(random()::text), 'hex'), 'revoked' FROM generate_series(1, $1::int)`, each); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
				for arriving := true; arriving; {
					issued, err := engines[0].Create(b.Context(), sessions.NewSession{UserID: "alice"})
					if err != nil {
						b.Fatal(err)
					}
					began := time.Now()
					if _, err := engines[0].End(b.Context(), issued.Session.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); err != nil {
						b.Fatal(err)
					}
					for denial := (*sessions.Denial)(nil); denial != sessions.DenyEnded; {
						_, denial = engines[1].Verify(sessions.TransportCookie, []string{issued.Access.Reveal()})
						time.Sleep(time.Millisecond)
					}
					heard = append(heard, time.Since(began))
					select {
					case err := <-done:
						if err != nil {
							b.Fatal(err)
						}
						arriving = false
					default:
					}
				}
			}
			slices.Sort(heard)
			b.ReportMetric(float64(heard[len(heard)/2].Milliseconds()), "ms-median")
			b.ReportMetric(float64(heard[len(heard)-1].Milliseconds()), "ms-max")
			b.ReportMetric(float64(len(heard)), "ends")
		})
	}
}
