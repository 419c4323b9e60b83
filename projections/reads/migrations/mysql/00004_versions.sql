-- +goose Up
-- The versions of projections that have tables: state is building (a rebuild writes them), live (a projector keeps them up to
-- date) or dropping. verified_run is the last verification that found this version equal to the one that served.
CREATE TABLE projection_versions (
  projection VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  version INT NOT NULL,
  state VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  verified_run VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  PRIMARY KEY (projection, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO projection_versions (projection, version, state, verified_run)
SELECT projection, version, 'live', '' FROM projection_pointers;

-- Where a rollback goes; 0: nowhere.
ALTER TABLE projection_pointers ADD COLUMN previous INT NOT NULL DEFAULT 0;

-- What was asked of projections and what came of it. Whoever works on a run counts beats up; beats that stand still are a
-- worker that died.
CREATE TABLE projection_runs (
  run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  projection VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  kind VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  version INT NOT NULL,
  against INT NOT NULL,
  state VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  phase VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  asked_by VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  reason VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  detail TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  plan MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  result MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  cancel INT NOT NULL,
  beats BIGINT NOT NULL,
  done BIGINT NOT NULL,
  total BIGINT NOT NULL,
  events BIGINT NOT NULL,
  row_count BIGINT NOT NULL,
  asked_at BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT NOT NULL,
  PRIMARY KEY (run_id),
  KEY by_projection (projection, asked_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Whose turn a projection is: one run at a time, by one worker at a time. Taking the lease raises the epoch, and every
-- transaction of a rebuild begins by reading it under a lock, so a worker that was replaced writes nothing. The row changes
-- only when the lease does: those who read it do not wait for one another.
CREATE TABLE projection_leases (
  projection VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  claim VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  epoch BIGINT NOT NULL,
  PRIMARY KEY (projection)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The slices of a rebuild whose rows are all there: written with them.
CREATE TABLE projection_slices (
  run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  slice INT NOT NULL,
  PRIMARY KEY (run_id, slice)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE projection_slices;
DROP TABLE projection_leases;
DROP TABLE projection_runs;
ALTER TABLE projection_pointers DROP COLUMN previous;
DROP TABLE projection_versions;
