#!/usr/bin/env bash
# `make test-deploy`: brings docker-compose.yml up on a Docker engine, runs the demo through Nginx, kills parts of it and rolls
# releases out under load, prints what came of it, and takes everything down. Where no engine answers it starts an own one, with
# stand-ins for images that cannot be pulled (engine.sh, standins.sh); that needs root. Its project, networks, ports, secrets and
# volumes are its own.
#
#   test-deploy.sh [STEP…]   the steps, all of them by default: static host up demo faults logs rollout well down. Without down,
#                            everything stays up: the next call goes on with it, and `. .run/deploy/env` lets docker compose
#                            talk to it.
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
# shellcheck source=deploy/test/faults.sh
. "$here/faults.sh"
# shellcheck source=deploy/test/logs.sh
. "$here/logs.sh"
# shellcheck source=deploy/test/rollout.sh
. "$here/rollout.sh"

DIR=$RUN/deploy
SALON=$REPO/bin/salon

say() { printf '[test-deploy %6ss] %s\n' "$(elapsed)" "$*" >&2; }

# settings are what makes this deployment another one than a developer's own on the same engine. One address may ask more of it:
# all of the load comes from one.
settings() {
  local name
  mkdir -p "$DIR"
  sed 's/rate=100r/rate=5000r/; s/burst=200/burst=5000/; s/connections 256/connections 4096/' "$REPO/deploy/nginx/limits.conf" >"$DIR/limits.conf"
  if [[ ! -s $DIR/env ]]; then
    {
      printf 'export COMPOSE_PROJECT_NAME=salon-test COMPOSE_PROFILES= SALON_NET=10.79 SALON_SECRETS=%s/secrets SALON_VERSION=test\n' "$DIR"
      printf 'export SALON_NGINX_LIMITS=%s/limits.conf SALON_LOG_LEVEL=warn DOCKER_DATA=%s\n' "$DIR" "$(docker info --format '{{.DockerRootDir}}')"
      for name in SALON KAFKA_1 KAFKA_2 KAFKA_3 POSTGRES POSTGRES_STANDBY MYSQL MYSQL_REPLICA REDIS REDIS_REPLICA EVENTSTOREDB PROMETHEUS ALERTMANAGER GRAFANA; do
        printf 'export %s_PORT=%s\n' "$name" "$(pick_port "deploy-${name,,}")"
      done
      for name in DOCKER_HOST DOCKER_CONFIG; do
        [[ -z ${!name:-} ]] || printf 'export %s=%s\n' "$name" "${!name}"
      done
    } >"$DIR/env.new"
    mv "$DIR/env.new" "$DIR/env"
  fi
  # What this shell has set for another deployment would count for more than the files.
  unset COMPOSE_FILE COMPOSE_ENV_FILES
  for name in $(compgen -e SALON_); do [[ $name == SALON_TEST_* ]] || unset "$name"; done
  # shellcheck source=/dev/null
  . "$DIR/env"
  URL=http://$HOST:$SALON_PORT
  cd "$REPO"
}

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
    docker compose --profile "$profile" config --quiet || die "Compose does not take docker-compose.yml with the profile $profile"
    services=$(docker compose --profile "$profile" config --services | sort | tr '\n' ' ')
    say "profile $profile: $services"
  done
}

# step_host: the binary of this checkout on the servers alone, by their published ports (make run-real).
step_host() {
  local process log=$RUN/deploy-host.log code=0
  images
  make -C "$REPO" --no-print-directory build >&2
  "${AT_ENGINE[@]}" "$REPO/deploy/run-real.sh" --listen "$HOST:$SALON_PORT" --metrics-listen "$HOST:$PROMETHEUS_PORT" >"$log" 2>&1 &
  process=$!
  if wait_until 300 host_is_ready "$process" && ! gone "$process"; then step_demo || code=$?; else code=1; fi
  kill "$process" 2>/dev/null || true
  wait "$process" || code=$?
  ((code == 0)) || { tail -n 30 "$log" >&2 && die "the binary of this host does not run on the servers"; }
  quietly host-down docker compose --profile '*' down --volumes --timeout 5 || die "the servers could not be taken down"
}

host_is_ready() { gone "$1" || "${AT_ENGINE[@]}" curl -fsS "http://$HOST:$PROMETHEUS_PORT/readyz"; }

step_up() {
  build
  up app --profile app
  if [[ -n $STANDINS ]]; then
    # There is nothing to make a stand-in of Grafana from.
    up monitoring --profile monitoring prometheus alertmanager loki collector
  else
    up monitoring --profile monitoring
  fi
  say "idle: $(idle)"
}

# images of servers are pulled, or made.
images() {
  if [[ -n $STANDINS ]]; then standins; else quietly pull docker compose --profile '*' pull --quiet --ignore-buildable; fi
}

build() {
  images
  make -C "$REPO" --no-print-directory build >&2
  "$REPO/deploy/secrets.sh" "$SALON_SECRETS" >&2
  if [[ -n $STANDINS ]]; then
    DOCKER_BUILDKIT=0 quietly build docker build --network none --file "$REPO/deploy/Dockerfile" --tag "salon:$SALON_VERSION" \
      --build-arg VERSION="$SALON_VERSION" --build-arg COMMIT="$(git -C "$REPO" rev-parse HEAD)" "$REPO" || die "the image could not be built"
  else
    quietly build docker compose --profile app build
  fi
  say "image salon:$SALON_VERSION: $(docker save "salon:$SALON_VERSION" | gzip -c | wc -c | awk '{ printf "%.1f MB compressed", $1 / 1e6 }')"
}

# up WHAT ARGUMENTS…: brings these up and waits until all are well.
up() {
  local what=$1 begin
  shift
  begin=$(now_ms)
  quietly "up-$what" docker compose "${@:1:2}" up --detach --wait --wait-timeout 600 "${@:3}" || {
    docker compose --profile '*' ps --all >&2
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
  quietly demo "${AT_ENGINE[@]}" "$SALON" demo --url "$URL" --auth-key-file "$SALON_SECRETS/auth.key" || { say "FAILED: the demo" && return 1; }
  say "demo: $(tail -n 1 "$RUN/deploy-demo.log")"
}

# step_well asks the system itself, every row and every event.
step_well() {
  quietly doctor docker compose --profile app exec -T admin-a /salon doctor --full || die "doctor says that something is not well"
  say "doctor --full: all is well"
}

step_down() {
  docker compose --profile '*' down --volumes --remove-orphans --timeout 5 >"$RUN/deploy-down.log" 2>&1 || cat "$RUN/deploy-down.log" >&2
  engine_down
  rm -rf "$DIR"
  say "everything is taken down"
}

main() {
  local step steps=("$@")
  ((${#steps[@]})) || steps=(static host up demo faults logs rollout well down)
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
