#!/usr/bin/env bash
# secrets.sh [DIR]: makes every secret that docker-compose.yml mounts, as files in DIR (deploy/secrets, which git ignores).
# What is there is kept, so it may be run again, and own files may be put there first. Back up master.key: without it, every
# personal field is gone.
#
# The folder is closed to everybody else (0700); the files in it can be read (0444), because a container's user, who is
# nobody on this machine, reads them through the mount.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
dir=${1:-${SALON_SECRETS:-$repo/deploy/secrets}}
umask 077
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
chmod 700 "$dir"

# put NAME: keeps what is there, else takes stdin, and only as a whole.
put() {
  if [[ -s $dir/$1 ]]; then cat >/dev/null && return; fi
  cat >"$dir/.$1"
  chmod 444 "$dir/.$1"
  mv "$dir/.$1" "$dir/$1"
}

# Letters, digits, - and _ alone: it stands in URLs and in configuration files as it is.
password() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

# salon keys DIR, by the binary of this checkout or by the image.
keys() {
  if [[ -x $repo/bin/salon ]]; then
    "$repo/bin/salon" keys "$1"
  else
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$1:/keys" \
      "${SALON_IMAGE:-salon}:${SALON_VERSION:-dev}" keys /keys
  fi
}

for name in postgres_password postgres_salon_password postgres_replication_password \
  mysql_root_password mysql_salon_password mysql_replication_password redis_password notify_secret grafana_password; do
  password | put "$name"
done

if [[ ! -s $dir/auth.key || ! -s $dir/master.key || ! -s $dir/seal.key ]]; then
  keys "$dir" >/dev/null
  chmod 444 "$dir/auth.key" "$dir/master.key" "$dir/seal.key"
fi

printf 'postgres://salon:%s@postgres,postgres-standby/salon?sslmode=disable&target_session_attrs=read-write&connect_timeout=2\n' \
  "$(<"$dir/postgres_salon_password")" | put events_url
# Of the first, the host that takes writes is used; of the second, the first that answers.
printf 'mysql://salon:%s@mysql:3306,mysql-replica:3306/salon\n' "$(<"$dir/mysql_salon_password")" | put reads_url
printf 'mysql://salon:%s@mysql-replica:3306,mysql:3306/salon\n' "$(<"$dir/mysql_salon_password")" | put reads_replica_url
redis=$(<"$dir/redis_password")
printf 'redis+sentinel://:%s@sentinel-1:26379,sentinel-2:26379,sentinel-3:26379/salon/0?sentinel_password=%s\n' "$redis" "$redis" | put redis_url

# Where alerts and rollouts tell people (a Discord webhook, or any URL that takes its format), and what notices when nothing
# calls it any more. Yours go into these files; until then nobody listens there.
printf 'http://127.0.0.1:9/webhook\n' | put webhook
printf 'http://127.0.0.1:9/deadman\n' | put deadman

printf 'Secrets are in %s.\n' "$dir"
