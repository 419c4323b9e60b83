package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is a system whose nodes are pages of metrics. It is the driver, and whom the rollout tells: at the n-th of these steps the
// rollout can be killed.
type world struct {
	t      *testing.T
	server *httptest.Server

	mu     sync.Mutex
	runs   map[string]string // node → release
	saved  map[string]bool   // releases whose configuration was asked for
	done   []string          // calls
	bad    map[string]string // release → what is wrong with it
	lives  int               // steps until the rollout is killed; 0: it is not
	worked bool              // the call that is cut off has done its work
	at     string            // the step at which it was killed
	kill   func()
	counts map[string]int // answers of a node, and how often each was looked at
}

var errKilled = errors.New("killed")

func newWorld(t *testing.T) *world {
	w := &world{t: t, runs: map[string]string{}, saved: map[string]bool{}, bad: map[string]string{}, counts: map[string]int{}}
	w.kill = func() { panic(errKilled) }
	w.server = httptest.NewServer(w)
	t.Cleanup(w.server.Close)
	return w
}

// ServeHTTP is what each node answers, at /NODE/readyz and /NODE/metrics.
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	node, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if w.runs[node] == "" {
		out.WriteHeader(http.StatusBadGateway)
		return
	}
	wrong := w.bad[w.runs[node]]
	if path == "readyz" {
		if wrong == "unready" {
			out.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(out, "the store is away")
		}
		return
	}
	w.counts[node] += 10
	fmt.Fprintf(out, "salon_http_request_seconds_count{method=\"GET\",route=\"/\",status=\"200\"} %d\n", w.counts[node])
	fmt.Fprintf(out, "salon_http_request_seconds_count{method=\"GET\",route=\"/\",status=\"503\"} %d\n", w.counts[node])
	slow := 0.001
	switch wrong {
	case "failing":
		fmt.Fprintf(out, "salon_http_request_seconds_count{method=\"GET\",route=\"/\",status=\"500\"} %d\n", w.counts[node])
	case "stopped":
		fmt.Fprint(out, "salon_projection_partition_stopped{partition=\"1\",projection=\"stats_v1\"} 1\n")
	case "slow":
		slow = 0.5
	}
	fmt.Fprintf(out, "salon_http_request_seconds_sum{method=\"GET\",route=\"/\",status=\"200\"} %g\n", float64(w.counts[node])*slow)
	if len(w.saved) > 1 { // before the second release came
		fmt.Fprint(out, "salon_projection_partition_stopped{partition=\"7\",projection=\"stats_v1\"} 1\n")
	}
}

// call is one call of the driver.
func (w *world) call(what string, work func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lives == 1 && w.worked {
		_ = work()
	}
	if w.dies(what) {
		return errKilled
	}
	w.done = append(w.done, what)
	return work()
}

// dies kills the rollout when its time has come.
func (w *world) dies(what string) bool {
	w.lives--
	if w.lives != 0 {
		w.lives = max(0, w.lives)
		return false
	}
	w.at = what
	w.kill()
	return true
}

// killed runs a rollout until it ends, or is killed: then it does nothing more, and its lock is free, as after a kill -9.
func killed(run func() error) (err error, was bool) {
	defer func() {
		switch why := recover(); why {
		case nil:
		case errKilled:
			was = true
		default:
			panic(why)
		}
	}()
	return run(), false
}

func (w *world) is(version, wrong string) error {
	if w.bad[version] == wrong {
		return errors.New(wrong)
	}
	return nil
}

func (w *world) Save(_ context.Context, version, dir string) error {
	return w.call("save "+version, func() error {
		w.saved[version] = true
		return os.WriteFile(filepath.Join(dir, "config"), []byte(version), 0o600)
	})
}

func (w *world) Check(_ context.Context, version, _ string, _ time.Time) error {
	return w.call("check "+version, func() error { return w.is(version, "incompatible") })
}

func (w *world) Migrate(_ context.Context, version, _ string) error {
	return w.call("migrate "+version, func() error { return w.is(version, "unmigrated") })
}

// Replace is of a driver that starts a node by versions.env, where there may be others that it has to start as well.
func (w *world) Replace(_ context.Context, node, version, dir string) error {
	env, err := os.ReadFile(filepath.Join(dir, "../../versions.env"))
	if line := "SALON_VERSION_" + strings.ToUpper(strings.ReplaceAll(node, "-", "_")) + "=" + version + "\n"; !strings.Contains(string(env), line) {
		w.t.Errorf("%s is replaced, and versions.env does not say %q: %s, %v", node, line, env, err)
	}
	return w.call("replace "+node+" "+version, func() error {
		if b, err := os.ReadFile(filepath.Join(dir, "config")); err != nil || string(b) != version {
			return fmt.Errorf("the configuration of %s is %q: %w", version, b, err)
		}
		w.runs[node] = version
		w.counts[node] = 0
		return nil
	})
}

func (w *world) Address(_ context.Context, node, _ string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bad[w.runs[node]] == "ended" {
		return "", ErrEnded
	}
	return w.server.URL + "/" + node, nil
}

func (w *world) Smoke(_ context.Context, version, _ string) error {
	return w.call("smoke", func() error { return w.is(version, "smoking") })
}

func (w *world) Forget(_ context.Context, version, _ string) error {
	return w.call("forget "+version, func() error { return nil })
}

var three = []string{"projector-a", "commands-a", "commands-b"}

func (w *world) rollout(dir string, told *[]string) *Rollout {
	return New(Config{
		Dir: dir, Driver: w, Nodes: three, Ready: 400 * time.Millisecond, Settle: time.Millisecond, Watch: 2 * time.Millisecond, Keep: 2,
		Tell: func(_ context.Context, kind, _ string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.dies("tell " + kind); told != nil {
				*told = append(*told, kind)
			}
		},
	})
}

func (w *world) all(t *testing.T, version string) {
	t.Helper()
	for _, n := range three {
		if w.runs[n] != version {
			t.Errorf("%s runs %s, not %s", n, w.runs[n], version)
		}
	}
}

func state(t *testing.T, dir string) State {
	t.Helper()
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadersAreReplacedBeforeWritersAndBackTheOtherWay(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	var told []string
	for _, v := range []string{"v1", "v2"} {
		if err := w.rollout(dir, &told).To(t.Context(), v, ""); err != nil {
			t.Fatal(err)
		}
		w.all(t, v)
	}
	if err := w.rollout(dir, &told).Back(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	w.all(t, "v1")
	want := "save v2, check v2, migrate v2, replace projector-a v2, smoke, replace commands-a v2, replace commands-b v2, smoke, smoke, " +
		"check v1, replace commands-b v1, replace commands-a v1, smoke, replace projector-a v1, smoke, smoke"
	if got := strings.Join(w.done[len(w.done)-16:], ", "); got != want {
		t.Errorf("called\n%s\nwant\n%s", got, want)
	}
	if got := strings.Join(told, " "); got != "start success start success start rollback" {
		t.Errorf("told %s", got)
	}
	env, err := os.ReadFile(filepath.Join(dir, "versions.env"))
	if err != nil || !strings.Contains(string(env), "SALON_VERSION=v1\nSALON_VERSION_COMMANDS_A=v1\n") {
		t.Errorf("versions.env: %s, %v", env, err)
	}
}

func TestABadReleaseIsTakenBackByItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ wrong, says, touched string }{
		{"incompatible", "nothing was touched: incompatible", ""},
		{"unmigrated", "migration: unmigrated", ""},
		{"unready", "projector-a with bad is not ready after 400ms: 503 Service Unavailable: the store is away", "projector-a"},
		{"ended", "projector-a with bad ended by itself", "projector-a"},
		{"stopped", "a projection stands still that did not before", "projector-a"},
		{"failing", "projector-a failed", "projector-a"},
		{"smoking", "smoke test, with projector replaced: smoking", "projector-a"},
	} {
		t.Run(c.wrong, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			if err := w.rollout(dir, nil).To(t.Context(), "v1", ""); err != nil {
				t.Fatal(err)
			}
			w.bad["bad"] = c.wrong
			var told []string
			err := w.rollout(dir, &told).To(t.Context(), "bad", "")
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %v, want %q", err, c.says)
			}
			w.all(t, "v1")
			if back := slices.Contains(w.done, "replace projector-a v1"); !back {
				t.Error("v1 was never there")
			}
			if got := slices.Contains(w.done, "replace projector-a bad"); got != (c.touched != "") {
				t.Errorf("touched: %v", w.done)
			}
			if s := state(t, dir); s.Current != "v1" || s.Run != nil {
				t.Errorf("state: %+v", s)
			}
			if c.wrong != "incompatible" && strings.Join(told, " ") != "start failure rollback" {
				t.Errorf("told %v", told)
			}
		})
	}
}

func TestASlowReleaseIsToldOfAndStays(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	if err := w.rollout(dir, nil).To(t.Context(), "v1", ""); err != nil {
		t.Fatal(err)
	}
	w.bad["tardy"] = "slow"
	var told []string
	r := w.rollout(dir, &told)
	r.cfg.Watch = 200 * time.Millisecond
	if err := r.To(t.Context(), "tardy", ""); err != nil {
		t.Fatal(err)
	}
	w.all(t, "tardy")
	if got := strings.Join(told, " "); got != "start latency success" {
		t.Errorf("told %s", got)
	}
}

// kills has a rollout of v2 over v1 killed at each of its steps, before and after what the driver does there, and lets see what
// comes after it.
func kills(t *testing.T, wrong string, then func(w *world, dir, where string)) {
	t.Helper()
	for _, worked := range []bool{false, true} {
		for n := 1; ; n++ {
			w, dir := newWorld(t), t.TempDir()
			if err := w.rollout(dir, nil).To(t.Context(), "v1", ""); err != nil {
				t.Fatal(err)
			}
			w.bad["v2"], w.lives, w.worked = wrong, n, worked
			if _, was := killed(func() error { return w.rollout(dir, nil).To(t.Context(), "v2", "") }); !was {
				break
			}
			then(w, dir, fmt.Sprintf("%q, killed at step %d, %s (done: %v)", wrong, n, w.at, worked))
		}
	}
}

// However often it is killed and called again: all nodes then run one release, and the journal says the same.
func TestARolloutThatIsKilledAnywhereGoesOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ wrong, ends string }{{"", "v2"}, {"failing", "v1"}, {"smoking", "v1"}} {
		kills(t, c.wrong, func(w *world, dir, where string) {
			err := w.rollout(dir, nil).To(t.Context(), "v2", "")
			if through := w.at == "tell success"; through != errors.As(err, new(*RefusedError)) || !through && (err == nil) != (c.wrong == "") {
				t.Errorf("%s, then %v", where, err)
			}
			w.ends(dir, c.ends, where)
		})
	}
}

// ends holds nodes and journal to one release, and nothing under way.
func (w *world) ends(dir, version, where string) {
	w.t.Helper()
	w.all(w.t, version)
	if s := state(w.t, dir); s.Current != version || s.Run != nil || slices.ContainsFunc(slices.Collect(maps.Values(s.Nodes)), func(v string) bool { return v != version }) {
		w.t.Errorf("%s: %+v", where, s)
	}
	if w.t.Failed() {
		w.t.Fatal(where)
	}
}

// Before the first thing is done, or told, it is in the journal that a change is under way: nothing else may begin then, and every
// node that may have been touched is given back the release from before.
func TestWhatWasKilledAnywhereIsTakenBackWhenAskedFor(t *testing.T) {
	t.Parallel()
	kills(t, "", func(w *world, dir, where string) {
		switch run := state(t, dir).Run; {
		case w.at == "save v2", w.at == "check v2", w.at == "tell success":
			if run != nil {
				t.Errorf("%s: %+v is under way", where, run)
			}
			return
		case run == nil || run.To != "v2":
			t.Fatalf("%s: nobody would know what is under way: %+v", where, run)
		}
		for _, call := range []func() error{
			func() error { return w.rollout(dir, nil).To(t.Context(), "v3", "") },
			func() error { return w.rollout(dir, nil).Back(t.Context(), "v0") },
		} {
			if err := call(); !errors.As(err, new(*RefusedError)) {
				t.Errorf("%s: something else while it is under way: %v", where, err)
			}
		}
		if err := w.rollout(dir, nil).Back(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "somebody asked for that") {
			t.Errorf("%s, taken back: %v", where, err)
		}
		w.ends(dir, "v1", where)
	})
}

// People were told that the change is taken back: that is what becomes of it, also when what was wrong with it is over.
func TestWhatIsToldToBeTakenBackIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"unmigrated", "failing", "smoking"} {
		told := false
		kills(t, wrong, func(w *world, dir, where string) {
			failed := w.at == "tell failure" || state(t, dir).Run != nil && state(t, dir).Run.Phase == Reverting
			if !failed {
				return
			}
			told = told || w.at == "tell failure"
			delete(w.bad, "v2")
			if err := w.rollout(dir, nil).To(t.Context(), "v2", ""); err == nil || !strings.Contains(err.Error(), wrong[:4]) {
				t.Errorf("%s, then %v", where, err)
			}
			w.ends(dir, "v1", where)
		})
		if !told {
			t.Errorf("%q: nobody was told", wrong)
		}
	}
}

// Whoever ends it in peace is told what can be done then.
func TestARolloutThatIsInterruptedSaysSo(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	if err := w.rollout(dir, nil).To(t.Context(), "v1", ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.lives, w.kill = 7, cancel
	if err := w.rollout(dir, nil).To(ctx, "v2", ""); err == nil || !strings.Contains(err.Error(), "interrupted while replacing; the same call goes on, `back` takes it back") {
		t.Errorf("interrupted at %s: %v", w.at, err)
	}
	if err := w.rollout(dir, nil).To(t.Context(), "v2", ""); err != nil {
		t.Error(err)
	}
	w.ends(dir, "v2", "interrupted at "+w.at)
}

// A system that runs without our knowing is not taken for one that does not run: there would be no way back.
func TestWhatRunsHasToBeNamed(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	for _, n := range three {
		w.runs[n] = "v1"
	}
	w.bad["v0"] = "incompatible"
	if err := w.rollout(dir, nil).To(t.Context(), "v2", ""); !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "--from") {
		t.Errorf("without a name: %v", err)
	}
	if err := w.rollout(dir, nil).To(t.Context(), "v2", "v0"); err == nil || !strings.Contains(err.Error(), "nothing was touched") {
		t.Errorf("with the name of what cannot be gone back to: %v", err)
	}
	w.all(t, "v1")
	if s := state(t, dir); s.Current != "" {
		t.Errorf("noted %+v", s)
	}
	w.bad["v2"] = "unready"
	if err := w.rollout(dir, nil).To(t.Context(), "v2", "v1"); err == nil {
		t.Error("a bad release was let stay")
	}
	w.all(t, "v1")
}

func TestTwoAtOnceAreOneAndARefusal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	if err := w.rollout(dir, nil).To(t.Context(), "v1", ""); !errors.Is(err, ErrBusy) {
		t.Errorf("the second: %v", err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if err := w.rollout(dir, nil).To(t.Context(), "v1", ""); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

func TestOldReleasesAreForgottenButNotTheOneToGoBackTo(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	for _, v := range []string{"v1", "v2", "v3"} {
		if err := w.rollout(dir, nil).To(t.Context(), v, ""); err != nil {
			t.Fatal(err)
		}
	}
	if s := state(t, dir); !slices.Equal(s.Releases, []string{"v3", "v2"}) || !slices.Contains(w.done, "forget v1") {
		t.Errorf("kept %v, called %v", s.Releases, w.done)
	}
	if err := w.rollout(dir, nil).Back(t.Context(), "v1"); !errors.As(err, new(*RefusedError)) {
		t.Errorf("back to what is gone: %v", err)
	}
	for _, name := range []string{"", "../v1", "a b", ".part", "-x"} {
		if err := w.rollout(dir, nil).To(t.Context(), name, ""); !errors.As(err, new(*RefusedError)) {
			t.Errorf("the release %q: %v", name, err)
		}
	}
}

// What cannot be rolled out takes nothing from what is kept: one can still go back to that.
func TestWhatIsRefusedChangesNothingThatIsKept(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		if err := w.rollout(dir, nil).To(t.Context(), v, ""); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(dir, "releases", "v1", "as it ran")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := state(t, dir)
	w.bad["v1"] = "incompatible"
	if err := w.rollout(dir, nil).To(t.Context(), "v1", ""); err == nil || !strings.Contains(err.Error(), "nothing was touched") {
		t.Errorf("to what cannot run: %v", err)
	}
	if err := w.rollout(dir, nil).Back(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "nothing was touched") {
		t.Errorf("back to what cannot run: %v", err)
	}
	w.all(t, "v2")
	if after := state(t, dir); !reflect.DeepEqual(before, after) {
		t.Errorf("the journal was %+v and is %+v", before, after)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("what was kept is gone: %v", err)
	}
	delete(w.bad, "v1")
	if err := w.rollout(dir, nil).Back(t.Context(), ""); err != nil {
		t.Error(err)
	}
	w.all(t, "v1")
}

func TestADriverIsAProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "driver")
	script := "#!/bin/sh\ncase $1 in address) echo noise >&2; echo http://127.0.0.1:1; [ $2 != gone ] || { echo killed >&2; exit 3; };; smoke) echo a; echo the last line >&2; exit 3;; check) echo \"$@ $RELEASE_DIR\" >$ROLLOUT_DIR/asked;; esac\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil { //nolint:gosec // a script is run
		t.Fatal(err)
	}
	c := Command{Program: program, Dir: dir}
	if url, err := c.Address(t.Context(), "x", "d"); err != nil || url != "http://127.0.0.1:1" {
		t.Errorf("address: %q, %v", url, err)
	}
	if _, err := c.Address(t.Context(), "gone", ""); !errors.Is(err, ErrEnded) || !strings.HasSuffix(err.Error(), ": killed") {
		t.Errorf("address of what has ended: %v", err)
	}
	if err := c.Smoke(t.Context(), "v1", "d"); err == nil || err.Error() != "smoke v1: the last line" {
		t.Errorf("smoke: %v", err)
	}
	if err := c.Check(t.Context(), "v1", "d", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)); err != nil {
		t.Error(err)
	}
	if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "check v1 2026-01-02T03:04:05Z d\n" {
		t.Errorf("asked %q", asked)
	}
}
