#!/usr/bin/env bash
# demo-nodes.sh: two nodes on the servers of .run/env, the demo over both, and kill -9 of the one that the groomer's socket is
# at while the two talk. What it shows is what people see: the groomer is back at the other node, and both heard everything
# once, in order. The exit code is the demo's. `make demo-nodes` starts the servers and stops them again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=deploy/services/lib.sh
. "$here/../services/lib.sh"
salon=$REPO/bin/salon
keys=$RUN/keys
pids=()

stop() {
  local pid
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap stop EXIT

# node PORT ROLE…: starts one, and waits until it can serve.
node() {
  local port=$1
  shift
  "$salon" serve "$@" --listen "$HOST:$port" --auth-key-file "$keys/auth.key" --master-key-file "$keys/master.key" \
    --log-level error >>"$RUN/demo-node-$port.log" 2>&1 &
  pids+=($!)
  wait_until 60 serves "$port" || die "the node on port $port is not ready, see $RUN/demo-node-$port.log"
}

serves() {
  local status
  exec 4<>"/dev/tcp/$HOST/$1" || return 1
  printf 'GET /readyz HTTP/1.0\r\n\r\n' >&4
  read -r _ status _ <&4
  exec 4>&-
  [[ $status == 200 ]]
} 2>/dev/null

"$salon" migrate up >&2
"$salon" topics ensure >&2
"$salon" keys "$keys" >&2
first=$(pick_port demo-node-1)
node "$first" commands readapi admin relay projector reactor live
second=$(pick_port demo-node-2)
node "$second" live
dies=${pids[1]}
disown "$dies" # or bash, too, tells of its end

"$salon" demo --url "http://$HOST:$first,http://$HOST:$second" --auth-key-file "$keys/auth.key" --talk 5s |
  while IFS= read -r line; do
    printf '%s\n' "$line"
    if [[ $line == *'kill a node now' ]]; then
      sleep 1
      kill -KILL "$dies"
      printf '    (kill -9 of the node at port %s)\n' "$second"
    fi
  done
