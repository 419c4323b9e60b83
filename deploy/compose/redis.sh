#!/bin/sh
# redis.sh server|sentinel: writes the configuration, with the password that is in a file, and starts the server.
set -eu

password=$(cat /run/secrets/redis_password)
export REDISCLI_AUTH="$password"

# primary: the address that the sentinels name; the first of all (REDIS_PRIMARY) where none answers.
primary() {
  for sentinel in sentinel-1 sentinel-2 sentinel-3; do
    address=$(timeout 1 redis-cli -h "$sentinel" -p 26379 SENTINEL GET-MASTER-ADDR-BY-NAME salon 2>/dev/null | head -n 1) || continue
    case $address in *.*.*.*) printf '%s' "$address" && return ;; esac
  done
  printf '%s' "$REDIS_PRIMARY"
}

case $1 in
  server)
    # A view that was evicted is a silent loss: noeviction. Old masters come back as what the sentinels say they are by now,
    # not as a second master with an older view.
    cat >/tmp/redis.conf <<CONF
dir /data
maxmemory ${REDIS_MAXMEMORY:-256mb}
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
save ""
requirepass $password
masterauth $password
repl-diskless-sync-delay 0
CONF
    address=$(primary)
    hostname -i | tr ' ' '\n' | grep -qxF "$address" || printf 'replicaof %s 6379\n' "$address" >>/tmp/redis.conf
    exec redis-server /tmp/redis.conf
    ;;
  sentinel)
    # A sentinel writes down in it what it knows, so it is on a volume and made once.
    if [ ! -s /data/sentinel.conf ]; then
      cat >/data/sentinel.conf.new <<CONF
port 26379
dir /data
requirepass $password
sentinel sentinel-pass $password
sentinel monitor salon $REDIS_PRIMARY 6379 2
sentinel auth-pass salon $password
sentinel down-after-milliseconds salon 2000
sentinel failover-timeout salon 10000
sentinel parallel-syncs salon 1
CONF
      mv /data/sentinel.conf.new /data/sentinel.conf
    fi
    exec redis-server /data/sentinel.conf --sentinel
    ;;
esac
