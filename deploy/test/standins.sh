# shellcheck shell=bash
# Stand-ins for images that cannot be pulled: the same names and versions, the same servers, from Debian packages and Maven.
# Each takes the environment, arguments and folders that docker-compose.yml uses of the real image. Sourced after engine.sh.

STANDIN_DIR=$REPO/deploy/test/standins

# standins builds those that are not there yet, and says where a version is not the one that docker-compose.yml names.
standins() {
  local name begin loki collector
  begin=$(now_ms)
  need_packages mmdebstrap=mmdebstrap java=openjdk-17-jre-headless
  kafka_install
  cached "standin-mysql-$(uname -m)" standin_mysql
  cached "standin-base-$(uname -m)" standin_base
  loki=$(image_named grafana/loki) collector=$(image_named otel/opentelemetry-collector-contrib)
  standin_image "$loki" || cached "$(in_cache loki "$loki")" standin_loki "${loki#*:}"
  standin_image "$collector" || cached "$(in_cache collector "$collector")" standin_collector "${collector#*:}"
  standin_image salon-standin:latest || tar -C "$CACHE/standin-base-$(uname -m)" -c . | docker import - salon-standin:latest >/dev/null
  for name in kafka:apache/kafka postgres:postgres mysql:mysql redis:redis nginx:nginx prometheus:prom/prometheus \
    alertmanager:prom/alertmanager loki:grafana/loki collector:otel/opentelemetry-collector-contrib golang:golang; do
    standin "${name%%:*}" "$(image_named "${name#*:}")"
  done
  say "stand-ins are built after $(seconds_since "$begin") s"
}

standin_image() { docker image inspect "$1" >/dev/null 2>&1; }

# image_named NAME: the image with its version, as docker-compose.yml or the Dockerfile names it.
image_named() { sed -nE "s#^ *(image:|FROM) ($1:[^ ]+).*#\2#p" "$REPO/docker-compose.yml" "$REPO/deploy/Dockerfile" | head -n 1; }

# in_cache NAME IMAGE: where what an image is built from is kept.
in_cache() { printf 'standin-%s-%s-%s' "$1" "${2#*:}" "$(uname -m)"; }

# standin NAME IMAGE: the build context is the stand-in's folder and what it copies of the cache.
standin() {
  local name=$1 image=$2 context=$RUN/standin-$1
  standin_image "$image" && return
  say "stand-in for $image"
  rm -rf "$context"
  mkdir -p "$context"
  cp -r "$STANDIN_DIR/$name/." "$context"
  case $name in
    kafka)
      cp -rl "$KAFKA_LIBS" "$context/libs" 2>/dev/null || cp -r "$KAFKA_LIBS" "$context/libs"
      cp "$KAFKA_DIR/log4j2.xml" "$context"
      ;;
    loki | collector) cp -rl "$CACHE/$(in_cache "$name" "$image")/." "$context" ;;
    mysql) cp -rl "$CACHE/standin-mysql-$(uname -m)" "$context/root" ;;
    golang)
      cp -r "$(go env GOROOT)" "$context/go"
      # What go.sum names, as a module proxy in a folder: the real image asks a real one.
      GOMODCACHE=$context/mod GOFLAGS=-modcacherw GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" \
        go -C "$REPO" mod download
      ;;
  esac
  DOCKER_BUILDKIT=0 docker build --quiet --tag "$image" "$context" >"$RUN/standin-$name.log" 2>&1 || {
    tail -n 30 "$RUN/standin-$name.log" >&2
    die "the stand-in for $image could not be built"
  }
  rm -rf "$context"
}

# One root for all: Debian with what the stand-ins need, of the sources of this machine, security updates included. Unpacked and
# not installed, which takes seconds instead of minutes; what packages' scripts would have done, and is needed, is done here.
standin_base() {
  local root=$1 sources file
  sources=$(compgen -G '/etc/apt/sources.list.d/debian.sources' || compgen -G '/etc/apt/sources.list') || die "no Debian sources on this machine"
  retry 3 standin_base_extract "$sources" "$root" || { tail -n 20 "$RUN/mmdebstrap.log" >&2 && return 1; }
  rm -rf "$root"/usr/share/{doc,man,locale} "$root"/var/cache/apt "$root"/var/lib/apt
  for file in passwd group; do cp "$root/usr/share/base-passwd/$file.master" "$root/etc/$file"; done
  : >"$root/etc/shadow"
  cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
  ln -sf mawk "$root/usr/bin/awk"
  ln -sf ../lib/jvm/java-17-openjdk-amd64/bin/java "$root/usr/bin/java"
  mkdir -p "$root/var/log/nginx" "$root/tmp" "$root/run"
  chmod 1777 "$root/tmp"
  chroot "$root" /sbin/ldconfig
}

standin_base_extract() {
  find "$2" -mindepth 1 -delete
  # shellcheck disable=SC2016 # $1 is mmdebstrap's
  mmdebstrap --variant=extract --format=directory \
    --setup-hook='for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done' \
    --include=base-files,base-passwd,bash,coreutils,dash,debianutils,findutils,grep,gzip,hostname,libc-bin,mawk,passwd,sed,tar,util-linux \
    --include=ca-certificates,curl,wget,make,openjdk-17-jre-headless,postgresql-15,redis-server,redis-tools,nginx-light \
    --include=prometheus,prometheus-alertmanager \
    bookworm "$2" "$1" >>"$RUN/mmdebstrap.log" 2>&1
}

standin_mysql() {
  local mirror loader libs
  mirror=$(debian_mirror)
  retry 3 standin_mysql_extract "$mirror" "$1" || { tail -n 20 "$RUN/mmdebstrap.log" >&2 && return 1; }
  # Only the programs and the libraries that they are linked with.
  find "$1" -mindepth 1 -maxdepth 1 ! -name usr ! -name lib64 -exec rm -rf {} +
  find "$1/usr" -mindepth 1 -maxdepth 1 ! -name bin ! -name sbin ! -name 'lib*' ! -name share -exec rm -rf {} +
  find "$1/usr/share" -mindepth 1 -maxdepth 1 ! -name 'mysql*' -exec rm -rf {} +
  loader=$(cd "$1" && compgen -G 'usr/lib*/ld-linux*.so.*' | head -n 1)
  libs=$(cd "$1" && compgen -G 'usr/lib/*-linux-gnu*' | head -n 1)
  ln -s "$loader" "$1/loader"
  ln -s "$libs" "$1/libs"
}

standin_mysql_extract() {
  find "$2" -mindepth 1 -delete
  mmdebstrap --variant=extract --include=mysql-server-core,mysql-client-core --aptopt='Acquire::Check-Valid-Until "false"' \
    sid "$2" "$1" >>"$RUN/mmdebstrap.log" 2>&1
}

# What follows is called by cached, under whose || nothing ends by itself: each step says that it failed.

# standin_loki VERSION DIR: its module has a module of its own inside, which is not in its archive and which it takes from its folder.
standin_loki() {
  local source=$2/source push
  copy_module "github.com/grafana/loki/v3@v$1" "$source" || return
  push=$(sed -nE 's#^\s*(github.com/grafana/loki/pkg/push) (v.*)#\1@\2#p' "$source/go.mod")
  copy_module "$push" "$source/pkg/push" || return
  say "building Loki $1 (some minutes)"
  (cd "$source" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags '-s -w' -o "$2/loki" ./cmd/loki) || return
  rm -rf "$source"
}

# standin_collector VERSION DIR
standin_collector() {
  local source=$2/source
  mkdir "$source" || return
  sed "s#VERSION#$1#; s#DIR#$source#" "$STANDIN_DIR/collector/manifest.yml" >"$source/manifest.yml" || return
  say "building OpenTelemetry's collector $1 (some minutes)"
  CGO_ENABLED=0 quietly collector go run "go.opentelemetry.io/collector/cmd/builder@v$1" --config "$source/manifest.yml" || return
  mv "$source/otelcol-contrib" "$2" || return
  rm -rf "$source"
}

# copy_module MODULE@VERSION DIR: its source, to be changed.
copy_module() {
  local module
  module=$(cd "$RUN" && GOFLAGS=-mod=mod go mod download -json "$1" | sed -nE 's/^\s*"Dir": "(.*)",/\1/p') || return
  [[ -d $module ]] || return
  mkdir -p "$2" && cp -r "$module/." "$2" && chmod -R u+w "$2"
}
