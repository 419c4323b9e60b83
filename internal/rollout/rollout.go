package rollout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config is what a change of release is made by. Nodes, Dir and Driver are needed.
type Config struct {
	Dir    string // of the journal, the releases and versions.env
	Driver Driver
	// Nodes, in the order in which they are replaced: what reads events before what writes them, so that a release reads a
	// type before any process writes it. A rollback goes the other way. What a name has before its last "-" is its role.
	Nodes []string
	// Ready is how long a new process may take until it says that it is ready. Defaults to 45 s; less makes a bad release be
	// noticed sooner, and a slow start look like one.
	Ready time.Duration
	// Settle is how long a node's answers are counted before the next node's turn. Defaults to 3 s.
	Settle time.Duration
	// Watch is how long all nodes' answers are counted at the end. Defaults to 20 s.
	Watch time.Duration
	// MaxErrors is the share of answers that may be failures (5xx but 503, which says itself that another may do better, and
	// at least 3 of them). Defaults to 0.01.
	MaxErrors float64
	// Keep is how many releases stay to roll back to. Defaults to 5.
	Keep int
	// Tell is told of "start", "success", "failure", "rollback" and "latency". Defaults to nobody.
	Tell func(ctx context.Context, kind, text string)
	// Log gets a line for each step. Defaults to nowhere.
	Log io.Writer
}

// Rollout changes releases.
type Rollout struct {
	cfg       Config
	f         *folder
	s         State
	addresses map[string]string // node → URL, of those that answered there
}

// New fills in what cfg leaves out.
func New(cfg Config) *Rollout {
	or(&cfg.Ready, 45*time.Second)
	or(&cfg.Settle, 3*time.Second)
	or(&cfg.Watch, 20*time.Second)
	or(&cfg.MaxErrors, 0.01)
	or(&cfg.Keep, 5)
	if cfg.Tell == nil {
		cfg.Tell = func(context.Context, string, string) {}
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	return &Rollout{cfg: cfg, addresses: map[string]string{}}
}

func or[T comparable](value *T, usual T) {
	var zero T
	if *value == zero {
		*value = usual
	}
}

// RefusedError says why nothing was done.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

func refused(format string, v ...any) error { return &RefusedError{fmt.Sprintf(format, v...)} }

// It names a folder, a variable's value and an image's tag.
var versions = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// To makes version the current release, or goes on with that. from is what runs now, where the folder does not know it: "" then
// is a system that does not run yet, and there is no way back from its first release. The error says why version is not the
// current release; what was begun is taken back by then, unless it says that it is not.
func (r *Rollout) To(ctx context.Context, version, from string) error {
	return r.locked(func() error {
		switch run := r.s.Run; {
		case !versions.MatchString(version):
			return refused("%q is not the name of a release", version)
		case run != nil && run.Phase == Reverting:
			return r.revert(ctx)
		case run != nil && run.To == version:
			r.tell(ctx, "start", "going on with the rollout of %s, which was interrupted while %s", version, run.Phase)
			return r.run(ctx)
		case run != nil:
			return refused("the change to %s was interrupted: roll out %s to go on with it, or roll back", run.To, run.To)
		case version == r.s.Current:
			return refused("%s runs already", version)
		case r.s.Current != "" && from != "" && from != r.s.Current:
			return refused("what runs is %s, not %s", r.s.Current, from)
		}
		if r.s.Current == "" {
			if err := r.first(ctx, from); err != nil {
				return err
			}
		}
		if err := r.keep(ctx, version); err != nil {
			return err
		}
		return r.begin(ctx, &Run{From: r.s.Current, To: version, Phase: Migrating, Began: time.Now().UTC()})
	})
}

// Back takes back a change that is under way, else makes version the current release again: "" is the one before.
func (r *Rollout) Back(ctx context.Context, version string) error {
	return r.locked(func() error {
		at := slices.Index(r.s.Releases, r.s.Current)
		switch {
		case r.s.Run != nil && r.s.Run.Phase == Reverting:
			return r.revert(ctx)
		case r.s.Run != nil && version != "" && version != r.s.Run.From:
			return refused("the change to %s was interrupted: that has to be taken back first, without naming a release", r.s.Run.To)
		case r.s.Run != nil:
			return r.fail(ctx, errors.New("somebody asked for that"))
		case version == "" && at+1 >= len(r.s.Releases):
			return refused("no release before %s is kept", r.s.Current)
		case version == "":
			version = r.s.Releases[at+1]
		case version == r.s.Current:
			return refused("%s runs already", version)
		case !slices.Contains(r.s.Releases, version):
			return refused("%s is not kept: there are %s", version, strings.Join(r.s.Releases, ", "))
		}
		if err := r.check(ctx, version, r.f.release(version)); err != nil {
			return err
		}
		return r.begin(ctx, &Run{From: r.s.Current, To: version, Back: true, Phase: Replacing, Began: time.Now().UTC()})
	})
}

// locked does work on the folder's state.
func (r *Rollout) locked(work func() error) (err error) {
	if r.f, err = open(r.cfg.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.f.close()) }()
	if c, ok := r.cfg.Driver.(Command); ok {
		r.cfg.Driver = c.holding(r.f.lock)
	}
	if r.s, err = Load(r.cfg.Dir); err != nil {
		return err
	}
	return work()
}

// keep saves a release's configuration as it is now, whole or not at all. What was kept of it before stays until this one has
// been found good.
func (r *Rollout) keep(ctx context.Context, version string) error {
	dir, part := r.f.release(version), r.f.release(".part")
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o750)); err != nil {
		return err
	}
	if err := r.cfg.Driver.Save(ctx, version, part); err != nil {
		return fmt.Errorf("nothing was touched: keep the configuration of %s: %w", version, err)
	}
	if err := r.check(ctx, version, part); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.Rename(part, dir))
}

// check has the driver say whether a release can be had by what dir keeps of it.
func (r *Rollout) check(ctx context.Context, version, dir string) error {
	if err := r.cfg.Driver.Check(ctx, version, dir, r.s.Ran[version]); err != nil {
		return fmt.Errorf("nothing was touched: %w", err)
	}
	return nil
}

// first notes what runs. It refuses a system that runs without our knowing: there would be no way back to what that is.
func (r *Rollout) first(ctx context.Context, from string) error {
	if from != "" {
		return r.adopt(ctx, from)
	}
	if len(r.s.Nodes) > 0 { // what runs is of a first rollout that did not come through
		return nil
	}
	for _, n := range r.cfg.Nodes {
		if _, err := r.numbers(ctx, n); err == nil {
			return refused("%s runs already, and %s does not know which release: name that with --from, or the folder that knows it with --dir", n, r.cfg.Dir)
		}
	}
	return nil
}

// adopt notes what runs, of a system that was started without us.
func (r *Rollout) adopt(ctx context.Context, version string) error {
	if !versions.MatchString(version) {
		return refused("%q is not the name of a release", version)
	}
	if err := r.keep(ctx, version); err != nil { // it has to be there to go back to
		return err
	}
	r.s.Current, r.s.Releases = version, []string{version}
	for _, n := range r.cfg.Nodes {
		r.s.Nodes[n] = version
	}
	return r.f.save(r.s)
}

// begin begins a change to a release that was checked; from there on it is written down.
func (r *Rollout) begin(ctx context.Context, run *Run) error {
	run.Usual = r.usual(ctx)
	r.s.Run = run
	if err := r.f.save(r.s); err != nil {
		return err
	}
	verb := "rolling out"
	if run.Back {
		verb = "rolling back to"
	}
	r.tell(ctx, "start", "%s %s%s", verb, run.To, strings.TrimSuffix(" over "+run.From, " over "))
	return r.run(ctx)
}

// run goes on with the change that is written down, from its phase on.
func (r *Rollout) run(ctx context.Context) error {
	run := r.s.Run
	err := r.forward(ctx)
	switch {
	case err == nil:
		return r.done(ctx)
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted while %s; the same call goes on, `back` takes it back: %w", run.Phase, err)
	}
	return r.fail(ctx, err)
}

func (r *Rollout) forward(ctx context.Context) error {
	run, driver := r.s.Run, r.cfg.Driver
	dir := r.f.release(run.To)
	if run.Phase == Migrating {
		r.say("migrating")
		if err := driver.Migrate(ctx, run.To, dir); err != nil {
			return fmt.Errorf("migration: %w", err)
		}
		if err := r.phase(Replacing); err != nil {
			return err
		}
	}
	order := slices.Clone(r.cfg.Nodes)
	if run.Back {
		slices.Reverse(order)
	}
	for i, node := range order {
		if run.Phase != Replacing || slices.Contains(run.Done, node) {
			continue
		}
		if err := r.replace(ctx, node, run.To); err != nil {
			return err
		}
		if err := r.settled(ctx, r.cfg.Settle, node); err != nil {
			return err
		}
		// Of a system that did not run before, not all is there until the end.
		if run.From != "" && (i+1 == len(order) || roleOf(order[i+1]) != roleOf(node)) {
			if err := driver.Smoke(ctx, run.To, dir); err != nil {
				return fmt.Errorf("smoke test, with %s replaced: %w", roleOf(node), err)
			}
		}
		run.Done = append(run.Done, node)
		if err := r.f.save(r.s); err != nil {
			return err
		}
	}
	if err := r.phase(Watching); err != nil {
		return err
	}
	r.say("watching for %v", r.cfg.Watch)
	if err := r.settled(ctx, r.cfg.Watch, order...); err != nil {
		return err
	}
	if err := driver.Smoke(ctx, run.To, dir); err != nil {
		return fmt.Errorf("smoke test: %w", err)
	}
	return nil
}

func roleOf(node string) string {
	if i := strings.LastIndexByte(node, '-'); i > 0 {
		return node[:i]
	}
	return node
}

func (r *Rollout) phase(p Phase) error {
	r.s.Run.Phase = p
	return r.f.save(r.s)
}

// replace writes down what a node is to run, and has it run that.
func (r *Rollout) replace(ctx context.Context, node, version string) error {
	r.s.Nodes[node] = version
	if err := r.f.save(r.s); err != nil {
		return err
	}
	began := time.Now()
	delete(r.addresses, node)
	if err := r.cfg.Driver.Replace(ctx, node, version, r.f.release(version)); err != nil {
		return fmt.Errorf("replace %s: %w", node, err)
	}
	replaced := time.Now()
	if err := r.ready(ctx, node); err != nil {
		return fmt.Errorf("%s with %s %w", node, version, err)
	}
	r.say("%s runs %s: replaced in %v, ready after %v", node, version, replaced.Sub(began).Round(time.Millisecond), time.Since(replaced).Round(time.Millisecond))
	return nil
}

// done makes the release the current one, and forgets those that are too many.
func (r *Rollout) done(ctx context.Context) error {
	run := r.s.Run
	r.s.Current, r.s.Run = run.To, nil
	delete(r.s.Ran, run.To)
	if run.From != "" {
		r.s.Ran[run.From] = run.Began
	}
	if !run.Back {
		r.s.Releases = slices.Insert(slices.DeleteFunc(r.s.Releases, func(v string) bool { return v == run.To }), 0, run.To)
	}
	if at := slices.Index(r.s.Releases, run.To); at >= 0 { // one before the current one is kept whatever the bound
		r.s.Releases = r.s.Releases[:min(len(r.s.Releases), max(r.cfg.Keep, at+2))]
	}
	if err := r.f.save(r.s); err != nil {
		return err
	}
	kind := "success"
	if run.Back {
		kind = "rollback"
	}
	r.tell(ctx, kind, "%s runs on all nodes, after %v", run.To, time.Since(run.Began).Round(time.Second))
	r.prune(ctx)
	return nil
}

// prune forgets what is kept of releases that are not among those any more. What is left behind is room on a disk.
func (r *Rollout) prune(ctx context.Context) {
	all, err := os.ReadDir(r.f.release("."))
	for _, e := range all {
		if v := e.Name(); versions.MatchString(v) && !slices.Contains(r.s.Releases, v) {
			err = errors.Join(err, r.cfg.Driver.Forget(ctx, v, r.f.release(v)), os.RemoveAll(r.f.release(v)))
			delete(r.s.Ran, v)
		}
	}
	if err != nil {
		r.say("of releases that are not kept any more, something is left: %v", err)
	}
}

// fail takes the change back.
func (r *Rollout) fail(ctx context.Context, why error) error {
	run := r.s.Run
	run.Phase, run.Why = Reverting, why.Error()
	if err := r.f.save(r.s); err != nil {
		return errors.Join(why, err)
	}
	r.tell(ctx, "failure", "the change to %s is taken back: %s", run.To, run.Why)
	return r.revert(ctx)
}

// revert gives every node that was touched the release from before, the last one first. One that cannot have it does not keep
// the others from it.
func (r *Rollout) revert(ctx context.Context) error {
	run := r.s.Run
	began := time.Now()
	why := fmt.Errorf("%s was not rolled out: %s", run.To, run.Why)
	touched := slices.DeleteFunc(slices.Clone(r.cfg.Nodes), func(n string) bool {
		return r.s.Nodes[n] != run.To && !slices.Contains(run.Done, n)
	})
	if !run.Back {
		slices.Reverse(touched)
	}
	if run.From == "" && len(touched) > 0 {
		r.s.Run = nil
		return errors.Join(why, errors.New("there is no release before it to go back to"), r.f.save(r.s))
	}
	var failed []error
	for _, n := range touched {
		if !slices.Contains(run.Done, n) { // it stays among the touched, whatever becomes of this
			run.Done = append(run.Done, n)
		}
		if err := r.replace(ctx, n, run.From); err != nil {
			r.say("%v", err)
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			return errors.Join(why, fmt.Errorf("interrupted while it was taken back; the same call goes on: %w", ctx.Err()))
		}
	}
	if len(failed) > 0 {
		r.tell(ctx, "failure", "the change to %s could not be taken back on %d of %d nodes", run.To, len(failed), len(touched))
		return errors.Join(why, fmt.Errorf("not everything is as it was; the same call tries again: %w", errors.Join(failed...)))
	}
	r.s.Run = nil
	if err := r.f.save(r.s); err != nil {
		return errors.Join(why, err)
	}
	r.tell(ctx, "rollback", "%s runs again: %d nodes in %v, %v after the change began", run.From, len(touched), time.Since(began).Round(time.Second), time.Since(run.Began).Round(time.Second))
	return why
}

func (r *Rollout) say(format string, v ...any) {
	fmt.Fprintf(r.cfg.Log, "[%s] %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, v...))
}

func (r *Rollout) tell(ctx context.Context, kind, format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	r.say("%s: %s", kind, text)
	r.cfg.Tell(ctx, kind, text)
}
