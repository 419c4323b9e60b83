package main

import (
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// clusterPartitions is few, so that every one of them carries much.
const clusterPartitions = 4

// cluster is a system of several processes on servers, with databases, topics and keys of its own.
type cluster struct {
	events, kafka, reads, redis, prefix string
	masterFile, authFile                string
	key                                 *auth.LocalKey
}

// newCluster makes keys for a system on these servers. Its databases are empty.
func newCluster(t *testing.T, events, kafka, prefix, reads, redis string) *cluster {
	t.Helper()
	dir := t.TempDir()
	c := &cluster{
		events: events, kafka: kafka, prefix: prefix, reads: reads, redis: redis,
		masterFile: filepath.Join(dir, "master.key"), authFile: filepath.Join(dir, "auth.key"),
	}
	if _, err := sealed.LoadOrCreateMaster(c.masterFile); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.key, err = auth.LoadOrGenerateKeyFile(c.authFile); err != nil {
		t.Fatal(err)
	}
	return c
}

// realCluster is one on the real servers.
func realCluster(t *testing.T) *cluster {
	t.Helper()
	kafka, prefix := harness.Kafka(t)
	return newCluster(t, harness.Postgres(t), kafka, prefix, harness.MySQL(t), harness.Redis(t))
}

// prepare makes schemas and topics, as an operator does.
func (c *cluster) prepare(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		append([]string{"migrate", "up"}, c.databases()...),
		append([]string{"topics", "ensure"}, c.topics()...),
		append([]string{"topics", "check"}, c.topics()...),
	} {
		if got := call(t, args...); got.code != 0 {
			t.Fatalf("salon %v: exit %d\n%s%s", args, got.code, got.out, got.err)
		}
	}
}

func (c *cluster) databases() []string { return []string{"--events", c.events, "--reads", c.reads} }

func (c *cluster) topics() []string {
	return []string{"--kafka", c.kafka, "--topic-prefix", c.prefix, "--partitions", strconv.Itoa(clusterPartitions)}
}

// member is one process of a cluster.
type member struct {
	name    string
	args    []string
	url     string // "" when it answers no HTTP
	process *harness.Process
}

// member makes one with these roles; start starts it. One that answers HTTP keeps its address.
func (c *cluster) member(t *testing.T, name string, roles ...string) *member {
	t.Helper()
	m := &member{name: name, args: append([]string{"serve"}, roles...)}
	m.args = append(append(append(m.args, c.databases()...), c.topics()...), "--redis", c.redis)
	if slices.Contains(roles, "reactor") {
		m.args = append(m.args, "--master-key-file", c.masterFile)
	}
	for _, r := range roles {
		if slices.Contains([]string{"commands", "readapi", "live", "admin"}, r) && m.url == "" {
			address := harness.Address(t)
			m.url = "http://" + address
			m.args = append(m.args, "--listen", address, "--rate-limit", "0", "--post-rate", "0", "--master-key-file", c.masterFile, "--auth-key-file", c.authFile)
		}
	}
	if m.url != "" {
		m.args = append(m.args, "--log-level", "warn") // a line for each request otherwise
	}
	return m
}

func (m *member) start(t *testing.T) {
	t.Helper()
	m.process = harness.Start(t, nil, m.args...)
}

func (m *member) ready(t *testing.T) {
	t.Helper()
	if m.url != "" {
		m.process.Ready(t, m.url)
	}
}

// end ends the process, as a deployment or as a crash does.
func (m *member) end(t *testing.T, crash bool) {
	t.Helper()
	if crash {
		m.process.Kill()
		return
	}
	began := time.Now()
	if err := m.process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%s had ended: %v", m.name, err)
	}
	if code := m.process.Wait(t, 30*time.Second); code != 0 {
		t.Errorf("%s stopped with exit code %d", m.name, code)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("%s took %v to stop", m.name, took)
	}
}
