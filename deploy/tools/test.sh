#!/usr/bin/env bash
# `make test`: the real servers, every check, every test; then the servers that this run started are stopped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
SECONDS=0
code=0
phases=(vet lint generated scripts deploy monitoring tests)
# A clone without the history cannot have the release before: that is not a fault of the change, but is said where it is read last.
without='' has=0
why=$("$here/previous.sh" have 2>&1) || has=$?
if ((has == 3)); then
  without="; left out: previous, since $why"
else
  phases+=(previous)
fi
"$here/with-services.sh" "$here/check.sh" "${phases[@]}" || code=$?
[[ -z $without ]] || printf '%s\n' "${without#; }" >>"$here/../../.run/go-test.log" # which build machines show at the end
printf '[make test] %s in %d min %d s%s\n' "$( ((code)) && printf 'FAILED (exit %d)' "$code" || printf 'passed')" \
  $((SECONDS / 60)) $((SECONDS % 60)) "$without" >&2
exit "$code"
