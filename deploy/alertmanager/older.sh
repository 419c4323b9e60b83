#!/usr/bin/env bash
# older.sh CONFIG: prints CONFIG for an Alertmanager before 0.28, which reads no address from a file: each file is read now, and
# its first line stands in what is printed. Keep that where secrets are kept. $SECRETS takes the place of /run/secrets.
set -euo pipefail

(($# == 1)) || { printf 'usage: older.sh CONFIG\n' >&2 && exit 2; }

while IFS= read -r line; do
  if [[ $line =~ ^([[:space:]-]*)(webhook_url|url)_file:[[:space:]]*(.+)$ ]]; then
    prefix=${BASH_REMATCH[1]} key=${BASH_REMATCH[2]} file=${BASH_REMATCH[3]}
    file=${file/#\/run\/secrets/${SECRETS:-/run/secrets}}
    IFS= read -r address <"$file" || [[ -n ${address:-} ]] || { printf 'older.sh: %s holds no address\n' "$file" >&2 && exit 1; }
    printf "%s%s: '%s'\n" "$prefix" "$key" "${address//\'/\'\'}"
  else
    printf '%s\n' "$line"
  fi
done <"$1"
