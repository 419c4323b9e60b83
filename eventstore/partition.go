package eventstore

// Slices is how many rebuild slices the ordering keys are spread over.
const Slices = 1024

// Murmur2 is the hash by which Kafka's default partitioner spreads keys (org.apache.kafka.common.utils.Utils.murmur2,
// seed 0x9747b28c), cut to 31 bits as the partitioner does.
func Murmur2(key string) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	n := len(key)
	h := seed ^ uint32(n) //nolint:gosec // a key is short
	i := 0
	for ; n-i >= 4; i += 4 {
		k := uint32(key[i]) | uint32(key[i+1])<<8 | uint32(key[i+2])<<16 | uint32(key[i+3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch n - i {
	case 3:
		h ^= uint32(key[i+2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[i+1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[i])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h & 0x7fffffff
}

// Slice is the rebuild slice of an ordering key, 0 ≤ slice < Slices.
func Slice(key string) int { return int(Murmur2(key) % Slices) }

// SliceRange is the slices From ≤ slice < To; the zero value, and any other without a slice, stands for all of them.
type SliceRange struct{ From, To int }

// OneSlice is a range of one.
func OneSlice(n int) SliceRange { return SliceRange{n, n + 1} }

// Len is how many slices there are, 0 where the range stands for all.
func (r SliceRange) Len() int { return max(0, r.To-r.From) }

// Has tells whether a slice lies in the range as it is written.
func (r SliceRange) Has(n int) bool { return r.From <= n && n < r.To }

// Scanned tells whether so many slices are read sooner by looking at every event than by an index, which visits the table at
// as many places as there are events. Measured on PostgreSQL with 300,000 events in memory: an eighth of the slices costs as
// much either way, a sixteenth half more by looking at every event, a sixty-fourth four times as much (docs/benchmarks.md).
func (r SliceRange) Scanned() bool { return r.Len() >= Slices/8 }

// Partition is the Kafka partition of an ordering key in a topic of n partitions.
func Partition(key string, n int) int32 { return int32(Murmur2(key) % uint32(n)) } //nolint:gosec // n is a small partition count
