#!/usr/bin/env bash
# The release before this one, deploy/previous-release, built from the history, once for a clone.
#
#   previous.sh have     exit 3, and why in one line, where the clone has no history, or not enough of it
#   previous.sh build    prints the folder that has its binary (salon), and its catalogue of events (events.md)
set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cd "$REPO"

die() { printf '%s\n' "$*" >&2 && exit 1; }

commit=$(grep -E '^[0-9a-f]{40}$' deploy/previous-release) || die 'deploy/previous-release names no commit'

# have asks git, and a clone that does not have it asks its origin for this one commit, which leaves its branches as they are.
have() {
  local why shallow=()
  # A tarball may lie in a folder of another repository.
  if [[ $(git rev-parse --show-toplevel 2>&1) != "$REPO" ]]; then
    why='there is no history here'
  else
    ! git cat-file -e "$commit^{tree}" 2>/dev/null || return 0
    [[ $(git rev-parse --is-shallow-repository) == false ]] || shallow=(--depth 1)
    ! why=$(GIT_TERMINAL_PROMPT=0 timeout 120 git fetch --quiet --no-tags --no-write-fetch-head "${shallow[@]}" origin "$commit" 2>&1) || return 0
    why=${why:-origin did not send it within two minutes}
  fi
  printf 'this clone does not have the release before, %s (%s); git fetch --unshallow brings it, if it was one\n' "${commit:0:7}" "${why%%$'\n'*}" >&2
  return 3
}

# build keeps it where `make clean` finds it; a build that was cut off leaves nothing that looks whole. The flags are those of the
# tests' own binary, so that what both have in common is compiled once.
build() {
  local dir=.run/previous/$commit part=.run/previous/part
  mkdir -p .run/previous
  exec 9>.run/previous.lock
  flock 9
  if [[ ! -d $dir ]]; then
    have
    rm -rf .run/previous/*
    mkdir -p "$part/source"
    git archive "$commit" | tar -x -C "$part/source"
    (cd "$part/source" && GOFLAGS='' GOWORK=off CGO_ENABLED=0 go build -trimpath -o ../salon ./cmd/salon)
    mv "$part/source/docs/events.md" "$part/events.md"
    rm -rf "$part/source"
    mv "$part" "$dir"
  fi
  printf '%s/%s\n' "$REPO" "$dir"
}

case ${1:-}/$# in
  have/1) have ;;
  build/1) build ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
