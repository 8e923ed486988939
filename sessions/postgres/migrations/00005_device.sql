-- +goose Up

-- What a user may recognise a session's device by. The former version names no column that it does not
-- know, so it continues to run: its sessions have no device until this version refreshes them. No row
-- is rewritten or read: the columns may be NULL, and their types bound them, which needs no check of
-- the rows that are there. No index: a refresh changes them, and its update stays inside its page.

-- While this waits for its lock, all traffic waits behind it, as in 00004: it gives up soon, and
-- Migrate tries again.
SET LOCAL lock_timeout = '300ms';
ALTER TABLE sessiongate.active_sessions
    ADD COLUMN device_address cidr, -- the client's network, or its whole address
    ADD COLUMN device_user_agent varchar(200); -- characters
