#!/usr/bin/env bash
# Real servers for tests, benchmarks and `salon serve`: Kafka, PostgreSQL, MariaDB, MySQL, Redis on 127.0.0.1.
#
#   services.sh up             installs what is missing, starts what is not running, writes .run/env
#   services.sh stop [NAME…]   stops what was started here (all, or the named ones)
#   services.sh status         says what runs where
#   services.sh install        installs what is missing and starts nothing: for tests that start servers of their own
#
# A server named by SALON_TEST_POSTGRES, SALON_TEST_MYSQL, SALON_TEST_MARIADB, SALON_TEST_REDIS or SALON_TEST_KAFKA is
# used as it is and none is started in its place; each variable stands for its own server alone.
# With SALON_SERVICES_STARTED=FILE, `up` writes the names of those it started there, for whoever has to stop them again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=deploy/services/lib.sh
. "$here/lib.sh"
# shellcheck source=deploy/services/install.sh
. "$here/install.sh"
# shellcheck source=deploy/services/postgres.sh
. "$here/postgres.sh"
# shellcheck source=deploy/services/mysql.sh
. "$here/mysql.sh"
# shellcheck source=deploy/services/redis.sh
. "$here/redis.sh"
# shellcheck source=deploy/services/kafka.sh
. "$here/kafka.sh"

SERVICES=(kafka postgres mysql mariadb redis)

# The slowest seen here was 4 s; a busy two-core machine may need ten times that.
READY_SECONDS=90
STOP_SECONDS=30

variable_of() { printf 'SALON_TEST_%s' "${1^^}"; }

# given SERVICE prints the address that the caller set for it. A shell that sourced an earlier .run/env has our own
# addresses in these variables; those are listed in SALON_SERVICES_LOCAL and are not a wish of the caller's.
given() {
  local name
  name=$(variable_of "$1")
  [[ -n ${!name:-} && " ${SALON_SERVICES_LOCAL:-} " != *" ${!name} "* ]] && printf '%s' "${!name}"
}

up() {
  local name begin local_ones=() to_start=()
  mkdir -p "$RUN"
  # Two at once (a test run and a person) would start everything twice.
  exec 9>"$RUN/.lock"
  flock -w 900 9 || die "another services.sh holds $RUN/.lock"
  for name in "${SERVICES[@]}"; do
    if given "$name" >/dev/null; then
      check_given "$name"
    else
      local_ones+=("$name")
      is_up "$name" || to_start+=("$name")
    fi
  done
  for name in "${local_ones[@]}"; do
    [[ " ${to_start[*]} " == *" $name "* ]] || say "$name: already up on $HOST:$(port_of "$name"), pid $(pid_of "$name")"
  done
  if ((${#to_start[@]})); then
    # Before the first start: when one of them fails, the others still have to be stopped.
    [[ -z ${SALON_SERVICES_STARTED:-} ]] || printf '%s\n' "${to_start[@]}" >"$SALON_SERVICES_STARTED"
    install_all "${to_start[@]}"
    start_all "${to_start[@]}"
  fi
  begin=$(now_ms)
  for name in "${to_start[@]}"; do
    "${name}_prepare" "$(port_of "$name")" || die "$name: the database salon could not be made"
  done
  write_env
  say "all there (databases in $(seconds_since "$begin") s); addresses: . .run/env"
}

# check_given fails now rather than in the middle of the tests when a named server is not there.
check_given() {
  local url rest host port
  url=$(given "$1")
  rest=${url#*://}
  rest=${rest%%[/?,]*}
  rest=${rest##*@}
  host=${rest%:*}
  port=${rest##*:}
  if [[ $port =~ ^[0-9]+$ ]] && ! (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then
    die "$(variable_of "$1") names a server that does not answer on $host:$port"
  fi
  say "$1: the one that $(variable_of "$1") names is used; none is started"
}

# install is for tests that kill their servers: those are never the ones that SALON_TEST_* name, so nothing is left out.
install() {
  mkdir -p "$RUN"
  exec 9>"$RUN/.lock"
  flock -w 900 9 || die "another services.sh holds $RUN/.lock"
  install_all "${SERVICES[@]}"
}

is_up() { pid_of "$1" >/dev/null && "$1_ready" "$(port_of "$1")" >/dev/null 2>&1; }

install_all() {
  local name pairs=() code=0 jobs=()
  for name in "$@"; do
    mapfile -t -O ${#pairs[@]} pairs < <("${name}_packages")
  done
  need_packages "${pairs[@]}"
  # Side by side: one waits for the Maven repository, the other for the Debian mirror.
  for name in "$@"; do
    "${name}_install" &
    jobs+=($!)
  done
  for name in "${jobs[@]}"; do wait "$name" || code=1; done
  ((code == 0)) || die "see above"
}

start_all() {
  local name code=0 jobs=()
  for name in "$@"; do
    # One after the other, so that no two pick the same port.
    pick_port "$name" >/dev/null
  done
  for name in "$@"; do
    start_one "$name" &
    jobs+=($!)
  done
  for name in "${jobs[@]}"; do wait "$name" || code=1; done
  ((code == 0)) || die "not all servers could be had; those that did start are left running (make services-stop ends them)"
}

start_one() {
  local name=$1 begin port pid
  begin=$(now_ms)
  if pid=$(pid_of "$name"); then
    say "$name: pid $pid lives but does not answer: stopping it first"
    stop_pid "$name" "$pid" "$("${name}_stop_signal")" "$STOP_SECONDS"
  fi
  rm -f "$RUN/$name.pid"
  rotate_log "$name"
  port=$(pick_port "$name")
  "${name}_start" "$port" || fail_with_log "$name" "could not be started"
  wait_until "$READY_SECONDS" ready_or_dead "$name" "$port" || fail_with_log "$name" "did not answer within $READY_SECONDS s"
  "${name}_ready" "$port" >/dev/null 2>&1 || fail_with_log "$name" "ended while starting"
  say "$name: $("${name}_version" 2>/dev/null) on $HOST:$port, pid $(pid_of "$name"), ready after $(seconds_since "$begin") s"
}

# ready_or_dead ends the wait early when the process is gone; start_one then looks which of the two it was.
ready_or_dead() { "$1_ready" "$2" || gone "$(<"$RUN/$1.pid")"; }

rotate_log() { [[ ! -e $RUN/$1.log ]] || mv -f "$RUN/$1.log" "$RUN/$1.log.old"; }

fail_with_log() {
  say "$1: the last lines of $RUN/$1.log:"
  tail -n 30 "$RUN/$1.log" >&2 || true
  die "$1 $2"
}

# write_env puts the addresses where tests and the binary find them. Moved into place whole: someone may be sourcing it.
write_env() {
  local name value locals=()
  {
    printf '# Written by make services. Use: . .run/env\n'
    for name in "${SERVICES[@]}"; do
      if ! value=$(given "$name"); then
        value=$("${name}_url" "$(port_of "$name")")
        locals+=("$value")
      fi
      exported "$(variable_of "$name")" "$value"
    done
    [[ -z ${SALON_TEST_EVENTSTOREDB:-} ]] || exported SALON_TEST_EVENTSTOREDB "$SALON_TEST_EVENTSTOREDB"
    exported SALON_EVENTS "$(database_salon postgres)"
    exported SALON_KAFKA "$(given kafka || kafka_url "$(port_of kafka)")"
    exported SALON_READS "$(database_salon mysql)"
    exported SALON_REDIS "$(given redis || redis_url "$(port_of redis)")"
    printf '# The addresses above that are our own; make services takes only others for a wish of yours.\n'
    exported SALON_SERVICES_LOCAL "${locals[*]}"
  } >"$RUN/env.new"
  mv -f "$RUN/env.new" "$RUN/env"
}

exported() { printf "export %s='%s'\n" "$1" "${2//\'/\'\\\'\'}"; }

# database_salon SERVICE: the address of the database salon on that server. On a server that was given, making that
# database is its owner's business.
database_salon() {
  local url query=
  if ! url=$(given "$1"); then
    "$1_url" "$(port_of "$1")" salon
    return
  fi
  [[ $url != *\?* ]] || query="?${url#*\?}"
  url=${url%%\?*}
  [[ $url =~ ^([a-z]+://[^/]*) ]]
  printf '%s/salon%s' "${BASH_REMATCH[1]}" "$query"
}

stop() {
  local name pid names=("$@")
  ((${#names[@]})) || names=("${SERVICES[@]}")
  [[ -d $RUN ]] || return 0
  exec 9>"$RUN/.lock"
  flock -w 900 9 || die "another services.sh holds $RUN/.lock"
  for name in "${names[@]}"; do
    stop_one "$name" &
  done
  wait
}

stop_one() {
  local name=$1 pid begin
  begin=$(now_ms)
  if pid=$(pid_of "$name"); then
    stop_pid "$name" "$pid" "$("${name}_stop_signal")" "$STOP_SECONDS"
    say "$name: pid $pid stopped in $(seconds_since "$begin") s"
  else
    rm -f "$RUN/$name.pid"
    say "$name: not running"
  fi
}

status() {
  local name
  for name in "${SERVICES[@]}"; do
    if is_up "$name"; then
      printf '%-9s up    %s  pid %s\n' "$name" "$("${name}_url" "$(port_of "$name")")" "$(pid_of "$name")"
    else
      printf '%-9s down\n' "$name"
    fi
  done
}

case ${1:-} in
  up | stop | status | install) "$@" ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
