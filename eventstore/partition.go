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

// Partition is the Kafka partition of an ordering key in a topic of n partitions.
func Partition(key string, n int) int32 { return int32(Murmur2(key) % uint32(n)) } //nolint:gosec // n is a small partition count
