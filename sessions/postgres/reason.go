package postgres

import (
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Reason is one line for a person: why the database did not do what it was asked, in its own words, and
// what to do about it. It is "" for an error that is not the database's. It has no password: Postgres
// and the kernel do not know it, or do not tell it.
func Reason(err error) string {
	if own := (*SchemaError)(nil); errors.As(err, &own) {
		return own.Error()
	}
	if said := (*pgconn.PgError)(nil); errors.As(err, &said) {
		return fmt.Sprintf("the database says: %s (SQLSTATE %s)%s", said.Message, said.Code, advice(said.Code))
	}
	if lookup := (*net.DNSError)(nil); errors.As(err, &lookup) {
		return fmt.Sprintf("the database's host is not known: %s: correct the host of the database's address", lookup.Error())
	}
	if dial := (*net.OpError)(nil); errors.As(err, &dial) {
		return fmt.Sprintf("the database cannot be reached: %s: is it running, at that host and port?", dial.Error())
	}
	return ""
}

func advice(code string) string {
	switch code {
	case codeInvalidPassword, codeInvalidAuthorization:
		return ": correct the user and the password of the database's address, or pg_hba.conf"
	case codeNoDatabase:
		return ": create the database, or correct its name in the address"
	case codeInsufficientPrivilege:
		return ": grant it to the role, or let a role that may run `sessiongate migrate`, and set database.migrate to false"
	case codeTooManyConnections:
		return ": raise the server's max_connections, or lower database.max_connections"
	case codeCannotConnectNow:
		return ": it is starting or stopping"
	default:
		return ""
	}
}
