package postgres

import "errors"

// ErrNotPrimary says that a server was reached, but not one that takes writes.
var ErrNotPrimary = errors.New("not the primary")

// primary is for a poll, with what it read of pg_is_in_recovery() and of
// current_setting('transaction_read_only'): an error where that server must not be
// followed.
func (s *Store) primary(recovering bool, readOnly string) error {
	if recovering || readOnly == "on" {
		return ErrNotPrimary
	}
	return nil
}
