package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// BenchmarkStatements measures what one call of the store costs: the time, the CPU of this process,
// and the CPU of the server's. Callers are as many as the pool has connections, and each has
// sessions of its own.
func BenchmarkStatements(b *testing.B) {
	const callers = 8
	server, err := cluster.Start(b.Context(), cluster.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Stop()
	if err := migrated(b.Context(), server, "statements"); err != nil {
		b.Fatal(err)
	}
	store, err := postgres.Open(b.Context(), postgres.Config{URL: server.URL("statements"), MaxConnections: callers})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	observer := connect(b, server.URL("statements"))
	execute(b, observer, `
		WITH s AS (INSERT INTO sessiongate.active_sessions (handle, user_id, current_hash, promoted_at, created_at, expires_at, absolute_expires_at)
			SELECT decode(md5(n::text), 'hex'), 'user ' || n, sha256(n::text::bytea), now(), now(), now() + '1 day', now() + '2 days' FROM generate_series(1, 100000) n RETURNING handle)
		INSERT INTO sessiongate.session_attributes (handle, claims, data) SELECT handle, '{"role":"admin"}', '{"theme":"dark"}' FROM s`)
	execute(b, observer, `VACUUM ANALYZE`)
	var folder string
	if err := observer.QueryRow(b.Context(), `SHOW data_directory`).Scan(&folder); err != nil {
		b.Fatal(err)
	}
	var rows [callers]sessions.Row
	for name, act := range map[string]func(ctx context.Context, row *sessions.Row) error{
		"get": func(ctx context.Context, row *sessions.Row) error {
			_, _, err := store.Get(ctx, row.Handle)
			return err
		},
		"get and swap": func(ctx context.Context, row *sessions.Row) error {
			rec, now, err := store.Get(ctx, row.Handle)
			if err != nil {
				return err
			}
			next := rec.Row
			next.NextNonce, next.IssuedAt, next.Issues = sessions.Nonce{1}, now, rec.Issues%20+1
			_, err = store.Swap(ctx, rec.Row, next, sessions.R4)
			return err
		},
		"rotate": func(ctx context.Context, row *sessions.Row) error {
			_, _, done, err := store.Rotate(ctx, row.Handle, sessions.Rotation{Current: row.Current, NextNonce: sessions.Nonce{1}, Sliding: time.Hour, IssuesMax: math.MaxInt32})
			if !done {
				err = errors.Join(err, errors.New("not rotated"))
			}
			return err
		},
		"rotate, which reads": func(ctx context.Context, row *sessions.Row) error {
			_, _, _, err := store.Rotate(ctx, row.Handle, sessions.Rotation{Current: row.Current, Grace: time.Hour})
			return err
		},
		"create": func(ctx context.Context, _ *sessions.Row) error {
			_, err := store.Create(ctx, newRecord("alice"))
			return err
		},
		"create and end": func(ctx context.Context, _ *sessions.Row) error {
			rec, err := store.Create(ctx, newRecord("alice"))
			if err != nil {
				return err
			}
			_, err = store.End(ctx, rec.Handle, sessions.Ending{Reason: sessions.ReasonSignedOut})
			return err
		},
		"promote 1": func(ctx context.Context, row *sessions.Row) error {
			next := hashOf(sessions.NewHandle())
			err := store.Promote(ctx, []sessions.Promotion{{Handle: row.Handle, Parent: row.Current, Own: next}})
			row.Current = next
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for n := range rows {
				rec, err := store.Create(b.Context(), newRecord("alice"))
				if err != nil {
					b.Fatal(err)
				}
				rows[n] = rec.Row
			}
			ours, theirs := cpu(b), serverCPU(b, folder)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var all errgroup.Group
			for n := range rows {
				all.Go(func() error {
					for left.Add(-1) >= 0 {
						if err := act(b.Context(), &rows[n]); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := all.Wait(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64((cpu(b)-ours).Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64((serverCPU(b, folder)-theirs).Microseconds())/float64(b.N), "server-µs/op")
		})
	}
}

// cpu is what this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// serverCPU is what the processes of the server with this data folder have used.
func serverCPU(tb testing.TB, folder string) time.Duration {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
	if err != nil {
		tb.Fatal(err)
	}
	postmaster, _, _ := strings.Cut(string(text), "\n")
	const tick = 10 * time.Millisecond // USER_HZ is 100 on Linux
	var used time.Duration
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if fields[1] != postmaster {
			continue
		}
		for _, field := range fields[11:13] {
			ticks, err := strconv.Atoi(field)
			if err != nil {
				tb.Fatal(fmt.Errorf("%s: %w", path, err))
			}
			used += time.Duration(ticks) * tick
		}
	}
	return used
}
