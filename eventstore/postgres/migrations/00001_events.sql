-- +goose Up
CREATE TABLE events (
    position    bigint      PRIMARY KEY,
    stream      text        NOT NULL,
    revision    bigint      NOT NULL,
    id          uuid        NOT NULL, -- unique by its command, which is: an index of its own would slow every append
    type        text        NOT NULL,
    key         text        NOT NULL,
    slice       smallint    NOT NULL,
    recorded_at timestamptz NOT NULL,
    metadata    bytea       NOT NULL, -- bytea, not jsonb: what comes back are the bytes that went in
    data        bytea       NOT NULL,
    hash        bytea       NOT NULL,
    UNIQUE (stream, revision)
);
CREATE INDEX events_slice ON events (slice, position);

CREATE TABLE commands (
    command_id    uuid        PRIMARY KEY,
    request_hash  bytea       NOT NULL,
    actor         text        NOT NULL,
    stream        text        NOT NULL,
    last_revision bigint      NOT NULL,
    position      bigint      NOT NULL,
    recorded_at   timestamptz NOT NULL
);

-- One row, locked by every append. It is updated all the time: room in its page keeps that cheap (heap-only tuples).
CREATE TABLE store_head (
    id          smallint    PRIMARY KEY CHECK (id = 1),
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 10);
INSERT INTO store_head (id, position, recorded_at) VALUES (1, 0, '1970-01-01T00:00:00Z');

CREATE TABLE person_keys (
    subject    text        PRIMARY KEY,
    key_id     text        NOT NULL,
    wrapped    bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A cache of folded states: a wrong or an old one is ignored.
CREATE TABLE snapshots (
    stream       text   NOT NULL,
    fold_version int    NOT NULL,
    revision     bigint NOT NULL,
    state        bytea  NOT NULL,
    hash         bytea  NOT NULL,
    PRIMARY KEY (stream, fold_version)
);

-- +goose StatementBegin
-- append_events commits a group. The whole group is in its arguments, so the head row is never locked by a client that
-- has something left to say. The lock is one statement and the checks are in the next: under READ COMMITTED each
-- statement of a volatile function has a snapshot of its own, and a single one would check what was true before its wait.
--
-- r_… are the requests, one element each, every stream and command at most once; e_… their events: e_request is the
-- request's index from 1, e_number the event's within it from 0. It answers one row a request.
CREATE FUNCTION append_events(
    r_command uuid[], r_hash bytea[], r_actor text[], r_stream text[], r_key text[], r_slice smallint[],
    r_expected bigint[], r_decided timestamptz[], r_metadata bytea[], r_events int[],
    e_request int[], e_number int[], e_id uuid[], e_type text[], e_data bytea[],
    max_age interval
) RETURNS TABLE (
    request int, outcome text, last_revision bigint, at_position bigint, at_time timestamptz,
    first_hash bytea, first_actor text, first_stream text
) LANGUAGE plpgsql AS $$
DECLARE
    head     bigint;
    clock    timestamptz;
    recorded timestamptz;
    micros   bytea;
BEGIN
    SELECT h.position, h.recorded_at INTO STRICT head, recorded FROM store_head h WHERE h.id = 1 FOR UPDATE;
    clock := clock_timestamp();
    recorded := greatest(clock, recorded);
    micros := int8send((extract(epoch FROM recorded) * 1000000)::bigint);

    RETURN QUERY
    WITH requests AS (
        SELECT * FROM unnest(r_command, r_hash, r_actor, r_stream, r_key, r_slice, r_expected, r_decided, r_metadata, r_events)
            WITH ORDINALITY AS r (command, hash, actor, stream, key, slice, expected, decided, metadata, events, n)
    ), checked AS (
        SELECT r.*, coalesce(s.revision, -1) AS revision, coalesce(s.position, 0) AS position,
            c.request_hash AS c_hash, c.actor AS c_actor, c.stream AS c_stream, c.last_revision AS c_revision, c.position AS c_position,
            CASE
                WHEN c.command_id IS NOT NULL THEN 'duplicate'
                WHEN r.decided < clock - max_age OR r.decided > clock + max_age THEN 'too old'
                WHEN r.expected <> -2 AND r.expected <> coalesce(s.revision, -1) THEN 'conflict'
                ELSE 'appended'
            END AS what
        FROM requests r
        LEFT JOIN commands c ON c.command_id = r.command
        LEFT JOIN LATERAL (
            SELECT e.revision, e.position FROM events e WHERE e.stream = r.stream ORDER BY e.revision DESC LIMIT 1
        ) s ON true
    ), accepted AS (
        SELECT c.*, head + sum(c.events) OVER (ORDER BY c.n) - c.events AS base FROM checked c WHERE c.what = 'appended'
    ), appended AS (
        INSERT INTO events (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash)
        SELECT a.base + e.number + 1, a.stream, a.revision + e.number + 1, e.id, e.type, a.key, a.slice, recorded, a.metadata, e.data,
            sha256(
                int4send(octet_length(a.stream)) || convert_to(a.stream, 'UTF8')
                || int4send(8) || int8send(a.revision + e.number + 1)
                || int4send(16) || uuid_send(e.id)
                || int4send(octet_length(e.type)) || convert_to(e.type, 'UTF8')
                || int4send(octet_length(a.key)) || convert_to(a.key, 'UTF8')
                || int4send(8) || micros
                || int4send(octet_length(a.metadata)) || a.metadata
                || int4send(octet_length(e.data)) || e.data
            )
        FROM unnest(e_request, e_number, e_id, e_type, e_data) AS e (request, number, id, type, data)
        JOIN accepted a ON a.n = e.request
    ), remembered AS (
        INSERT INTO commands (command_id, request_hash, actor, stream, last_revision, position, recorded_at)
        SELECT a.command, a.hash, a.actor, a.stream, a.revision + a.events,
            CASE WHEN a.events > 0 THEN a.base + a.events ELSE a.position END, recorded
        FROM accepted a
    ), moved AS (
        UPDATE store_head h SET position = head + t.events, recorded_at = recorded
        FROM (SELECT sum(a.events) AS events FROM accepted a) t
        WHERE h.id = 1 AND t.events > 0
    )
    SELECT c.n::int, c.what,
        CASE c.what WHEN 'duplicate' THEN c.c_revision WHEN 'appended' THEN c.revision + c.events ELSE c.revision END,
        (CASE WHEN c.what = 'duplicate' THEN c.c_position WHEN c.what = 'appended' AND c.events > 0 THEN a.base + c.events ELSE c.position END)::bigint,
        recorded, c.c_hash, c.c_actor, c.c_stream
    FROM checked c LEFT JOIN accepted a ON a.n = c.n;
END
$$;
-- +goose StatementEnd
