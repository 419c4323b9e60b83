package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
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

// full tells whether nothing fits on the disk any more.
func (s *strained) full(t *testing.T) bool {
	t.Helper()
	var at syscall.Statfs_t
	if err := syscall.Statfs(s.disk, &at); err != nil {
		t.Fatal(err)
	}
	return at.Bavail == 0
}

// asks books once, however often it is called: by one key.
func (s *strained) asks(t *testing.T) answer {
	t.Helper()
	a, err := s.kim.call(t.Context(), http.MethodPost, "/v1/reservations", "book on a full disk", map[string]any{
		"groomer_id": "first", "start": noonIn(4), "mode": "shop", "dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
	})
	if err != nil {
		t.Fatal(err)
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
	fill := harness.StartCommand(t, exec.CommandContext(t.Context(), "bash", "-c",
		`exec >/dev/null 2>&1; while mariadb -h "$1" -P "$2" -u root -e "UPDATE others.busy SET data = REPEAT(CHAR(65 + RAND() * 20), 900000)"; do :; done`, "fill", host, port))
	wait(t, 2*time.Minute, func() string {
		if s.full(t) && strings.Contains(mysql.Log(), "Disk is full writing") {
			return ""
		}
		return "MySQL goes on"
	})
	first := s.asks(t)
	if first.status != http.StatusCreated {
		t.Errorf("a write on a full disk: %d %s", first.status, first.body)
	}
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
