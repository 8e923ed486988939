-- +goose Up

-- The key of the device that a session is bound to. The former version names no column that it does not
-- know, so it continues to run; but it knows no binding, and would refresh a bound session without a
-- proof. The second constraint makes that refresh fail, as an outage does. No row is rewritten: the
-- columns may be NULL. None is read either, for NOT VALID trusts the rows that are there, which have
-- no key. No index: a refresh changes bound_at, and its update stays inside its page.

-- While this waits for its lock, all traffic waits behind it, as in 00004: it gives up soon, and
-- Migrate tries again.
SET LOCAL lock_timeout = '300ms';
ALTER TABLE sessiongate.active_sessions
    ADD COLUMN bound_key bytea, -- the public key, a point of P-256 in compressed form
    ADD COLUMN bound_at timestamptz, -- the first proof
    ADD CONSTRAINT bound_key_is_a_point CHECK (octet_length(bound_key) = 33) NOT VALID,
    ADD CONSTRAINT bound_has_a_key_and_no_child CHECK (bound_at IS NULL OR (bound_key IS NOT NULL AND next_nonce IS NULL)) NOT VALID;
