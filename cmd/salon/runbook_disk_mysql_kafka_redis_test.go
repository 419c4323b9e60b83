package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
)

// strained is a system by the book, one of whose servers has a disk that is going to be full.
type strained struct {
	*kept
	disk    string
	rb      *runbook
	kim     *client
	watch   *member
	metrics string // of watch
}

// strain starts it, with a salon named first in which somebody has booked, and the ballast on the disk.
func strain(t *testing.T, c *cluster, disk, ballast string) *strained {
	t.Helper()
	s := &strained{kept: &kept{cluster: c, partitions: clusterPartitions}, disk: disk, metrics: harness.Address(t)}
	s.prepare(t)
	s.start(t)
	s.watch = s.process(t, "watch", "admin")
	s.watch.args = append(s.watch.args, "--metrics-listen", s.metrics)
	s.watch.start(t)
	s.watch.ready(t)
	s.rb = newRunbook(t, s.env()...)
	s.kim = newClient(s.front.url, s.mint(t)(domain.Actor{ID: "kim", Role: domain.Customer}))
	path, token := s.books(t, 1, "first")
	s.sees(t, "a write before", path, token, http.StatusOK)
	s.rb.run("disk-ballast", "DISK="+disk, "SIZE="+ballast)
	return s
}

// free is how many MiB fit on the disk; a part of one is one.
func (s *strained) free(t *testing.T) uint64 {
	t.Helper()
	var at syscall.Statfs_t
	if err := syscall.Statfs(s.disk, &at); err != nil {
		t.Fatal(err)
	}
	return (at.Bavail*uint64(at.Bsize) + 1<<20 - 1) >> 20 //nolint:gosec // a block's size
}

// frees waits until so many MiB are free.
func (s *strained) frees(t *testing.T, mebibytes uint64) {
	t.Helper()
	wait(t, time.Minute, func() string {
		if free := s.free(t); free < mebibytes {
			return fmt.Sprintf("%d MiB are free", free)
		}
		return ""
	})
}

// asks books once, however often it is called: by one key.
func (s *strained) asks(t *testing.T) answer {
	t.Helper()
	a, err := s.kim.call(t.Context(), http.MethodPost, "/v1/reservations", "book on a full disk", map[string]any{
		"groomer_id": "first", "start": noonIn(4), "mode": "shop",
		"dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// acknowledged asks on a full disk.
func (s *strained) acknowledged(t *testing.T) answer {
	t.Helper()
	a := s.asks(t)
	if a.status != http.StatusCreated {
		t.Errorf("a write on a full disk: %d %s", a.status, a.body)
	}
	return a
}

// reads answers status and code of what is there, or, with some seconds of patience, of what has all that kim wrote.
func (s *strained) reads(t *testing.T, path string, patience int) (said string) {
	t.Helper()
	reader := *s.kim
	if reader.wait = patience; patience == 0 {
		reader.seen = ""
	}
	a, err := reader.call(t.Context(), http.MethodGet, path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var problem struct{ Code string }
	_ = json.Unmarshal(a.body, &problem)
	return strings.TrimSpace(fmt.Sprint(a.status, " ", problem.Code))
}

const (
	ofTables = "/v1/reservations"                                  // is read from MySQL
	ofAView  = "/v1/groomers/first/slots?services=bath&size=small" // is read from Redis, while that is whole
)

// shows waits until the metrics of the role admin have these lines.
func (s *strained) shows(t *testing.T, lines ...string) {
	t.Helper()
	wait(t, 2*time.Minute, func() (missing string) {
		body := "\n" + get(t, "http://"+s.metrics+"/metrics")
		for _, line := range lines {
			if !strings.Contains(body, "\n"+line) {
				missing += line + "\n"
			}
		}
		return missing
	})
}

// complains waits until doctor says all of this.
func (s *strained) complains(t *testing.T, says ...string) {
	t.Helper()
	wait(t, 2*time.Minute, func() string {
		got := call(t, append(append([]string{"doctor", "--redis", s.redis}, s.databases()...), s.topics()...)...)
		for _, text := range says {
			if got.code == 0 || !strings.Contains(got.out, text) {
				return fmt.Sprintf("doctor does not say %q: exit %d\n%s%s", text, got.code, got.out, got.err)
			}
		}
		return ""
	})
}

// recovers waits until kim sees what was acknowledged meanwhile. Asked again it is the same, and the system goes on.
func (s *strained) recovers(t *testing.T, acknowledged answer) {
	t.Helper()
	var made struct {
		ID string `json:"reservation_id"`
	}
	if err := acknowledged.decode(&made); err != nil {
		t.Fatal(err)
	}
	wait(t, 3*time.Minute, func() string {
		if said := s.reads(t, ofTables+"/"+made.ID, 1); said != "200" {
			return "with room again: " + said
		}
		return ""
	})
	if again := s.asks(t); again.status != http.StatusCreated || string(again.body) != string(acknowledged.body) {
		t.Errorf("asked again: %d %s\nat first: %s", again.status, again.body, acknowledged.body)
	}
}

// ends books once more, compares all rows with the events, and stops the system.
func (s *strained) ends(t *testing.T) {
	t.Helper()
	path, token := s.books(t, 2, "second")
	s.sees(t, "a write after", path, token, http.StatusOK)
	s.equal(t)
	s.watch.end(t, false)
	s.end(t)
}

// MySQL's disk fills up with its binary log. It waits for room, and answers reads: writes are acknowledged and seen later. By
// the book there is room again, and all goes on without a restart.
func TestTheRunbookMakesRoomForMySQL(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	disk := harness.SmallDisk(t, 192)
	mysql := harness.NewMySQLIn(t, disk, "--innodb-redo-log-capacity=16M", "--max-allowed-packet=16M")
	kafka, prefix := harness.Kafka(t)
	s := strain(t, newCluster(t, harness.Postgres(t), kafka, prefix, mysql.Database(t), harness.Redis(t)), disk, "16M")
	server := address(t, mysql.Addr)
	host, port := strings.TrimPrefix(server[0], "HOST="), strings.TrimPrefix(server[1], "PORT=")

	mysql.Execute(t, "CREATE DATABASE others", "CREATE TABLE others.busy (data LONGBLOB)", "INSERT INTO others.busy VALUES ('')")
	fill := harness.StartCommand(t, exec.CommandContext(t.Context(), "bash", "-c", `exec >/dev/null 2>&1
		while mariadb -h "$1" -P "$2" -u root -e "UPDATE others.busy SET data = REPEAT(CHAR(65 + RAND() * 20), 900000)"; do :; done`, "fill", host, port))
	wait(t, 2*time.Minute, func() string {
		if s.free(t) == 0 && strings.Contains(mysql.Log(), "Disk is full writing") {
			return ""
		}
		return "MySQL goes on"
	})
	first := s.acknowledged(t)
	for _, c := range []struct {
		what, path string
		patience   int
		says       string
	}{
		{"a read", ofTables, 0, "200"},
		{"a read of one's own write", ofTables, 2, "503 read_model.behind"},
		{"a view, with one's own write", ofAView, 30, "200"},
	} {
		if said := s.reads(t, c.path, c.patience); said != c.says {
			t.Errorf("%s on a full disk: %s, not %s", c.what, said, c.says)
		}
	}
	s.shows(t, `salon_projection_state{projection="reservations_v2",serves="yes",state="stuck"} 1`, `salon_server_up{server="reads"} 1`)
	s.complains(t, "reservations@2 does not move")

	s.rb.run("disk-room", "DISK="+disk)
	fill.Kill()
	s.recovers(t, first)
	if said := s.rb.run("disk-mysql", append(server, "DISK="+disk)...); !strings.Contains(said, "binlog.000002") || !strings.Contains(said, "others") {
		t.Errorf("what takes the room is not shown:\n%s", said)
	}
	s.rb.run("disk-mysql-logs", append(server, "LOG=binlog.000002")...)
	s.rb.run("disk-ballast", "DISK="+disk, "SIZE=24M") // more than was free: the log is gone
	s.ends(t)
}

// Kafka's disk fills up with a topic. The broker ends, and cannot start again: writes are acknowledged and wait in the store. By the
// book there is room again, its supervisor starts it, and all goes on, also when less of the events is kept in Kafka.
func TestTheRunbookMakesRoomForKafka(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	disk := harness.SmallDisk(t, 128)
	// What is not to be kept goes at once, not within minutes.
	own := harness.NewKafkaIn(t, disk, "log.retention.check.interval.ms=1000", "log.segment.delete.delay.ms=1000")
	broker := own.Brokers[0]
	s := strain(t, newCluster(t, harness.Postgres(t), broker.Addr, "", harness.MySQL(t), harness.Redis(t)), disk, "32M")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr), kgo.RecordDeliveryTimeout(5*time.Second),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "others"); err != nil {
		t.Fatal(err)
	}
	for much := bytes.Repeat([]byte("x"), 500_000); err == nil; {
		err = client.ProduceSync(t.Context(), &kgo.Record{Topic: "others", Value: much}).FirstErr()
	}
	ends := func(what string) {
		t.Helper()
		wait(t, time.Minute, func() string {
			if !broker.Ended() {
				return what + ": the broker goes on"
			}
			return ""
		})
	}
	ends("its disk is full")
	broker.Launch(t)
	ends("started again")
	first := s.acknowledged(t)
	if free := s.free(t); free != 0 {
		t.Errorf("%d MiB are free", free)
	}
	for _, path := range []string{ofTables, ofAView} {
		for patience, says := range []string{"200", "503 read_model.behind"} {
			if said := s.reads(t, path, patience); said != says {
				t.Errorf("%s on a full disk, patience %d s: %s, not %s", path, patience, said, says)
			}
		}
	}
	s.shows(t, `salon_server_up{server="kafka"} 0`, `salon_server_up{server="reads"} 1`)
	s.complains(t, "ask Kafka at "+broker.Addr)

	s.rb.run("disk-room", "DISK="+disk)
	broker.Start(t)
	s.recovers(t, first)
	s.rb.command("kafka-log-dirs.sh", broker.Tool("org.apache.kafka.tools.LogDirsCommand")...)
	s.rb.command("kafka-configs.sh", broker.Tool("kafka.admin.ConfigCommand")...)
	if said := s.rb.run("disk-kafka", "DISK="+disk); !strings.HasSuffix(strings.TrimSpace(said), " others-0") {
		t.Errorf("what takes the room is not shown last:\n%s", said)
	}
	for _, topic := range []string{"others", wire.BookingTopic} {
		s.rb.run("disk-kafka-keep", "TOPIC="+topic, "MS=1000")
	}
	wait(t, 2*time.Minute, func() string {
		kept, err := admin.ListStartOffsets(t.Context(), "others", wire.BookingTopic)
		if err != nil {
			return err.Error()
		}
		why := ""
		kept.Each(func(o kadm.ListedOffset) {
			if o.Offset == 0 {
				why += fmt.Sprintf("%s/%d is whole\n", o.Topic, o.Partition)
			}
		})
		if free := s.free(t); free < 65 {
			why += fmt.Sprintf("%d MiB are free", free)
		}
		return why
	})
	s.rb.run("disk-ballast", "DISK="+disk, "SIZE=64M") // more than was free
	s.back.end(t, false)
	s.back.start(t) // they begin with what is left in Kafka
	s.ends(t)
}

// fills writes into Redis until it refuses that, its append-only file being on a full disk.
func fills(t *testing.T, client *redis.Client) {
	t.Helper()
	much := strings.Repeat("x", 500_000)
	wait(t, time.Minute, func() string {
		err := client.Set(t.Context(), "others", much, 0).Err()
		for range 20 {
			if err == nil {
				err = client.Set(t.Context(), "others", much, 0).Err()
			}
		}
		if err != nil && strings.Contains(err.Error(), "MISCONF") {
			return ""
		}
		return fmt.Sprint("Redis takes writes: ", err)
	})
}

// The disk of Redis' append-only file fills up. It refuses writes and answers reads: views are behind, and reads that are to have more
// use MySQL. By the book there is room again, and all goes on without a restart.
func TestTheRunbookMakesRoomForRedis(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	disk := harness.SmallDisk(t, 48)
	views := harness.NewRedisIn(t, disk, "appendonly yes", "appendfsync everysec")
	kafka, prefix := harness.Kafka(t)
	s := strain(t, newCluster(t, harness.Postgres(t), kafka, prefix, harness.MySQL(t), views.URL()), disk, "16M")
	client := redis.NewClient(&redis.Options{Addr: views.Addr})
	defer client.Close()
	fills(t, client)
	first := s.acknowledged(t)
	for _, path := range []string{ofTables, ofAView} {
		for _, patience := range []int{0, 30} {
			if said := s.reads(t, path, patience); said != "200" {
				t.Errorf("%s on a full disk, patience %d s: %s", path, patience, said)
			}
		}
	}
	s.shows(t, `salon_server_up{server="redis"} 0`, `salon_projection_state{projection="slots_v1",serves="yes",state="behind"} 1`)
	s.complains(t, "until then reads are answered from tables: MISCONF")

	s.rb.run("disk-room", "DISK="+disk)
	s.recovers(t, first)
	s.rb.run("disk-redis", address(t, views.Addr)...)
	s.frees(t, 40)
	s.rb.run("disk-ballast", "DISK="+disk, "SIZE=32M") // more than was free
	s.shows(t, `salon_server_up{server="redis"} 1`, `salon_projection_state{projection="slots_v1",serves="yes",state="well"} 1`)
	s.ends(t)
}

// The same by sentinels: for them a primary that refuses writes is down. Its replica takes its place; it follows, and its file is
// written anew.
func TestAReplicaTakesTheRedisOfAFullDisk(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	disk := harness.SmallDisk(t, 48)
	views := harness.NewRedisIn(t, disk, "appendonly yes", "appendfsync everysec")
	replica := views.Replica(t)
	sentinels := "redis+sentinel://" + strings.Join(views.Sentinels(t, "salon", 1), ",") + "/salon/0"
	kafka, prefix := harness.Kafka(t)
	s := strain(t, newCluster(t, harness.Postgres(t), kafka, prefix, harness.MySQL(t), sentinels), disk, "16M")
	primary, other := redis.NewClient(&redis.Options{Addr: views.Addr}), redis.NewClient(&redis.Options{Addr: replica.Addr})
	defer primary.Close()
	defer other.Close()
	fills(t, primary)
	first := s.acknowledged(t)
	is := func(client *redis.Client, says string) {
		t.Helper()
		wait(t, 2*time.Minute, func() string {
			if said := client.Info(t.Context(), "replication").String(); !strings.Contains(said, says) {
				return "not " + says + ": " + said
			}
			return ""
		})
	}
	is(other, "role:master")
	s.shows(t, `salon_server_up{server="redis"} 1`, `salon_projection_state{projection="slots_v1",serves="yes",state="well"} 1`)
	s.recovers(t, first)
	is(primary, "master_link_status:up")
	s.frees(t, 24)
	s.ends(t)
}
