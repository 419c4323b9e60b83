package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// keyName is the name that every seal is signed under; keys are told apart by their hash.
const keyName = "salon-seal"

// Key signs seals.
type Key struct {
	signer note.Signer
	Public string // to verify with: name, hash and key in one word
}

// LoadOrCreateKey reads a key file, made first when there is none. Beside it stands the public key, in FILE.pub: that one
// is to be handed out.
func LoadOrCreateKey(path string) (Key, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	private, _, err := note.GenerateKey(rand.Reader, keyName)
	if err != nil {
		return Key{}, fmt.Errorf("make a key for seals: %w", err)
	}
	if err := writeNew(path, private+"\n"); err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("write the key of seals: %w", err)
	}
	if k, err = LoadKey(path); err != nil { // another process may have been first
		return Key{}, err
	}
	if err := os.WriteFile(path+".pub", []byte(k.Public+"\n"), 0o644); err != nil { //nolint:gosec // it is public
		return Key{}, fmt.Errorf("write the public key of seals: %w", err)
	}
	return k, nil
}

// LoadKey reads a key file.
func LoadKey(path string) (Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read the key of seals: %w", err)
	}
	private := strings.TrimSpace(string(b))
	signer, err := note.NewSigner(private)
	if err != nil {
		return Key{}, fmt.Errorf("read the key of seals %s: it is none", path)
	}
	// PRIVATE+KEY+name+hash+base64 of a byte for the algorithm and the seed.
	seed, err := base64.StdEncoding.DecodeString(private[strings.LastIndex(private, "+"+fmt.Sprintf("%08x", signer.KeyHash())+"+")+10:])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return Key{}, fmt.Errorf("read the key of seals %s: it is no Ed25519 key", path)
	}
	public, err := note.NewEd25519VerifierKey(signer.Name(), ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey))
	if err != nil {
		return Key{}, fmt.Errorf("read the key of seals %s: %w", path, err)
	}
	return Key{signer, public}, nil
}

// Known are the keys by which seals are believed. Each is a public key or a file that holds one; none: no seal is.
func Known(keys ...string) (note.Verifiers, error) {
	var list []note.Verifier
	for _, k := range keys {
		if b, err := os.ReadFile(k); err == nil {
			k = string(b)
		}
		v, err := note.NewVerifier(strings.TrimSpace(k))
		if err != nil {
			return nil, errors.New("a public key of seals looks like " + keyName + "+1a2b3c4d+…, or is a file that holds one")
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

// writeNew puts a whole file in place or nothing, and never over one that is there.
func writeNew(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".seal-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}
