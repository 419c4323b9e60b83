package export

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Manifest says what an export is.
type Manifest struct {
	Version int       `json:"version"`
	Format  string    `json:"format"` // jsonl, parquet
	At      time.Time `json:"at"`
	Store   Store     `json:"store"`
	Asked   Asked     `json:"asked"`
	// Whole: the export begins with the store's first event, and nothing is left out: it can be imported.
	Whole bool `json:"whole"`

	Events   uint64 `json:"events"`
	First    uint64 `json:"first"` // position
	Last     uint64 `json:"last"`
	Commands uint64 `json:"commands"`
	Silent   uint64 `json:"silent"` // how many of them are without events
	Seals    uint64 `json:"seals"`
	Sealed   uint64 `json:"sealed"` // position of the last event that they cover
	// The first seal begins behind these.
	Behind       uint64 `json:"behind"`
	SilentBehind uint64 `json:"silent_behind"`

	PersonKeys int `json:"person_keys"` // in a file of their own

	Masked *Masked `json:"masked,omitempty"`

	Files []Part `json:"files"` // of the events, of the commands, of the seals
}

// Formats of the events.
const (
	JSONL   = "jsonl"
	Parquet = "parquet"
)

// Store is what was exported.
type Store struct {
	Kind        string `json:"kind"` // postgres, sqlite, esdb
	Incarnation string `json:"incarnation"`
	Dense       bool   `json:"dense"`
	TimesBack   int64  `json:"times_back_us,omitempty"` // by how many microseconds times go back, see eventstore.LoadedBack
}

// Asked is which events were asked for. To is where the store ended when nothing was said.
type Asked struct {
	From   uint64   `json:"from"`
	To     uint64   `json:"to"`
	Stream string   `json:"stream,omitempty"`
	Key    string   `json:"key,omitempty"`
	Types  []string `json:"types,omitempty"`
}

// scattered reports whether events between are left out.
func (a Asked) scattered() bool { return a.Stream != "" || a.Key != "" || len(a.Types) > 0 }

// Part is one file of an export.
type Part struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// The files of an export are FILE and these behind it.
const (
	ofEvents   = ""
	ofCommands = ".commands"
	ofSeals    = ".seals"
	ofManifest = ".manifest.json"
	unfinished = ".part"
)

func readManifest(path string) (m Manifest, err error) {
	b, err := os.ReadFile(path + ofManifest)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(path + unfinished); err == nil {
			return m, fmt.Errorf("%s is an export that was interrupted: export again, and it goes on", path)
		}
		return m, fmt.Errorf("%s has no manifest (%s)", path, path+ofManifest)
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", path+ofManifest, err)
	}
	if m.Version != 1 || m.Format != JSONL && m.Format != Parquet {
		return m, fmt.Errorf("%s is of version %d, format %q: this release reads version 1, jsonl and parquet", path, m.Version, m.Format)
	}
	return m, nil
}

// place writes a small file whole, or not at all.
func place(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(path)
}

func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func hexOf(sum []byte) string { return hex.EncodeToString(sum) }
