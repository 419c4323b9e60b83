#!/usr/bin/env bash
# What the image's entrypoint does with the settings that docker-compose.yml gives: an empty data folder is made, root gets its
# password from a file, and /docker-entrypoint-initdb.d is run on a server that only a socket reaches.
set -euo pipefail

if [[ $1 == mysqld && ! -d /var/lib/mysql/mysql ]]; then
  "$@" --initialize-insecure
  "$@" --skip-networking &
  server=$!
  until mysqladmin -uroot ping --silent 2>/dev/null; do
    kill -0 "$server"
    sleep 0.2
  done
  mysql -uroot -e "SET SESSION sql_log_bin = 0; ALTER USER 'root'@'localhost' IDENTIFIED BY '$(<"$MYSQL_ROOT_PASSWORD_FILE")'"
  for file in /docker-entrypoint-initdb.d/*; do
    if [[ -x $file ]]; then "$file"; else
      # shellcheck source=/dev/null
      . "$file"
    fi
  done
  kill "$server"
  wait "$server"
fi
exec "$@"
