package relay_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
)

func (b broker) heads() *relay.Heads { return &relay.Heads{Brokers: b.addresses, Prefix: b.prefix} }

// keep keeps the heads of blocks first to last.
func (b broker) keep(t *testing.T, note string, first, last uint64) {
	t.Helper()
	err := b.heads().Keep(t.Context(), func(yield func(eventstore.Seal, error) bool) {
		for block := first; block <= last; block++ {
			if !yield(eventstore.Seal{Block: block, Note: fmt.Appendf(nil, "%s %d", note, block)}, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Heads are there in order, and the first of a block counts, whatever is written behind it.
func TestHeadsOfSealsStay(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		if _, err := b.heads().Last(t.Context()); err == nil || !containsAll(err.Error(), b.prefix+relay.SealsTopic, "salon topics ensure") {
			t.Errorf("without the topic: %v", err)
		}
		b.ensure(t)
		if last, err := b.heads().Last(t.Context()); err != nil || last.Block != 0 {
			t.Errorf("the last of none is %d: %v", last.Block, err)
		}
		b.keep(t, "true", 1, 1203) // more than are written at once
		b.keep(t, "true", 1203, 1203)
		b.keep(t, "forged", 3, 5)
		if last, err := b.heads().Last(t.Context()); err != nil || last.Block != 5 || string(last.Note) != "forged 5" {
			t.Errorf("last is %d %q: %v", last.Block, last.Note, err)
		}
		notes, err := b.heads().All(t.Context())
		if err != nil || len(notes) != 1203 {
			t.Fatalf("%d heads: %v", len(notes), err)
		}
		for _, block := range []uint64{1, 3, 5, 1203} {
			if diff := cmp.Diff(fmt.Sprintf("true %d", block), notes[block]); diff != "" {
				t.Errorf("block %d (-want +got):\n%s", block, diff)
			}
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: b.prefix + relay.SealsTopic, Key: []byte("0x1")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.heads().All(t.Context()); err == nil || !containsAll(err.Error(), "offset 1207", "not the head of a seal") {
			t.Errorf("with something else in the topic: %v", err)
		}
	})
}

// The topic of the seals is looked at as those of the events are; a relay does without it.
func TestTheTopicOfSealsIsChecked(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		for _, c := range []struct {
			name, value string
			refused     bool
			says        string
		}{
			{"retention.ms", "604800000", false, "no history can be compared"},
			{"cleanup.policy", "compact", true, "compact"},
		} {
			b.set(t, relay.SealsTopic, c.name, c.value)
			warnings, err := b.topics().Check(t.Context())
			if err != nil {
				warnings = append(warnings, err.Error())
			}
			if (err != nil) != c.refused || !slices.ContainsFunc(warnings, func(w string) bool { return containsAll(w, b.prefix+relay.SealsTopic, c.says) }) {
				t.Errorf("%s=%s: %q, %v", c.name, c.value, warnings, err)
			}
		}
		s := newStore()
		s.add("groomer-1", 1)
		stop := start(t, b.relay(s))
		b.read(t, func(record) bool { return true })
		if err := stop(); err != nil {
			t.Errorf("a relay: %v", err)
		}
	})
}
