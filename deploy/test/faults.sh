# shellcheck shell=bash
# What a system under load is put through, and the table of what came of it. Sourced after lib.sh; DIR, SALON and URL are set.

TABLE=$RUN/deploy-table.txt

container() { printf '%s-%s-1' "$COMPOSE_PROJECT_NAME" "$1"; }

# monitored SERVICE: its address in the network of the monitoring.
monitored() {
  docker inspect --format "{{(index .NetworkSettings.Networks \"${COMPOSE_PROJECT_NAME}_monitoring\").IPAddress}}" "$(container "$1")"
}

# all_well: jobs have ended well, everything else says that it is well, but the collector, which only runs.
all_well() {
  ! docker ps --all --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --format '{{.Names}} {{.Status}}' |
    grep -v -E '\(healthy\)|-(migrate|topics)-1 Exited \(0\)|-collector-1 Up '
}

# under_load NAME COMMAND…: runs the command while `salon load` goes on, and until everything is well again. The load's line is
# the table's. PAIRS and RATE are its size, WAIT is how long a read may take to have the caller's own write.
under_load() {
  local name=$1 load code=0 log=$RUN/deploy-load.log
  shift
  [[ $name == *"${SALON_TEST_FAULTS_ONLY:-}"* ]] || return 0
  wait_until 120 all_well || die "not everything is well before: $name"
  : >"$log"
  "${AT_ENGINE[@]}" "$SALON" load --url "$URL" --auth-key-file "$SALON_SECRETS/auth.key" --name "$name" --for 30m \
    --pairs "${PAIRS:-20}" --rate "${RATE:-50}" --wait "${WAIT:-2s}" >"$log.out" 2>"$log" &
  load=$!
  wait_until 120 grep -q 'are at it' "$log" || { cat "$log" >&2 && die "no load"; }
  "$@" || { code=$? && say "FAILED: $name"; }
  wait_until 120 all_well || { code=1 && say "FAILED: not everything is well after: $name"; }
  kill "$load"
  wait "$load" || { code=$? && cat "$log" >&2; }
  [[ -s $TABLE ]] || head -n 1 "$log.out" | tee "$TABLE"
  tail -n +2 "$log.out" | tee -a "$TABLE"
  return "$code"
}

# failed NAME: how many requests of that line failed.
failed() { awk -v name="$1" 'index($0, name) == 1 { print substr($0, 34) }' "$TABLE" | awk '{ print $2 }'; }

# outage SECONDS SERVICE…: kill -9, and a start so many seconds later.
outage() {
  local seconds=$1 service
  shift
  for service in "$@"; do docker kill --signal KILL "$(container "$service")" >/dev/null || return; done
  sleep "$seconds"
  for service in "$@"; do docker start "$(container "$service")" >/dev/null || return; done
}

# freeze SECONDS SERVICE: it is there, and answers nothing.
freeze() {
  docker kill --signal STOP "$(container "$2")" >/dev/null || return
  sleep "$1"
  docker kill --signal CONT "$(container "$2")" >/dev/null
}

# leader prints which relay is at work.
leader() {
  local node address
  for node in relay-a relay-b; do
    address=$(monitored "$node")
    # Not grep -q, which ends before it has read all: curl then ends with an error.
    if "${AT_ENGINE[@]}" curl -fsS "http://$address:9090/metrics" | grep -x 'salon_relay_leads 1' >/dev/null; then printf '%s' "$node" && return; fi
  done
  die "no relay leads"
}

# runbook NAME…: these blocks of commands of docs/runbook.md, as an operator types them.
runbook() {
  local name commands
  for name in "$@"; do
    commands=$(awk -v head="\`\`\`sh $name" '$0 == "```" { on = 0 } on; $0 == head { on = 1 }' "$REPO/docs/runbook.md")
    [[ -n $commands ]] || die "the runbook has no block $name"
    quietly "runbook-$name" bash -euo pipefail -c "$commands" || return
  done
}

step_faults() {
  local code=0
  : >"$TABLE"
  under_load 'nothing' sleep 20 || code=1
  [[ $(failed nothing) == 0 || -n ${SALON_TEST_FAULTS_ONLY:-} ]] || die "requests failed while nothing was broken"
  under_load 'kill -9 of a commands node' outage 8 commands-a || code=1
  under_load 'kill -9 of a readapi node' outage 8 readapi-a || code=1
  under_load 'kill -9 of a live node' outage 8 live-a || code=1
  under_load 'kill -9 of the leading relay' outage 8 "$(leader)" || code=1
  under_load 'kill -9 of a projector' outage 8 projector-a || code=1
  under_load 'a frozen commands node' freeze 8 commands-b || code=1
  under_load 'kill -9 of a broker' outage 12 kafka-1 || code=1
  under_load 'kill -9 of two brokers' outage 8 kafka-2 kafka-3 || code=1
  under_load 'kill -9 of the primary Redis' outage 12 redis || code=1
  under_load 'kill -9 of the primary MySQL' outage 8 mysql || code=1
  under_load "kill -9 of PostgreSQL's primary" outage 8 postgres || code=1
  under_load "MySQL's replica is promoted" runbook compose-mysql-promote compose-mysql-rejoin || code=1
  under_load "PostgreSQL's standby is promoted" runbook compose-postgres-promote compose-postgres-rejoin || code=1
  return "$code"
}
