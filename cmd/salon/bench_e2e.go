package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/embedded"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// e2e measures the whole way: a command, its events, the relay, Kafka, the rows, a read.
type e2e struct {
	report *report
	each   time.Duration // how long each load lasts
	log    io.Writer     // progress
}

func (b *e2e) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// embedded measures `salon up`: as a process from outside (size, start, memory), then its parts under load in this
// process, load generator included.
func (b *e2e) embedded(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.process(ctx, filepath.Join(dir, "process")); err != nil {
		return err
	}
	return b.inFolder(ctx, filepath.Join(dir, "load"), func(ctx context.Context, n *node, p *people) error {
		if err := b.sustained(ctx, n, p); err != nil {
			return err
		}
		if err := b.burst(ctx, n, p); err != nil {
			return err
		}
		if err := b.overHTTP(ctx, n, p); err != nil {
			return err
		}
		return b.readable(ctx, n, p, 1000)
	})
}

// real measures against real servers, all roles in this process.
func (b *e2e) real(ctx context.Context, servers config.Servers) error {
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n := &node{servers: servers}
	if err := n.migrate(ctx); err != nil {
		return err
	}
	return b.onNode(ctx, n, dir, func(ctx context.Context, n *node, p *people) error {
		for _, rate := range []int{1000, 2000} {
			if err := b.visible(ctx, n, p, rate); err != nil {
				return err
			}
		}
		return b.readable(ctx, n, p, 1000)
	})
}

// seen measures how soon rows can be seen on real servers, all roles in this process.
func (b *e2e) seen(ctx context.Context, servers config.Servers) error {
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n := &node{servers: servers}
	if err := n.migrate(ctx); err != nil {
		return err
	}
	return b.onNode(ctx, n, dir, b.visibleAtEachRate)
}

// seenEmbedded is seen over embedded servers.
func (b *e2e) seenEmbedded(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return b.inFolder(ctx, filepath.Join(dir, "load"), b.visibleAtEachRate)
}

func (b *e2e) visibleAtEachRate(ctx context.Context, n *node, p *people) error {
	for _, rate := range []int{100, 1000, 2000} {
		if err := b.visible(ctx, n, p, rate); err != nil {
			return err
		}
	}
	return nil
}

// inFolder runs a node over embedded servers.
func (b *e2e) inFolder(ctx context.Context, dir string, work func(context.Context, *node, *people) error) error {
	folder, err := embedded.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	servers, err := embedded.Start(dir)
	if err != nil {
		return err
	}
	defer servers.Close()
	n := &node{servers: embeddedServers(folder, servers), alone: true}
	if err := n.migrate(ctx); err != nil {
		return err
	}
	return b.onNode(ctx, n, dir, work)
}

// onNode runs all roles and then the work.
func (b *e2e) onNode(ctx context.Context, n *node, dir string, work func(context.Context, *node, *people) error) error {
	tel, err := telemetryOf(ctx, config.Observability{}, slog.LevelWarn, b.log)
	if err != nil {
		return err
	}
	key, err := auth.LoadOrGenerateKeyFile(filepath.Join(dir, authKeyName))
	if err != nil {
		return err
	}
	if n.listener, err = listen(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	n.tel, n.verifier, n.masters = tel, key.Verifier(), [][]byte{make([]byte, 32)}
	n.http = config.HTTP{HoldTTL: 5 * time.Minute}
	visible := &visibility{}
	n.applied, n.relayed = visible.note, visible.noteRelayed

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.run(ctx, []role{roleCommands, roleReadAPI, roleRelay, roleProjector}) })
	group.Go(func() error {
		defer cancel()
		url := "http://" + n.listener.Addr().String()
		if err := awaitReady(ctx, url); err != nil {
			return err
		}
		p, err := newPeople(ctx, n, url, func(sub, role string) (string, error) { return key.Mint(sub, role, time.Hour) }, visible)
		if err != nil {
			return err
		}
		return work(ctx, n, p)
	})
	return group.Wait()
}

// process measures the binary as its user sees it.
func (b *e2e) process(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	info, err := os.Stat(self)
	if err != nil {
		return err
	}
	b.report.atMost("size of the binary", float64(info.Size())/1e6, "MB", 60)

	b.say("starting and stopping the process …")
	p, err := startUp(ctx, self, dir, "--demo")
	if err != nil {
		return err
	}
	if err := p.awaitDemo(); err != nil {
		return errors.Join(err, p.kill())
	}
	memory, err := p.resident()
	if err != nil {
		return errors.Join(err, p.kill())
	}
	b.report.atMost("resident after the demo", memory, "MB", 150)
	const starts = 5
	var clean, killed []time.Duration
	for range starts {
		if err := p.stop(); err != nil {
			return err
		}
		if p, err = startUp(ctx, self, dir); err != nil {
			return err
		}
		clean = append(clean, p.ready)
	}
	for range starts {
		if err := p.kill(); err != nil {
			return err
		}
		if p, err = startUp(ctx, self, dir); err != nil {
			return err
		}
		killed = append(killed, p.ready)
	}
	b.report.atMost("ready after a clean stop (median of 5)", milliseconds(quantile(clean, .5)), "ms", 300)
	b.report.atMost("ready after kill -9 (median of 5)", milliseconds(quantile(killed, .5)), "ms", 3000)
	return p.stop()
}

// sustained offers 5,000 commands a second to the command layer and asks whether the projections keep up.
func (b *e2e) sustained(ctx context.Context, n *node, p *people) error {
	const rate = 5000
	b.say("%d commands/s to the command layer for %v …", rate, b.each)
	l := &load{people: p, desk: p.direct, callers: callers, rate: rate}
	done, err := l.run(ctx, b.each)
	if err != nil {
		return err
	}
	drained, err := p.visible.drained(ctx, n)
	if err != nil {
		return err
	}
	b.report.atLeast("commands, sustained, offered 5,000/s", done.rate(), "/s", .99*rate)
	b.report.atMost("projections behind at the end of it", milliseconds(drained), "ms", 1000)
	return nil
}

// burst lets every caller go as fast as it is answered.
func (b *e2e) burst(ctx context.Context, n *node, p *people) error {
	b.say("commands as fast as they go for %v …", b.each/3)
	l := &load{people: p, desk: p.direct, callers: callers}
	before := processor()
	done, err := l.run(ctx, b.each/3)
	if err != nil {
		return err
	}
	drained, err := p.visible.drained(ctx, n)
	if err != nil {
		return err
	}
	cost := (processor() - before) / time.Duration(len(done.took))
	b.report.atLeast("commands in a burst", done.rate(), "/s", 10000)
	b.report.atMost("drained after the burst", drained.Seconds(), "s", 10)
	// Unlike a rate it hardly depends on what else the machine does. Two cores at 10,000/s have 200 µs.
	b.report.atMost("processor time of a command, rows and load included", float64(cost.Nanoseconds())/1000, "µs", 200)
	return nil
}

func (b *e2e) overHTTP(ctx context.Context, n *node, p *people) error {
	b.say("commands over HTTP with authentication for %v …", b.each)
	l := &load{people: p, desk: p.http, callers: callers}
	done, err := l.run(ctx, b.each)
	if err != nil {
		return err
	}
	b.report.atLeast("commands over HTTP", done.rate(), "/s", 2000)
	b.report.atMost("of those, p99 of the answer", milliseconds(quantile(done.took, .99)), "ms", 1000)
	_, err = p.visible.drained(ctx, n)
	return err
}

// readable measures from the answer of a write until a read with its token was answered.
func (b *e2e) readable(ctx context.Context, n *node, p *people, rate int) error {
	b.say("%d commands/s over HTTP for %v, every tenth read back …", rate, b.each)
	l := &load{people: p, desk: p.http, callers: callers, rate: float64(rate), readEvery: 10}
	done, err := l.run(ctx, b.each)
	if err != nil {
		return err
	}
	b.report.atLeast(fmt.Sprintf("commands over HTTP, offered %d/s", rate), done.rate(), "/s", .99*float64(rate))
	b.report.atMost("accepted → readable, p50", milliseconds(quantile(done.read, .5)), "ms", 20)
	b.report.atMost("accepted → readable, p99", milliseconds(quantile(done.read, .99)), "ms", 150)
	_, err = p.visible.drained(ctx, n)
	return err
}

// visible measures from the answer of a write until every projection of its topic had committed it.
func (b *e2e) visible(ctx context.Context, n *node, p *people, rate int) error {
	b.say("%d commands/s to the command layer for %v …", rate, b.each)
	l := &load{people: p, desk: p.direct, callers: callers, rate: float64(rate)}
	if rate < 1000 {
		l.callers = callers / 16 // each tells a story of ten commands to its end, however late that is
	}
	p.visible.reset()
	done, err := l.run(ctx, b.each)
	if err != nil {
		return err
	}
	if _, err := p.visible.drained(ctx, n); err != nil {
		return err
	}
	p50, p99 := 100.0, 100.0 // at 1,000/s
	switch {
	case rate > 1000:
		p50, p99 = 50, 50
	case rate < 1000:
		p50 = 10
	}
	b.report.atLeast(fmt.Sprintf("commands, offered %d/s", rate), done.rate(), "/s", .99*float64(rate))
	b.split("commands answered", done.took)
	b.split("read by the relay → acknowledged", p.visible.relayed)
	for _, t := range []struct {
		name   string
		target engine.Target
	}{{database(n.reads), engine.SQL}, {"Redis", engine.Redis}} {
		took := p.visible.took(t.target)
		b.report.atMost(fmt.Sprintf("accepted → visible in %s at %d/s, p50", t.name, rate), milliseconds(quantile(took, .5)), "ms", p50)
		b.report.atMost(fmt.Sprintf("accepted → visible in %s at %d/s, p99", t.name, rate), milliseconds(quantile(took, .99)), "ms", p99)
		stages := p.visible.stages(t.target)
		for i, what := range []string{"recorded → given to Kafka", "given to Kafka → fetched", "fetched → batch begins", "batch begins → committed"} {
			b.split(t.name+": "+what, stages[i])
		}
		b.report.plain("  "+t.name+": batches", float64(len(stages[0]))/b.each.Seconds(), "/s")
	}
	return nil
}

// split reports one stage of the way.
func (b *e2e) split(what string, took []time.Duration) {
	b.report.plain("  "+what+", p50", milliseconds(quantile(took, .5)), "ms")
	b.report.plain("  "+what+", p99", milliseconds(quantile(took, .99)), "ms")
}

// database names what the read models are in.
func database(db *reads.DB) string {
	if db.Dialect() == reads.SQLite {
		return "SQLite"
	}
	return "MySQL"
}

// processor is the time that this process has spent on processors.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// upProcess is a `salon up` or `salon serve` that the benchmark started.
type upProcess struct {
	cmd    *exec.Cmd
	url    string
	output *lines
	ready  time.Duration // from exec to the first 200 of /readyz
}

func startUp(ctx context.Context, self, dir string, more ...string) (*upProcess, error) {
	return startServing(ctx, func(address string) *exec.Cmd {
		return exec.CommandContext(ctx, self, append([]string{"up", "--data", dir, "--listen", address}, more...)...)
	})
}

// startServing starts a process that serves HTTP at an address which is free now.
func startServing(ctx context.Context, command func(address string) *exec.Cmd) (*upProcess, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p := &upProcess{cmd: command(address), url: "http://" + address, output: &lines{}}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := awaitReady(wait, p.url); err != nil {
		return nil, errors.Join(fmt.Errorf("salon %s did not become ready: %w\n%s", p.cmd.Args[1], err, p.output), p.kill())
	}
	p.ready = time.Since(began)
	return p, nil
}

// freeAddress is one that nobody listens on now.
func freeAddress(ctx context.Context) (string, error) {
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (p *upProcess) stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return p.cmd.Wait()
}

func (p *upProcess) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = p.cmd.Wait() // "signal: killed"
	return nil
}

func (p *upProcess) awaitDemo() error {
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !p.output.has("Three lines to paste") {
		select {
		case <-tick.C:
		case <-deadline:
			return errors.New("the demo did not finish within a minute")
		}
	}
	return nil
}

// resident is the process's memory in MB, as Linux counts it.
func (p *upProcess) resident() (float64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, fmt.Errorf("memory is only measured on Linux, not %s: %w", runtime.GOOS, err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, errors.New("no VmRSS in the process's status")
}
