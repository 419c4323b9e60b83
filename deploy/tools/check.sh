#!/usr/bin/env bash
# check.sh PHASE…: the phases of `make test`. Each is timed; a failing phase does not hide what the later ones would say;
# the exit code is the first failing one's.
#
#   vet        go mod tidy and go vet
#   lint       golangci-lint
#   generated  the generated files that are committed are what the code generates
#   scripts    shellcheck, yamllint, actionlint
#   deploy     the Dockerfile and Nginx's files; two builds in different folders give one binary. docker-compose.yml is among the
#              tests (cmd/salon), and all of it runs in `make test-deploy`
#   monitoring the files of Prometheus, Alertmanager and Grafana are what these take, and every rule passes its tests
#   tests      every test, under the race detector; their output also goes to .run/go-test.log
#   previous   the release of deploy/previous-release on what this one migrates and writes; fails where the history does not have
#              it, and `make test` leaves it out there
#   faults     the fault suite for SALON_TEST_FAULTS (60) faults; more than 60 are counted over several runs, each of at
#              most SALON_TEST_FAULTS_TIME (60m); `make test` takes a shorter form among its tests
#   long       the event stores' tests for SALON_TEST_LONG (30s) each, a rebuild of 5 million events with its memory watched, and
#              fuzz targets; not part of `make test`
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=deploy/services/lib.sh
. "$here/../services/lib.sh"
# shellcheck source=deploy/services/install.sh
. "$here/../services/install.sh"
cd "$REPO"
mkdir -p "$RUN"

say() { printf '[make test %6ss] %s\n' "$(elapsed)" "$*" >&2; }

GENERATED=(docs/events.md docs/openapi.json docs/asyncapi.json)

# tidy first: an import that go.mod does not list, or lists as another module's, is said here and not by a clone that lacks it.
phase_vet() { go mod tidy -diff && go vet -tags previous ./...; }

phase_lint() { "$("$here/tools.sh" path golangci-lint)" run ./...; }

# What is compared is the file before and after, not with the last commit: someone in the middle of a change has fresh
# files that are not committed yet. In a clean clone both are the same question.
phase_generated() {
  local before after
  before=$(fingerprint)
  go generate ./...
  after=$(fingerprint)
  [[ $after != *missing* ]] || { printf 'go generate writes none of these:\n%s\n' "$(grep missing <<<"$after")" >&2 && return 1; }
  [[ $before == "$after" ]] || {
    printf 'These generated files were stale; they are fresh now, look at them and commit them:\n' >&2
    diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") | sed -n 's/^> .*  */  /p' >&2
    return 1
  }
}

fingerprint() {
  local file
  for file in "${GENERATED[@]}"; do
    if [[ -e $file ]]; then sha256sum "$file"; else printf 'missing  %s\n' "$file"; fi
  done
}

phase_scripts() {
  local shells yamls
  need_packages shellcheck=shellcheck yamllint=yamllint
  # What git knows or would take, so that a new script is checked before its first commit.
  mapfile -t yamls < <(in_tree '*.yml' '*.yaml' '.yamllint')
  mapfile -t shells < <(in_tree '*.sh' '.ci/*' deploy/notify)
  shellcheck -x "${shells[@]}"
  yamllint --strict "${yamls[@]}"
  "$("$here/tools.sh" path actionlint)"
}

phase_deploy() {
  need_packages /usr/sbin/nginx=nginx-light
  dockerfile_rules
  nginx_accepts
  same_binary
}

# dockerfile_rules: nothing that is fetched by another name tomorrow, the Go of go.mod, and a number as the user.
dockerfile_rules() {
  local file=deploy/Dockerfile
  ! grep -nE '^# *syntax=|^ADD |:latest|apt-get|curl |wget ' "$file" || die "$file: not here"
  [[ $(sed -nE 's/^FROM golang:([0-9.]+)-.*/\1/p' "$file") == "$(sed -n 's/^go //p' go.mod)" ]] || die "$file: another Go than go.mod's"
  [[ $(grep -E '^USER ' "$file" | tail -n 1) =~ ^USER\ [1-9][0-9]*:[1-9][0-9]*$ ]] || die "$file: the user is no number"
}

# nginx_accepts: with a network where nodes have names, and below a folder of its own.
nginx_accepts() {
  local dir=$RUN/nginx
  rm -rf "$dir"
  mkdir -p "$dir"
  cp -r deploy/nginx "$dir/conf"
  sed -i -E 's/server [a-z]+-[ab]:8080/server 127.0.0.1:9/' "$dir/conf/upstreams.conf"
  sed -i "s#/tmp/#$dir/#" "$dir/conf/nginx.conf"
  /usr/sbin/nginx -t -q -p "$dir" -c conf/nginx.conf
  # An add_header drops those above it: a location that has one includes them all.
  awk '/^location|^server/ { includes = 0; adds = 0; at = FNR } /include headers.conf/ { includes = 1 } /add_header/ { adds = 1 }
    /^}/ && adds && !includes { printf "%s:%d: add_header without headers.conf\n", FILENAME, at; bad = 1 } END { exit bad }' deploy/nginx/site.conf
}

# same_binary builds twice, in folders of different names.
same_binary() {
  local dir name
  dir=$(mktemp -d)
  for name in one another; do
    mkdir "$dir/$name"
    in_tree '*.go' '*.sql' '*.lua' '*.html' go.mod go.sum Makefile | tar -T - -c | tar -C "$dir/$name" -x
    make -C "$dir/$name" --no-print-directory -s build VERSION=same COMMIT=same
  done
  cmp "$dir/one/bin/salon" "$dir/another/bin/salon" || die "the same input gave two binaries"
  rm -rf "$dir"
}

in_tree() { git ls-files --cached --others --exclude-standard -- "$@" | sort -u; }

phase_monitoring() { "$here/monitoring.sh"; }

phase_tests() {
  # The race detector needs a C compiler.
  need_packages gcc=gcc /usr/include/stdio.h=libc6-dev strace=strace curl=curl /usr/sbin/nginx=nginx-light prometheus=prometheus prometheus-alertmanager=prometheus-alertmanager
  # -p 2: the servers work on the same cores; more packages at once only add time-outs. -vet=off: vet has its own phase.
  go test -race -count=1 -vet=off -p 2 -timeout 40m ./... 2>&1 | tee "$RUN/go-test.log"
}

phase_previous() {
  need_packages gcc=gcc /usr/include/stdio.h=libc6-dev
  SALON_TEST_PREVIOUS=$("$here/previous.sh" build)
  export SALON_TEST_PREVIOUS
  # With the race detector because all is compiled for it by then.
  go test -race -v -tags previous -count=1 -vet=off -timeout 20m -run '^TestTheReleaseBefore' ./cmd/salon 2>&1 |
    tee -a "$RUN/go-test.log" | grep -v '^=== '
}

phase_faults() {
  "$here/../services/services.sh" install
  # Without the race detector: it is for speed, which the sessions of three seconds need. `make test` has it.
  SALON_TEST_FAULTS=${SALON_TEST_FAULTS:-60} go test -v -count=1 -vet=off -timeout "${SALON_TEST_FAULTS_TIME:-60m}" -run '^TestFaults$' ./projections/faulttest 2>&1 |
    tee "$RUN/go-test-faults.log"
}

# One test after the other, as far as a test lets others run beside it: what is counted is then of that test. -v prints it.
phase_long() {
  local target
  need_packages strace=strace
  export SALON_TEST_LONG=${SALON_TEST_LONG:-30s}
  go test -v -count=1 -vet=off -p 1 -parallel 1 -timeout 60m ./eventstore/... 2>&1 | tee "$RUN/go-test-long.log" | grep -v '^=== '
  go test -v -count=1 -vet=off -timeout 60m -run '^TestMemoryIsBounded' ./projections/rebuild
  for target in FuzzDecode FuzzMetadata FuzzUpcast; do
    go test -run '^$' -fuzz "^$target\$" -fuzztime 500000x ./eventstore
  done
}

main() {
  local name begin code first=0 summary=()
  for name in "$@"; do
    say "$name"
    begin=$(now_ms)
    code=0
    # In a shell of its own: errexit is off in whatever stands left of ||, and a phase must stop at its first failure.
    bash -euo pipefail "${BASH_SOURCE[0]}" --one "$name" || code=$?
    ((first)) || first=$code
    summary+=("$(printf '%-10s %7s s  %s' "$name" "$(seconds_since "$begin")" "$( ((code)) && printf 'FAILED (exit %d)' "$code" || printf ok)")")
  done
  for name in "${summary[@]}"; do say "$name"; done
  return "$first"
}

if [[ ${1:-} == --one ]]; then
  "phase_$2"
elif (($#)); then
  main "$@"
else
  sed -n '2,19s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
