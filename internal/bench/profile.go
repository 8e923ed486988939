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

	"github.com/sessiongate/sessiongate/internal/cluster"
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
	return b.profileWhile(ctx, c.gate.child, file, func() error {
		for i, kind := range kinds.contenders {
			turns := 1
			if i == valid {
				turns = len(kinds.contenders)
			}
			for range turns {
				m, err := kind.play(ctx)
				if err != nil {
					return err
				}
				b.tell(kind.name, m)
			}
		}
		return nil
	})
}

// profileRefreshes is profile for the steps of refreshPart.
func profileRefreshes(ctx context.Context, b *bench, file string, names []string) error {
	d, err := deploy(ctx, b, cluster.Options{})
	if err != nil {
		return err
	}
	defer d.stop(ctx)
	gate, err := d.serve(ctx, b.sessiongate, append(passedOn(), "SESSIONGATE_PROFILING_LISTEN=127.0.0.1:0")...)
	if err != nil {
		return err
	}
	users, err := d.signInAll(ctx, gate, b.population())
	if err != nil {
		return err
	}
	steps := slices.DeleteFunc(d.steps(users), func(s step) bool { return len(names) > 0 && !slices.Contains(names, s.name) })
	if len(steps) == 0 {
		return fmt.Errorf("profile: no step is called %q", names)
	}
	if len(steps) > 1 { // steps come again and again, and no process refreshes a session that has ended
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.name == signOutName })
	}
	return b.profileWhile(ctx, gate, file, func() error {
		for _, s := range steps {
			m, _, err := d.play(ctx, s.action, rival{s.name, gate.PID(), s.listener(gate), s.ours})
			if err != nil {
				return err
			}
			b.tell(s.name, m)
		}
		return nil
	})
}

// profileWhile writes a CPU profile of sessiongate to a file while play is called again and again.
func (b *bench) profileWhile(ctx context.Context, gate *child, file string, play func() error) (err error) {
	playing, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		defer stop()
		profile, err := ask(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", gate.at.Profiling, profileSeconds), "", nil)
		if err != nil {
			return err
		}
		return os.WriteFile(file, profile, 0o644) //nolint:gosec // a part of the source
	})
	for playing.Err() == nil && err == nil {
		err = play()
	}
	return errors.Join(err, g.Wait())
}

// tell prints what a turn costs.
func (b *bench) tell(name string, m measurement) {
	_, _ = fmt.Fprintf(b.out, "%s: %d in %s, %s each\n", name, m.requests, m.took.Round(time.Millisecond), (m.cpu / time.Duration(max(1, m.requests))).Round(10*time.Nanosecond))
}
