-- +goose Up
CREATE TABLE events (
    position    INTEGER PRIMARY KEY,
    stream      TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    id          BLOB    NOT NULL, -- unique by its command, which is: an index of its own would cost a tenth of the append rate
    type        TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    slice       INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL, -- microseconds since 1970, UTC
    metadata    BLOB    NOT NULL,
    data        BLOB    NOT NULL,
    hash        BLOB    NOT NULL,
    UNIQUE (stream, revision)
);
CREATE INDEX events_slice ON events (slice, position);

CREATE TABLE commands (
    command_id    BLOB PRIMARY KEY,
    request_hash  BLOB    NOT NULL,
    actor         TEXT    NOT NULL,
    stream        TEXT    NOT NULL,
    last_revision INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    recorded_at   INTEGER NOT NULL
) WITHOUT ROWID;

-- One row: where the next position comes from, and which life of the store this is.
CREATE TABLE store_head (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    position    INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    incarnation TEXT    NOT NULL
);
INSERT INTO store_head (id, position, recorded_at, incarnation) VALUES (1, 0, 0, lower(hex(randomblob(16))));

CREATE TABLE person_keys (
    subject    TEXT PRIMARY KEY,
    key_id     TEXT    NOT NULL,
    wrapped    BLOB    NOT NULL,
    created_at INTEGER NOT NULL
);

-- A cache of folded states: a wrong or an old one is ignored.
CREATE TABLE snapshots (
    stream       TEXT    NOT NULL,
    fold_version INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    state        BLOB    NOT NULL,
    hash         BLOB    NOT NULL,
    PRIMARY KEY (stream, fold_version)
);
