#!/usr/bin/env bash
# with-services.sh COMMAND…: runs COMMAND with the real servers up and .run/env sourced, and afterwards stops those servers
# that were not up before. Servers that somebody had running stay, with what is in them. The exit code is COMMAND's.
set -euo pipefail

services=$(cd "$(dirname "${BASH_SOURCE[0]}")/../services" && pwd -P)/services.sh
started=$(mktemp)

stop_started() {
  local names=()
  mapfile -t names <"$started"
  rm -f "$started"
  ((${#names[@]} == 0)) || "$services" stop "${names[@]}"
}
trap stop_started EXIT
# A signal ends the command, then the trap above runs, as after any other end.
trap 'exit 130' INT
trap 'exit 143' TERM HUP

SALON_SERVICES_STARTED=$started "$services" up
set -a
# shellcheck source=/dev/null
. "$(dirname "$services")/../../.run/env"
set +a
"$@"
