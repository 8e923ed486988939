package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// migrate brings the schema up to date, once.
func migrate(ctx context.Context, store *postgres.Store, log *slog.Logger) error {
	applied, err := store.Migrate(ctx)
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	log.Info("schema is up to date", "applied", applied)
	return nil
}

const (
	migrateRetryFirst = 200 * time.Millisecond
	migrateRetryLast  = 5 * time.Second
)

// bringUpToDate migrates until it succeeds or ctx ends.
func bringUpToDate(ctx context.Context, store *postgres.Store, log *slog.Logger) {
	for wait := migrateRetryFirst; ctx.Err() == nil; wait = min(2*wait, migrateRetryLast) {
		applied, err := store.Migrate(ctx)
		if err == nil {
			log.Info("schema is up to date", "applied", applied)
			return
		}
		if ctx.Err() == nil {
			log.Warn("schema could not be brought up to date; trying again (a role that may not do it: database.migrate false, and `sessiongate migrate`)", "error", err.Error())
		}
		pause(ctx, wait)
	}
}

// awaitSchema waits until somebody else has brought the schema up to date and
// this role may use it, or ctx ends. Each reason is logged once.
func awaitSchema(ctx context.Context, store *postgres.Store, log *slog.Logger) {
	said := ""
	for wait := migrateRetryFirst; ctx.Err() == nil; wait = min(2*wait, migrateRetryLast) {
		err := store.CheckSchema(ctx)
		switch missing := (*postgres.SchemaError)(nil); {
		case err == nil:
			return
		case ctx.Err() != nil || err.Error() == said:
		case errors.As(err, &missing):
			log.Error("not ready: "+missing.Error(), "retried_every", migrateRetryLast.String())
		default:
			log.Warn("the schema could not be looked at; trying again", "error", err.Error())
		}
		said = err.Error()
		pause(ctx, wait)
	}
}
