package postgres_test

import (
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/sessiongate/sessiongate/sessions"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// All replicas of a rollout start at once.
func TestRacingMigrationsApplyEachOnce(t *testing.T) {
	t.Parallel()
	address := database(t, "")
	const processes = 8
	applied := make([]int, processes)
	start := make(chan struct{})
	var g errgroup.Group
	for i := range processes {
		store := openAt(t, postgres.Config{URL: address})
		g.Go(func() (err error) {
			<-start
			applied[i], err = store.Migrate(t.Context())
			return err
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	workers, total := 0, 0
	for _, n := range applied {
		total += n
		workers += min(n, 1)
	}
	var known int
	if err := connect(t, address).QueryRow(t.Context(),
		`SELECT count(*) FROM sessiongate.schema_versions WHERE version_id > 0`).Scan(&known); err != nil {
		t.Fatal(err)
	}
	if workers != 1 || total != known || known == 0 {
		t.Errorf("%v applied; the schema knows %d", applied, known)
	}
	if n, err := openAt(t, postgres.Config{URL: address}).Migrate(t.Context()); n != 0 || err != nil {
		t.Errorf("the next start applied %d, %v", n, err)
	}
}

// The role needs to own the database, or the schema alone, and nothing more.
func TestOrdinaryRole(t *testing.T) {
	t.Parallel()
	for _, owns := range []string{"database", "schema"} {
		t.Run(owns, func(t *testing.T) {
			t.Parallel()
			address := database(t, "")
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			role := pgx.Identifier{"role_" + u.Path[1:]}.Sanitize()
			admin := connect(t, address)
			give := `ALTER DATABASE ` + pgx.Identifier{u.Path[1:]}.Sanitize() + ` OWNER TO ` + role
			if owns == "schema" {
				give = `CREATE SCHEMA sessiongate AUTHORIZATION ` + role
			}
			for _, sql := range []string{`CREATE ROLE ` + role + ` LOGIN NOSUPERUSER`, give} {
				if _, err := admin.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			u.User = url.User("role_" + u.Path[1:])
			store := openAt(t, postgres.Config{URL: u.String()})
			if super, err := store.Setting(t.Context(), "is_superuser"); super != "off" || err != nil {
				t.Fatalf("is_superuser is %q, %v", super, err)
			}
			if n, err := store.Migrate(t.Context()); n == 0 || err != nil {
				t.Fatalf("applied %d, %v", n, err)
			}
			if n, err := store.Migrate(t.Context()); n != 0 || err != nil {
				t.Fatalf("applied %d again, %v", n, err)
			}
			rec := create(t, store, "alice")
			next := issued(rec)
			if done, err := store.Swap(t.Context(), rec.Row, next, sessions.R4); !done || err != nil {
				t.Errorf("Swap: %v, %v", done, err)
			}
			if err := store.Promote(t.Context(), []sessions.Promotion{{Handle: rec.Handle, Parent: rec.Current, Own: tokenHash(2)}}); err != nil {
				t.Error(err)
			}
			if done, err := store.End(t.Context(), rec.Handle, sessions.Ending{Reason: sessions.ReasonRevoked}); !done || err != nil {
				t.Errorf("End: %v, %v", done, err)
			}
			if _, err := store.Poll(t.Context(), ""); err != nil {
				t.Error(err)
			}
			if _, err := store.Sweep(t.Context(), 10); err != nil {
				t.Error(err)
			}
		})
	}
}
