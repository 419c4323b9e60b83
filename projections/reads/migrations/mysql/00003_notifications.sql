-- +goose Up
-- What was told to the world outside, so that it is told once. Rows are forgotten when the event is too old to be sent.
CREATE TABLE notification_sent (
  event_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  receiver VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  channel VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  sent_at BIGINT NOT NULL,
  PRIMARY KEY (event_id, receiver, channel)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE INDEX notification_sent_by_time ON notification_sent (sent_at);

-- What could not be told. event is what is needed to find its receivers, body what will be sent ('' while the receivers
-- are not known); no personal data in either. retry_at is when it is tried again, 0 until somebody asks.
CREATE TABLE notification_parked (
  event_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  receiver VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  channel VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  event TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  body TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  cause VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  detail TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  attempts INT NOT NULL,
  parked_at BIGINT NOT NULL,
  retry_at BIGINT NOT NULL,
  PRIMARY KEY (event_id, receiver, channel)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE INDEX notification_parked_by_time ON notification_parked (retry_at);

-- +goose Down
DROP TABLE notification_parked;
DROP TABLE notification_sent;
