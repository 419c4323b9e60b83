-- +goose Up
-- What events are found by (eventstore.Lookups), written by a follower after the fact: an append pays nothing for it.
CREATE TABLE event_lookups (
    value    bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (value, position)
);

-- One row: through which position the follower came. It moves in the statement that adds the rows.
CREATE TABLE event_lookups_through (
    id       smallint PRIMARY KEY CHECK (id = 1),
    position bigint   NOT NULL
);
INSERT INTO event_lookups_through (id, position) VALUES (1, 0);

-- +goose Down
DROP TABLE event_lookups_through;
DROP TABLE event_lookups;
