#!/usr/bin/env bash
# A driver of `salon rollout` for plain processes of this machine (internal/rollout, Command, says what it is called with).
#
#   SALON_DEPLOY_BINARIES   folder with a binary for each release, named after it
#   SALON_DEPLOY_NODES      folder with a file for each node: its arguments to salon, a line each. It is what belongs to a
#                           release besides the binary, and is kept with it
#   SALON_DEPLOY_RUN        folder for process IDs and logs
#   SALON_DEPLOY_SMOKE      the smoke test: a command, given the release
#
# The nodes' files name a --metrics-listen, where a node is asked how it is. The servers are named by SALON_EVENTS and so on.
set -euo pipefail

die() { printf '%s\n' "$*" >&2 && exit 1; }

# running NODE: prints the process ID, if that process is still the one that was started for the node.
running() {
  local pid
  pid=$(cat "$SALON_DEPLOY_RUN/$1.pid" 2>/dev/null) || return 1
  grep -qzx "ROLLOUT_NODE=$1" "/proc/$pid/environ" 2>/dev/null || return 1
  printf '%s\n' "$pid"
}

stop() {
  local pid
  pid=$(running "$1") || return 0
  kill "$pid" 2>/dev/null || return 0
  for ((tick = 0; tick < 600; tick++)); do
    running "$1" >/dev/null || return 0
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
}

# start NODE VERSION. The process writes its ID itself, before it is salon, and has the lock until then: whoever is killed meanwhile
# leaves none unknown.
start() {
  local args
  mapfile -t args <"$RELEASE_DIR/$1"
  mkdir -p "$SALON_DEPLOY_RUN"
  rm -f "$SALON_DEPLOY_RUN/$1.pid" # of the process before
  # shellcheck disable=SC2016 # the inner shell's
  ROLLOUT_NODE=$1 setsid bash -c 'echo $$ >"$0.pid" && exec "$@" >>"$0.log" 2>&1 </dev/null 3>&-' "$SALON_DEPLOY_RUN/$1" \
    "$SALON_DEPLOY_BINARIES/$2" serve "${args[@]}" >/dev/null 2>&1 </dev/null &
}

# address NODE. Nobody starts a process again that ended by itself.
address() {
  local file=${RELEASE_DIR:-$SALON_DEPLOY_NODES}/$1
  if [[ -s $SALON_DEPLOY_RUN/$1.pid ]] && ! running "$1" >/dev/null; then
    tail -n 1 "$SALON_DEPLOY_RUN/$1.log" >&2
    exit 3
  fi
  sed -n '/^--metrics-listen$/{n;s,^,http://,p}' "$file" | grep . || die "$file names no --metrics-listen"
}

case ${1:-}/$# in
  save/2) cp -R "$SALON_DEPLOY_NODES/." "$RELEASE_DIR" ;;
  check/[23])
    [[ -x $SALON_DEPLOY_BINARIES/$2 ]] || die "there is no binary $SALON_DEPLOY_BINARIES/$2"
    "$SALON_DEPLOY_BINARIES/$2" migrate check ${3:+--since "$3"}
    ;;
  migrate/2) "$SALON_DEPLOY_BINARIES/$2" migrate up ;;
  replace/3)
    [[ -e $RELEASE_DIR/$2 ]] || die "the release has no node $2"
    stop "$2"
    start "$2" "$3"
    ;;
  address/2) address "$2" ;;
  smoke/2) $SALON_DEPLOY_SMOKE "$2" ;;
  forget/2) rm -f "$SALON_DEPLOY_BINARIES/$2" ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
