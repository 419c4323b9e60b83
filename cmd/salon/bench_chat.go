package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// chatBench measures chat as people have it: sockets over gateway nodes that are processes of their own. The load is
// generated in this process, on the same machine.
//
// On servers, two nodes serve sockets and a third process takes bookings, relays and projects. Without servers all of it
// is one `salon up`.
type chatBench struct {
	report *report
	each   time.Duration // how long each load lasts
	size   chatSize
	log    io.Writer

	dir   string
	key   *auth.LocalKey
	nodes []*upProcess // that serve sockets
	meter []string     // where each of them shows its numbers
	desk  string       // address of who takes bookings
	rooms []chatRoom
	run   string // part of every name
}

// chatSize is how much of everything.
type chatSize struct {
	rooms      int // in which is talked
	sockets    int // that listen, over all rooms
	rate       int // messages a second, over all rooms
	stalled    int // sockets that do not read
	reconnects int // sockets that come back at once
	missed     int // messages that each of them missed
	idle       int // sockets that do nothing
}

// chatSize is what the goals are about, or what a test has time for.
func (c *benchCmd) chatSize() chatSize {
	if c.Small {
		return chatSize{rooms: 5, sockets: 20, rate: 50, stalled: 5, reconnects: 20, missed: 5, idle: 40}
	}
	return chatSize{rooms: 100, sockets: 1000, rate: 200, stalled: 200, reconnects: 2000, missed: 100, idle: 5000}
}

func (b *chatBench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// chatRoom is a room and the two who are in it.
type chatRoom struct {
	id                string
	customer, groomer string // their tokens
}

// sides are the tokens of a room's members.
func (r chatRoom) sides() [2]string { return [2]string{r.customer, r.groomer} }

func (b *chatBench) measure(ctx context.Context, servers config.Servers) (err error) {
	if b.dir, err = os.MkdirTemp("", "salon-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	stop, err := b.start(ctx, servers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	// A subject may have twenty sockets on a node, and a room has two subjects.
	if err := b.book(ctx, max(b.size.rooms, (b.size.idle+39)/40)); err != nil {
		return err
	}
	if err := b.talk(ctx); err != nil {
		return err
	}
	if err := b.comeBack(ctx); err != nil {
		return err
	}
	return b.rest(ctx, servers)
}

// start starts the processes, and answers how they are stopped.
func (b *chatBench) start(ctx context.Context, servers config.Servers) (stop func() error, err error) {
	var all []*upProcess
	stop = func() error {
		var errs []error
		for _, p := range all {
			errs = append(errs, p.stop())
		}
		return errors.Join(errs...)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if servers.Events == "" {
		p, err := startUp(ctx, self, b.dir, "--rate-limit", "0", "--post-rate", "0")
		if err != nil {
			return nil, err
		}
		all, b.nodes, b.desk, b.meter = append(all, p), append(b.nodes, p), p.url, append(b.meter, p.url+"/metrics")
		b.key, err = auth.LoadKeyFile(filepath.Join(b.dir, authKeyName))
		return stop, err
	}
	if b.key, err = auth.LoadOrGenerateKeyFile(filepath.Join(b.dir, authKeyName)); err != nil {
		return nil, err
	}
	// The key of nothing but zeros is that of the other benchmarks: they may run on the same store.
	if err := os.WriteFile(filepath.Join(b.dir, masterKeyName), []byte(base64.StdEncoding.EncodeToString(make([]byte, sealed.MasterBytes))), 0o600); err != nil {
		return nil, err
	}
	if err := (&node{servers: servers}).migrate(ctx); err != nil {
		return nil, err
	}
	desk, err := b.serve(ctx, servers, []string{"commands", "relay", "projector"})
	if err != nil {
		return nil, err
	}
	all, b.desk = append(all, desk), desk.url
	for range 2 {
		meter, err := freeAddress(ctx)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		p, err := b.serve(ctx, servers, []string{"live"}, "SALON_METRICS_LISTEN="+meter)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		all, b.nodes, b.meter = append(all, p), append(b.nodes, p), append(b.meter, "http://"+meter+"/metrics")
	}
	return stop, nil
}

// serve starts a process with these roles. The servers' addresses hold passwords: they go by the environment.
func (b *chatBench) serve(ctx context.Context, servers config.Servers, roles []string, more ...string) (*upProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startServing(ctx, func(address string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, append([]string{"serve"}, roles...)...)
		cmd.Env = append(os.Environ(),
			"SALON_EVENTS="+servers.Events, "SALON_KAFKA="+servers.Kafka, "SALON_READS="+servers.Reads, "SALON_REDIS="+servers.Redis,
			"SALON_PARTITIONS="+strconv.Itoa(servers.Topics.Partitions), "SALON_TOPIC_PREFIX="+servers.Topics.TopicPrefix,
			"SALON_AUTH_KEY_FILE="+filepath.Join(b.dir, authKeyName), "SALON_MASTER_KEY_FILE="+filepath.Join(b.dir, masterKeyName),
			"SALON_LISTEN="+address, "SALON_RATE_LIMIT=0", "SALON_LOG_LEVEL=error",
		)
		cmd.Env = append(cmd.Env, more...)
		return cmd
	})
}

// book makes rooms: a salon and a reservation for each.
func (b *chatBench) book(ctx context.Context, rooms int) error {
	b.say("booking %d visits, each with its room …", rooms)
	b.run = runName()
	b.rooms = make([]chatRoom, rooms)
	var group errgroup.Group
	group.SetLimit(8)
	for i := range b.rooms {
		group.Go(func() (err error) {
			b.rooms[i], err = b.bookOne(ctx, i)
			return err
		})
	}
	return group.Wait()
}

func (b *chatBench) bookOne(ctx context.Context, i int) (r chatRoom, err error) {
	salon := demoSalon{
		fmt.Sprintf("chat-%s-%d", b.run, i), "벤치 살롱", "서울 중구 을지로 1", []string{"seoul/jung-gu"}, []string{"shop"}, "instant", 1000,
	}
	if r.groomer, err = b.key.Mint(salon.id, "groomer", time.Hour); err != nil {
		return r, err
	}
	if r.customer, err = b.key.Mint(salon.id, "customer", time.Hour); err != nil {
		return r, err
	}
	if _, err := newClient(b.desk, r.groomer).must(ctx, http.MethodPut, "/v1/groomers/"+salon.id, "open", salonBody(salon), nil); err != nil {
		return r, err
	}
	at := time.Now().In(time.FixedZone("KST", 9*3600)).AddDate(0, 0, 7)
	for at.Weekday() != time.Wednesday { // every salon of the demo is open then
		at = at.AddDate(0, 0, 1)
	}
	var made struct {
		ID string `json:"reservation_id"`
	}
	_, err = newClient(b.desk, r.customer).must(ctx, http.MethodPost, "/v1/reservations", "book", map[string]any{
		"groomer_id": salon.id, "start": time.Date(at.Year(), at.Month(), at.Day(), 11, 0, 0, 0, at.Location()), "mode": "shop",
		"dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
	}, &made)
	r.id = made.ID
	return r, err
}

// liveNumbers are what the nodes have counted since they started, together, by the metric's name.
func (b *chatBench) liveNumbers(ctx context.Context) (map[string]float64, error) {
	sum := map[string]float64{}
	for _, url := range b.meter {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, err
		}
		all, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(all)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "salon_live_") {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", url, err)
				}
				sum[name] += n
			}
		}
	}
	if _, ok := sum[bytesSent]; !ok {
		return nil, fmt.Errorf("%v show no numbers of sockets", b.meter)
	}
	return sum, nil
}

// The metrics that are looked at.
const (
	messagesSent = "salon_live_messages_total"
	bytesSent    = "salon_live_bytes_total"
	storeReads   = "salon_live_store_reads_total"
	pageReads    = "salon_live_page_reads_total"
)

// processorOf is the time that another process has spent on processors.
func (p *upProcess) processor() (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("processor time of another process is only measured on Linux: %w", err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime of proc(5), in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// latencies are what many goroutines measure.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	l.all = append(l.all, d)
	l.mu.Unlock()
}
