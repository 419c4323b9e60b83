package eventstore

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// ContentHash is SHA-256 over the length-prefixed fields stream, revision, id, type, key, recorded_at, metadata,
// data, in this order; the position is not part of it, so that an import elsewhere keeps every hash. A length is 4
// bytes big-endian; revision and recorded_at (microseconds since 1970, UTC) are 8 bytes big-endian; id its 16 bytes.
func ContentHash(r Recorded) [32]byte {
	return hashFields([]byte(r.Stream), number(int64(r.Revision)), r.ID[:], []byte(r.Type), []byte(r.Key), number(r.RecordedAt.UnixMicro()),
		r.Metadata, r.Data)
}

// CommandHash is SHA-256 over the length-prefixed fields command ID, SHA-256 of the request hash, actor, stream and last
// revision (8 bytes). The position is not part of it, as it is not of [ContentHash].
func CommandHash(c Command) [32]byte {
	return hashFields(c.ID[:], commitment(c.RequestHash), []byte(c.Actor), []byte(c.Stream), number(int64(c.LastRevision)))
}

// ErasedRequestHash is what an erasure leaves of a request hash: nothing can be compared with it any more, and the
// command's own hash is what it was.
func ErasedRequestHash(requestHash []byte) []byte {
	return append([]byte{0}, commitment(requestHash)...)
}

// IsErasedRequestHash tells whether it is what an erasure left.
func IsErasedRequestHash(b []byte) bool { return len(b) == 1+sha256.Size && b[0] == 0 }

func commitment(requestHash []byte) []byte {
	if IsErasedRequestHash(requestHash) {
		return requestHash[1:]
	}
	sum := sha256.Sum256(requestHash)
	return sum[:]
}

// Sum is what Hash has to be: SHA-256 over the length-prefixed fields stream, fold version, revision and state.
func (s Snapshot) Sum() [32]byte {
	return hashFields([]byte(s.Stream), number(int64(s.FoldVersion)), number(int64(s.Revision)), s.State)
}

// hashFields puts them together before it hashes them: given to the hash one by one, they take a third longer.
func hashFields(fields ...[]byte) [32]byte {
	all := make([]byte, 0, 1024) // most events have less
	for _, b := range fields {
		all = binary.BigEndian.AppendUint32(all, uint32(len(b))) //nolint:gosec // fields are bounded by MaxEventBytes, MaxSnapshotBytes
		all = append(all, b...)
	}
	return sha256.Sum256(all)
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) } //nolint:gosec // its bits are what is meant

// Micros cuts an instant to what the store keeps: UTC, microseconds.
func Micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
