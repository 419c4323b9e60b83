package eventstore_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// What is fixed for ever, held to figures that were not made by this code.

// The vectors are those of Kafka's own test, org.apache.kafka.common.utils.UtilsTest.testMurmur2.
func TestMurmur2IsKafkas(t *testing.T) {
	t.Parallel()
	for key, kafka := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		want := uint32(kafka) & 0x7fffffff //nolint:gosec // its bits, as Kafka's toPositive takes them
		if got := eventstore.Murmur2(key); got != want {
			t.Errorf("murmur2(%q) = %d, Kafka has %d", key, got, want)
		}
		if got := eventstore.Slice(key); got != int(want%1024) {
			t.Errorf("slice of %q = %d, want %d", key, got, want%1024)
		}
		if got := eventstore.Partition(key, 12); got != int32(want%12) { //nolint:gosec // below 12
			t.Errorf("partition of %q = %d, want %d", key, got, want%12)
		}
	}
}

// The bytes are spelled out; only SHA-256 itself is borrowed.
func TestContentHashIsAsDescribed(t *testing.T) {
	t.Parallel()
	r := eventstore.Recorded{
		Position: 99, Stream: "groomer-kim", Revision: 258, ID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"), Type: "t.v1", Key: "kim",
		RecordedAt: time.UnixMicro(0x0102030405060708).UTC(), Metadata: []byte("{}"), Data: []byte{0, 0xff},
	}
	bytes := "0000000b" + hex.EncodeToString([]byte("groomer-kim")) +
		"00000008" + "0000000000000102" +
		"00000010" + "00112233445566778899aabbccddeeff" +
		"00000004" + hex.EncodeToString([]byte("t.v1")) +
		"00000003" + hex.EncodeToString([]byte("kim")) +
		"00000008" + "0102030405060708" +
		"00000002" + hex.EncodeToString([]byte("{}")) +
		"00000002" + "00ff"
	raw, err := hex.DecodeString(bytes)
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(raw)
	if got := eventstore.ContentHash(r); got != want {
		t.Errorf("hash %x, want %x", got, want)
	}
	// Each field counts, and so does where one ends; the position alone does not.
	moved := r
	moved.Position = 1
	if eventstore.ContentHash(moved) != want {
		t.Error("the position is in the hash: an import would change it")
	}
	for name, change := range map[string]func(*eventstore.Recorded){
		"stream": func(r *eventstore.Recorded) { r.Stream += "x" }, "revision": func(r *eventstore.Recorded) { r.Revision++ },
		"id": func(r *eventstore.Recorded) { r.ID[15]++ }, "type": func(r *eventstore.Recorded) { r.Type = "t.v2" },
		"key": func(r *eventstore.Recorded) { r.Key = "lee" }, "time": func(r *eventstore.Recorded) { r.RecordedAt = r.RecordedAt.Add(time.Microsecond) },
		"metadata": func(r *eventstore.Recorded) { r.Metadata = []byte("{ }") }, "data": func(r *eventstore.Recorded) { r.Data = []byte{0, 0xfe} },
		"a byte from one field to the next": func(r *eventstore.Recorded) { r.Type, r.Key = "t.v", "1kim" },
	} {
		other := r
		change(&other)
		if eventstore.ContentHash(other) == want {
			t.Errorf("another %s has the same hash", name)
		}
	}
}

// The values were computed by another program from the description in streams.go. Changed, these would forget every idempotency key and give every repeated command a second effect.
func TestIdentifiersAreAsEver(t *testing.T) {
	t.Parallel()
	command := eventstore.CommandID("customer", "kim", "POST", "/v1/groomers/lee/holds", "key-1")
	for what, c := range map[string][2]string{
		"command ID":  {"98978951-560c-5e55-8a67-84413ef44763", command.String()},
		"event ID":    {"6beda38e-6553-52ef-ae1b-9610a329d6bb", eventstore.EventID(command, "groomer-lee", 0).String()},
		"hold suffix": {"bfov34r09rtussq29udfpt11v4", eventstore.Suffix(command, "hold")},
	} {
		if c[0] != c[1] {
			t.Errorf("%s = %s, was %s", what, c[1], c[0])
		}
	}
	seen := map[uuid.UUID]string{}
	for _, parts := range [][5]string{
		{"customer", "kim", "POST", "/v1/x", "k"}, {"groomer", "kim", "POST", "/v1/x", "k"}, {"customer", "ki", "mPOST", "/v1/x", "k"},
		{"customerk", "im", "POST", "/v1/x", "k"}, {"customer", "kim", "PUT", "/v1/x", "k"}, {"customer", "kim", "POST", "/v1/", "xk"}, {"", "", "", "", ""},
	} {
		id := eventstore.CommandID(parts[0], parts[1], parts[2], parts[3], parts[4])
		if other, twice := seen[id]; twice {
			t.Errorf("%v and %s are one command", parts, other)
		}
		seen[id] = fmt.Sprint(parts)
	}
}

func TestAnIDNamesItsGroomer(t *testing.T) {
	t.Parallel()
	suffix := eventstore.Suffix(uuid.New(), "hold")
	if len(suffix) != 26 || strings.Trim(suffix, "0123456789abcdefghijklmnopqrstuv") != "" {
		t.Fatalf("suffix %q", suffix)
	}
	for id, want := range map[string]string{
		"kim." + suffix: "kim", "dang-dang-1." + suffix: "dang-dang-1", strings.Repeat("k", 40) + "." + suffix: strings.Repeat("k", 40),
		strings.Repeat("k", 41) + "." + suffix: "", "." + suffix: "", "kim." + suffix + "x": "", "kim." + suffix[1:]: "", "kim": "", "": "", "a.b." + suffix: "",
	} {
		got, ok := eventstore.GroomerOf(id)
		if ok != (want != "") || ok && got != want {
			t.Errorf("groomer of %q = %q, %t; want %q", id, got, ok, want)
		}
	}
}

// Of many who wait, each is woken by a head above its own position and by no other.
func TestSignalWakesWhoWaits(t *testing.T) {
	t.Parallel()
	s := &eventstore.Signal{}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice
	head := uint64(0)
	for range 2000 {
		after := uint64(random.IntN(50))
		grown := s.Beyond(after)
		if (grown == nil) != (head > after) {
			t.Fatalf("head %d, beyond %d: waits %t", head, after, grown != nil)
		}
		next := uint64(random.IntN(50))
		s.Raise(next)
		if grown != nil {
			select {
			case <-grown:
				if next <= head {
					t.Fatalf("woken by %d, the head was %d", next, head)
				}
			default:
				if next > head {
					t.Fatalf("not woken by %d, the head was %d", next, head)
				}
			}
		}
		if head = max(head, next); random.IntN(40) == 0 {
			s, head = &eventstore.Signal{}, 0
		}
	}
}
