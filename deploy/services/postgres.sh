# shellcheck shell=bash
# PostgreSQL 15: the event store. The server refuses to run as root, so root starts it as the user postgres.

postgres_bin() {
  local dir
  for dir in /usr/lib/postgresql/15/bin /usr/lib/postgresql/*/bin; do
    [[ -x $dir/initdb ]] && { printf '%s' "$dir" && return; }
  done
  command -v initdb >/dev/null && dirname "$(command -v initdb)"
}

postgres_packages() { printf '%s\n' '/usr/lib/postgresql/*/bin/initdb=postgresql-15' '/usr/lib/postgresql/*/bin/psql=postgresql-client-15'; }

postgres_install() { :; }

# AS_POSTGRES COMMAND…: becomes the user postgres when we are root, and keeps the right to pass through folders: a checkout
# below a private home (mode 700) is closed to other users, and PostgreSQL would not find its own data there.
AS_POSTGRES=()
if is_root; then
  AS_POSTGRES=(setpriv --reuid=postgres --regid=postgres --init-groups
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --)
fi

postgres_start() {
  local bin data=$RUN/postgres port=$1
  bin=$(postgres_bin)
  if ! initialised postgres; then
    rm -rf "$data"
    mkdir -p -m 700 "$data"
    ! is_root || chown postgres:postgres "$data"
    # Loopback only and nothing but test data: no passwords.
    "${AS_POSTGRES[@]}" "$bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --no-locale >>"$RUN/postgres.log" 2>&1
    mark_initialised postgres
  fi
  # A postmaster.pid of a dead server names a pid that may be somebody else's by now; the server checks that itself, but
  # takes any living process of its own user for a postmaster. pid_of has said that ours is not running.
  rm -f "$data/postmaster.pid"
  launch postgres "${AS_POSTGRES[@]}" "$bin/postgres" -D "$data" -p "$port" -c listen_addresses="$HOST" \
    -c unix_socket_directories='' -c max_connections=200 -c wal_level=replica -c log_line_prefix='%m [%p] '
}

# Asking the server where its data lies proves that the one who answers is the one we started.
postgres_ready() {
  [[ $("$(postgres_bin)/psql" -X -A -t -w -h "$HOST" -p "$1" -U postgres -d postgres -c 'SHOW data_directory') == "$RUN/postgres" ]]
}

postgres_prepare() {
  local psql=("$(postgres_bin)/psql" -X -A -t -w -q -h "$HOST" -p "$1" -U postgres -d postgres)
  [[ $("${psql[@]}" -c "SELECT 1 FROM pg_database WHERE datname='salon'") == 1 ]] || "${psql[@]}" -c 'CREATE DATABASE salon'
}

# SIGINT is PostgreSQL's fast stop: sessions are ended, the data is checkpointed.
postgres_stop_signal() { printf INT; }

postgres_version() { "$(postgres_bin)/postgres" --version; }

postgres_url() { printf 'postgres://postgres@%s:%s/%s?sslmode=disable' "$HOST" "$1" "${2:-postgres}"; }
