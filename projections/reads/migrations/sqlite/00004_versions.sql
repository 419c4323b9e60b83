-- +goose Up
-- The versions of projections that have tables: state is building (a rebuild writes them), live (a projector keeps them up to
-- date) or dropping. verified_run is the last verification that found this version equal to the one that served.
CREATE TABLE projection_versions (
  projection TEXT NOT NULL,
  version INTEGER NOT NULL,
  state TEXT NOT NULL,
  verified_run TEXT NOT NULL,
  PRIMARY KEY (projection, version)
) WITHOUT ROWID;

INSERT INTO projection_versions (projection, version, state, verified_run)
SELECT projection, version, 'live', '' FROM projection_pointers;

-- Where a rollback goes; 0: nowhere.
ALTER TABLE projection_pointers ADD COLUMN previous INTEGER NOT NULL DEFAULT 0;

-- What was asked of projections and what came of it. Whoever works on a run counts beats up; beats that stand still are a
-- worker that died.
CREATE TABLE projection_runs (
  run_id TEXT NOT NULL,
  projection TEXT NOT NULL,
  kind TEXT NOT NULL,
  version INTEGER NOT NULL,
  against INTEGER NOT NULL,
  state TEXT NOT NULL,
  phase TEXT NOT NULL,
  asked_by TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  plan TEXT NOT NULL,
  result TEXT NOT NULL,
  cancel INTEGER NOT NULL,
  beats INTEGER NOT NULL,
  done INTEGER NOT NULL,
  total INTEGER NOT NULL,
  events INTEGER NOT NULL,
  row_count INTEGER NOT NULL,
  asked_at INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  PRIMARY KEY (run_id)
) WITHOUT ROWID;
CREATE INDEX projection_runs_by_projection ON projection_runs (projection, asked_at);

-- Whose turn a projection is: one run at a time, by one worker at a time. Taking the lease raises the epoch, and every
-- transaction of a rebuild begins by reading it under a lock, so a worker that was replaced writes nothing. The row changes
-- only when the lease does: those who read it do not wait for one another.
CREATE TABLE projection_leases (
  projection TEXT NOT NULL,
  run_id TEXT NOT NULL,
  claim TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  PRIMARY KEY (projection)
) WITHOUT ROWID;

-- The slices of a rebuild whose rows are all there: written with them.
CREATE TABLE projection_slices (
  run_id TEXT NOT NULL,
  slice INTEGER NOT NULL,
  PRIMARY KEY (run_id, slice)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE projection_slices;
DROP TABLE projection_leases;
DROP TABLE projection_runs;
ALTER TABLE projection_pointers DROP COLUMN previous;
DROP TABLE projection_versions;
