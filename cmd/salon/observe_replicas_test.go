package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestTheWatchSeesAReplicaOfMySQL stops and kills a replica of MySQL, before there is something to copy, too, and takes from
// our account the right to know whether it runs: the role admin shows what is so, and of what it may not know, nothing.
func TestTheWatchSeesAReplicaOfMySQL(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	primary := harness.NewMySQL(t)
	replica := primary.Replica(t)
	database := strings.TrimPrefix(primary.Database(t), "mysql://root@"+primary.Addr+"/")
	// As deploy/compose/mysql-init.sh has it.
	primary.Execute(t, "CREATE USER 'salon'@'%'", "GRANT ALL ON "+database+".* TO 'salon'@'%'", "GRANT REPLICATION CLIENT ON *.* TO 'salon'@'%'")
	kafka, prefix := harness.Kafka(t)
	c := newCluster(t, harness.Postgres(t), kafka, prefix, "mysql://salon@"+primary.Addr+"/"+database, harness.Redis(t))
	c.prepare(t)
	m := c.member(t, "all", "commands", "relay", "projector", "admin")
	metrics := harness.Address(t)
	m.args = append(m.args, "--metrics-listen", metrics, "--reads-replica", "mysql://salon@"+replica.Addr+","+primary.Addr+"/"+database)
	m.start(t)
	m.ready(t)

	// shown waits until these figures are as they are to be: a number, "late" for more than five seconds, "none" for what is not
	// shown, "" when it does not matter.
	shown := func(what, follow, runs, behind string) {
		t.Helper()
		of := fmt.Sprintf("{replica=%q,server=\"reads\"} ", replica.Addr)
		wait(t, 3*time.Minute, func() (why string) {
			body := "\n" + get(t, "http://"+metrics+"/metrics")
			for name, want := range map[string]string{
				`salon_replicas{server="reads"} `: follow, "salon_replica_runs" + of: runs, "salon_replica_behind_seconds" + of: behind,
			} {
				got, seconds := "none", 0.0
				if _, after, is := strings.Cut(body, "\n"+name); is {
					got, _, _ = strings.Cut(after, "\n")
				}
				if _, err := fmt.Sscan(got, &seconds); err == nil && name == "salon_replica_behind_seconds"+of {
					got = map[bool]string{true: "late", false: "in step"}[seconds > 5]
				}
				if got != want && want != "" {
					why += fmt.Sprintf("%s: %s is %s, not %s\n", what, name, got, want)
				}
			}
			return why
		})
		if all := get(t, "http://"+metrics+"/metrics"); strings.Contains(all, fmt.Sprintf("replica=%q", primary.Addr)) {
			t.Errorf("%s: the primary is called a replica of itself:\n%s", what, all)
		}
	}
	seed := newSeed(t)
	groomers := salons(2)
	w := newTown([]string{m.url}, nil, c.mint(t))

	shown("it follows", "1", "1", "in step")
	replica.Execute(t, "STOP REPLICA SQL_THREAD")
	shown("it applies nothing, and there may be nothing", "0", "0", "")
	w.open(t.Context(), seed, groomers[:1])
	shown("it applies nothing", "0", "0", "late")
	replica.Execute(t, "START REPLICA SQL_THREAD", "STOP REPLICA IO_THREAD")
	shown("it fetches nothing", "0", "0", "in step")
	replica.Execute(t, "START REPLICA IO_THREAD")
	shown("it follows again", "1", "1", "in step")

	primary.Execute(t, "REVOKE REPLICATION CLIENT ON *.* FROM 'salon'@'%'")
	shown("it may not be asked", "1", "none", "in step") // within a minute: a connection keeps the rights that it began with
	if log := m.process.Output(); !strings.Contains(log, "GRANT REPLICATION CLIENT") {
		t.Errorf("the log does not say which right is missing:\n%s", log)
	}
	replica.Execute(t, "STOP REPLICA")
	w.open(t.Context(), seed, groomers[1:])
	shown("it may not be asked, and is late", "1", "none", "late")
	replica.Kill()
	shown("it is away", "0", "0", "none")
	replica.Flags = []string{"--super-read-only=ON"} // without its files of settings (--no-defaults) it does not know what was persisted
	replica.Start(t)                                 // a server follows again when it starts
	shown("it came back", "1", "none", "in step")
	w.report(t)
	m.end(t, false)
}
