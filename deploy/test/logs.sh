# shellcheck shell=bash
# Whether what the containers log is found in Loki, once. Sourced after lib.sh and faults.sh.

LOGS_AT_ONCE=500

# loki PATH ARGUMENT…: what Loki answers.
loki() {
  local address
  address=$(monitored loki)
  "${AT_ENGINE[@]}" curl -fsS --get "http://$address:3100$1" "${@:2}"
}

# lines QUERY [MOST]: the lines of the last hour that it finds.
lines() {
  loki /loki/api/v1/query_range --data-urlencode "query=$1" --data-urlencode since=1h --data-urlencode "limit=${2:-5000}" |
    jq -r '.data.result[].values[][1]'
}

# ask FROM COUNT: requests with IDs of their own, a line of Nginx each. They are refused: nobody signed them.
ask() {
  local i
  for ((i = $1; i < $1 + $2; i++)); do
    ((i == $1)) || printf 'next\n'
    printf 'silent\nurl = "%s/v1/reservations"\nheader = "X-Request-ID: %s-%04d"\noutput = /dev/null\n' "$URL" "$ASKED" "$i"
  done | "${AT_ENGINE[@]}" curl --config -
}

all_found() { (($(lines "$FIND" | sort -u | wc -l) >= 3 * LOGS_AT_ONCE)); }

# step_logs asks while all is well, while Loki is away, and while the collector is away, each killed.
step_logs() {
  local found distinct traced query
  ASKED=logs-$(now_ms)
  FIND="{service_namespace=\"salon\", service_name=\"nginx\"} |= \"\\\"$ASKED-\""
  need_packages jq=jq
  ask 0 $LOGS_AT_ONCE
  docker kill --signal KILL "$(container loki)" >/dev/null
  ask $LOGS_AT_ONCE $LOGS_AT_ONCE
  docker start "$(container loki)" >/dev/null
  outage 3 collector
  ask $((2 * LOGS_AT_ONCE)) $LOGS_AT_ONCE
  wait_until 120 all_found || say "FAILED: not every line has come to Loki"
  found=$(lines "$FIND" | wc -l) distinct=$(lines "$FIND" | sort -u | wc -l)
  say "logs: of $((3 * LOGS_AT_ONCE)) lines Loki has $distinct, and $((found - distinct)) twice"
  ((found == 3 * LOGS_AT_ONCE && distinct == found)) || die "logs are lost or doubled"

  traced=$(lines '{service_namespace="salon"} | severity_text="WARN" | trace_id!=""' 1)
  [[ -n $traced ]] || die "no line is found by its trace_id (a node has one of each request that failed: run the step faults before)"
  traced=$(jq -r .trace_id <<<"$traced")
  [[ -n $(lines "{service_namespace=\"salon\"} | trace_id=\"$traced\"") ]] || die "the lines of trace $traced are not found by it"

  # What the dashboards ask of it.
  while read -r query; do
    loki /loki/api/v1/query_range --data-urlencode "query=$query" >/dev/null || die "Loki does not take a dashboard's query: $query"
  done < <(jq -r '.panels[] | select(.datasource.uid == "loki") | .targets[].expr' "$REPO"/deploy/grafana/dashboards/*.json)
}
