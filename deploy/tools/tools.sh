#!/usr/bin/env bash
# Linters at fixed versions, built from their Go modules and kept in the user's cache: golangci-lint alone takes minutes,
# and a clean clone should be warm. Not in our go.mod: their hundreds of dependencies are none of ours.
#
#   tools.sh path NAME     prints the path of the tool's binary, building it first when it is not there
set -euo pipefail

module_of() {
  case $1 in
    golangci-lint) printf 'github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0' ;;
    actionlint) printf 'github.com/rhysd/actionlint/cmd/actionlint@v1.7.12' ;;
    govulncheck) printf 'golang.org/x/vuln/cmd/govulncheck@v1.9.0' ;;
    docker-compose) printf 'github.com/docker/compose/v2/cmd@v2.40.3' ;;
    *) printf 'tools.sh: no tool %s\n' "$1" >&2 && return 2 ;;
  esac
}

# path NAME. The folder carries the Go version, because a linter refuses code newer than the Go that built it, and the
# tool's version, because another branch may want another one.
path() {
  local name=$1 module dir part begin=$SECONDS
  module=$(module_of "$name")
  dir=${XDG_CACHE_HOME:-$HOME/.cache}/salon/tools/$(go env GOVERSION)/$name-${module##*@}
  if [[ ! -x $dir/$name ]]; then
    mkdir -p "$dir"
    exec 9>"$dir/.lock"
    flock 9
    if [[ ! -x $dir/$name ]]; then
      printf '[tools] building %s (once)\n' "$module" >&2
      # Built aside and moved: a build that was cut off leaves no binary that looks whole. GOFLAGS of the caller (such as
      # -mod=mod) are meant for our module.
      part=$dir/part
      GOFLAGS='' GOWORK=off CGO_ENABLED=0 build "$name" "$module" "$part" >"$dir/build.log" 2>&1 || {
        tail -n 20 "$dir/build.log" >&2
        return 1
      }
      mv "$part/$name" "$dir/$name"
      rmdir "$part"
      printf '[tools] %s built in %d s\n' "$name" $((SECONDS - begin)) >&2
    fi
  fi
  printf '%s\n' "$dir/$name"
}

# build NAME MODULE DIR: puts the binary into DIR. Compose is built as the dependency of a module made for that, because its own
# go.mod excludes versions, which `go install` does not take.
build() {
  if [[ $1 != docker-compose ]]; then
    GOBIN=$3 go install "$2"
    return
  fi
  local module
  module=$(mktemp -d)
  (cd "$module" && go mod init tools && go get "$2" &&
    go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=${2##*@}" -o "$3/$1" "${2%@*}") || return
  rm -rf "$module"
}

case ${1:-}/$# in
  path/2) path "$2" ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
