package postgres_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// The schema repeats what the rules say, so that no bug and no hand at psql
// leaves a row that they do not know.
func TestConstraints(t *testing.T) {
	t.Parallel()
	c := open(t)
	bytes := func(n string) string { return `decode(repeat('ab', ` + n + `), 'hex')` }
	type row map[string]string
	c.exec(`INSERT INTO sessiongate.active_sessions (handle, user_id, current_hash, promoted_at, created_at, expires_at, absolute_expires_at)
		VALUES (decode(repeat('01', 16), 'hex'), 'bob', ` + bytes("32") + `, now(), now(), now(), now())`)
	for _, table := range []struct {
		name string
		good row
		bad  []row
	}{
		{"active_sessions", row{
			"handle": bytes("16"), "user_id": "'alice'", "current_hash": bytes("32"), "previous_hash": bytes("32"), "current_client": bytes("16"),
			"promoted_at": "now()", "next_nonce": bytes("16"), "next_client": bytes("16"), "issued_at": "now()", "issues": "1",
			"created_at": "now()", "expires_at": "now()", "absolute_expires_at": "now()",
			"device_address": "'192.0.2.0/24'", "device_user_agent": "repeat('ü', 200)", "bound_key": bytes("33"),
		}, []row{
			{"handle": bytes("15")},
			{"handle": "NULL"},
			{"handle": `decode(repeat('01', 16), 'hex')`},
			{"user_id": "''"},
			{"user_id": "repeat('a', 129)"},
			{"user_id": "repeat('ü', 65)"},
			{"user_id": "NULL"},
			{"current_hash": bytes("31")},
			{"current_hash": "NULL"},
			{"previous_hash": bytes("33")},
			{"current_client": bytes("15")},
			{"promoted_at": "NULL"},
			{"created_at": "NULL"},
			{"expires_at": "NULL"},
			{"absolute_expires_at": "NULL"},
			{"next_nonce": bytes("17")},
			{"next_client": bytes("17")},
			{"issues": "-1"},
			{"issues": "0"},
			{"issued_at": "NULL"},
			{"next_nonce": "NULL"},
			{"next_nonce": "NULL", "issued_at": "NULL"},
			{"next_nonce": "NULL", "issued_at": "NULL", "issues": "0"},
			{"expires_at": "now() + interval '1 us'"},
			{"device_address": "'192.0.2.7/24'"},
			{"device_user_agent": "repeat('a', 201)"},
			{"bound_key": bytes("32")},
			{"bound_at": "now()"}, // with a child
		}},
		{"active_sessions", row{
			"handle": bytes("16"), "user_id": "'alice'", "current_hash": bytes("32"), "promoted_at": "now()",
			"created_at": "now()", "expires_at": "now()", "absolute_expires_at": "now()", "bound_key": bytes("33"), "bound_at": "now()",
		}, []row{
			{"bound_key": "NULL"},
			{"bound_key": bytes("34")},
			{"next_nonce": bytes("16"), "issued_at": "now()", "issues": "1"},
		}},
		{"session_attributes", row{"handle": `decode(repeat('01', 16), 'hex')`, "claims": "'{}'", "claims_version": "1", "data": "'{}'"}, []row{
			{"handle": bytes("16")},
			{"claims": "'[]'"},
			{"claims": "'null'"},
			{"claims": "NULL"},
			{"claims": "'{'"},
			{"data": `'"text"'`},
			{"data": "NULL"},
			{"claims_version": "0"},
		}},
		{"feed", row{"kind": "'lost'", "handle": bytes("16"), "token_hash": bytes("32")}, []row{
			{"kind": "'other'"},
			{"kind": "NULL"},
			{"kind": "'ended'"},
			{"kind": "'claims'"},
			{"kind": "'keys'"},
			{"handle": bytes("15")},
			{"handle": "NULL"},
			{"token_hash": bytes("31")},
			{"token_hash": "NULL"},
			{"version": "1"},
			{"reason": "'theft'"},
			{"at": "NULL"},
			{"kind": "'claims'", "token_hash": "NULL", "version": "0"},
			{"kind": "'ended'", "token_hash": "NULL"},
		}},
		{"audit_events", row{"kind": "'ended'", "handle": bytes("16"), "user_id": "'alice'", "reason": "'theft'", "actor": "''"}, []row{
			{"handle": bytes("15")},
			{"handle": "NULL"},
			{"user_id": "NULL"},
			{"reason": "NULL"},
			{"actor": "NULL"},
			{"kind": "NULL"},
			{"rule": "NULL"},
			{"key": "NULL"},
			{"key": "'signing/1/x'"},
		}},
		{"keys", row{
			"kind": "'signing'", "generation": "1", "id": bytes("8"), "wrapped": bytes("60"), "wrapped_by": bytes("8"),
			"created_at": "now()", "active_from": "now()",
		}, []row{
			{"kind": "''"}, {"generation": "0"}, {"id": bytes("7")}, {"id": "NULL"}, {"wrapped": "NULL"}, {"wrapped_by": bytes("9")}, {"active_from": "NULL"},
		}},
		{"feed_retention", nil, []row{{"retention": "interval '1 h'"}, {"one": "false", "retention": "interval '1 h'"}}},
	} {
		insert := func(r row) error {
			columns := slices.Sorted(maps.Keys(r))
			values := make([]string, len(columns))
			for i, column := range columns {
				values[i] = r[column]
			}
			tx, err := c.conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = tx.Exec(t.Context(), `INSERT INTO sessiongate.`+table.name+
				` (`+strings.Join(columns, ", ")+`) VALUES (`+strings.Join(values, ", ")+`)`)
			if rolledBack := tx.Rollback(t.Context()); rolledBack != nil {
				t.Fatal(rolledBack)
			}
			return err
		}
		if table.good != nil {
			if err := insert(table.good); err != nil {
				t.Errorf("%s refuses a good row: %v", table.name, err)
			}
		}
		for _, change := range table.bad {
			r := maps.Clone(table.good)
			if r == nil {
				r = row{}
			}
			maps.Copy(r, change)
			err := insert(r)
			var e *pgconn.PgError
			// Class 23 is "integrity constraint violation"; 22P02 is no JSON and no network, 22001 a
			// text that its type has no room for.
			if !errors.As(err, &e) || !strings.HasPrefix(e.Code, "23") && e.Code != "22P02" && e.Code != "22001" {
				t.Errorf("%s takes %v: %v", table.name, change, err)
			}
		}
	}
}
