-- +goose Up
-- What was said with the asking: rebuild.Options.
ALTER TABLE projection_runs ADD COLUMN options MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL;

-- +goose Down
ALTER TABLE projection_runs DROP COLUMN options;
