-- +goose Up
CREATE TABLE projection_offsets (
  projection TEXT NOT NULL,
  topic TEXT NOT NULL,
  part INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  claim TEXT NOT NULL,
  commit_seq INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,
  last_pos INTEGER NOT NULL,
  last_recorded_at INTEGER NOT NULL,
  incarnation TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (projection, topic, part)
) WITHOUT ROWID;

CREATE TABLE projection_topics (
  topic TEXT NOT NULL PRIMARY KEY,
  partitions INTEGER NOT NULL,
  topic_id TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE projection_pointers (
  projection TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL
) WITHOUT ROWID;

-- +goose Down
DROP TABLE projection_pointers;
DROP TABLE projection_topics;
DROP TABLE projection_offsets;
