package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// MostEvents bounds a block: what a sealer and a verifier hold in memory, and what a proof has to read.
const MostEvents = 16_384

// mostNote is far more than a seal of ours has.
const mostNote = 4096

// Hash is written as hexadecimal digits.
type Hash [32]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(h)) {
		return errors.New("a hash has 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// Body is what a seal says.
type Body struct {
	Block       uint64    `json:"block"` // 1, 2, 3…
	Events      Events    `json:"events"`
	Commands    Commands  `json:"commands"`
	Outline     Hash      `json:"outline"`  // SHA-256 of it: of the events' leaves, then of the commands'
	Previous    Hash      `json:"previous"` // SHA-256 of the text of the seal before; of the first, zeros
	At          time.Time `json:"at"`       // the sealer's clock
	Incarnation string    `json:"incarnation"`
}

// Events of a block.
type Events struct {
	Before uint64 `json:"before"` // how many there are in the blocks before
	Count  uint64 `json:"count"`
	From   uint64 `json:"from"` // position of the first, where it was sealed
	To     uint64 `json:"to"`
	Root   Hash   `json:"root"`
}

// Commands of a block: of its events, then those without events.
type Commands struct {
	Count  uint64 `json:"count"`
	Silent uint64 `json:"silent"` // how many of them are without events
	Root   Hash   `json:"root"`
}

// text is what is signed.
func (b Body) text() (string, error) {
	j, err := json.Marshal(b)
	return string(j) + "\n", err
}

func textHash(text string) Hash { return sha256.Sum256([]byte(text)) }

// signed is a seal that was read: its body, the text that was signed, and by whom.
type signed struct {
	Body

	text string
	by   string // name and key hash of the signature that was verified, or of the first that was not
	ok   bool   // one of the known keys signed it
}

// read takes a note apart. Without a known key, or with a signature of another one, ok is false; that alone is no error.
func read(b []byte, known note.Verifiers) (s signed, err error) {
	if len(b) > mostNote {
		return s, errors.New("it is longer than a seal can be")
	}
	n, err := note.Open(b, known)
	var stranger *note.UnverifiedNoteError
	switch {
	case err == nil:
		s.ok, s.by = true, signature(n.Sigs[0])
	case errors.As(err, &stranger):
		if n = stranger.Note; len(n.UnverifiedSigs) > 0 {
			s.by = signature(n.UnverifiedSigs[0])
		}
	default:
		return s, err
	}
	s.text = n.Text
	d := json.NewDecoder(bytes.NewReader([]byte(n.Text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.Body); err != nil {
		return s, fmt.Errorf("read a seal: %w", err)
	}
	return s, nil
}

// ReadNote takes a seal's note apart; its signature is not looked at.
func ReadNote(b []byte) (Body, error) {
	s, err := read(b, note.VerifierList())
	return s.Body, err
}

// CheckNote takes a seal's note apart that one of the keys has signed.
func CheckNote(b []byte, known note.Verifiers) (Body, error) {
	s, err := read(b, known)
	if err == nil && !s.ok {
		err = fmt.Errorf("seal %d is signed by %s, which is no known key", s.Block, s.by)
	}
	return s.Body, err
}

func signature(s note.Signature) string { return fmt.Sprintf("%s+%08x", s.Name, s.Hash) }
