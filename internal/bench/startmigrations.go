package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// measureMigrations migrates tables from the first version of the schema to the newest one, while
// one client refreshes in a loop, with the statements of that version: the former process runs on
// during a rollout.
func (d *deployment) measureMigrations(ctx context.Context) ([]result, error) {
	r := result{
		title: "migrations", why: "From the first schema to the newest one, while one client refreshes in a loop. " +
			"A statement waits for a lock at most as long as its longest pause.",
		head: []string{"sessions", "migrations, ms", "longest pause before, ms", "longest pause meanwhile, ms"},
	}
	sizes := d.sizes()
	for _, s := range sizes[max(0, len(sizes)-2):] {
		o, err := d.another(ctx, "migrate_"+strings.ReplaceAll(s.name, " ", "_"))
		if err != nil {
			return nil, err
		}
		if err := o.firstSchema(ctx, s.rows); err != nil {
			return nil, err
		}
		before, err := o.pauses(ctx, s.rows, func() error {
			pause := time.NewTimer(d.turn)
			defer pause.Stop()
			select {
			case <-pause.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil {
			return nil, err
		}
		var took time.Duration
		meanwhile, err := o.pauses(ctx, s.rows, func() error {
			began := time.Now()
			err := o.migrate(ctx)
			took = time.Since(began)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := d.drop(ctx, o); err != nil {
			return nil, err
		}
		r.rows = append(r.rows, []string{s.name, inMilliseconds(took), inMilliseconds(before), inMilliseconds(meanwhile)})
	}
	return []result{r}, nil
}

func inMilliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f", float64(d.Microseconds())/1e3)
}

// firstSchema makes a database as the first version of sessiongate left it, with rows.
func (d *deployment) firstSchema(ctx context.Context, rows int) error {
	dir, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/sessiongate/sessiongate/sessions/postgres").Output()
	if err != nil {
		return fmt.Errorf("looking for the migrations: %w", err)
	}
	if err := d.execute(ctx, `CREATE SCHEMA sessiongate`); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(d.url)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	versions, err := database.NewStore(goose.DialectPostgres, "sessiongate.schema_versions")
	if err != nil {
		return err
	}
	files := os.DirFS(filepath.Join(strings.TrimSpace(string(dir)), "migrations"))
	provider, err := goose.NewProvider("", db, files, goose.WithStore(versions), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := provider.UpTo(ctx, 1); err != nil {
		return fmt.Errorf("applying the first migration: %w", err)
	}
	return errors.Join(
		d.execute(ctx, fillHandles(`INSERT INTO sessiongate.sessions (handle, user_id, current, current_client, promoted_at, created_at, expires_at, absolute_expires_at)
			SELECT HANDLE, 'row-' || g, $2, $3, n, n, n + interval '30 days', n + interval '100 days' FROM generate_series(1, $1::bigint) g, (SELECT now() AS n) t`),
			rows, []byte(rowHash), []byte(rowClient)),
		d.execute(ctx, fillHandles(`INSERT INTO sessiongate.session_contents (handle, claims, data)
			SELECT HANDLE, '{"role":"member","plan":"team"}', '{}' FROM generate_series(1, $1::bigint) g`), rows),
		d.execute(ctx, `INSERT INTO sessiongate.feed (kind, handle, reason)
			SELECT 'ended', decode(md5(g::text), 'hex'), 'revoked' FROM generate_series(1, $1::bigint) g`, rows/10),
		d.execute(ctx, `VACUUM (ANALYZE)`),
	)
}

// pauses has one client refresh in a loop until do returns. It returns the longest time that a
// refresh took.
func (d *deployment) pauses(ctx context.Context, rows int, do func() error) (longest time.Duration, err error) {
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	// Unnamed statements, as the first version sent them: a table may have become a view meanwhile.
	mode := pgx.QueryExecModeExec
	refresh := func() error {
		handle := handleOf(1 + rand.IntN(rows)) //nolint:gosec // no secret
		var current []byte
		if err := conn.QueryRow(ctx, `SELECT s.current FROM sessiongate.sessions s JOIN sessiongate.session_contents c USING (handle) WHERE s.handle = $1`,
			mode, handle[:]).Scan(&current); err != nil {
			return err
		}
		tag, err := conn.Exec(ctx, `UPDATE sessiongate.sessions SET next_nonce = $3, next_client = $3, handed_at = now(), hand_outs = 1, expires_at = now() + interval '1 day'
			WHERE handle = $1 AND current = $2`, mode, handle[:], current, []byte(rowClient))
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("a refresh changed %d rows", tag.RowsAffected())
		}
		return err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		began := time.Now()
		if err := refresh(); err != nil {
			return longest, errors.Join(fmt.Errorf("refreshing during a migration: %w", err), <-done)
		}
		longest = max(longest, time.Since(began))
		select {
		case err := <-done:
			return longest, err
		default:
		}
	}
}
