package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	versionTable = "sessiongate.schema_versions"
	migrateMax   = 10 * time.Minute
	// migrateLock serialises migrations. Only sessiongate uses the constant.
	migrateLock = 0x73657373676174
	// migratePause is the shortest pause before a migration asks again for locks that it did not
	// get. All traffic waits while it asks.
	migratePause = 5 * time.Second
)

// Migrate brings the schema up to date and returns how many migrations it applied. Any number of
// processes may call it at once: one works, the others find it done. Where others hold the tables, it
// tries again, for ten minutes. It needs a direct connection to the database: its lock belongs to a
// connection, which a pooler in transaction mode does not keep.
func (s *Store) Migrate(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, migrateMax)
	defer cancel()
	cfg := s.pool.Config().ConnConfig.Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // through a pooler, too
	cfg.RuntimeParams["statement_timeout"] = "0"              // a migration may take long
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()

	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	store, err := database.NewStore(goose.DialectPostgres, versionTable)
	if err != nil {
		return 0, err
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, fmt.Errorf("reading migrations: %w", err)
	}
	newest, err := NewestMigration()
	if err != nil {
		return 0, err
	}
	var encoding string
	if err := db.QueryRowContext(ctx, `SHOW server_encoding`).Scan(&encoding); err != nil {
		return 0, fmt.Errorf("reading the database's encoding: %w", err)
	}
	if encoding != utf8Encoding {
		return 0, notUTF8(encoding)
	}
	// Most starts find nothing to do, and take no lock.
	current, err := schemaVersion(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("reading the schema's version: %w", err)
	}
	if current >= newest {
		return 0, nil
	}
	lock, err := db.Conn(ctx)
	if err != nil {
		return 0, fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = lock.Close() }() // releases the lock
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrateLock)); err != nil {
		return 0, fmt.Errorf("waiting for the migration lock: %w", err)
	}
	defer func() {
		_, _ = lock.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrateLock))
	}()
	// The schema contains goose's table of versions, so it is created before the first migration.
	// IF NOT EXISTS requires the right to create even if the schema exists; an administrator may
	// have made it for a role without that right.
	var exists bool
	if err := lock.QueryRowContext(ctx, `SELECT to_regnamespace('sessiongate') IS NOT NULL`).Scan(&exists); err != nil {
		return 0, fmt.Errorf("looking for the schema: %w", err)
	}
	if !exists {
		if _, err := lock.ExecContext(ctx, `CREATE SCHEMA sessiongate`); err != nil {
			return 0, fmt.Errorf("creating the schema: %w", err)
		}
	}
	applied := 0
	for {
		results, err := provider.Up(ctx)
		applied += len(results)
		if err == nil {
			return applied, nil
		}
		if !lacksLock(err) {
			return applied, fmt.Errorf("applying migrations: %w", err)
		}
		select {
		case <-time.After(s.migratePause + rand.N(s.migratePause)): //nolint:gosec // no secret
		case <-ctx.Done():
			return applied, fmt.Errorf("applying migrations: a backup or another long transaction holds the tables: %w", err)
		}
	}
}

// lacksLock says whether a migration gave up because others held the tables. It has changed nothing.
func lacksLock(err error) bool {
	e := (*pgconn.PgError)(nil)
	return errors.As(err, &e) && (e.Code == codeLockNotAvailable || e.Code == codeDeadlock)
}

// schemaVersion is 0 where there is no schema yet.
func schemaVersion(ctx context.Context, db *sql.DB) (int64, error) {
	var exists bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var version int64
	err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&version)
	return version, err
}

// NewestMigration is the version of the last embedded migration: that of the schema after [Store.Migrate].
func NewestMigration() (int64, error) {
	files, err := fs.ReadDir(migrations, "migrations") // sorted by name
	if err != nil {
		return 0, fmt.Errorf("reading migrations: %w", err)
	}
	version, err := goose.NumericComponent(files[len(files)-1].Name())
	if err != nil {
		return 0, fmt.Errorf("reading migrations: %w", err)
	}
	return version, nil
}
