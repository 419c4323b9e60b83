package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

type loadCmd struct {
	URL         string        `name:"url" help:"The system's address." default:"http://127.0.0.1:8080" placeholder:"URL"`
	For         time.Duration `help:"How long; Ctrl-C ends it sooner." default:"30s" env:"-"`
	Rate        float64       `help:"Requests a second, of all together: two in five of them writes." default:"50" env:"-"`
	Pairs       int           `help:"How many customers, each with a groomer and a room of their own, and a socket that listens in it." default:"20" env:"-"`
	Wait        time.Duration `help:"How long a read may take to contain what its caller wrote (Prefer: wait, in whole seconds). While it waits, its pair does nothing else." default:"2s" env:"-"`
	Name        string        `help:"What this line of a table is called." default:"load" env:"-"`
	Output      string        `help:"table or json." default:"table" enum:"table,json" short:"o"`
	AuthKeyFile string        `help:"The local key that the system trusts. Without it, the one in the data folder." type:"path" placeholder:"FILE"`
	Data        string        `help:"Data folder of salon up." type:"path" default:"${data}"`
}

func (c *loadCmd) Help() string {
	return "Uses a running system as people do, while you break parts of it, and reads everything back at the end. No request is\n" +
		"tried again by this program, and writes come without an Idempotency-Key, so that what the front door does is seen, too.\n\n" +
		"  failed    requests without a success: refused, broken off, or 5xx\n" +
		"  lost      acknowledged writes that cannot be read, messages that a socket missed, reads older than their token\n" +
		"  doubled   writes with two effects, messages that a socket got twice\n" +
		"  slowest   the longest time that a success took\n" +
		"  writes, reads, sockets   the longest time without a success of any; of a socket, that it was away\n\n" +
		"Exit 1 when something was lost or doubled."
}

// loadResult is what came of a load.
type loadResult struct {
	Name        string         `json:"name"`
	Requests    int            `json:"requests"`
	Failed      int            `json:"failed"`
	Failures    map[string]int `json:"failures"` // by status and code
	Lost        int            `json:"lost"`
	Doubled     int            `json:"doubled"`
	Slowest     float64        `json:"slowest_s"`
	WritesAway  float64        `json:"writes_away_s"`
	ReadsAway   float64        `json:"reads_away_s"`
	SocketsAway float64        `json:"sockets_away_s"`
	What        []string       `json:"what"` // was lost or doubled, the first few
}

// Run begins when every pair has its room, and ends when everything was read back.
func (c *loadCmd) Run(ctx context.Context, t *terminal) error {
	if err := checkURL(c.URL); err != nil {
		return usage(err)
	}
	if c.Rate <= 0 || c.Pairs < 1 || c.For <= 0 || c.Wait < time.Second {
		return usage(errors.New("--rate, --pairs and --for are above 0, --wait is at least 1s"))
	}
	l := &loadRun{result: loadResult{Name: c.Name, Failures: map[string]int{}, What: []string{}}}
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	file := keyFile(c.AuthKeyFile, c.Data)
	connections := http.DefaultTransport.(*http.Transport).Clone()
	connections.MaxIdleConns, connections.MaxIdleConnsPerHost = 0, c.Pairs
	// Sooner than the front door lets go of one (Nginx' keepalive_timeout): a write that meets a connection as it is closed has no
	// answer, and nobody tries it again.
	connections.IdleConnTimeout = 20 * time.Second
	defer connections.CloseIdleConnections()
	pairs := make([]*loadPair, c.Pairs)
	for i := range pairs {
		pairs[i] = &loadPair{
			loadRun: l, url: strings.TrimSuffix(c.URL, "/"), name: fmt.Sprintf("load-%s-%d", hex.EncodeToString(b[:]), i),
			wait: int(c.Wait.Seconds()), connections: connections,
			acked: map[string]uint64{}, off: map[time.Time]bool{}, news: make(chan struct{}, 1),
		}
	}
	each := func(do func(p *loadPair, ctx context.Context) error) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, p := range pairs {
			group.Go(func() error { return do(p, ctx) })
		}
		return group.Wait()
	}
	mint := func(sub, role string) (string, error) { return mint(file, sub, role, c.For+time.Hour) }
	if err := each(func(p *loadPair, ctx context.Context) error { return p.open(ctx, mint) }); err != nil {
		return fmt.Errorf("before anything was measured: %w", err)
	}
	going, end := context.WithTimeout(ctx, c.For)
	defer end()
	ctx = context.WithoutCancel(ctx) // who is tired of it still wants to know what came of it
	listening, hangUp := context.WithCancel(ctx)
	var sockets sync.WaitGroup
	defer sockets.Wait()
	defer hangUp()
	for _, p := range pairs {
		sockets.Go(func() { p.listen(listening) })
	}
	fmt.Fprintf(t.err, "%d pairs are at it\n", c.Pairs)
	l.begin(time.Now())
	pace := time.Duration(float64(c.Pairs) / c.Rate * float64(time.Second))
	_ = each(func(p *loadPair, ctx context.Context) error { p.live(ctx, going.Done(), pace); return nil }) // what fails is counted
	l.end(time.Now())
	if err := each((*loadPair).check); err != nil {
		return err
	}
	l.result.print(t.out, c.Output)
	if l.result.Lost+l.result.Doubled > 0 {
		return errors.New("something was lost or doubled: " + strings.Join(l.result.What, "; "))
	}
	return nil
}

func (r *loadResult) print(out io.Writer, as string) {
	if as == "json" {
		_ = writeJSON(out, r)
		return
	}
	codes := make([]string, 0, len(r.Failures))
	for _, code := range slices.Sorted(maps.Keys(r.Failures)) {
		codes = append(codes, fmt.Sprintf("%d × %s", r.Failures[code], code))
	}
	fmt.Fprintf(out, "%-32s %8s %7s %5s %8s %8s %8s %8s %8s\n", "", "requests", "failed", "lost", "doubled", "slowest", "writes", "reads", "sockets")
	fmt.Fprintf(out, "%-32s %8d %7d %5d %8d %6.1f s %6.1f s %6.1f s %6.1f s  %s\n", r.Name, r.Requests, r.Failed, r.Lost, r.Doubled,
		r.Slowest, r.WritesAway, r.ReadsAway, r.SocketsAway, strings.Join(codes, ", "))
}

// loadRun counts for all pairs.
type loadRun struct {
	mu               sync.Mutex
	result           loadResult
	counting         bool
	write, read      time.Time // of the last success
	writing, reading time.Duration
}

func (l *loadRun) begin(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counting, l.write, l.read = true, now, now
}

// end counts what lasts still.
func (l *loadRun) end(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counting = false
	l.result.WritesAway = max(l.writing, now.Sub(l.write)).Seconds()
	l.result.ReadsAway = max(l.reading, now.Sub(l.read)).Seconds()
}

// answered counts one request, which began then.
func (l *loadRun) answered(isWrite bool, began time.Time, a answer, err error) (ok bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Requests++
	if err != nil || a.status >= http.StatusBadRequest {
		l.result.Failed++
		l.result.Failures[failure(a, err)]++
		return false
	}
	l.result.Slowest = max(l.result.Slowest, now.Sub(began).Seconds())
	last, longest := &l.read, &l.reading
	if isWrite {
		last, longest = &l.write, &l.writing
	}
	*longest, *last = max(*longest, now.Sub(*last)), now
	return true
}

func failure(a answer, err error) string {
	if err != nil {
		if at := (*net.OpError)(nil); errors.As(err, &at) { // without its addresses, which are others each time
			err = at.Err
		}
		if of := (*url.Error)(nil); errors.As(err, &of) {
			err = of.Err
		}
		return "no answer: " + err.Error()
	}
	var p struct{ Code string }
	if json.Unmarshal(a.body, &p) != nil || p.Code == "" {
		p.Code = "without a code"
	}
	return fmt.Sprintf("%d %s", a.status, p.Code)
}

func (l *loadRun) wrong(count *int, format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *count++; len(l.result.What) < 10 {
		l.result.What = append(l.result.What, fmt.Sprintf(format, v...))
	}
}

func (l *loadRun) socketAway(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counting {
		l.result.SocketsAway = max(l.result.SocketsAway, d.Seconds())
	}
}
