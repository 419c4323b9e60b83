# shellcheck shell=bash
# Installing what is missing: Debian packages by name, Kafka through Maven, MySQL from Debian sid.

# need_packages COMMAND-OR-FILE=PACKAGE…: installs the packages whose command or file is not there, in one go.
need_packages() {
  local pair probe missing=()
  for pair in "$@"; do
    probe=${pair%%=*}
    if [[ $probe == /* ]]; then
      compgen -G "$probe" >/dev/null || missing+=("${pair#*=}")
    else
      command -v "$probe" >/dev/null || missing+=("${pair#*=}")
    fi
  done
  ((${#missing[@]} == 0)) && return
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  is_root || die "these packages are missing and only root can install them: ${missing[*]} (or name servers by SALON_TEST_*)"
  command -v apt-get >/dev/null || die "no apt-get here; install by hand: ${missing[*]} (or name servers by SALON_TEST_*)"
  local begin
  begin=$(now_ms)
  say "installing Debian packages: ${missing[*]}"
  without_service_starts apt_install "${missing[@]}" || die "apt could not install: ${missing[*]} (see $RUN/apt.log)"
  say "packages installed in $(seconds_since "$begin") s"
}

apt_install() {
  local log=$RUN/apt.log stamp=$RUN/apt.updated
  export DEBIAN_FRONTEND=noninteractive
  if [[ -z $(find "$stamp" -mmin -60 2>/dev/null) ]]; then
    # Once a run, and its failure is only told: one unreachable third-party list must not hide that the others are fine.
    retry 3 apt-get update -q >>"$log" 2>&1 || say "apt-get update had errors, going on: $(tail -n 1 "$log")"
    : >"$stamp"
  fi
  # Another apt may hold the lock for a while on a fresh machine (unattended upgrades).
  retry 3 apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    return 1
  }
}

# without_service_starts COMMAND…: Debian packages start their service on installation unless policy-rc.d forbids it. A
# policy that is there already is somebody's decision and stays.
without_service_starts() {
  local policy=/usr/sbin/policy-rc.d made='' code=0
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=1
  fi
  "$@" || code=$?
  [[ -z $made ]] || rm -f "$policy"
  return "$code"
}

# debian_mirror prints the mirror that this machine itself uses for Debian's main archive, from its own sources files.
debian_mirror() {
  local codename files
  mapfile -t files < <(compgen -G '/etc/apt/sources.lis[t]'; compgen -G '/etc/apt/sources.list.d/*')
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  awk -v suite="$codename" '
    # one-line style: deb [options] URI SUITE components
    FILENAME ~ /\.list$/ && $1 == "deb" {
      line = $0; sub(/\[[^]]*\]/, "", line); n = split(line, f, " ")
      if (n >= 4 && f[3] == suite && f[4] == "main") { print f[2]; exit }
    }
    # deb822 style: stanzas of fields
    FILENAME ~ /\.sources$/ && /^[[:space:]]*$/ { uri = ""; next }
    FILENAME ~ /\.sources$/ && $1 == "URIs:" { uri = $2 }
    FILENAME ~ /\.sources$/ && $1 == "Suites:" { for (i = 2; i <= NF; i++) if ($i == suite && uri != "") { print uri; exit } }
  ' "${files[@]}"
}

# cached NAME COMMAND…: fills $CACHE/NAME by running COMMAND with a folder to fill. A folder appears under its name only
# when it is whole: a download cut off half-way leaves nothing that looks done. One clone fills it, others wait.
cached() {
  local name=$1 target=$CACHE/$1 part=$CACHE/$1.part.$$ begin
  shift
  [[ -d $target ]] && return
  mkdir -p "$CACHE"
  (
    flock 8
    [[ -d $target ]] && exit 0
    begin=$(now_ms)
    rm -rf "$CACHE/$name".part.*
    mkdir -p "$part"
    "$@" "$part" || exit 1
    mv "$part" "$target"
    say "$name is in the cache after $(seconds_since "$begin") s ($(du -sh "$target" | cut -f1))"
  ) 8>"$CACHE/.$name.lock" || die "$name could not be downloaded"
}
