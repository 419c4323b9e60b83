-- +goose Up
-- What was said with the asking: rebuild.Options.
ALTER TABLE projection_runs ADD COLUMN options TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE projection_runs DROP COLUMN options;
