# shellcheck shell=bash
# What all service scripts share: talking, waiting, ports, and processes that are certainly ours.

# Strings compared with LC_ALL=C sort and match alike on every machine; messages of the servers stay English.
export LC_ALL=C

# The checkout holds the data, so two clones never share a server; the cache holds downloads, so a second clone is warm.
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
RUN=$REPO/.run
# shellcheck disable=SC2034 # used by the scripts that source this one
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/salon
HOST=127.0.0.1

say() { printf '[services %6ss] %s\n' "$(elapsed)" "$*" >&2; }

die() {
  say "FAILED: $*"
  exit 1
}

now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' "${t%???}"; }

STARTED_MS=$(now_ms)

# elapsed prints the seconds since this script began, with one decimal.
elapsed() { seconds_since "$STARTED_MS"; }

seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

# retry N COMMAND…: networks fail for a moment; three tries with a growing pause tell a moment from an outage.
retry() {
  local tries=$1 try
  shift
  for ((try = 1; try <= tries; try++)); do
    "$@" && return 0
    ((try == tries)) || { say "try $try of $tries failed: $1; again in $((try * 3)) s" && sleep $((try * 3)); }
  done
  return 1
}

# wait_until SECONDS COMMAND…: polls, because none of these servers reports readiness in another way.
wait_until() {
  local deadline=$(($(now_ms) + $1 * 1000))
  shift
  until "$@" >/dev/null 2>&1; do
    (($(now_ms) < deadline)) || return 1
    sleep 0.1
  done
}

is_root() { [[ $(id -u) == 0 ]]; }

port_answers() { (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null; }

# pick_port SERVICE: the service's last port while it is free, so that a sourced .run/env stays true over restarts;
# otherwise a random free one below the kernel's ephemeral range (32768 and up), where no outgoing connection takes it
# between this look and the server's bind.
pick_port() {
  local file=$RUN/$1.port port
  if [[ -s $file ]]; then
    port=$(<"$file")
    port_answers "$port" || { printf '%s' "$port" && return; }
  fi
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12000))
    port_answers "$port" && continue
    grep -qsx "$port" "$RUN"/*.port && continue
    printf '%s\n' "$port" >"$file"
    printf '%s' "$port"
    return
  done
  die "no free port between 20000 and 31999"
}

port_of() { cat "$RUN/$1.port"; }

# A data folder counts as made only after the whole initialisation: one that was killed half-way is made anew.
initialised() { [[ -e $RUN/$1.initialised && -d $RUN/$1 ]]; }
mark_initialised() { : >"$RUN/$1.initialised"; }

# pid_of SERVICE prints the service's pid if that process lives and is the one started here: its command line names this
# checkout's data folder. A pid file alone proves nothing after a reboot, when the number belongs to a stranger.
pid_of() {
  local file=$RUN/$1.pid pid
  [[ -s $file ]] || return 1
  read -r pid <"$file"
  [[ $pid =~ ^[0-9]+$ && -r /proc/$pid/cmdline ]] || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$RUN/$1" || return 1
  printf '%s' "$pid"
}

# launch SERVICE COMMAND…: in a session of its own, so that Ctrl-C in a terminal and the end of a CI step do not take the
# server along; without our lock's file descriptor, which would be held for as long as the server lives.
launch() {
  local name=$1
  shift
  setsid "$@" </dev/null >>"$RUN/$name.log" 2>&1 9>&- &
  printf '%s\n' $! >"$RUN/$name.pid"
}

# stop_pid SERVICE PID SIGNAL SECONDS: asks, waits, then kills; only ever the pid that pid_of has just vouched for.
stop_pid() {
  local name=$1 pid=$2 signal=$3 seconds=$4
  kill "-$signal" "$pid" 2>/dev/null || true
  if ! wait_until "$seconds" gone "$pid"; then
    say "$name: pid $pid ignored SIG$signal for $seconds s: killing it"
    kill -KILL "$pid" 2>/dev/null || true
    wait_until 5 gone "$pid" || die "$name: pid $pid does not end"
  fi
  rm -f "$RUN/$name.pid"
}

# gone also counts a zombie as ended: whoever should have reaped it is not us.
gone() { [[ ! -e /proc/$1 ]] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# socket_for NAME: a Unix socket path has room for 107 bytes; a deep checkout needs another place.
socket_for() {
  local path=$RUN/$1.sock dir
  if ((${#path} > 100)); then
    dir=${TMPDIR:-/tmp}/salon-$(id -u)-$(printf '%s' "$REPO" | cksum | cut -d' ' -f1)
    [[ -d $dir ]] || mkdir -m 700 "$dir"
    path=$dir/$1.sock
  fi
  printf '%s' "$path"
}
