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
	// remindEvery is how often a start that waits says the same again.
	remindEvery = time.Minute
)

// bringUpToDate migrates until it succeeds or ctx ends.
func bringUpToDate(ctx context.Context, store *postgres.Store, log *slog.Logger) {
	await(ctx, log, func() error {
		applied, err := store.Migrate(ctx)
		if err == nil {
			log.Info("schema is up to date", "applied", applied)
		}
		return err
	})
}

// awaitSchema waits until another process has brought the schema up to date and
// this role may use it, or ctx ends.
func awaitSchema(ctx context.Context, store *postgres.Store, log *slog.Logger) {
	await(ctx, log, func() error { return store.CheckSchema(ctx) })
}

// await tries until it succeeds or ctx ends. It says at once why it waits, and again where the reason
// changes or a minute has passed.
func await(ctx context.Context, log *slog.Logger, try func() error) {
	var why reminder
	for wait := migrateRetryFirst; ctx.Err() == nil; wait = min(2*wait, migrateRetryLast) {
		err := try()
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			why.say(ctx, log, err, time.Now())
		}
		pause(ctx, wait)
	}
}

// reminder says a reason once, and once a minute while it lasts.
type reminder struct {
	said string
	at   time.Time
}

func (r *reminder) say(ctx context.Context, log *slog.Logger, err error, now time.Time) {
	reason := postgres.Reason(err)
	if reason == "" {
		reason = err.Error()
	}
	if reason == r.said && now.Sub(r.at) < remindEvery {
		return
	}
	r.said, r.at = reason, now
	level := slog.LevelWarn
	if missing := (*postgres.SchemaError)(nil); errors.As(err, &missing) {
		level = slog.LevelError // it needs a person
	}
	log.Log(ctx, level, "not ready: "+reason, "retried_every", migrateRetryLast.String(), "error", err.Error())
}
