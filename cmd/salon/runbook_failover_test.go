package main

import (
	"context"
	"net"
	"net/http"
	neturl "net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// address sets HOST and PORT of a block.
func address(t *testing.T, addr string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"HOST=" + host, "PORT=" + port}
}

// People book, chat and read their own writes while each of three servers is lost or taken out, and its standby takes its place
// by the runbook's commands. No process is told: all have the addresses of both, or of sentinels.
func TestTheRunbookFailsOver(t *testing.T) {
	harness.NeedsServers(t)
	seed := newSeed(t)
	kafka, prefix := harness.Kafka(t)
	events := harness.NewPostgres(t)
	url, err := neturl.Parse(events.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	eventsStandby := events.Standby(t)
	url.Host += "," + eventsStandby.Addr
	url.RawQuery += "&target_session_attrs=read-write"
	mysql := harness.NewMySQL(t)
	mysqlReplica := mysql.Replica(t)
	database := strings.TrimPrefix(mysql.Database(t), "mysql://root@"+mysql.Addr)
	views := harness.NewRedis(t)
	viewsReplica := views.Replica(t)
	sentinels := views.Sentinels(t, "salon", 1)

	c := newCluster(t, url.String(), kafka, prefix, "mysql://root@"+mysql.Addr+","+mysqlReplica.Addr+database, "redis+sentinel://"+strings.Join(sentinels, ",")+"/salon/0")
	c.prepare(t)
	front, back := c.member(t, "front", "commands", "readapi"), c.member(t, "back", "relay", "projector")
	front.args = append(front.args, "--reads-replica", "mysql://root@"+mysqlReplica.Addr+database)
	front.start(t)
	back.start(t)
	front.ready(t)
	store, models := c.openStore(t), c.openModels(t)
	rb := newRunbook(t)

	w := newTown([]string{front.url}, []string{front.url}, c.mint(t))
	groomers := salons(3)
	w.open(t.Context(), seed, groomers)
	living, stop := context.WithCancel(t.Context())
	var people sync.WaitGroup
	people.Go(func() { w.live(living, t.Context(), seed, 100*time.Millisecond, groomers, customersOf(3)) })
	defer people.Wait()
	defer stop()
	goesOn := func(what string, began time.Time) {
		t.Helper()
		w.goesOn(t, 15)
		again := time.Since(began)
		models.caughtUp(t, mustRead(t, store))
		t.Logf("%s: 15 more writes %.1f s after, all read models caught up %.1f s after", what, again.Seconds(), time.Since(began).Seconds())
	}
	goesOn("before", time.Now())

	began := time.Now()
	events.Kill(t)
	rb.run("postgres-promote", address(t, eventsStandby.Addr)...)
	goesOn("PostgreSQL's primary was killed, its standby promoted", began)
	successor := address(t, eventsStandby.Addr)
	rb.as(harness.AsPostgres(t)).run("postgres-rejoin", "NEW_"+successor[0], "NEW_"+successor[1], "DATA="+events.Dir)
	events.Start(t)
	eventsStandby.Followed(t)
	rb.run("postgres-synchronous", successor...)
	w.goesOn(t, 15)
	began = time.Now()
	events.Kill(t)
	rb.run("postgres-alone", successor...)
	goesOn("PostgreSQL's standby was killed, and its primary told to go on alone", began)

	began = time.Now()
	mysql.Kill()
	kim := newClient(front.url, c.mint(t)(customersOf(1)[0]))
	for range 20 { // nobody has promoted anything yet
		if a, err := kim.call(t.Context(), http.MethodGet, "/v1/groomers", "", nil); err != nil || a.status != http.StatusOK {
			t.Fatalf("read while MySQL's primary is away: %v %d %s", err, a.status, a.body)
		}
	}
	rb.run("mysql-promote", address(t, mysqlReplica.Addr)...)
	goesOn("MySQL's primary was killed, its replica promoted", began)
	rb.run("mysql-keep-out", "DATA="+mysql.Dir)
	mysql.Flags = []string{"--super-read-only=ON", "--plugin-load-add=mysql_clone.so"}
	mysql.Start(t)
	successor = address(t, mysqlReplica.Addr)
	both := append(address(t, mysql.Addr), "NEW_"+successor[0], "NEW_"+successor[1])
	rb.run("mysql-rejoin", both...)
	mysql.Restart(t) // its clone ends it, and nobody supervises it here
	rb.run("mysql-follow", both...)
	mysql.InStep(t, mysqlReplica)
	w.goesOn(t, 5)

	began = time.Now()
	rb.run("redis-failover", address(t, sentinels[0])...)
	goesOn("Redis' primary was taken out of service by its sentinels", began)
	viewsReplica.Unfollowed(t) // it is the primary now, and its replica gets nothing from here on
	w.goesOn(t, 15)
	began = time.Now()
	viewsReplica.Kill()
	goesOn("Redis' primary was killed and took writes with it", began)
	stop()
	people.Wait()

	h := mustRead(t, store)
	models.caughtUp(t, h)
	w.report(t)
	fail(t, "answers", w.answers(t.Context(), seed))
	fail(t, "store", h.once(w.deeds, commandsOf(t, store)))
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	front.end(t, false)
	back.end(t, false)
}
