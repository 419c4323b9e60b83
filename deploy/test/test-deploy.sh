#!/usr/bin/env bash
# `make test-deploy`: brings docker-compose.yml up on a Docker engine, runs the demo through Nginx, kills parts of it under load and
# prints what came of it, and takes everything down. Where no engine answers it starts an own one, with stand-ins for images
# that cannot be pulled (engine.sh, standins.sh); that needs root. Its project, networks, ports, secrets and volumes are its own.
#
#   test-deploy.sh [STEP…]   the steps, all of them by default: static up demo faults well down. Without down, everything stays
#                            up: the next call goes on with it, and `. .run/deploy/env` lets docker compose talk to it.
#
# SALON_TEST_FAULTS_ONLY=Redis keeps to the faults with that in their name. Exit 1 when something was lost or doubled, or a step failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=deploy/services/lib.sh
. "$here/../services/lib.sh"
# shellcheck source=deploy/services/install.sh
. "$here/../services/install.sh"
# shellcheck source=deploy/services/kafka.sh
. "$here/../services/kafka.sh"
# shellcheck source=deploy/test/engine.sh
. "$here/engine.sh"
# shellcheck source=deploy/test/standins.sh
. "$here/standins.sh"

DIR=$RUN/deploy
SALON=$REPO/bin/salon

say() { printf '[test-deploy %6ss] %s\n' "$(elapsed)" "$*" >&2; }

# settings are what makes this deployment another one than a developer's own on the same engine.
settings() {
  local name
  mkdir -p "$DIR"
  if [[ ! -s $DIR/env ]]; then
    {
      printf 'export COMPOSE_PROJECT_NAME=salon-test COMPOSE_PROFILES= SALON_NET=10.79 SALON_SECRETS=%s/secrets SALON_VERSION=test\n' "$DIR"
      printf 'export SALON_LOG_LEVEL=warn COMPOSE=%s\n' "$("$REPO/deploy/tools/tools.sh" path docker-compose)"
      for name in SALON KAFKA_1 KAFKA_2 KAFKA_3 POSTGRES POSTGRES_STANDBY MYSQL MYSQL_REPLICA REDIS REDIS_REPLICA EVENTSTOREDB PROMETHEUS ALERTMANAGER GRAFANA; do
        printf 'export %s_PORT=%s\n' "$name" "$(pick_port "deploy-${name,,}")"
      done
      [[ -z ${DOCKER_HOST:-} ]] || printf 'export DOCKER_HOST=%s\n' "$DOCKER_HOST"
    } >"$DIR/env.new"
    mv "$DIR/env.new" "$DIR/env"
  fi
  # shellcheck source=/dev/null
  . "$DIR/env"
  URL=http://$HOST:$SALON_PORT
}

compose() { "$COMPOSE" --project-directory "$REPO" --file "$REPO/docker-compose.yml" "$@"; }

# quietly NAME COMMAND…: what it prints is shown when it fails.
quietly() {
  local log=$RUN/deploy-$1.log
  shift
  "$@" >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    return 1
  }
}

# step_static: is the file one that Compose takes, with each profile and with all?
step_static() {
  local profile services
  for profile in infra app monitoring eventstoredb '*'; do
    compose --profile "$profile" config --quiet || die "Compose does not take docker-compose.yml with the profile $profile"
    services=$(compose --profile "$profile" config --services | sort | tr '\n' ' ')
    say "profile $profile: $services"
  done
}

step_up() {
  build
  up app --profile app
  if [[ -n $STANDINS ]]; then
    # There is nothing to make a stand-in of Grafana and Loki from.
    up monitoring --profile monitoring prometheus alertmanager
  else
    up monitoring --profile monitoring
  fi
  say "idle: $(idle)"
}

build() {
  make -C "$REPO" --no-print-directory build >&2
  "$REPO/deploy/secrets.sh" "$SALON_SECRETS" >&2
  if [[ -n $STANDINS ]]; then
    standins
    DOCKER_BUILDKIT=0 quietly build docker build --network none --file "$REPO/deploy/Dockerfile" --tag "salon:$SALON_VERSION" \
      --build-arg VERSION="$SALON_VERSION" --build-arg COMMIT="$(git -C "$REPO" rev-parse HEAD)" "$REPO" || die "the image could not be built"
  else
    quietly pull compose --profile '*' pull --quiet --ignore-buildable
    quietly build compose --profile app build
  fi
  say "image salon:$SALON_VERSION: $(docker save "salon:$SALON_VERSION" | gzip -c | wc -c | awk '{ printf "%.1f MB compressed", $1 / 1e6 }')"
}

# up WHAT ARGUMENTS…: brings these up and waits until all are well.
up() {
  local what=$1 begin
  shift
  begin=$(now_ms)
  quietly "up-$what" compose "${@:1:2}" up --detach --wait --wait-timeout 600 "${@:3}" || {
    compose --profile '*' ps --all >&2
    die "not everything of $what became well"
  }
  say "$what is up and well after $(seconds_since "$begin") s"
}

idle() {
  docker stats --no-stream --format '{{.MemUsage}} {{.CPUPerc}}' | awk '
    { n = $1 + 0; if ($1 ~ /GiB/) n *= 1024; else if ($1 ~ /KiB/) n /= 1024; sum += n; cpu += $NF }
    END { printf "%d containers, %.2f GiB, %.1f %% of a core", NR, sum / 1024, cpu }'
}

step_demo() {
  quietly demo at_engine "$SALON" demo --url "$URL" --auth-key-file "$SALON_SECRETS/auth.key" || die "the demo failed"
  say "demo: $(tail -n 1 "$RUN/deploy-demo.log")"
}

container() { printf '%s-%s-1' "$COMPOSE_PROJECT_NAME" "$1"; }

# leader prints which relay is at work.
leader() {
  local node address
  for node in relay-a relay-b; do
    address=$(docker inspect --format "{{(index .NetworkSettings.Networks \"${COMPOSE_PROJECT_NAME}_monitoring\").IPAddress}}" "$(container "$node")")
    if at_engine curl -fsS "http://$address:9090/metrics" | grep -qx 'salon_relay_leads 1'; then printf '%s' "$node" && return; fi
  done
  die "no relay leads"
}

# fault NAME CONTAINER SECONDS: kill -9 of a container under load, and its start SECONDS later. The load's line is the table's.
fault() {
  local name=$1 container=$2 seconds=$3 load log=$RUN/deploy-load.log code=0
  [[ $name == *"${SALON_TEST_FAULTS_ONLY:-}"* ]] || return 0
  wait_until 120 all_well || die "not everything is well before: $name"
  : >"$log"
  at_engine "$SALON" load --url "$URL" --auth-key-file "$SALON_SECRETS/auth.key" --name "$name" --for "$((seconds + 20))s" >"$log.out" 2>"$log" &
  load=$!
  wait_until 60 grep -q 'are at it' "$log" || { cat "$log" >&2 && die "no load"; }
  sleep 5
  if [[ $container != none ]]; then
    docker kill --signal KILL "$(container "$container")" >/dev/null || die "$container was not there"
    sleep "$seconds"
    docker start "$(container "$container")" >/dev/null || die "$container does not start"
  fi
  wait "$load" || code=$?
  ((code == 0)) || cat "$log" >&2
  [[ -s $TABLE ]] || head -n 1 "$log.out" | tee "$TABLE"
  tail -n +2 "$log.out" | tee -a "$TABLE"
  [[ $container != none || $(awk '$1 == "nothing" { print $3 }' "$TABLE") == 0 ]] || die "requests failed while nothing was broken"
  return "$code"
}

# all_well: jobs have ended well, everything else says that it is well.
all_well() {
  ! docker ps --all --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --format '{{.Names}} {{.Status}}' |
    grep -v -E '\(healthy\)|-(migrate|topics)-1 Exited \(0\)'
}

step_faults() {
  local code=0
  TABLE=$RUN/deploy-faults.txt
  : >"$TABLE"
  fault 'nothing' none 5 || code=1
  fault 'kill -9 of a commands node' commands-a 8 || code=1
  fault 'kill -9 of a readapi node' readapi-a 8 || code=1
  fault 'kill -9 of a live node' live-a 8 || code=1
  fault 'kill -9 of the leading relay' "$(leader)" 8 || code=1
  fault 'kill -9 of a projector' projector-a 8 || code=1
  fault 'kill -9 of a broker' kafka-1 12 || code=1
  fault 'kill -9 of the primary Redis' redis 12 || code=1
  fault 'kill -9 of the primary MySQL' mysql 8 || code=1
  fault 'kill -9 of the primary PostgreSQL' postgres 8 || code=1
  return "$code"
}

# step_well asks the system itself, every row and every event.
step_well() {
  quietly doctor compose --profile app exec -T admin-a /salon doctor --full || die "doctor says that something is not well"
  say "doctor --full: all is well"
}

step_down() {
  compose --profile '*' down --volumes --remove-orphans --timeout 5 >"$RUN/deploy-down.log" 2>&1 || cat "$RUN/deploy-down.log" >&2
  engine_down
  rm -rf "$DIR"
  say "everything is taken down"
}

main() {
  local step steps=("$@")
  ((${#steps[@]})) || steps=(static up demo faults well down)
  mkdir -p "$RUN"
  engine_up
  settings
  if [[ ${steps[-1]} == down ]]; then trap step_down EXIT; fi
  for step in "${steps[@]}"; do
    [[ $step != down ]] || continue
    say "$step"
    "step_$step"
  done
}

main "$@"
