package seal

import (
	"bytes"
	"crypto/sha256"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/dangdangsalon/salon/eventstore"
)

// outlineBytes is how much of a leaf the outline keeps: to make another event with the same, somebody would have to try 2^64.
const outlineBytes = 8

// tree is a Merkle tree that grows to the right: the roots of its complete subtrees, the largest first.
type tree struct {
	leaves  int64
	roots   []tlog.Hash
	outline []byte
}

// leaf and node are tlog's RecordHash of 32 bytes and NodeHash, without what those put on the heap: a verification makes four
// of them an event.
func leaf(hash [32]byte) tlog.Hash {
	var b [1 + sha256.Size]byte // begins with 0, by which a leaf is no node
	copy(b[1:], hash[:])
	return sha256.Sum256(b[:])
}

func node(left, right tlog.Hash) tlog.Hash {
	b := [1 + 2*sha256.Size]byte{1}
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

func (t *tree) add(hash [32]byte) { t.addLeaf(leaf(hash)) }

func (t *tree) addLeaf(h tlog.Hash) {
	t.outline = append(t.outline, h[:outlineBytes]...)
	for n := t.leaves; n&1 == 1; n >>= 1 {
		h = node(t.roots[len(t.roots)-1], h)
		t.roots = t.roots[:len(t.roots)-1]
	}
	t.roots = append(t.roots, h)
	t.leaves++
}

// root of an empty tree is the hash of nothing, as in RFC 6962.
func (t *tree) root() Hash {
	if t.leaves == 0 {
		return sha256.Sum256(nil)
	}
	h := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		h = node(t.roots[i], h)
	}
	return Hash(h)
}

var commandMark = []byte(`"command_id":"`)

// CommandOf is the command that an event's metadata names. Metadata that is not written as ours is names none: the zero ID.
func CommandOf(r eventstore.Recorded) uuid.UUID {
	i := bytes.Index(r.Metadata, commandMark)
	if i < 0 || len(r.Metadata) < i+len(commandMark)+36 {
		return uuid.Nil
	}
	id, err := uuid.ParseBytes(r.Metadata[i+len(commandMark):][:36])
	if err != nil {
		return uuid.Nil
	}
	return id
}
