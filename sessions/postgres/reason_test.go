package postgres_test

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/sessions/postgres"
)

// What a person reads first is what the database itself says, and what to do.
func TestReason(t *testing.T) {
	t.Parallel()
	server, err := cluster.Start(t.Context(), cluster.Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	address, err := url.Parse(server.TCPURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	wrong, absent := *address, *address
	wrong.User, absent.User = url.UserPassword(address.User.Username(), "a-secret"), url.UserPassword("absent", "a-secret")
	for name, tt := range map[string]struct{ url, want, advice string }{
		"no such database": {server.TCPURL("absent"), `the database says: database "absent" does not exist (SQLSTATE 3D000)`, "create the database"},
		"wrong password":   {wrong.String(), "the database says: password authentication failed for user ", "correct the user and the password"},
		"no such role":     {absent.String(), "the database says: password authentication failed for user ", "correct the user and the password"},
		"nothing there":    {"postgres://ada@127.0.0.1:1/x", "the database cannot be reached: dial tcp 127.0.0.1:1", "is it running"},
	} {
		store, err := postgres.Open(t.Context(), postgres.Config{URL: tt.url})
		if err != nil {
			t.Fatal(err)
		}
		err = store.CheckSchema(t.Context())
		store.Close()
		if got := postgres.Reason(err); !strings.HasPrefix(got, tt.want) || !strings.Contains(got, tt.advice) || strings.Contains(got, "a-secret") {
			t.Errorf("%s: %q, want %q and %q; of: %v", name, got, tt.want, tt.advice, err)
		}
	}
	for code, advice := range map[string]string{"28P01": "correct the user and the password", "42501": "sessiongate migrate", "53300": "max_connections", "57P03": "starting or stopping", "22000": ""} {
		if got := postgres.Reason(&pgconn.PgError{Code: code, Message: "no"}); !strings.HasPrefix(got, "the database says: no (SQLSTATE "+code+")") || !strings.Contains(got, advice) {
			t.Errorf("%s: %q", code, got)
		}
	}
	lookup := &net.DNSError{Err: "no such host", Name: "db.example", IsNotFound: true}
	if got := postgres.Reason(&net.OpError{Op: "dial", Err: lookup}); !strings.HasPrefix(got, "the database's host is not known: lookup db.example: no such host: correct") {
		t.Errorf("an unknown host: %q", got)
	}
	if got := postgres.Reason(errors.New("another")); got != "" {
		t.Errorf("another's error: %q", got)
	}
}
