package sealed

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// LoadOrCreateMaster reads a master key file (base64 of 32 bytes), made first when there is none. Who loses this file
// loses every personal text.
func LoadOrCreateMaster(path string) ([]byte, error) {
	master, err := LoadMaster(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return master, err
	}
	master = make([]byte, MasterBytes)
	rand.Read(master)
	if err := writeNew(path, []byte(base64.StdEncoding.EncodeToString(master)+"\n")); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write master key: %w", err)
	}
	return LoadMaster(path) // another process may have been first
}

// LoadMaster reads a master key file.
func LoadMaster(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	master, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(master) != MasterBytes {
		return nil, fmt.Errorf("read master key %s: not base64 of %d bytes", path, MasterBytes)
	}
	return master, nil
}

// writeNew puts a whole file in place or nothing: a half-written key after a power cut would be lost data.
func writeNew(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".master-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike Rename, never over an existing key
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
