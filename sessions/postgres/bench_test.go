package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
	"github.com/sessiongate/sessiongate/sessions/postgres/cluster"
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
				Handle: sessions.NewHandle(), UserID: "alice", Current: mark(1), Claims: []byte(`{}`), Data: []byte(`{}`),
				SlidingLife: time.Hour, AbsoluteLife: time.Hour, Actor: "shop",
			})
			*row = rec.Row
			return err
		},
		"refresh": func(ctx context.Context, store *postgres.Store, row *sessions.Row) error {
			next := *row
			next.NextNonce, next.HandedAt, next.HandOuts = sessions.Nonce{1}, row.CreatedAt.Add(time.Duration(row.HandOuts)*time.Second), row.HandOuts+1
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
					store.NoteChanges()
				}
				defer store.Close()
				stores[i] = store
				for n := range rows[i] {
					rec, err := store.Create(b.Context(), sessions.NewRecord{
						Handle: sessions.NewHandle(), UserID: "alice", Current: mark(1), Claims: []byte(`{}`), Data: []byte(`{}`),
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
					if _, err := stores[1].DeliverEvents(b.Context(), 500, func([]sessions.AuditEvent) error { return nil }); err != nil {
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
