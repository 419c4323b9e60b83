# shellcheck shell=bash
# Apache Kafka, one broker that is its own controller (KRaft), run from the jars that Maven fetched.

KAFKA_DIR=$REPO/deploy/services/kafka
KAFKA_VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$KAFKA_DIR/pom.xml")
KAFKA_LIBS=$CACHE/kafka-$KAFKA_VERSION-$(cksum <"$KAFKA_DIR/pom.xml" | cut -d' ' -f1)

kafka_packages() { printf '%s\n' java=openjdk-17-jre-headless; [[ -d $KAFKA_LIBS ]] || printf '%s\n' mvn=maven; }

kafka_install() { cached "$(basename "$KAFKA_LIBS")" kafka_download; }

kafka_download() {
  say "kafka: fetching $KAFKA_VERSION through Maven"
  # --strict-checksums: a jar that does not match its checksum ends the download instead of a warning.
  retry 3 mvn -q -B --strict-checksums -f "$KAFKA_DIR/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$1" -DincludeScope=runtime >>"$RUN/maven.log" 2>&1 || { tail -n 20 "$RUN/maven.log" >&2 && return 1; }
}

kafka_java() { printf '%s\n' -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$KAFKA_DIR/log4j2.xml" -cp "$KAFKA_LIBS/*"; }

kafka_start() {
  local data=$RUN/kafka java
  mapfile -t java < <(kafka_java)
  mkdir -p "$data"
  kafka_properties "$1" >"$data/server.properties"
  if ! initialised kafka; then
    rm -rf "$data/log"
    java "${java[@]}" kafka.tools.StorageTool format -t salonTestClusterAAAAAA -c "$data/server.properties" >>"$RUN/kafka.log" 2>&1 || return
    mark_initialised kafka
  fi
  # This start's own log alone: its line "Kafka Server started" is what readiness waits for.
  : >"$RUN/kafka.log"
  launch kafka java "${java[@]}" kafka.Kafka "$data/server.properties"
}

kafka_properties() {
  local controller
  controller=$(pick_port kafka-controller)
  # Topics are created explicitly by us, as managed Kafka demands; the small internal topics save seconds at each start
  # and hundreds of open files. The rebalance delay would add three seconds to each test's first poll.
  cat <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$HOST:$controller
listeners=PLAINTEXT://$HOST:$1,CONTROLLER://$HOST:$controller
advertised.listeners=PLAINTEXT://$HOST:$1
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$RUN/kafka/log
auto.create.topics.enable=false
message.max.bytes=2097152
offsets.topic.replication.factor=1
offsets.topic.num.partitions=12
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=12
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
CONF
}

kafka_ready() { grep -q 'Kafka Server started' "$RUN/kafka.log" && port_answers "$1"; }
kafka_prepare() { :; }
kafka_stop_signal() { printf TERM; }
kafka_version() { printf 'Apache Kafka %s' "$KAFKA_VERSION"; }
kafka_url() { printf '%s:%s' "$HOST" "$1"; }
