-- +goose Up

-- Pages through what one transaction, or many, appended. It serves the former
-- version's reading by xid as well.
CREATE INDEX feed_xid_id ON sessiongate.feed (xid, id);
DROP INDEX sessiongate.feed_xid;
-- Pages through what is young, and serves the sweep.
CREATE INDEX feed_at_id ON sessiongate.feed (at, id);
DROP INDEX sessiongate.feed_at;

-- An entry's xid is that of the transaction which appends it here: also where logical
-- replication or a data-only restore brings a row that was written elsewhere.
-- +goose StatementBegin
CREATE FUNCTION sessiongate.stamp_feed() RETURNS trigger
    LANGUAGE plpgsql
    AS 'BEGIN NEW.xid := pg_current_xact_id(); RETURN NEW; END';
-- +goose StatementEnd
CREATE TRIGGER stamp BEFORE INSERT ON sessiongate.feed FOR EACH ROW EXECUTE FUNCTION sessiongate.stamp_feed();
ALTER TABLE sessiongate.feed ENABLE ALWAYS TRIGGER stamp;
