-- +goose Up
-- What was told to the world outside, so that it is told once. Rows are forgotten when the event is too old to be sent.
CREATE TABLE notification_sent (
  event_id TEXT NOT NULL,
  receiver TEXT NOT NULL,
  channel TEXT NOT NULL,
  sent_at INTEGER NOT NULL,
  PRIMARY KEY (event_id, receiver, channel)
) WITHOUT ROWID;
CREATE INDEX notification_sent_by_time ON notification_sent (sent_at);

-- What could not be told. event is what is needed to find its receivers, body what will be sent ('' while the receivers
-- are not known); no personal data in either. retry_at is when it is tried again, 0 until somebody asks.
CREATE TABLE notification_parked (
  event_id TEXT NOT NULL,
  receiver TEXT NOT NULL,
  channel TEXT NOT NULL,
  event TEXT NOT NULL,
  body TEXT NOT NULL,
  cause TEXT NOT NULL,
  detail TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  parked_at INTEGER NOT NULL,
  retry_at INTEGER NOT NULL,
  PRIMARY KEY (event_id, receiver, channel)
) WITHOUT ROWID;
CREATE INDEX notification_parked_by_time ON notification_parked (retry_at);

-- +goose Down
DROP TABLE notification_parked;
DROP TABLE notification_sent;
