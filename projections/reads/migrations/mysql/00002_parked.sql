-- +goose Up
-- A key that waits because one of its events cannot be folded: its rows are the fold of its events before from_pos. The
-- partition's owner alone adds and removes rows, within its fenced transactions; anybody may set retry_at. after_pos is a
-- position of the store before from_pos: positions need not be dense, and a store is read after one that it gave.
-- A key too long for a projection's columns must be parkable: 512 bytes is the most that the event store takes.
CREATE TABLE projection_parked (
  projection VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  topic VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  part INT NOT NULL,
  ordering_key VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  from_pos BIGINT NOT NULL,
  after_pos BIGINT NOT NULL,
  event_type VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  cause VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  detail TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  attempts INT NOT NULL,
  parked_at BIGINT NOT NULL,
  retry_at BIGINT NOT NULL,
  PRIMARY KEY (projection, topic, part, ordering_key)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE projection_parked;
