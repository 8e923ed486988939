-- +goose Up

-- The clock of everything, in one place. It is inlined; and it is volatile, so a
-- condition on an indexed column takes it as (SELECT sessiongate.now()).
-- +goose StatementBegin
CREATE FUNCTION sessiongate.now() RETURNS timestamptz
    LANGUAGE sql VOLATILE PARALLEL SAFE
    AS 'SELECT clock_timestamp()';
-- +goose StatementEnd

-- Where each session's line of refresh tokens stands. Small rows and no index on
-- a column that refresh or promotion changes: every such update is HOT.
CREATE TABLE sessiongate.sessions (
    handle              bytea PRIMARY KEY CHECK (octet_length(handle) = 16),
    user_id             text NOT NULL CHECK (user_id <> '' AND octet_length(user_id) <= 128),
    current             bytea NOT NULL CHECK (octet_length(current) = 32),
    previous            bytea CHECK (octet_length(previous) = 32),
    current_client      bytea CHECK (octet_length(current_client) = 16),
    promoted_at         timestamptz NOT NULL,
    next_nonce          bytea CHECK (octet_length(next_nonce) = 16),
    next_client         bytea CHECK (octet_length(next_client) = 16),
    handed_at           timestamptz,
    hand_outs           integer NOT NULL DEFAULT 0 CHECK (hand_outs >= 0),
    created_at          timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    absolute_expires_at timestamptz NOT NULL,
    -- next_client may be missing, as current_client: a caller that reported none.
    CONSTRAINT next_is_whole CHECK ((next_nonce IS NULL) = (handed_at IS NULL)
        AND (next_nonce IS NULL) = (hand_outs = 0)
        AND (next_client IS NULL OR next_nonce IS NOT NULL)),
    CONSTRAINT expiry_within_absolute CHECK (expires_at <= absolute_expires_at)
) WITH (fillfactor = 90);
CREATE INDEX sessions_user_id ON sessiongate.sessions (user_id);
CREATE INDEX sessions_absolute_expires_at ON sessiongate.sessions (absolute_expires_at);

-- json, not jsonb: the bytes are kept.
CREATE TABLE sessiongate.session_contents (
    handle         bytea PRIMARY KEY REFERENCES sessiongate.sessions ON DELETE CASCADE,
    claims         json NOT NULL CHECK (json_typeof(claims) = 'object'),
    claims_version bigint NOT NULL DEFAULT 1 CHECK (claims_version > 0),
    data           json NOT NULL CHECK (json_typeof(data) = 'object')
);

-- The transaction id orders the feed so that no commit order hides an entry.
CREATE TABLE sessiongate.feed (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- for reading in pages; says nothing about order
    xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    kind    text NOT NULL CHECK (kind IN ('ended', 'lost', 'claims', 'keys')),
    handle  bytea CHECK (octet_length(handle) = 16),
    mark    bytea CHECK (octet_length(mark) = 32),
    version bigint CHECK (version > 0),
    reason  text,
    at      timestamptz NOT NULL DEFAULT sessiongate.now(),
    CONSTRAINT entry_is_whole CHECK ((kind = 'keys') = (handle IS NULL) AND (kind = 'ended') = (reason IS NOT NULL)
        AND (kind = 'lost') = (mark IS NOT NULL) AND (kind = 'claims') = (version IS NOT NULL))
);
CREATE INDEX feed_xid ON sessiongate.feed (xid);
CREATE INDEX feed_at ON sessiongate.feed (at);

CREATE TABLE sessiongate.events (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT sessiongate.now(),
    kind    text NOT NULL,
    handle  bytea NOT NULL CHECK (octet_length(handle) = 16),
    user_id text NOT NULL,
    reason  text NOT NULL,
    actor   text NOT NULL
);
CREATE INDEX events_at ON sessiongate.events (at);

CREATE TABLE sessiongate.keys (
    kind        text NOT NULL CHECK (kind <> ''),
    generation  integer NOT NULL CHECK (generation > 0),
    id          bytea NOT NULL UNIQUE CHECK (octet_length(id) = 8),
    wrapped     bytea NOT NULL,
    wrapped_by  bytea NOT NULL CHECK (octet_length(wrapped_by) = 8),
    created_at  timestamptz NOT NULL,
    active_from timestamptz NOT NULL,
    PRIMARY KEY (kind, generation)
);

-- How long a feed entry must be kept: never falls.
CREATE TABLE sessiongate.horizon (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    horizon interval NOT NULL
);
INSERT INTO sessiongate.horizon (horizon) VALUES (interval '0');
