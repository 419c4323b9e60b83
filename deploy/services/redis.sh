# shellcheck shell=bash
# Redis 7: views that can be rebuilt, so nothing is saved; and nothing is evicted, because eviction is silent loss.

redis_packages() { printf '%s\n' redis-server=redis-server; }
redis_install() { :; }

redis_start() {
  mkdir -p "$RUN/redis"
  # In a file below the data folder, and without a process title: so the command line shows whose server it is.
  # 256 databases: each test that needs an empty one takes its own.
  cat >"$RUN/redis/redis.conf" <<CONF
bind $HOST
port $1
dir "$RUN/redis"
daemonize no
set-proc-title no
databases 256
maxmemory-policy noeviction
save ""
appendonly no
repl-diskless-sync-delay 0
CONF
  launch redis redis-server "$RUN/redis/redis.conf"
}

redis_ready() { [[ $(redis-cli -h "$HOST" -p "$1" CONFIG GET dir | tail -n 1) == "$RUN/redis" ]]; }
redis_prepare() { :; }
redis_stop_signal() { printf TERM; }
redis_version() { redis-server --version | cut -d' ' -f1-3; }
redis_url() { printf 'redis://%s:%s/0' "$HOST" "$1"; }
