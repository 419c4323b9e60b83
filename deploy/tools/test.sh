#!/usr/bin/env bash
# `make test`: the real servers, every check, every test; then the servers that this run started are stopped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
SECONDS=0
code=0
"$here/with-services.sh" "$here/check.sh" vet lint generated scripts deploy monitoring tests || code=$?
printf '[make test] %s in %d min %d s\n' "$( ((code)) && printf 'FAILED (exit %d)' "$code" || printf 'passed')" \
  $((SECONDS / 60)) $((SECONDS % 60)) >&2
exit "$code"
