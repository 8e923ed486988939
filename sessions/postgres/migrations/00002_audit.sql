-- +goose Up

-- The events become the outbox of the audit stream. Additive, so that the former
-- version runs on: it inserts ended events of sessions and sweeps old ones.
-- An event is of a session or of a key; NOT VALID because the rows that are there
-- are all of sessions, and reading them would keep everybody waiting.
ALTER TABLE sessiongate.events
    ALTER COLUMN handle DROP NOT NULL,
    ADD COLUMN rule text NOT NULL DEFAULT '', -- that decided it, as docs/protocol.md names it
    ADD COLUMN key  text NOT NULL DEFAULT '', -- KIND/GENERATION/ID; no secret
    ADD CONSTRAINT event_is_whole CHECK ((handle IS NULL) = (key <> '')) NOT VALID;
