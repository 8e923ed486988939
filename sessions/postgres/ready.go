package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SchemaError says why the store cannot work on the schema as it is. Its text is one line that says
// what to do.
type SchemaError struct{ text string }

func (e *SchemaError) Error() string { return e.text }

// CheckSchema returns nil if this version can work on the schema, as the role that it connects
// with. If something is missing there, the error is a [*SchemaError]; any other error is one of the
// connection. A schema that is newer than this version is fine: migrations only add to what a
// released version reads and writes.
func (s *Store) CheckSchema(ctx context.Context) error {
	newest, err := NewestMigration()
	if err != nil {
		return err
	}
	var encoding, role string
	var schema, usable, table bool
	err = s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, `
			SELECT current_setting('server_encoding'), current_user, n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
				EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'schema_versions')
			FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = 'sessiongate'`).Scan(&encoding, &role, &schema, &usable, &table)
	})
	switch {
	case err != nil:
		return fmt.Errorf("looking for the schema: %w", err)
	case encoding != utf8Encoding:
		return notUTF8(encoding)
	case !schema || !table:
		return &SchemaError{"the database has no schema yet: run `sessiongate migrate` as the role that owns it"}
	case !usable:
		return &SchemaError{fmt.Sprintf("the role %q lacks USAGE on schema sessiongate: grant it as docs/operations.md says, as the schema's owner", role)}
	}
	var version int64
	err = s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		return by.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&version)
	})
	switch denied := (*pgconn.PgError)(nil); {
	case errors.As(err, &denied) && denied.Code == codeInsufficientPrivilege:
		return &SchemaError{fmt.Sprintf("the role %q lacks SELECT on %s: grant it as docs/operations.md says, as the schema's owner", role, versionTable)}
	case err != nil:
		return fmt.Errorf("reading the schema's version: %w", err)
	case version < newest:
		return &SchemaError{fmt.Sprintf("the schema has version %d, and this sessiongate needs %d: run `sessiongate migrate` of this version as the role that owns it", version, newest)}
	}
	if version > newest {
		return nil // it may have tables that only the newer version needs
	}
	lacks, err := s.lackingPrivileges(ctx)
	if err != nil {
		return err
	}
	if len(lacks) > 0 {
		return &SchemaError{fmt.Sprintf("the role %q lacks %s: grant it as docs/operations.md says, as the schema's owner", role, strings.Join(lacks, ", "))}
	}
	return nil
}

// utf8Encoding is the only database encoding that holds every JSON text.
const utf8Encoding = "UTF8"

func notUTF8(encoding string) error {
	return &SchemaError{fmt.Sprintf("the database has the encoding %s, which cannot hold every claim: create one with ENCODING 'UTF8' TEMPLATE template0 and use that", encoding)}
}

// lackingPrivileges lists what serve needs and the role does not have.
func (s *Store) lackingPrivileges(ctx context.Context) ([]string, error) {
	var lacks []string
	err := s.do(ctx, s.pool, func(ctx context.Context, by querier) error {
		rows, err := by.Query(ctx, `
		SELECT string_agg(p.privilege, ', ' ORDER BY p.n) || ' on sessiongate.' || c.relname
		FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY p(privilege, n)
		WHERE c.relnamespace = to_regnamespace('sessiongate') AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_versions'
			AND NOT has_table_privilege(c.oid, p.privilege)
		GROUP BY c.relname
		UNION ALL
		SELECT 'EXECUTE on function ' || f.oid::regprocedure
		FROM pg_proc f WHERE f.pronamespace = to_regnamespace('sessiongate') AND NOT has_function_privilege(f.oid, 'EXECUTE')
		ORDER BY 1`)
		if err != nil {
			return err
		}
		lacks, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the role's privileges: %w", err)
	}
	return lacks, nil
}
