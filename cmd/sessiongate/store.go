package main

import (
	"context"
	"fmt"

	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// openDatabase is for a command that needs the database alone, and should be given no
// other secret.
func openDatabase(f *flags, p process) (Config, *postgres.Store, error) {
	config, from, err := load(f.ConfigFile, p.environ, forMigrate)
	if err != nil {
		return Config{}, nil, err
	}
	creds, err := credentials(Config{Database: config.Database}, from)
	if err != nil {
		return Config{}, nil, err
	}
	store, err := openStore(p.ctx, config, creds)
	return config, store, err
}

func openStore(ctx context.Context, c Config, creds Credentials) (*postgres.Store, error) {
	config := c.Store
	config.URL, config.Password = string(c.Database.URL), string(creds.DatabasePassword)
	store, err := postgres.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	return store, nil
}
