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
	h := sha256.New()
	var n [4]byte
	field := func(b []byte) {
		binary.BigEndian.PutUint32(n[:], uint32(len(b))) //nolint:gosec // fields are bounded by MaxEventBytes
		h.Write(n[:])
		h.Write(b)
	}
	field([]byte(r.Stream))
	field(binary.BigEndian.AppendUint64(nil, uint64(r.Revision))) //nolint:gosec // a stored revision is never negative
	field(r.ID[:])
	field([]byte(r.Type))
	field([]byte(r.Key))
	field(binary.BigEndian.AppendUint64(nil, uint64(r.RecordedAt.UnixMicro()))) //nolint:gosec // after 1970
	field(r.Metadata)
	field(r.Data)
	return [32]byte(h.Sum(nil))
}

// Micros cuts an instant to what the store keeps: UTC, microseconds.
func Micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
