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

# as_postgres fills AS_POSTGRES with the words that make a command run as the user postgres when we are root. A checkout
# below a private home (mode 700) is closed to that user: then, and only then, it keeps root's right to pass through.
as_postgres() {
  local plain=(setpriv --reuid=postgres --regid=postgres --init-groups) pass='-all,+dac_override'
  AS_POSTGRES=()
  is_root || return 0
  AS_POSTGRES=("${plain[@]}" --inh-caps=-all)
  "${AS_POSTGRES[@]}" test -x "$RUN" || AS_POSTGRES=("${plain[@]}" "--inh-caps=$pass" "--ambient-caps=$pass")
}

# A killed server leaves its postmaster.pid, and the next one refuses to start while that number lives: also when it is a
# zombie that nobody reaps, or by now somebody else's process. The lock protects the data from processes that still use
# it; each of them stands in the data folder, so when none does, the lock is stale.
postgres_drop_stale_lock() {
  wait_until 10 nobody_works_in "$RUN/postgres" || return
  rm -f "$RUN/postgres/postmaster.pid"
}

nobody_works_in() {
  local cwd
  for cwd in /proc/[0-9]*/cwd; do
    [[ $(readlink "$cwd" 2>/dev/null) != "$1" ]] || return 1
  done
}

postgres_start() {
  local bin data=$RUN/postgres port=$1
  bin=$(postgres_bin)
  as_postgres
  if ! initialised postgres; then
    rm -rf "$data"
    mkdir "$data"
    chmod 700 "$data"
    ! is_root || chown postgres:postgres "$data"
    # Loopback only and nothing but test data: no passwords.
    "${AS_POSTGRES[@]}" "$bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --no-locale >>"$RUN/postgres.log" 2>&1 || return
    mark_initialised postgres
  fi
  postgres_drop_stale_lock || return
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
