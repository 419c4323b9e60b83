# shellcheck shell=bash
# MySQL 9 and MariaDB 10.11: the read models run on both. One file, because what we set must be the same.

mysql_packages() { printf '%s\n' mmdebstrap=mmdebstrap mariadb=mariadb-client-core; }
mariadb_packages() { printf '%s\n' mariadbd=mariadb-server-core mariadb=mariadb-client-core; }

MYSQL_ROOT=$CACHE/mysql-sid-$(uname -m)

# Debian 12 carries no MySQL: it comes from sid with all its libraries in a folder of its own, and this machine's
# packages stay as they are.
mysql_install() { cached "mysql-sid-$(uname -m)" mysql_download; }

mysql_download() {
  local mirror
  mirror=$(debian_mirror)
  [[ -n $mirror ]] || die "no Debian mirror in /etc/apt: MySQL 9 comes from Debian sid; name a server by SALON_TEST_MYSQL"
  say "mysql: extracting mysql-server-core from Debian sid"
  # The mirror may be a snapshot whose dates have passed. /proc is only missed by packages' scripts, which do not run.
  retry 3 mysql_extract "$mirror" "$1" || { tail -n 20 "$RUN/mmdebstrap.log" >&2 && return 1; }
  rm -rf "$1/usr/share/doc" "$1/usr/share/man" "$1/var/cache" "$1/var/lib/apt"
}

mysql_extract() {
  find "$2" -mindepth 1 -delete
  mmdebstrap --variant=extract --include=mysql-server-core --aptopt='Acquire::Check-Valid-Until "false"' \
    sid "$2" "$1" >>"$RUN/mmdebstrap.log" 2>&1
}

mariadb_install() { :; }

# mysqld_command prints the words that run sid's mysqld: by sid's own loader and libraries. A chroot would do as well, but
# would force the data into the cache and need root.
mysqld_command() {
  local loader libs
  loader=$(compgen -G "$MYSQL_ROOT/usr/lib*/ld-linux*.so.*" | head -n 1) || die "mysql: no loader below $MYSQL_ROOT"
  libs=$(compgen -G "$MYSQL_ROOT/usr/lib/*-linux-gnu*" | head -n 1)
  printf '%s\n' "$loader" --library-path "$libs:$MYSQL_ROOT/usr/lib/mysql/private" "$MYSQL_ROOT/usr/sbin/mysqld" \
    --no-defaults --basedir="$MYSQL_ROOT/usr" --lc-messages-dir="$MYSQL_ROOT/usr/share/mysql" \
    --character-sets-dir="$MYSQL_ROOT/usr/share/mysql/charsets" --plugin-dir="$MYSQL_ROOT/usr/lib/mysql/plugin" \
    --secure-file-priv=NULL --mysqlx=OFF
}

# What both servers are told. Durability stays at each server's default, so a benchmark measures what production would.
mysql_settings() {
  printf '%s\n' --datadir="$RUN/$1" --bind-address="$HOST" --port="$2" --socket="$(socket_for "$1")" \
    --innodb-buffer-pool-size=1G --max-connections=500 --local-infile=1 --character-set-server=utf8mb4 \
    --skip-name-resolve --performance-schema=OFF --init-file="$RUN/$1.init.sql"
}

# The servers read one statement a line. 'root'@'127.0.0.1' because without name resolution 'localhost' means the socket.
mysql_init_file() {
  cat >"$RUN/$1.init.sql" <<SQL
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS salon CHARACTER SET utf8mb4;
SQL
}

mysql_user_flag() { if is_root; then printf -- '--user=root'; else printf -- '--user=%s' "$(id -un)"; fi; }

mysql_start() {
  local data=$RUN/mysql command settings
  mapfile -t command < <(mysqld_command)
  command+=("$(mysql_user_flag)")
  if ! initialised mysql; then
    rm -rf "$data"
    "${command[@]}" --initialize-insecure --datadir="$data" >>"$RUN/mysql.log" 2>&1 || return
    mark_initialised mysql
  fi
  mysql_init_file mysql
  mapfile -t settings < <(mysql_settings mysql "$1")
  # The binary log is on by default in MySQL and costs what it costs in production, but need not be kept for 30 days.
  launch mysql "${command[@]}" "${settings[@]}" --pid-file="$RUN/mysql.server.pid" --binlog-expire-logs-seconds=3600 \
    --max-binlog-size=64M
}

mariadb_start() {
  local data=$RUN/mariadb settings
  if ! initialised mariadb; then
    rm -rf "$data"
    # --skip-test-db: the test database brings anonymous users, which shadow ours.
    mariadb-install-db --no-defaults --skip-test-db --auth-root-authentication-method=normal "$(mysql_user_flag)" \
      --datadir="$data" >>"$RUN/mariadb.log" 2>&1 || return
    mark_initialised mariadb
  fi
  mysql_init_file mariadb
  mapfile -t settings < <(mysql_settings mariadb "$1")
  launch mariadb mariadbd --no-defaults "$(mysql_user_flag)" "${settings[@]}" --pid-file="$RUN/mariadb.server.pid"
}

# Over TCP as a client would come, asking for the data folder: the one who answers is the one we started.
mysql_answers() {
  local datadir
  datadir=$(mariadb --no-defaults -h "$HOST" -P "$2" -u root -N -B -e 'SELECT @@datadir')
  [[ $datadir == "$RUN/$1/" ]]
}
mysql_ready() { mysql_answers mysql "$1"; }
mariadb_ready() { mysql_answers mariadb "$1"; }

mysql_prepare() { :; }
mariadb_prepare() { :; }
mysql_stop_signal() { printf TERM; }
mariadb_stop_signal() { printf TERM; }

mysql_version() { mariadb --no-defaults -h "$HOST" -P "$(port_of mysql)" -u root -N -B -e "SELECT CONCAT('MySQL ', VERSION())"; }
mariadb_version() { mariadb --no-defaults -h "$HOST" -P "$(port_of mariadb)" -u root -N -B -e 'SELECT VERSION()'; }

mysql_url() { printf 'mysql://root@%s:%s/%s' "$HOST" "$1" "${2:-}"; }
mariadb_url() { mysql_url "$@"; }
