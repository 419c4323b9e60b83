#!/usr/bin/env bash
# monitoring.sh: are the files of Prometheus, Alertmanager, Grafana and Loki what these take? Rules run against their tests;
# expressions of dashboards are parsed. That they use metrics which there are, go test ./internal/telemetry says.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=deploy/services/lib.sh
. "$here/../services/lib.sh"
# shellcheck source=deploy/services/install.sh
. "$here/../services/install.sh"
cd "$REPO/deploy"
mkdir -p "$RUN"

need_packages promtool=prometheus amtool=prometheus-alertmanager jq=jq
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# quietly COMMAND…: what a tool prints of what is well nobody reads.
quietly() { "$@" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2 && return 1; }; }

quietly promtool check config prometheus/prometheus.yml
quietly promtool test rules prometheus/tests/*.yml

for secret in webhook deadman; do printf 'http://127.0.0.1:1/%s\n' "$secret" >"$scratch/$secret"; done
SECRETS=$scratch alertmanager/older.sh alertmanager/alertmanager.yml >"$scratch/alertmanager.yml"
quietly amtool check-config "$scratch/alertmanager.yml"

# receiver LABEL=VALUE…: who gets an alert with these labels.
receiver() { amtool config routes test --config.file="$scratch/alertmanager.yml" "$@"; }
[[ $(receiver alertname=Deadman severity=none) == deadman ]] || die "the deadman alert does not go to its receiver"
for severity in page ticket; do
  [[ $(receiver alertname=NodeDown severity=$severity) == webhook ]] || die "alerts of severity $severity do not go to the webhook"
done

# As a file of rules, which promtool parses. What Grafana fills in is filled in.
jq -s '{groups: [{name: "dashboards", rules: [.[].panels[] | select(.datasource.uid == "prometheus") | .targets[]
  | {record: "panel:expr", expr: (.expr | gsub("\\$__rate_interval"; "1m"))}]}]}' grafana/dashboards/*.json >"$scratch/panels.yml"
(($(jq '.groups[0].rules | length' "$scratch/panels.yml") > 40)) || die "the expressions of the dashboards were not found"
quietly promtool check rules --lint=none "$scratch/panels.yml"
