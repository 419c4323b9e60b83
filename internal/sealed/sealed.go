// Package sealed keeps personal texts under a key per person, so that deleting one key erases that person everywhere
// at once: in events, snapshots, Kafka and read models, which carry the texts sealed.
//
// Texts are AES-256-GCM under the person's key, bound to (subject, key ID), so a text cannot be passed off as
// somebody else's. Persons' keys are AES-256-GCM under the master key, bound the same way. An unwrapped key is
// remembered for at most a minute: that is how long an erasure takes to reach every process.
package sealed

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// MasterBytes is the length of the master key.
const MasterBytes = 32

const (
	cacheFor  = time.Minute
	cacheKeys = 20_000
)

// ErrWrongMaster says that a person's key was wrapped under another master key.
var ErrWrongMaster = errors.New("wrapped under another master key: give --master-key-file the one of this store")

// KeyStore keeps wrapped keys. eventstore.Store is one.
type KeyStore interface {
	// PersonKey finds a person's current wrapped key; an erased or never made one is not found.
	PersonKey(ctx context.Context, subject string) (keyID string, wrapped []byte, found bool, err error)
	// PersonKeyByID finds a wrapped key by its ID.
	PersonKeyByID(ctx context.Context, subject, keyID string) (wrapped []byte, found bool, err error)
	// AddPersonKey stores a person's first key and answers the one that stands.
	AddPersonKey(ctx context.Context, subject, keyID string, wrapped []byte) (standingID string, standing []byte, err error)
}

// Keys seals and opens. Safe for concurrent use.
type Keys struct {
	store   KeyStore
	masters []cipher.AEAD // the first wraps
	now     func() time.Time

	mu      sync.Mutex
	byID    map[keyName]*personKey
	current map[string]*personKey
}

type keyName struct{ subject, id string }

// personKey is one unwrapped key, with what is derived from it.
type personKey struct {
	name  keyName
	aead  cipher.AEAD
	mac   []byte
	print [4]byte // names the key in a MAC
	until time.Time
}

// New makes Keys over a store, under a master key of 32 bytes. New people's keys are wrapped under it; those that are
// wrapped under one of the others are opened, too, as long as a rotation lasts, see [Rewrap].
func New(store KeyStore, master []byte, others ...[]byte) (*Keys, error) {
	k := &Keys{store: store, now: time.Now, byID: map[keyName]*personKey{}, current: map[string]*personKey{}}
	for _, m := range append([][]byte{master}, others...) {
		if len(m) != MasterBytes {
			return nil, fmt.Errorf("master key has %d bytes, not %d", len(m), MasterBytes)
		}
		aead, err := newGCM(m)
		if err != nil {
			return nil, err
		}
		k.masters = append(k.masters, aead)
	}
	return k, nil
}

// Seal seals a text under the subject's key, which is made when there is none. "" gives the zero Sealed.
func (k *Keys) Seal(ctx context.Context, subject, plain string) (domain.Sealed, error) {
	if plain == "" {
		return domain.Sealed{}, nil
	}
	key, err := k.of(ctx, subject)
	if err != nil {
		return domain.Sealed{}, fmt.Errorf("seal: %w", err)
	}
	return domain.Sealed{Subject: subject, KeyID: key.name.id, Cipher: seal(key.aead, key.name, []byte(plain))}, nil
}

// Open gives the text back; erased reports that its key was deleted. The zero Sealed gives "".
func (k *Keys) Open(ctx context.Context, s domain.Sealed) (plain string, erased bool, err error) {
	if s.IsZero() {
		return "", false, nil
	}
	key, found, err := k.named(ctx, keyName{s.Subject, s.KeyID})
	if err != nil {
		return "", false, fmt.Errorf("open: %w", err)
	}
	if !found {
		return "", true, nil
	}
	b, err := open(key.aead, key.name, s.Cipher)
	if err != nil {
		return "", false, fmt.Errorf("open a text of key %s: %w", s.KeyID, err)
	}
	return string(b), false, nil
}

// MAC authenticates a message under a key derived from the subject's own: without that key nobody can test a guess.
// 32 bytes: 4 that name the key, then 28 of HMAC-SHA256. Compare with [SameMessage].
func (k *Keys) MAC(ctx context.Context, subject string, message []byte) ([]byte, error) {
	key, err := k.of(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("mac: %w", err)
	}
	h := hmac.New(sha256.New, key.mac)
	h.Write(message)
	return append(key.print[:], h.Sum(nil)[:sha256.Size-len(key.print)]...), nil
}

// probeSubject owns a key that seals nothing: it tells whether a process has the store's master key.
const probeSubject = "system:master-key"

// Verify refuses a master key that is not the one under which this store's keys are wrapped. A process that went on
// with another would wrap new people's keys under it, and nobody else could read what they write.
func (k *Keys) Verify(ctx context.Context) error {
	_, err := k.of(ctx, probeSubject)
	return err
}

// SameMessage reports whether two MACs of one subject may be of the same message. When the first one, or its key, was erased
// nobody can tell any more, and it says yes: a repeated request of an erased person is answered as erased, not refused.
func SameMessage(a, b []byte) bool {
	const n = len(personKey{}.print)
	if eventstore.IsErasedRequestHash(a) {
		return true
	}
	if len(a) != sha256.Size || len(b) != sha256.Size {
		return false
	}
	return !hmac.Equal(a[:n], b[:n]) || hmac.Equal(a, b)
}

// of finds the subject's current key, made when there is none.
func (k *Keys) of(ctx context.Context, subject string) (*personKey, error) {
	k.mu.Lock()
	key := k.current[subject]
	k.mu.Unlock()
	if key != nil && key.until.After(k.now()) {
		return key, nil
	}
	id, wrapped, found, err := k.store.PersonKey(ctx, subject)
	if err != nil {
		return nil, err
	}
	if !found {
		if id, wrapped, err = k.make(ctx, subject); err != nil {
			return nil, err
		}
	}
	key, err = k.unwrap(keyName{subject, id}, wrapped)
	if err != nil {
		return nil, err
	}
	k.remember(key, true)
	return key, nil
}

// make stores a first key. Two processes may do so at once: the store says whose stands.
func (k *Keys) make(ctx context.Context, subject string) (string, []byte, error) {
	var id [16]byte
	raw := make([]byte, MasterBytes)
	rand.Read(id[:])
	rand.Read(raw)
	name := keyName{subject, hex.EncodeToString(id[:])}
	return k.store.AddPersonKey(ctx, subject, name.id, seal(k.masters[0], name, raw))
}

func (k *Keys) named(ctx context.Context, name keyName) (*personKey, bool, error) {
	k.mu.Lock()
	key := k.byID[name]
	k.mu.Unlock()
	if key != nil && key.until.After(k.now()) {
		return key, true, nil
	}
	wrapped, found, err := k.store.PersonKeyByID(ctx, name.subject, name.id)
	if err != nil || !found {
		return nil, false, err
	}
	key, err = k.unwrap(name, wrapped)
	if err != nil {
		return nil, false, err
	}
	k.remember(key, false)
	return key, true, nil
}

func (k *Keys) unwrap(name keyName, wrapped []byte) (*personKey, error) {
	raw, _, err := k.raw(name, wrapped)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(raw)
	if err != nil {
		return nil, err
	}
	mac, err := hkdf.Key(sha256.New, raw, nil, "salon request mac v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive mac key: %w", err)
	}
	id := sha256.Sum256([]byte(name.id))
	return &personKey{name: name, aead: aead, mac: mac, print: [4]byte(id[:4]), until: k.now().Add(cacheFor)}, nil
}

// raw opens a person's key, and tells under which master key it is wrapped.
func (k *Keys) raw(name keyName, wrapped []byte) (raw []byte, under int, err error) {
	for under, master := range k.masters {
		if raw, err = open(master, name, wrapped); err == nil {
			return raw, under, nil
		}
	}
	return nil, 0, fmt.Errorf("unwrap key %s: %w (%w)", name.id, ErrWrongMaster, err)
}

func (k *Keys) remember(key *personKey, isCurrent bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.byID) >= cacheKeys {
		clear(k.byID)
		clear(k.current)
	}
	k.byID[key.name] = key
	if isCurrent {
		k.current[key.name.subject] = key
	}
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("aes: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("aes: %w", err)
	}
	return aead, nil
}

// seal puts a random nonce first. A person's key seals far fewer than the 2^32 texts at which one could repeat.
func seal(aead cipher.AEAD, name keyName, plain []byte) []byte {
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plain, name.bound())
}

func open(aead cipher.AEAD, name keyName, sealed []byte) ([]byte, error) {
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("ciphertext too short")
	}
	return aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], name.bound())
}

// bound is the additional data: subject and key ID, length first, so that no two pairs read the same.
func (n keyName) bound() []byte {
	b := make([]byte, 0, 2+len(n.subject)+len(n.id))
	b = append(b, byte(len(n.subject)>>8), byte(len(n.subject)))
	return append(append(b, n.subject...), n.id...)
}
