-- +goose Up
-- What events are found by (eventstore.Lookups), written by a follower after the fact: an append pays nothing for it.
CREATE TABLE event_lookups (
    value    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (value, position)
) WITHOUT ROWID;

-- One row: through which position the follower came. It moves in the transaction that adds the rows.
CREATE TABLE event_lookups_through (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL
);
INSERT INTO event_lookups_through (id, position) VALUES (1, 0);
