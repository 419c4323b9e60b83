#!/usr/bin/env bash
# Runs once, in a new primary. The application is no superuser and owns its database alone.
set -euo pipefail

psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  -v salon="$(</run/secrets/postgres_salon_password)" -v replicator="$(</run/secrets/postgres_replication_password)" <<'SQL'
CREATE ROLE salon LOGIN PASSWORD :'salon';
CREATE DATABASE salon OWNER salon;
REVOKE CONNECT ON DATABASE salon FROM PUBLIC;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replicator';
-- From the next start on. Named here and not on the command line: this very server would wait for a standby that cannot
-- come yet, and an operator whose standby is lost can take it back while everything runs.
ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 ("postgres-standby", "postgres")';
SQL
printf 'host replication replicator all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
