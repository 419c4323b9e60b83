-- +goose Up

-- Commands without events stand at no position of their own: a number tells in which order they were accepted, so that a seal
-- can say which of them it covers. Given under the lock of append_events, hence dense and in commit order.
CREATE TABLE silent_commands (
    n          bigint PRIMARY KEY,
    command_id uuid   NOT NULL
);

INSERT INTO silent_commands (n, command_id)
SELECT row_number() OVER (ORDER BY c.recorded_at, c.command_id), c.command_id FROM commands c
WHERE NOT EXISTS (
    SELECT FROM events e WHERE e.position = c.position AND position(convert_to(c.command_id::text, 'UTF8') IN e.metadata) > 0
);

-- Append-only: see audit/seal for what a note says. through and silent_through are positions and numbers of this store.
CREATE TABLE seals (
    block          bigint PRIMARY KEY,
    through        bigint NOT NULL,
    silent_through bigint NOT NULL,
    note           bytea  NOT NULL,
    outline        bytea  NOT NULL
);

-- +goose StatementBegin
-- As in step 2, but for the commands without events: they are numbered.
--
-- append_events commits a group. The whole group is in its arguments, so the lock is never held by a client that has
-- something left to say. The lock is one statement and the checks are in the next: under READ COMMITTED each statement
-- of a volatile function has a snapshot of its own, and a single one would check what was true before its wait. The lock
-- ends with the transaction, after what it wrote is visible.
--
-- r_… are the requests, one element each, every stream and command at most once; e_… their events, in the requests'
-- order: e_request is the request's index from 1, e_number the event's within it from 0. It answers one row a request.
CREATE OR REPLACE FUNCTION append_events(
    r_command uuid[], r_hash bytea[], r_actor text[], r_stream text[], r_key text[], r_slice smallint[],
    r_expected bigint[], r_expected_id uuid[], r_decided timestamptz[], r_metadata bytea[], r_events int[],
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
    tail     record; -- of the stream of the only request
BEGIN
    PERFORM pg_advisory_xact_lock(8286574923601);
    SELECT h.position, h.recorded_at, s.revision, s.id INTO tail
        FROM (VALUES (r_stream[1])) r (stream)
        LEFT JOIN LATERAL (SELECT e.position, e.recorded_at FROM events e ORDER BY e.position DESC LIMIT 1) h ON true
        LEFT JOIN LATERAL (SELECT e.revision, e.id FROM events e WHERE e.stream = r.stream ORDER BY e.revision DESC LIMIT 1) s ON true;
    head := coalesce(tail.position, 0);
    clock := clock_timestamp();
    recorded := greatest(clock, tail.recorded_at);
    micros := int8send((extract(epoch FROM recorded) * 1000000)::bigint);

    -- A request alone that can be accepted: the same in a third of the time. Everything else is answered below.
    last_revision := coalesce(tail.revision, -1);
    IF cardinality(r_command) = 1 AND r_events[1] > 0
        AND r_decided[1] BETWEEN clock - max_age AND clock + max_age
        AND r_expected[1] IN (-2, last_revision) AND (r_expected_id[1] IS NULL OR r_expected_id[1] = tail.id)
    THEN
        WITH remembered AS (
            INSERT INTO commands (command_id, request_hash, actor, stream, last_revision, position, recorded_at)
            VALUES (r_command[1], r_hash[1], r_actor[1], r_stream[1], append_events.last_revision + r_events[1], head + r_events[1], recorded)
            ON CONFLICT (command_id) DO NOTHING RETURNING 1
        )
        INSERT INTO events (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash)
        SELECT head + e.n, r_stream[1], append_events.last_revision + e.n, e.id, e.type, r_key[1], r_slice[1], recorded, r_metadata[1], e.data,
            content_hash(r_stream[1], append_events.last_revision + e.n, e.id, e.type, r_key[1], micros, r_metadata[1], e.data)
        FROM remembered, unnest(e_id, e_type, e_data) WITH ORDINALITY AS e (id, type, data, n);
        IF FOUND THEN
            request := 1;
            outcome := 'appended';
            last_revision := last_revision + r_events[1];
            at_position := head + r_events[1];
            at_time := recorded;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;

    RETURN QUERY
    WITH requests AS (
        SELECT * FROM unnest(r_command, r_hash, r_actor, r_stream, r_key, r_slice, r_expected, r_expected_id, r_decided, r_metadata, r_events)
            WITH ORDINALITY AS r (command, hash, actor, stream, key, slice, expected, expected_id, decided, metadata, events, n)
    ), checked AS (
        SELECT r.*, coalesce(s.revision, -1) AS revision, coalesce(s.position, 0) AS position,
            c.request_hash AS c_hash, c.actor AS c_actor, c.stream AS c_stream, c.last_revision AS c_revision, c.position AS c_position,
            CASE
                WHEN c.command_id IS NOT NULL THEN 'duplicate'
                WHEN r.decided NOT BETWEEN clock - max_age AND clock + max_age THEN 'too old'
                WHEN r.expected NOT IN (-2, coalesce(s.revision, -1)) THEN 'conflict'
                WHEN r.expected_id IS NOT NULL AND r.expected_id IS DISTINCT FROM s.id THEN 'conflict'
                ELSE 'appended'
            END AS what
        FROM requests r
        LEFT JOIN commands c ON c.command_id = r.command
        LEFT JOIN LATERAL (
            SELECT e.revision, e.position, e.id FROM events e WHERE e.stream = r.stream ORDER BY e.revision DESC LIMIT 1
        ) s ON true
    ), accepted AS (
        SELECT c.*, head + sum(c.events) OVER (ORDER BY c.n) - c.events AS base FROM checked c WHERE c.what = 'appended'
    ), appended AS (
        INSERT INTO events (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash)
        SELECT a.base + e.number + 1, a.stream, a.revision + e.number + 1, e.id, e.type, a.key, a.slice, recorded, a.metadata, e.data,
            content_hash(a.stream, a.revision + e.number + 1, e.id, e.type, a.key, micros, a.metadata, e.data)
        FROM unnest(e_request, e_number, e_id, e_type, e_data) AS e (request, number, id, type, data)
        JOIN accepted a ON a.n = e.request
    ), remembered AS (
        INSERT INTO commands (command_id, request_hash, actor, stream, last_revision, position, recorded_at)
        SELECT a.command, a.hash, a.actor, a.stream, a.revision + a.events,
            CASE WHEN a.events > 0 THEN a.base + a.events ELSE a.position END, recorded
        FROM accepted a
    ), silent AS (
        INSERT INTO silent_commands (n, command_id)
        SELECT (SELECT coalesce(max(s.n), 0) FROM silent_commands s) + row_number() OVER (ORDER BY a.n), a.command
        FROM accepted a WHERE a.events = 0
    )
    SELECT c.n::int, c.what,
        CASE c.what WHEN 'duplicate' THEN c.c_revision WHEN 'appended' THEN c.revision + c.events ELSE c.revision END,
        (CASE WHEN c.what = 'duplicate' THEN c.c_position WHEN c.what = 'appended' AND c.events > 0 THEN a.base + c.events ELSE c.position END)::bigint,
        recorded, c.c_hash, c.c_actor, c.c_stream
    FROM checked c LEFT JOIN accepted a ON a.n = c.n;
END
$$;
-- +goose StatementEnd
