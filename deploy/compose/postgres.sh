#!/usr/bin/env bash
# The entrypoint of both PostgreSQL servers, before the image's own: POSTGRES_PRIMARY names the one that is made new as the
# primary; the other copies it and follows. What a server has on its disk decides after that, so a promoted standby stays
# one. Arguments: the server's command line.
set -euo pipefail

me=$(hostname)
other=$POSTGRES_OTHER
PGPASSWORD=$(</run/secrets/postgres_replication_password)
export PGPASSWORD

say() { printf '%s: %s\n' "$me" "$*" >&2; }

to() { printf 'host=%s user=replicator application_name=%s connect_timeout=2' "$1" "$me"; }

# The history that a server is in: each promotion begins another.
their_timeline() { psql -XAtq -F ' ' "$(to "$other") replication=true" -c IDENTIFY_SYSTEM 2>/dev/null | cut -d' ' -f2; }
own_timeline() { pg_controldata "$PGDATA" | sed -n "s/^Latest checkpoint's TimeLineID: *//p"; }

if [[ -s $PGDATA/PG_VERSION ]]; then
  # A primary that was away while the other was promoted must not come back beside it: what it would take is on no other disk.
  theirs=$(their_timeline || true)
  if [[ ! -e $PGDATA/standby.signal && -n $theirs && $theirs -gt $(own_timeline) ]]; then
    say "$other was promoted while this server was away. Remove this server's volume; it is then made new as a standby."
    exit 1
  fi
elif [[ $me != "$POSTGRES_PRIMARY" ]]; then
  say "copying $other"
  part=$(dirname "$PGDATA")/incoming # under its name only when it is whole
  slot=${me//-/_}
  # A slot of a copy that was cut short is still there, and one of another server's would be in use.
  until rm -rf "$part" && { psql -Xq "$(to "$other") replication=true" -c "DROP_REPLICATION_SLOT $slot" 2>/dev/null || true; } &&
    pg_basebackup -D "$part" -R -X stream -C -S "$slot" -c fast -d "$(to "$other")"; do
    say "$other cannot be copied yet; again in 2 s"
    sleep 2
  done
  # The primary's own wish for a synchronous standby came along: after a promotion nobody could commit.
  printf "synchronous_standby_names = ''\n" >>"$part/postgresql.auto.conf"
  mv "$part" "$PGDATA"
fi
unset PGPASSWORD
exec docker-entrypoint.sh "$@"
