#!/usr/bin/env bash
# `make run-real`: the servers of docker-compose.yml (its profile infra) on Docker, and the binary of this checkout on them, all
# roles in one process at http://127.0.0.1:8080, until Ctrl-C. The servers stay: docker compose --profile infra down ends them.
#
#   run-real.sh [FLAG…]   flags of salon serve; its other settings come from SALON_… of the environment as well
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$repo"
secrets=${SALON_SECRETS:-$repo/deploy/secrets}

say() { printf '[run-real] %s\n' "$*" >&2; }
at() { docker compose port "$1" "$2"; } # where a server's port is on this host
secret() { cat "$secrets/$1"; }

deploy/secrets.sh "$secrets"
say "starting the servers"
docker compose --profile infra up --detach --wait --quiet-pull

# These servers, whatever this shell has set: another store is not to be migrated by mistake. Both hosts of each, so that a fail-over is
# followed; Redis without its sentinels, which tell addresses that only containers reach on some systems.
salon_password=$(secret postgres_salon_password)
SALON_EVENTS="postgres://salon:$salon_password@$(at postgres 5432),$(at postgres-standby 5432)/salon?sslmode=disable&target_session_attrs=read-write"
salon_password=$(secret mysql_salon_password)
SALON_READS="mysql://salon:$salon_password@$(at mysql 3306),$(at mysql-replica 3306)/salon"
SALON_READS_REPLICA="mysql://salon:$salon_password@$(at mysql-replica 3306),$(at mysql 3306)/salon"
SALON_REDIS="redis://:$(secret redis_password)@$(at redis 6379)/0"
SALON_KAFKA="$(at kafka-1 9094),$(at kafka-2 9094),$(at kafka-3 9094)"
export SALON_EVENTS SALON_READS SALON_READS_REPLICA SALON_REDIS SALON_KAFKA
export SALON_PARTITIONS="${SALON_PARTITIONS:-8}" SALON_REPLICATION=3
export SALON_AUTH_KEY_FILE="${SALON_AUTH_KEY_FILE:-$secrets/auth.key}" SALON_MASTER_KEY_FILE="${SALON_MASTER_KEY_FILE:-$secrets/master.key}"

bin/salon migrate up
bin/salon topics ensure
say "salon serve, with all roles"
# Whoever stops this stops salon: there is no shell between.
exec bin/salon serve commands readapi live admin relay projector reactor "$@"
