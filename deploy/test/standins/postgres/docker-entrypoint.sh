#!/usr/bin/env bash
# What the image's entrypoint does with the settings that docker-compose.yml gives: an empty PGDATA is made, with a password
# that comes from a file, and /docker-entrypoint-initdb.d is run on a server that only a socket reaches.
set -euo pipefail

if [[ $1 == postgres && ! -s $PGDATA/PG_VERSION ]]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  export POSTGRES_USER=${POSTGRES_USER:-postgres}
  # shellcheck disable=SC2086 # words, as in the image
  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" ${POSTGRES_INITDB_ARGS:-}
  printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  printf "listen_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
  pg_ctl -D "$PGDATA" -w start -o "-c listen_addresses='' -p 5432 $(printf '%q ' "${@:2}")"
  for file in /docker-entrypoint-initdb.d/*; do
    if [[ -x $file ]]; then "$file"; else
      # shellcheck source=/dev/null
      . "$file"
    fi
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"
