-- +goose Up

-- Tables and columns get the names of docs/glossary.md. Only names change: no session is rewritten, and
-- the locks are short. The former version continues to run: a view under each former name passes
-- its reads and writes to the table (the views are automatically updatable). A later migration
-- drops the views and feed.mark, once no former version runs.

-- All locks first, in the order in which the program's own statements take them: another order
-- deadlocks with them. While this waits for a lock, all traffic waits behind it. So it gives up
-- soon, for a backup (pg_dump) holds its locks until it ends, and Migrate tries again.
SET LOCAL lock_timeout = '300ms';
LOCK TABLE sessiongate.sessions, sessiongate.session_contents, sessiongate.events, sessiongate.horizon, sessiongate.feed
    IN ACCESS EXCLUSIVE MODE;

-- The feed keeps its name: the former version asks for the table's file, and a view has none. So
-- the column mark gets a copy under its new name. An insert gives one of the two, and the trigger
-- fills in the other. Rows that are there have mark alone: to copy it would take the locks too long.
ALTER TABLE sessiongate.feed ADD COLUMN token_hash bytea CHECK (octet_length(token_hash) = 32);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION sessiongate.stamp_feed() RETURNS trigger
    LANGUAGE plpgsql
    AS 'BEGIN
        NEW.xid := pg_current_xact_id();
        NEW.token_hash := coalesce(NEW.token_hash, NEW.mark);
        NEW.mark := NEW.token_hash;
        RETURN NEW;
    END';
-- +goose StatementEnd

ALTER TABLE sessiongate.sessions RENAME TO active_sessions;
ALTER TABLE sessiongate.active_sessions RENAME COLUMN current TO current_hash;
ALTER TABLE sessiongate.active_sessions RENAME COLUMN previous TO previous_hash;
ALTER TABLE sessiongate.active_sessions RENAME COLUMN handed_at TO issued_at;
ALTER TABLE sessiongate.active_sessions RENAME COLUMN hand_outs TO issues;
ALTER INDEX sessiongate.sessions_user_id RENAME TO active_sessions_user_id;
ALTER INDEX sessiongate.sessions_absolute_expires_at RENAME TO active_sessions_absolute_expires_at;
CREATE VIEW sessiongate.sessions AS
    SELECT handle, user_id, current_hash AS current, previous_hash AS previous, current_client, promoted_at, next_nonce, next_client,
        issued_at AS handed_at, issues AS hand_outs, created_at, expires_at, absolute_expires_at
    FROM sessiongate.active_sessions;

ALTER TABLE sessiongate.session_contents RENAME TO session_attributes;
CREATE VIEW sessiongate.session_contents AS SELECT handle, claims, claims_version, data FROM sessiongate.session_attributes;

ALTER TABLE sessiongate.events RENAME TO audit_events;
ALTER INDEX sessiongate.events_at RENAME TO audit_events_at;
CREATE VIEW sessiongate.events AS SELECT id, at, kind, handle, user_id, reason, actor, rule, key FROM sessiongate.audit_events;

ALTER TABLE sessiongate.horizon RENAME TO feed_retention;
ALTER TABLE sessiongate.feed_retention RENAME COLUMN horizon TO retention;
CREATE VIEW sessiongate.horizon AS SELECT one, retention AS horizon FROM sessiongate.feed_retention;
