-- +goose Up
-- What was said with the asking: rebuild.Options; how fast a run is, a second, and when its phase will have ended.
ALTER TABLE projection_runs ADD COLUMN options MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL;
ALTER TABLE projection_runs ADD COLUMN rate BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projection_runs ADD COLUMN eta BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE projection_runs DROP COLUMN eta;
ALTER TABLE projection_runs DROP COLUMN rate;
ALTER TABLE projection_runs DROP COLUMN options;
