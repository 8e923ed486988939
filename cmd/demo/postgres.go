package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// startPostgres starts the Postgres that is installed or, where none is, one that is
// fetched into dir.
func startPostgres(ctx context.Context, dir string, progress io.Writer) (*cluster.Cluster, error) {
	c, err := cluster.Start(ctx, cluster.Options{})
	if !errors.Is(err, cluster.ErrNotInstalled) {
		return c, err
	}
	_, _ = fmt.Fprintln(progress, "no Postgres is installed: fetching one for this run (about 15 MB, kept in the cache folder)")
	bin, fetchErr := fetchPostgres(filepath.Join(dir, "postgres"))
	if fetchErr != nil {
		return nil, fmt.Errorf("%w; fetching one: %w", err, fetchErr)
	}
	return cluster.Start(ctx, cluster.Options{BinDir: bin})
}

// fetchPostgres unpacks Postgres into dir and returns the folder of its programs. It is
// read there by the unprivileged user as which the server of root runs.
//
// The library has no call that only fetches. So it is made to fail at its next step:
// told that there are data already, it runs no initdb (which refuses root), and its
// server finds no configuration among them. The log of that would stay in the temporary
// folder, so dir is it for so long.
func fetchPostgres(dir string) (string, error) {
	programs, data := filepath.Join(dir, "programs"), filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil { //nolint:gosec // see above
		return "", err
	}
	version := embeddedpostgres.V17
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(version[:2]), 0o600); err != nil {
		return "", err
	}
	config := embeddedpostgres.DefaultConfig().Version(version).Logger(io.Discard).Port(0).
		BinariesPath(programs).RuntimePath(filepath.Join(dir, "runtime")).DataPath(data)
	if cache, err := os.UserCacheDir(); err == nil {
		config = config.CachePath(filepath.Join(cache, "sessiongate"))
	}
	const folder = "TMPDIR"
	before, set := os.LookupEnv(folder)
	if err := os.Setenv(folder, dir); err != nil {
		return "", err
	}
	err := embeddedpostgres.NewDatabase(config).Start()
	if set {
		err = errors.Join(err, os.Setenv(folder, before))
	} else {
		err = errors.Join(err, os.Unsetenv(folder))
	}
	bin := filepath.Join(programs, "bin")
	if _, statErr := os.Stat(filepath.Join(bin, "postgres")); statErr != nil {
		return "", errors.Join(err, statErr)
	}
	return bin, nil
}
