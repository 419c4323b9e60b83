#!/usr/bin/env bash
# The driver of `salon rollout` for docker-compose.yml (internal/rollout, Command, says what it is called with). A release is a
# tag of the image; nodes are the services of the file, replaced on this Docker host one by one:
#
#   salon rollout to v1.3.0 --from v1.2.0 --driver deploy/rollout/compose.sh
#
# With a release its docker-compose.yml, docker-compose.override.yml and .env are kept, and gone back to with it: settings belong
# there. Settings of the shell, secrets, the servers, Nginx and the monitoring are no part of a release. What each node is to
# run stands in versions.env, which every later call of Compose by hand has to know:
#
#   export COMPOSE_ENV_FILES=.env,.rollout/versions.env
#
#   SALON_DEPLOY_SMOKE     the smoke test: a command, given the release. By itself it asks the front door twice
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
files=(docker-compose.yml docker-compose.override.yml .env)

die() { printf '%s\n' "$*" >&2 && exit 1; }

# compose ARGUMENTS…: with the files of the release, or of the checkout where the call is about none.
compose() {
  local dir=${RELEASE_DIR:-$repo} file args=(--project-directory "$repo" --profile app)
  [[ -e $dir/docker-compose.yml ]] || die "what was kept of the release is gone: $dir has no docker-compose.yml"
  for file in "${files[@]}"; do
    case $file in
      *.yml) [[ ! -e $dir/$file ]] || args+=(--file "$dir/$file") ;;
      *) [[ ! -e $dir/$file ]] || args+=(--env-file "$dir/$file") ;;
    esac
  done
  docker compose "${args[@]}" "$@"
}

# job VERSION SERVICE [COMMAND…]: one of the file's jobs, or another command in its place, by the image of the release.
job() { SALON_VERSION=$1 compose run --rm --no-deps -T "${@:2}"; }

# config's own --images also has those of what the service depends on.
image() { SALON_VERSION=$1 compose config migrate | awk '/^  migrate:$/ { on = 1 } on && $1 == "image:" { print $2; on = 0 }'; }

save() {
  local file
  for file in "${files[@]}"; do
    [[ ! -e $repo/$file ]] || cp "$repo/$file" "$RELEASE_DIR/$file"
  done
}

check() {
  local image
  image=$(image "$1")
  docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" || die "there is no image $image here, and it cannot be pulled"
  job "$1" migrate migrate check ${2:+--since "$2"}
}

# Where the node's /readyz and /metrics are: in the network of the monitoring, whose addresses this host reaches. A container whose
# process ended by itself is about to be started again, after a pause that doubles.
address() {
  local project container status ip
  project=$(compose config | awk '/^name:/ { print $2 }')
  # Not docker compose ps: it has those of `docker compose run`, too.
  container=$(docker ps --all --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" \
    --filter label=com.docker.compose.oneoff=False)
  container=${container%%$'\n'*} # the newest
  [[ -n $container ]] || die "there is no container of $1"
  read -r status ip < <(docker inspect --format \
    "{{.State.Status}} {{with index .NetworkSettings.Networks \"${project}_monitoring\"}}{{.IPAddress}}{{end}}" "$container")
  case $status in
    running)
      [[ -n $ip ]] || die "$1 is not in the network ${project}_monitoring"
      printf 'http://%s:9090\n' "$ip"
      ;;
    restarting) docker logs --tail 1 "$container" >&2 && exit 3 ;;
    *) die "$1 does not run: $status" ;;
  esac
}

smoke() {
  local front
  if [[ -n ${SALON_DEPLOY_SMOKE:-} ]]; then
    $SALON_DEPLOY_SMOKE "$1"
    return
  fi
  front=http://$(compose port nginx 8080)
  curl --fail --fail-early --noproxy '*' --silent --show-error --max-time 10 --output /dev/null "$front/healthz" \
    --output /dev/null "$front/v1/groomers?area=seoul/jung-gu"
}

[[ ! -e ${ROLLOUT_DIR:-}/versions.env ]] || {
  set -a
  # shellcheck source=/dev/null
  . "$ROLLOUT_DIR/versions.env"
  set +a
}
case ${1:-}/$# in
  save/2) save ;;
  check/[23]) check "${@:2}" ;;
  migrate/2) job "$2" migrate && job "$2" topics ;;
  replace/3) compose up --detach --no-deps --no-build "$2" ;;
  address/2) address "$2" ;;
  smoke/2) smoke "$2" ;;
  forget/2) docker image rm "$(image "$2")" ;;
  *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
