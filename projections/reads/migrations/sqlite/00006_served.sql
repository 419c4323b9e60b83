-- +goose Up
-- Whether reads were answered from the version once, since it was built: a rollback to it need not prove it again.
ALTER TABLE projection_versions ADD COLUMN served INTEGER NOT NULL DEFAULT 0;
UPDATE projection_versions SET served = 1 WHERE EXISTS (
  SELECT 1 FROM projection_pointers p WHERE p.projection = projection_versions.projection AND projection_versions.version IN (p.version, p.previous)
);

-- +goose Down
ALTER TABLE projection_versions DROP COLUMN served;
