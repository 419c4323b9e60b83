#!/usr/bin/env bash
# Runs once, in each new MySQL server. MYSQL_PRIMARY names the one that is the primary; the other copies it and follows, and
# takes no writes. Users are made on each by itself, so that a copy needs no system tables.
set -euo pipefail

sql() {
  mysql --defaults-extra-file=<(printf '[client]\nuser=root\npassword="%s"\n' "$(</run/secrets/mysql_root_password)") "$@"
}
replication=$(</run/secrets/mysql_replication_password)

sql <<SQL
SET SESSION sql_log_bin = 0;
CREATE USER 'salon'@'%' IDENTIFIED BY '$(</run/secrets/mysql_salon_password)';
GRANT ALL ON salon.* TO 'salon'@'%';
GRANT REPLICATION CLIENT ON *.* TO 'salon'@'%';
CREATE USER 'replicator'@'%' IDENTIFIED BY '$replication';
GRANT REPLICATION SLAVE, REPLICATION CLIENT, RELOAD, PROCESS, LOCK TABLES, SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO 'replicator'@'%';
SQL

if [[ $(hostname) == "$MYSQL_PRIMARY" ]]; then
  sql -e 'CREATE DATABASE salon CHARACTER SET utf8mb4'
  exit
fi
dump=/tmp/dump.sql
until mysqldump --defaults-extra-file=<(printf '[client]\nuser=replicator\npassword="%s"\n' "$replication") \
  --host="$MYSQL_OTHER" --get-server-public-key --single-transaction --set-gtid-purged=ON --databases salon >"$dump"; do
  printf '%s cannot be copied yet; again in 2 s\n' "$MYSQL_OTHER" >&2
  sleep 2
done
sql -e 'RESET BINARY LOGS AND GTIDS'
sql <"$dump"
rm "$dump"
sql <<SQL
CHANGE REPLICATION SOURCE TO SOURCE_HOST = '$MYSQL_OTHER', SOURCE_USER = 'replicator', SOURCE_PASSWORD = '$replication',
  SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0, SOURCE_HEARTBEAT_PERIOD = 1;
SET PERSIST super_read_only = ON;
SQL
