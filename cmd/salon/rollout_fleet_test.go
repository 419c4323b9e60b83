package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// fleet is two processes of each role behind the front door of deploy/nginx, whose releases `salon rollout` changes.
type fleet struct {
	*cluster
	dir   string // binaries, nodes, run, rollout, nginx
	front string // URL of nginx
	nodes []string
	env   []string
}

// newFleet prepares everything and starts nginx; no process of ours runs yet. v1 and v2 are the binary of this checkout.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{cluster: realCluster(t), dir: t.TempDir()}
	if got := call(t, append([]string{"topics", "ensure"}, f.topics()...)...); got.code != 0 {
		t.Fatal(got)
	}
	for _, d := range []string{"bin", "nodes", "run", "nginx"} {
		if err := os.Mkdir(filepath.Join(f.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{"v1", "v2"} {
		if err := os.Symlink(harness.Binary(t), f.binary(v)); err != nil {
			t.Fatal(err)
		}
	}
	upstreams := []string{"admin-a:8080", harness.Address(t), "admin-b:8080", harness.Address(t)} // nobody is there
	for _, role := range []string{"projector", "readapi", "relay", "live", "commands"} {
		for _, n := range []string{"a", "b"} {
			node, address := role+"-"+n, harness.Address(t)
			args := append(append([]string{role}, f.databases()...), f.topics()...)
			args = append(args, "--redis", f.redis, "--master-key-file", f.masterFile, "--auth-key-file", f.authFile, "--listen", address,
				"--metrics-listen", harness.Address(t), "--rate-limit", "0", "--post-rate", "0", "--log-level", "warn", "--drain", "200ms")
			f.write(t, filepath.Join("nodes", node), strings.Join(args, "\n")+"\n", 0o600)
			f.nodes = append(f.nodes, node)
			upstreams = append(upstreams, node+":8080", address)
		}
	}
	f.nginx(t, upstreams)
	f.write(t, "smoke.sh", "#!/bin/sh\nexec curl --fail --silent --show-error --max-time 10 --output /dev/null '"+f.front+"/v1/groomers?area=seoul/jung-gu'\n", 0o700)
	f.env = []string{
		"SALON_DEPLOY_BINARIES=" + filepath.Join(f.dir, "bin"), "SALON_DEPLOY_NODES=" + filepath.Join(f.dir, "nodes"),
		"SALON_DEPLOY_RUN=" + filepath.Join(f.dir, "run"), "SALON_DEPLOY_SMOKE=" + filepath.Join(f.dir, "smoke.sh"),
		"SALON_EVENTS=" + f.events, "SALON_READS=" + f.reads,
	}
	t.Cleanup(func() { f.end(t) })
	return f
}

func (f *fleet) binary(version string) string { return filepath.Join(f.dir, "bin", version) }

func (f *fleet) write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// wrapped makes a release that is the binary but for what the lines do before it.
func (f *fleet) wrapped(t *testing.T, version, lines string) {
	t.Helper()
	f.write(t, filepath.Join("bin", version), "#!/bin/bash\n"+lines+"\nexec "+harness.Binary(t)+" \"$@\"\n", 0o700)
}

// nginx is the front door as it is deployed, but for addresses, folders, and how much one address may ask.
func (f *fleet) nginx(t *testing.T, upstreams []string) {
	t.Helper()
	const deployed = "../../deploy/nginx"
	files, err := filepath.Glob(deployed + "/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	www, err := filepath.Abs(deployed + "/www")
	if err != nil {
		t.Fatal(err)
	}
	address, dir := harness.Address(t), filepath.Join(f.dir, "nginx")
	here := strings.NewReplacer(append(upstreams, "listen 8080;", "listen "+address+";", "pid /tmp/nginx.pid", "pid "+dir+"/pid", "/tmp/", dir+"/",
		"/dev/stdout", dir+"/access.log", "/etc/nginx/salon/www", www, "rate=100r/s", "rate=100000r/s")...)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f.write(t, filepath.Join("nginx", filepath.Base(file)), here.Replace(string(b)), 0o600)
	}
	harness.Nginx(t, filepath.Join(dir, "nginx.conf"))
	f.front = "http://" + address
}

// rollout starts `salon rollout` with these arguments.
func (f *fleet) rollout(t *testing.T, args ...string) *harness.Process {
	t.Helper()
	return harness.Start(t, f.env, append(append([]string{"rollout"}, args...), "--dir", filepath.Join(f.dir, "rollout"), "--driver", processesDriver(t))...)
}

func processesDriver(t *testing.T) string {
	t.Helper()
	driver, err := filepath.Abs("../../deploy/rollout/processes.sh")
	if err != nil {
		t.Fatal(err)
	}
	return driver
}

// quick is a rollout's pace in tests.
func (f *fleet) quick(nodes ...string) []string {
	return []string{"--ready", "30s", "--settle", "300ms", "--watch", "2s", "--nodes", strings.Join(nodes, ",")}
}

// running is the release that a node's process was started from.
func (f *fleet) running(t *testing.T, node string) string {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(f.dir, "run", node+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/cmdline")
	if err != nil {
		t.Fatalf("%s does not run: %v", node, err)
	}
	first, _, _ := strings.Cut(string(line), "\x00")
	return filepath.Base(first)
}

func (f *fleet) allRun(t *testing.T, version string) {
	t.Helper()
	for _, n := range f.nodes {
		if got := f.running(t, n); got != version {
			t.Errorf("%s runs %s, not %s", n, got, version)
		}
	}
}

// end stops what the rollouts have started.
func (f *fleet) end(t *testing.T) {
	for _, n := range f.nodes {
		b, err := os.ReadFile(filepath.Join(f.dir, "run", n+".pid"))
		if err != nil {
			continue // it was never started
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if env, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ"); err == nil && strings.Contains(string(env), "ROLLOUT_NODE="+n) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(f.dir, "run", n+".log"))
			t.Logf("log of %s:\n%s", n, log[max(0, len(log)-2000):])
		}
	}
}

// door counts what comes through the front door as its callers see it.
type door struct {
	next *http.Transport

	mu       sync.Mutex
	requests int
	behind   int // that were told how far behind their own write the answer would be, as they had asked
	failed   []string
}

func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	res, err := d.next.RoundTrip(r)
	why := fmt.Sprint(err)
	if err == nil && res.StatusCode >= 500 {
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(b))
		why = fmt.Sprint(res.StatusCode, " ", string(b[:min(len(b), 200)]))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests++
	switch {
	case strings.Contains(why, `"read_model.behind"`):
		d.behind++
	case err != nil || res.StatusCode >= 500:
		d.failed = append(d.failed, fmt.Sprintf("%v %s %s after %v: %s", began.Format("15:04:05.000"), r.Method, r.URL.Path, time.Since(began), why))
	}
	return res, err
}

func (d *door) CloseIdleConnections() { d.next.CloseIdleConnections() }

// sockets notes how often each lost its connection, and how long it was without one.
type sockets struct {
	mu      sync.Mutex
	all     []*socket
	longest time.Duration
}

type socket struct {
	name      string
	connected bool
	ends      int
	lost      time.Time
}

// watch is one socket's hooks.
func (s *sockets) watch(name string) (connected func(string), disconnected func(error)) {
	one := &socket{name: name}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, one)
	return func(string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if one.ends > 0 {
				s.longest = max(s.longest, time.Since(one.lost))
			}
			one.connected = true
		}, func(error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if one.connected { // not an attempt that failed
				one.connected, one.lost = false, time.Now()
				one.ends++
			}
		}
}

// away names those that have no connection, for wait.
func (s *sockets) away() string {
	return s.those(func(one *socket) bool { return !one.connected }, "has no connection")
}

// stayed names those that were never sent away.
func (s *sockets) stayed() string {
	return s.those(func(one *socket) bool { return one.ends == 0 }, "was never sent away")
}

func (s *sockets) those(which func(*socket) bool, what string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, one := range s.all {
		if which(one) {
			names = append(names, one.name+" "+what)
		}
	}
	return strings.Join(names, "\n")
}

// ends is how often they were sent away, all together.
func (s *sockets) ends() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		n += one.ends
	}
	return n
}

// printed waits until a rollout has said something. It takes long on a busy machine, which is what rollouts are for, too.
func printed(t *testing.T, p *harness.Process, text string) {
	t.Helper()
	limit := time.After(5 * time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.Output(), text) {
		select {
		case <-limit:
			t.Fatalf("it did not print %q in time:\n%s", text, p.Output())
		case <-tick.C:
			if p.Ended() && !strings.Contains(p.Output(), text) {
				t.Fatalf("it ended before it printed %q:\n%s", text, p.Output())
			}
		}
	}
}

// ends waits for the end of a rollout with this code.
func ends(t *testing.T, p *harness.Process, code int) {
	t.Helper()
	if got := p.Wait(t, 5*time.Minute); got != code {
		t.Fatalf("salon %v: exit code %d, want %d\n%s", p.Args, got, code, p.Output())
	}
}
