-- +goose Up
-- A key that waits because one of its events cannot be folded: its rows are the fold of its events before from_pos. The
-- partition's owner alone adds and removes rows, within its fenced transactions; anybody may set retry_at. after_pos is a
-- position of the store before from_pos: positions need not be dense, and a store is read after one that it gave.
CREATE TABLE projection_parked (
  projection TEXT NOT NULL,
  topic TEXT NOT NULL,
  part INTEGER NOT NULL,
  ordering_key TEXT NOT NULL,
  from_pos INTEGER NOT NULL,
  after_pos INTEGER NOT NULL,
  event_type TEXT NOT NULL,
  cause TEXT NOT NULL,
  detail TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  parked_at INTEGER NOT NULL,
  retry_at INTEGER NOT NULL,
  PRIMARY KEY (projection, topic, part, ordering_key)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE projection_parked;
