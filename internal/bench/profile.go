package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// profileSeconds is how long a profile takes: some thousand samples.
const profileSeconds = 20

// profile writes a CPU profile of sessiongate to a file while it answers Checks, in turns of each
// kind: those with these names, or all whose server is the same.
func profile(ctx context.Context, b *bench, file string, names []string) (err error) {
	c, err := startChecks(ctx, b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	entries, err := c.entries()
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool {
		return e.server != c.gate.child || len(names) > 0 && !slices.Contains(names, e.name)
	})
	if len(entries) == 0 {
		return fmt.Errorf("profile: no kind of Check is called %q", names)
	}
	kinds, loops, err := b.contest(ctx, "", "", entries)
	defer closeAll(loops)
	if err != nil {
		return err
	}
	// A valid token is what most requests have.
	valid := slices.IndexFunc(kinds.contenders, func(c contender) bool { return c.name == validName })
	playing, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		defer stop()
		profile, err := ask(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.gate.at.Profiling, profileSeconds), "", nil)
		if err != nil {
			return err
		}
		return os.WriteFile(file, profile, 0o644) //nolint:gosec // a part of the source
	})
	for playing.Err() == nil && err == nil {
		for i, kind := range kinds.contenders {
			turns := 1
			if i == valid {
				turns = len(kinds.contenders)
			}
			for range turns {
				var m measurement
				m, err = kind.play(ctx)
				_, _ = fmt.Fprintf(b.out, "%s: %d in %s, %s each\n", kind.name, m.requests, m.took.Round(time.Millisecond), (m.cpu / time.Duration(max(1, m.requests))).Round(10*time.Nanosecond))
			}
		}
	}
	return errors.Join(err, g.Wait())
}
