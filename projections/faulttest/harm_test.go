package faulttest

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// The faults that take more than a line.

func (w *world) booking() string { return w.base.Prefix + wire.BookingTopic }

func (f *fault) client(opts ...kgo.Opt) (*kgo.Client, *kadm.Client) {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(f.w.base.Brokers...)}, opts...)...)
	if err != nil {
		f.t.Fatal(err)
	}
	return client, kadm.NewClient(client)
}

// repeated writes the last records of every partition once more, as a relay does whose requests were on their way for
// very long.
func (f *fault) repeated() {
	client, admin := f.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer client.Close()
	ctx, cancel := context.WithTimeout(f.w.ctx, 30*s)
	defer cancel()
	starts, err := admin.ListStartOffsets(ctx, f.w.booking())
	if err != nil {
		f.t.Error(err)
		return
	}
	ends, err := admin.ListEndOffsets(ctx, f.w.booking())
	if err != nil {
		f.t.Error(err)
		return
	}
	from, until := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(e kadm.ListedOffset) {
		start, _ := starts.Lookup(e.Topic, e.Partition)
		at := max(start.Offset, e.Offset-int64(1+f.dice.IntN(200)))
		if at < e.Offset {
			from[e.Partition], until[e.Partition] = kgo.NewOffset().At(at), e.Offset
		}
	})
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{f.w.booking(): from})
	var again []*kgo.Record
	for len(until) > 0 && ctx.Err() == nil {
		for r := range client.PollFetches(ctx).RecordsAll() {
			last, waiting := until[r.Partition]
			if !waiting || r.Offset >= last {
				continue
			}
			if r.Offset == last-1 {
				delete(until, r.Partition)
			}
			again = append(again, &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers})
		}
	}
	if err := client.ProduceSync(ctx, again...).FirstErr(); err != nil {
		f.t.Errorf("repeat %d records: %v", len(again), err)
	}
}

// truncated takes away, while no projector runs, records that they have not seen: what retention does to a projection
// that stood still for too long.
func (f *fault) truncated() {
	for _, m := range f.w.projectors {
		m.kill()
	}
	f.hold(s, 2*s)
	client, admin := f.client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(f.w.ctx, 30*s)
	defer cancel()
	ends, err := admin.ListEndOffsets(ctx, f.w.booking())
	if err == nil {
		var done kadm.DeleteRecordsResponses
		if done, err = admin.DeleteRecords(ctx, ends.Offsets()); err == nil {
			err = done.Error()
		}
	}
	if err != nil {
		f.t.Errorf("truncate the log: %v", err)
	}
	for _, m := range f.w.projectors {
		m.start(f.t)
	}
}

// epochBack lets the epoch of a frozen owner be given a second time: a fail-over has lost the claim after it.
func (f *fault) epochBack() {
	m := f.projector()
	m.signal(syscall.SIGSTOP)
	f.hold(0, 200*ms)
	was := map[string]map[int32]int64{}
	for into := range f.w.oracle.dbs {
		was[into] = f.epochs(into)
	}
	f.hold(pastSession, pastSession+s) // others have claimed what it had
	for into, db := range f.w.oracle.dbs {
		p, _ := counters(into)
		for part, epoch := range was[into] {
			// One less: whoever has the partition is refused now, claims it again, and gets the frozen one's epoch.
			if _, err := db.Writer().ExecContext(f.w.ctx, "UPDATE projection_offsets SET epoch = ?, claim = 'lost' WHERE projection = ? AND part = ? AND epoch > ?",
				epoch-1, p.ID(), part, epoch); err != nil {
				f.t.Error(err)
			}
		}
	}
	f.hold(session, session+s)
	m.signal(syscall.SIGCONT)
}

// epochs reads how many times each partition of a projection was taken, by partition.
func (f *fault) epochs(into string) map[int32]int64 {
	out := map[int32]int64{}
	p, _ := counters(into)
	err := f.w.until(func() bool {
		ctx, cancel := context.WithTimeout(f.w.ctx, s)
		defer cancel()
		return f.w.oracle.dbs[into].Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
			places, err := engine.Places(ctx, q)
			for _, at := range places {
				if at.Projection == p.ID() {
					out[at.Part] = at.Epoch
				}
			}
			return err
		}) == nil
	})
	if err != nil {
		f.t.Errorf("%s does not answer: %v", into, err)
	}
	return out
}

// failedOver promotes a replica that lacks its master's last commits, and leaves the master dead.
func (f *fault) failedOver() {
	servers := f.w.servers
	master, replica := servers.mariadb, servers.replica
	master.Kill()
	replica.Kill() // the master of the time before
	replica.Follow(f.t, master)
	f.hold(s, 2*s)
	replica.Execute(f.t, "STOP SLAVE SQL_THREAD")
	f.hold(0, 2*s) // what is committed from here on will be lost
	has := commits(f, replica)
	if err := f.w.until(func() bool { return commits(f, master) > has }); err != nil {
		f.t.Errorf("the replica is not behind, the fault has shown nothing: %v", err)
	}
	master.Kill()
	replica.Promote(f.t)
	for _, m := range f.w.projectors {
		m.reads[intoMariaDB].Turn(replica.Addr)
	}
	f.w.mariadb.Turn(replica.Addr)
	servers.mariadb, servers.replica = replica, master
}

// commits counts what projectors have committed in a server, in all its databases.
func commits(f *fault, server *harness.OwnMySQL) (n int64) {
	u, err := url.Parse(f.w.base.Reads[intoMariaDB])
	if err != nil {
		f.t.Error(err)
		return 0
	}
	if err := server.Query(f.t, "SELECT COALESCE(SUM(commit_seq), 0) FROM "+u.Path[1:]+".projection_offsets", &n); err != nil && f.w.ctx.Err() == nil {
		f.t.Errorf("count commits: %v", err)
	}
	return n
}

// topicMadeAgain deletes the topic under the running system. Nobody may take the new one's offsets for the old one's; a
// person accepts the new one, and everybody goes on.
func (f *fault) topicMadeAgain() {
	_, admin := f.client()
	defer admin.Close()
	if _, err := admin.DeleteTopics(f.w.ctx, f.w.booking()); err != nil {
		f.t.Errorf("delete the topic: %v", err)
	}
	f.hold(0, s)
	topics := relay.Topics{Brokers: f.w.base.Brokers, Prefix: f.w.base.Prefix, Partitions: partitions, Replication: 3}
	if err := topics.Ensure(f.w.ctx); err != nil {
		f.t.Errorf("make the topic again: %v", err)
	}
	for _, m := range f.w.projectors {
		if err := m.await("was deleted and made again"); err != nil {
			f.t.Error(err)
		}
	}
	f.unchanged()
	for _, db := range f.w.oracle.dbs {
		if err := engine.AcceptTopics(f.w.ctx, db, f.w.base.Brokers, f.w.base.Prefix, []string{wire.BookingTopic}); err != nil {
			f.t.Errorf("accept the topic: %v", err)
		}
	}
}

// storeRestored gives the running system a store as it was earlier, under its own address, and lets writers overtake
// what was lost. The log and the rows know events that are no more: nobody may mix them with those that have their
// positions now.
func (f *fault) storeRestored() {
	server := f.w.servers.events
	backup := filepath.Join(f.t.TempDir(), "data")
	server.Kill(f.t)
	if out, err := exec.Command("cp", "-a", server.Dir, backup).CombinedOutput(); err != nil {
		f.t.Fatalf("copy the store: %v\n%s", err, out)
	}
	server.Start(f.t)
	f.w.recovered("a backup of the store")
	for _, m := range f.w.writers {
		m.kill()
	}
	ctx, cancel := context.WithTimeout(f.w.ctx, time.Minute)
	defer cancel()
	if err := f.w.oracle.settled(ctx); err != nil {
		f.t.Error(err)
	}
	f.w.oracle.forget()
	server.Kill(f.t)
	if err := errors.Join(os.RemoveAll(server.Dir), os.Rename(backup, server.Dir)); err != nil {
		f.t.Fatal(err)
	}
	server.Start(f.t)
	for _, m := range f.w.writers {
		m.start(f.t)
	}
	if err := f.w.refusal(); err != nil {
		f.t.Error(err)
	}
	f.hold(2*s, 4*s) // writers overtake
	// Whoever comes later sees it as well.
	for _, m := range f.w.all {
		if m.role != "writer" {
			m.kill()
			m.start(f.t)
		}
	}
	f.hold(3*s, 5*s)
	f.unchanged()
}

// unchanged sees that every row is the fold of what its position says, while the system stands still.
func (f *fault) unchanged() {
	ctx, cancel := context.WithTimeout(f.w.ctx, 30*s)
	defer cancel()
	found, err := f.w.oracle.compare(ctx)
	if err != nil || found.sum() > 0 {
		f.t.Errorf("while it stands still: %d lost, %d doubled, %d swapped, %v\n%s", found.Lost, found.Doubled, found.Swapped, err, strings.Join(found.Says, "\n"))
	}
}
