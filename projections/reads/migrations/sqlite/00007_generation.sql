-- +goose Up
-- Which life of a version this is: one that was dropped and is built anew has another. What a view in Redis has of an earlier
-- one, left behind or brought back by a backup, is told by it. The first version of a projection has none.
ALTER TABLE projection_versions ADD COLUMN generation TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE projection_versions DROP COLUMN generation;
