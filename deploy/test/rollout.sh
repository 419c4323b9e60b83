# shellcheck shell=bash
# Changes of release under load. Sourced after faults.sh.

NODES=(projector-{a,b} readapi-{a,b} relay-{a,b} admin-{a,b} live-{a,b} reactor-{a,b} commands-{a,b})

# release VERSION: an image of the binary of this checkout under that name; FROM and lines of its Dockerfile come from stdin.
release() {
  local context=$DIR/release-$1
  mkdir -p "$context"
  make -C "$REPO" --no-print-directory build VERSION="$1" BINARY="$context/salon" >/dev/null
  cat >"$context/Dockerfile"
  DOCKER_BUILDKIT=0 quietly "release-$1" docker build --network none --tag "salon:$1" "$context" || die "the image salon:$1 could not be built"
}

rollout() {
  local log=$RUN/deploy-rollout.log
  "${AT_ENGINE[@]}" "$SALON" rollout "$@" --dir "$DIR/rollout" --driver "$REPO/deploy/rollout/compose.sh" 2>&1 | tee "$log" |
    sed -u 's/^/    /' >&2
}

# all_run VERSION: every node's container is of that image, and what comes through Nginx says so.
all_run() {
  local node
  for node in "${NODES[@]}"; do
    [[ $(docker inspect --format '{{.Config.Image}}' "$(container "$node")") == "salon:$1" ]] || { say "$node does not run $1" && return 1; }
  done
  "${AT_ENGINE[@]}" curl -fsS "$URL/healthz" | grep "\"version\":\"$1\"" >/dev/null || { say "what Nginx reaches is not $1" && return 1; }
}

# bad_rollout: it fails, says that the release was taken back, and all nodes run the one from before.
bad_rollout() {
  if rollout to bad; then say "the bad release was let stay" && return 1; fi
  grep -q 'runs again' "$RUN/deploy-rollout.log" && all_run next
}

# by_hand: Compose called by hand knows what each node is to run, so it replaces none.
by_hand() {
  local before
  before=$(docker compose --profile app ps --quiet "${NODES[@]}" | sort)
  (
    unset SALON_VERSION # the shell's would count for more than the file's
    COMPOSE_ENV_FILES=$REPO/.env,$DIR/rollout/versions.env quietly by-hand docker compose --profile app up --detach --wait
  ) && [[ $(docker compose --profile app ps --quiet "${NODES[@]}" | sort) == "$before" ]]
}

step_rollout() {
  local code=0
  # shellcheck disable=SC2034 # under_load's
  local PAIRS=200 RATE=500 WAIT=10s
  release next <<<$'FROM salon:test\nCOPY salon /salon'
  # A release whose readers do not even start, in an image with a shell that decides so.
  mkdir -p "$DIR/release-bad"
  cat >"$DIR/release-bad/start" <<'SH'
#!/bin/sh
[ "$1$2" != servereadapi ] || exit 1
exec /salon "$@"
SH
  chmod 755 "$DIR/release-bad/start"
  release bad <<<"FROM $(image_named redis)"$'\nCOPY salon start /\nENTRYPOINT ["/start"]'
  under_load 'all nodes to another release' rollout to next --from "$SALON_VERSION" || code=1
  all_run next || code=1
  [[ $(failed 'all nodes to another release') == 0 || -n ${SALON_TEST_FAULTS_ONLY:-} ]] || { code=1 && say "requests failed during the rollout"; }
  by_hand || { code=1 && say "docker compose up by hand replaced nodes"; }
  under_load 'a bad release, taken back' bad_rollout || code=1
  under_load 'the release before again' rollout back || code=1
  all_run "$SALON_VERSION" || code=1
  return "$code"
}
