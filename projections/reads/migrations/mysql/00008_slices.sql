-- +goose Up
-- The position through which a slice is there, of one that does not fit into memory and is written down in parts; 0: all of it.
ALTER TABLE projection_slices ADD COLUMN through BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE projection_slices DROP COLUMN through;
