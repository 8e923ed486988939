package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// keysMax bounds a command on the keys in the database: each is a few small
// statements.
const keysMax = 30 * time.Second

type keysListCmd struct{}

// Run implements the command. It needs no key-encryption key and prints no secret,
// wrapped or not.
func (keysListCmd) Run(f *flags, p process) error {
	_, store, err := openDatabase(f, p)
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(p.ctx, keysMax)
	defer cancel()
	set, err := store.Keys(ctx)
	if err != nil {
		return err
	}
	return writeKeys(p.stdout, set)
}

type keysRotateCmd struct {
	Kind string `default:"both" enum:"both,signing,sealing" help:"Which key gets a successor: signing (access tokens), sealing (refresh tokens) or both."`
}

// Run implements the command. Each kind is its own attempt, so that a repetition
// makes what the first one did not.
func (k keysRotateCmd) Run(f *flags, p process) error {
	kinds := []sessions.KeyKind{sessions.KeySigning, sessions.KeySealing}
	if k.Kind != "both" {
		kinds = []sessions.KeyKind{sessions.KeyKind(k.Kind)}
	}
	return withKeys(f, p, func(ctx context.Context, store *postgres.Store, keks sessions.KeyEncryption, config Config) error {
		var errs []error
		for _, kind := range kinds {
			made, err := sessions.RotateKey(ctx, store, keks, kind, config.Engine.KeyActivationDelay)
			if err == nil {
				_, err = fmt.Fprintf(p.stdout, "made generation %d of the %s key: %s, active from %s\n",
					made.Generation, kind, made.ID, made.ActiveFrom.Format(time.RFC3339))
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

type keysRewrapCmd struct{}

// Run implements the command. It can be interrupted and repeated at any time.
func (keysRewrapCmd) Run(f *flags, p process) error {
	return withKeys(f, p, func(ctx context.Context, store *postgres.Store, keks sessions.KeyEncryption, _ Config) error {
		n, set, err := sessions.RewrapKeys(ctx, store, keks)
		if n > 0 || err == nil {
			_, printed := fmt.Fprintf(p.stdout, "rewrapped %d of %d keys\n", n, len(set.Keys))
			err = errors.Join(err, printed)
		}
		if err != nil {
			return err
		}
		return writeKeys(p.stdout, set)
	})
}

// withKeys has do work on the keys in the database, with the key-encryption keys and
// no other secret.
func withKeys(f *flags, p process, do func(context.Context, *postgres.Store, sessions.KeyEncryption, Config) error) error {
	config, from, err := load(f.ConfigFile, p.environ, forMigrate, forKeys)
	if err != nil {
		return err
	}
	creds, err := credentials(Config{
		Database: config.Database, Key: config.Key, KeyFile: config.KeyFile, KeyPrevious: config.KeyPrevious, KeyPreviousFile: config.KeyPreviousFile,
	}, from)
	if err != nil {
		return err
	}
	keks, err := keyEncryption(creds)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, keysMax)
	defer cancel()
	store, err := openStore(ctx, config, creds)
	if err != nil {
		return err
	}
	defer store.Close()
	if config.Audit.Output != "" { // whoever serves delivers it
		store.AuditChanges()
	}
	return do(ctx, store, keks, config)
}

// writeKeys prints what may be known of keys, as a table.
func writeKeys(w io.Writer, set sessions.KeySet) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "KIND\tGENERATION\tID\tSTATE\tCREATED\tACTIVE FROM\tDELETED FROM\tWRAPPED BY") // a tabwriter keeps its error for Flush
	for _, k := range set.Keys {
		deleted := "-"
		if from, ok := set.DeletedFrom(k); ok {
			deleted = from.Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Kind, k.Generation, k.ID, set.State(k),
			k.CreatedAt.Format(time.RFC3339), k.ActiveFrom.Format(time.RFC3339), deleted, k.WrappedBy)
	}
	return table.Flush()
}
