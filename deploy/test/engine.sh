# shellcheck shell=bash
# A Docker engine to test with: the one that answers, with images from its registry; where none does, an own one below .run,
# with stand-ins (standins.sh). Sourced after lib.sh and install.sh.
#
# Our own engine has a network of its own: its bridges, ports and rules meet nobody else's, and are gone with it.

ENGINE=$RUN/docker

# shellcheck disable=SC2034 # what to put before a program that has to be where the ports are that the engine publishes
AT_ENGINE=()

# engine_up sets DOCKER_HOST where the engine is ours, and STANDINS to 1 where images cannot be pulled; `docker compose` works then.
engine_up() {
  STANDINS=''
  if ! engine_pid >/dev/null; then
    command -v docker >/dev/null && docker info >/dev/null 2>&1 && say "using the Docker engine that answers" && return
    is_root || die "no Docker engine answers, and only root can start one"
  fi
  need_packages dockerd=docker.io docker=docker.io iptables=iptables ip=iproute2
  mkdir -p "$ENGINE/config/cli-plugins"
  ln -sf "$("$REPO/deploy/tools/tools.sh" path docker-compose)" "$ENGINE/config/cli-plugins/docker-compose"
  # shellcheck disable=SC2034 # the caller's
  STANDINS=1
  export DOCKER_HOST=unix://$ENGINE/docker.sock DOCKER_CONFIG=$ENGINE/config
  if ! { engine_pid && docker info; } >/dev/null 2>&1; then engine_start; fi
  # shellcheck disable=SC2034 # the caller's
  AT_ENGINE=(nsenter --target "$(engine_pid)" --net)
}

engine_start() {
  # Its bridges are those of the compose file alone.
  setsid unshare --net bash -c 'ip link set lo up && exec "$@"' own-network \
    dockerd --data-root "$ENGINE/data" --exec-root "$ENGINE/exec" --host "$DOCKER_HOST" --pidfile "$ENGINE/docker.pid" \
    --bridge none </dev/null >"$ENGINE/dockerd.log" 2>&1 &
  wait_until 60 docker info || {
    tail -n 30 "$ENGINE/dockerd.log" >&2
    die "the Docker engine did not start, see $ENGINE/dockerd.log"
  }
  say "own Docker engine $(docker version --format '{{.Server.Version}}'), its data in $ENGINE"
}

# engine_pid prints the pid of our own engine, if that process lives and is ours.
engine_pid() {
  local pid
  [[ -s $ENGINE/docker.pid ]] || return 1
  pid=$(<"$ENGINE/docker.pid")
  [[ $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) == dockerd*"$ENGINE"* ]] && printf '%s' "$pid"
}

# engine_down stops our own engine, if there is one. Images stay for the next time; `make clean` takes them too.
engine_down() {
  local pid
  pid=$(engine_pid) || return 0
  kill "$pid"
  wait_until 60 gone "$pid" || die "the Docker engine, pid $pid, does not end"
  say "own Docker engine stopped"
}
