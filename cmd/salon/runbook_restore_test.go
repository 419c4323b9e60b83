package main

import (
	"net/http"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
)

// kept is a small system, run by the book.
type kept struct {
	*cluster
	partitions  int
	front, back *member
}

// env is what an operator has in the shell.
func (k *kept) env() []string {
	return []string{
		"SALON_EVENTS=" + k.events, "SALON_READS=" + k.reads, "SALON_REDIS=" + k.redis, "SALON_KAFKA=" + k.kafka, "SALON_TOPIC_PREFIX=" + k.prefix,
		"SALON_PARTITIONS=" + strconv.Itoa(k.partitions), "SALON_MASTER_KEY_FILE=" + k.masterFile, "SALON_AUTH_KEY_FILE=" + k.authFile,
	}
}

// process is a member with as many partitions as there are now.
func (k *kept) process(t *testing.T, name string, roles ...string) *member {
	t.Helper()
	m := k.member(t, name, roles...)
	m.args = append(m.args, "--partitions", strconv.Itoa(k.partitions)) // the last one counts
	return m
}

// start starts both members with the settings of now.
func (k *kept) start(t *testing.T) {
	t.Helper()
	k.back, k.front = k.process(t, "back", "relay", "projector"), k.process(t, "front", "commands", "readapi")
	for _, m := range []*member{k.back, k.front} {
		m.start(t)
		m.ready(t)
	}
}

func (k *kept) end(t *testing.T) {
	t.Helper()
	k.front.end(t, false)
	k.back.end(t, false)
}

// books makes a town and lets somebody book in it; it answers the reservation's path and the token.
func (k *kept) books(t *testing.T, seed uint64, salon string) (path, token string) {
	t.Helper()
	w := newTown([]string{k.front.url}, []string{k.front.url}, k.mint(t))
	w.open(t.Context(), seed, []domain.Actor{{ID: salon, Role: domain.Groomer}})
	w.report(t)
	a, err := newClient(k.front.url, k.mint(t)(domain.Actor{ID: "kim", Role: domain.Customer})).call(t.Context(), http.MethodPost, "/v1/reservations", "book "+salon, map[string]any{
		"groomer_id": salon, "start": noonIn(3), "mode": "shop", "dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
	})
	if err != nil || a.status != http.StatusCreated {
		t.Fatalf("book at %s: %v %d %s", salon, err, a.status, a.body)
	}
	var made struct {
		ID string `json:"reservation_id"`
	}
	if err := a.decode(&made); err != nil {
		t.Fatal(err)
	}
	return "/v1/reservations/" + made.ID, a.header.Get("Consistency-Token")
}

func (k *kept) sees(t *testing.T, what, path, token string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.front.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+k.mint(t)(domain.Actor{ID: "kim", Role: domain.Customer}))
	r.Header.Set("Consistency-Token", token)
	r.Header.Set("Prefer", "wait=30")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != status {
		t.Errorf("%s: %d, want %d", what, res.StatusCode, status)
	}
}

// equal compares every row and view with a fold of the store.
func (k *kept) equal(t *testing.T) {
	t.Helper()
	m := k.openModels(t)
	m.partitions = k.partitions
	h := mustRead(t, k.openStore(t))
	m.caughtUp(t, h)
	fail(t, "read models", must(m.equalFold(t.Context(), h))(t))
}

// anew goes over to topics and read models of other names, as the runbook has it.
func (k *kept) anew(t *testing.T, prefix string, partitions int) {
	t.Helper()
	next := *k.cluster
	next.prefix, next.reads, next.redis = k.prefix+prefix, harness.MySQL(t), harness.Redis(t)
	rb := newRunbook(t, k.env()...)
	rb.run("anew", "NEW_PREFIX="+next.prefix, "NEW_READS="+next.reads, "NEW_REDIS="+next.redis, "NEW_PARTITIONS="+strconv.Itoa(partitions))
	k.cluster, k.partitions = &next, partitions
	beside := k.process(t, "relay and projector beside the old ones", "relay", "projector")
	beside.start(t)
	k.equal(t)
	newRunbook(t, k.env()...).run("anew-caught-up")
	beside.end(t, false)
}

// The life of a system by the book: it is looked after, gets more partitions, loses its topics, and is restored from a backup
// that is older than what Kafka and the read models have.
func TestTheRunbookRestores(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	k := &kept{cluster: realCluster(t), partitions: clusterPartitions}
	rb := newRunbook(t, k.env()...)
	if shown := rb.run("config"); !strings.Contains(shown, "topic-prefix") || !strings.Contains(shown, k.prefix) || !strings.Contains(shown, "environment") {
		t.Errorf("salon config shows\n%s", shown)
	}
	rb.run("start")
	rb.run("start") // again does no harm
	k.start(t)
	path, token := k.books(t, 1, "first")
	k.sees(t, "one's own write", path, token, http.StatusOK)
	rb.run("look")
	rb.run("rebuild", "PROJECTION=reservations", "VERSION=1")
	rb.run("notifications")

	k.anew(t, "more-", clusterPartitions+3)
	k.end(t)
	k.start(t)
	k.sees(t, "a token of when there were fewer partitions", path, token, http.StatusOK)
	second, tokenOfSecond := k.books(t, 2, "second")
	k.sees(t, "a write after that", second, tokenOfSecond, http.StatusOK)
	k.equal(t)

	k.back.end(t, false)
	client, err := kgo.NewClient(kgo.SeedBrokers(k.kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var topics []string
	for _, topic := range wire.Topics() {
		topics = append(topics, k.prefix+topic)
	}
	if gone, err := kadm.NewClient(client).DeleteTopics(t.Context(), topics...); err != nil || gone.Error() != nil {
		t.Fatal(err, gone)
	}
	newRunbook(t, k.env()...).run("topics-lost")
	k.back.start(t)
	third, tokenOfThird := k.books(t, 3, "third")
	k.sees(t, "a write after the topics were lost", third, tokenOfThird, http.StatusOK)
	k.equal(t)

	dump := filepath.Join(t.TempDir(), "events.dump")
	newRunbook(t, k.env()...).run("postgres-backup", "DUMP="+dump)
	lost, tokenOfLost := k.books(t, 4, "lost")
	k.sees(t, "a write that the backup lacks", lost, tokenOfLost, http.StatusOK)
	k.end(t)
	url, err := neturl.Parse(k.events)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Trim(url.Path, "/") + "_restored"
	admin, restored := *url, *url
	admin.Path, restored.Path = "/postgres", "/"+name
	t.Cleanup(func() {
		if out, err := exec.Command("psql", "--quiet", "--dbname="+admin.String(), "--command=DROP DATABASE IF EXISTS "+name+" WITH (FORCE)").CombinedOutput(); err != nil {
			t.Errorf("drop the restored database: %v\n%s", err, out)
		}
	})
	rb = newRunbook(t, k.env()...)
	rb.run("postgres-restore", "DUMP="+dump, "ADMIN="+admin.String(), "NEW="+name, "RESTORED="+restored.String())
	rb.run("postgres-verify", "RESTORED="+restored.String())
	next := *k.cluster
	next.events = restored.String()
	k.cluster = &next
	behind := k.process(t, "relay of the restored store", "relay")
	behind.start(t)
	behind.process.Await(t, "relay stopped for good")
	behind.end(t, false)
	k.anew(t, "restored-", clusterPartitions)
	k.start(t)
	k.sees(t, "what the backup has", third, "", http.StatusOK)
	k.sees(t, "what it lacks", lost, "", http.StatusNotFound)
	k.sees(t, "a token of what it lacks", lost, tokenOfLost, http.StatusPreconditionFailed)
	fifth, tokenOfFifth := k.books(t, 5, "fifth")
	k.sees(t, "a write after the restore", fifth, tokenOfFifth, http.StatusOK)
	k.equal(t)

	was := k.emptyReads(t)
	newRunbook(t, k.env()...).run("reads-anew", "SALON_READS="+was)
	k.end(t)
	k.start(t)
	k.sees(t, "a token of before the reads database was made anew", fifth, tokenOfFifth, http.StatusOK)
	k.equal(t)
	k.end(t)
}

// emptyReads gives the system an empty reads database and answers its URL.
func (k *kept) emptyReads(t *testing.T) string {
	t.Helper()
	next := *k.cluster
	next.reads = harness.MySQL(t)
	k.cluster = &next
	return next.reads
}

// A data folder is copied and goes on, and its keys are changed.
func TestTheRunbookKeepsADataFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, copied, address := filepath.Join(dir, "data"), filepath.Join(dir, "copy"), harness.Address(t)
	run := func(of string) {
		t.Helper()
		p := harness.Start(t, nil, "up", "--demo", "--data", of, "--listen", address)
		p.Await(t, "Tokens to try")
		if got := call(t, "doctor", "--data", of, "--full"); got.code != 0 {
			t.Errorf("doctor of %s: exit %d\n%s%s", of, got.code, got.out, got.err)
		}
		if code := p.Stop(t); code != 0 {
			t.Errorf("stopped with exit code %d", code)
		}
	}
	run(data)
	rb := newRunbook(t)
	rb.run("folder-backup", "DATA="+data, "COPY="+copied)
	rb.run("master-key-folder", "DATA="+data)
	run(copied)
	run(data)
}

// Keys of servers are changed by the book: each text is read after it as before.
func TestTheRunbookRotatesKeys(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	events := harness.Postgres(t)
	if err := migrateEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, d := range []string{first, second} {
		if got := call(t, "keys", "make", d); got.code != 0 {
			t.Fatal(got)
		}
	}
	rb := newRunbook(t, "SALON_EVENTS="+events)
	if said := rb.run("master-key", "NEW_KEY="+filepath.Join(second, masterKeyName), "OLD_KEY="+filepath.Join(first, masterKeyName)); !strings.Contains(said, "wrapped again") {
		t.Errorf("it says %q", said)
	}
	if got := call(t, "events", "seal", "--events", events, "--seal-key-file", filepath.Join(first, sealKeyName)); got.code != 0 {
		t.Fatal(got)
	}
	rb.run("seal-key", "DIR="+filepath.Join(dir, "third"), "OLD_PUBLIC="+filepath.Join(first, sealKeyName+".pub"))
	if _, err := os.Stat(filepath.Join(dir, "third", sealKeyName)); err != nil {
		t.Error(err)
	}
}
