package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// State is what a system's folder of releases knows.
type State struct {
	Current  string            `json:"current"`  // the release that runs; "" before the first
	Releases []string          `json:"releases"` // that are kept, newest first, the current one with them
	Nodes    map[string]string `json:"nodes"`    // what each is to run
	// Ran is until when each of the other releases ran alone: what was written later may be of a kind that it cannot read.
	Ran map[string]time.Time `json:"ran"`
	Run *Run                 `json:"run"` // the change that is under way, or was when its process died; null: none
}

// Run is one change of release.
type Run struct {
	From  string    `json:"from"` // "" for the first
	To    string    `json:"to"`
	Back  bool      `json:"back"` // to a release before: no migrations, and writers first
	Phase Phase     `json:"phase"`
	Done  []string  `json:"done"` // nodes that are through
	Began time.Time `json:"began"`
	Why   string    `json:"why"` // it is taken back
	Usual Usual     `json:"usual"`
}

// Usual is how a system was before the change. It is written down: later there may be no process left that could tell.
type Usual struct {
	Stopped []string      `json:"stopped"` // partitions of projections that stood still, by their labels
	Mean    time.Duration `json:"mean"`    // of an answer; 0: nothing was answered
}

// Phase is where a change stands.
type Phase string

// The phases of a change.
const (
	Migrating Phase = "migrating"
	Replacing Phase = "replacing"
	Watching  Phase = "watching"
	Reverting Phase = "reverting"
)

// ErrBusy says that another call works on the same folder.
var ErrBusy = errors.New("another rollout is at work here")

// folder is the state on disk, owned by this process.
type folder struct {
	path string
	lock *os.File
}

// open takes the folder's lock, which ends with the process however that ends.
func open(path string) (*folder, error) {
	if err := os.MkdirAll(filepath.Join(path, "releases"), 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of releases: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the folder's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a file descriptor fits an int
		defer lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock the folder of releases: %w", err)
	}
	return &folder{path, lock}, nil
}

// close gives the lock back. A copy of the file may be in a process that is being started at this moment: to close it alone
// would leave the lock there.
func (f *folder) close() error {
	return errors.Join(syscall.Flock(int(f.lock.Fd()), syscall.LOCK_UN), f.lock.Close()) //nolint:gosec // a file descriptor fits an int
}

// Load reads what a folder knows; the zero State where nothing was rolled out yet.
func Load(path string) (s State, err error) {
	b, err := os.ReadFile(filepath.Join(path, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		b, err = []byte("{}"), nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the state of the rollout: %w", err)
	}
	if s.Nodes == nil {
		s.Nodes = map[string]string{}
	}
	if s.Ran == nil {
		s.Ran = map[string]time.Time{}
	}
	return s, nil
}

// save writes the state, and what of it a driver and a person at the shell need, before anything is done about it. The state comes
// last: a change that is under way is saved again, so that a kill between the two leaves no difference for good.
func (f *folder) save(s State) error {
	var env strings.Builder
	fmt.Fprintf(&env, "# Written by salon rollout: what each node is to run.\nSALON_VERSION=%s\n", s.Current)
	for _, n := range slices.Sorted(maps.Keys(s.Nodes)) {
		fmt.Fprintf(&env, "SALON_VERSION_%s=%s\n", strings.ToUpper(strings.ReplaceAll(n, "-", "_")), s.Nodes[n])
	}
	if err := f.write("versions.env", []byte(env.String())); err != nil {
		return fmt.Errorf("write the versions of the nodes: %w", err)
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := f.write("state.json", append(b, '\n')); err != nil {
		return fmt.Errorf("write the state of the rollout: %w", err)
	}
	return nil
}

// write replaces a file: a kill leaves the old one or the new one, and so does a power cut.
func (f *folder) write(name string, content []byte) error {
	part, err := os.Create(filepath.Join(f.path, name+".part"))
	if err != nil {
		return err
	}
	_, err = part.Write(content)
	if err = errors.Join(err, part.Sync(), part.Close()); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), filepath.Join(f.path, name)); err != nil {
		return err
	}
	d, err := os.Open(f.path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// release is the folder of what belongs to a release besides its image.
func (f *folder) release(version string) string { return filepath.Join(f.path, "releases", version) }
