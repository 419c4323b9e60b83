-- +goose Up
-- The store's lives, the oldest first: a promotion, a restore and a copy each begin one. inherited is the position of the
-- last event that a life took over from the one before it: through there both have the same events, since the write-ahead
-- log is the same up to where they part, and positions are dense and in commit order. Rows travel with the data.
CREATE TABLE store_lives (
    n           int    PRIMARY KEY,
    incarnation text   NOT NULL UNIQUE,
    inherited   bigint NOT NULL
);

-- +goose StatementBegin
-- store_incarnation is the cluster, the timeline where the server writes (or, while it is a standby, that it has followed
-- so far) and the database.
CREATE FUNCTION store_incarnation() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT c.system_identifier::text || '.' ||
        CASE WHEN pg_is_in_recovery() THEN (SELECT lpad(upper(to_hex(min_recovery_end_timeline)), 8, '0') FROM pg_control_recovery())
        ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END || '.' || d.oid::text
    FROM pg_control_system() c JOIN pg_database d ON d.datname = current_database()
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- note_life answers the life that a connection's appends are part of. It is called on every connection that may append, before its first append, and fails on a standby. So the first
-- event of a life is never before its row, and inherited is what was there when it began. The lock is append_events'; the
-- statement behind it sees what was committed while it waited.
CREATE FUNCTION note_life() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    life text;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the server is a standby' USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    life := store_incarnation(); -- not before: a standby's is that of its primary
    IF EXISTS (SELECT FROM store_lives WHERE incarnation = life) THEN
        RETURN life;
    END IF;
    PERFORM pg_advisory_xact_lock(8286574923601);
    INSERT INTO store_lives (n, incarnation, inherited)
    SELECT coalesce(max(l.n), 0) + 1, life, (SELECT coalesce(max(e.position), 0) FROM events e) FROM store_lives l
    ON CONFLICT (incarnation) DO NOTHING;
    RETURN life;
END
$$;
-- +goose StatementEnd

SELECT note_life();

-- +goose Down
DROP FUNCTION note_life();
DROP FUNCTION store_incarnation();
DROP TABLE store_lives;
