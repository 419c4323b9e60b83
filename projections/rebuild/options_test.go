package rebuild

import (
	"errors"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/projections/engine"
)

func TestOptionsThatDoNotGoTogetherAreRefusedByName(t *testing.T) {
	t.Parallel()
	d := &Desk{Of: []engine.Projection{toy(nil)}} // what is wrong by itself needs no database
	for _, c := range []struct {
		kind   Kind
		o      Options
		option string
		says   string
	}{
		{Rebuild, Options{Fresh: true}, "fresh", "goes with verify, not with rebuild"},
		{Verify, Options{Key: "kim"}, "key", "goes with rebuild, not with verify"},
		{Verify, Options{Force: true, Reason: "x"}, "force", "goes with switch or rollback, not with verify"},
		{Rollback, Options{AcceptParked: true}, "accept_parked", "goes with switch"},
		{Pause, Options{Confirm: "toy_v1"}, "confirm", "goes with drop"},
		{Switch, Options{Pace: Gentle}, "pace", "goes with rebuild"},
		{Resume, Options{MaxRate: 5}, "max_rate", "goes with rebuild"},
		{Drop, Options{Against: 1}, "against", "goes with verify"},
		{Switch, Options{Sample: 1}, "sample", "goes with verify"},
		{Switch, Options{Seed: 1}, "seed", "goes with verify"},
		{Pause, Options{Reason: "\x1b[31mred\n"}, "reason", "control character"},
		{Rebuild, Options{Key: "a\x00"}, "key", "control character"},
		{Verify, Options{Fresh: true, Against: 2}, "against", "with fresh"},
		{Verify, Options{Sample: 3}, "sample", "goes with fresh"},
		{Verify, Options{Fresh: true, Sample: -1}, "sample", "from 1"},
		{Verify, Options{Fresh: true, Seed: 3}, "seed", "goes with sample"},
		{Rebuild, Options{Key: "kim", Pace: Full}, "pace", "does not go with key"},
		{Rebuild, Options{Key: "kim", MaxRate: 1}, "max_rate", "does not go with key"},
		{Rebuild, Options{Pace: "fast"}, "pace", "gentle, normal and full"},
		{Rebuild, Options{MaxRate: -1}, "max_rate", "from 1"},
	} {
		var no *OptionError
		if _, err := d.Ask(t.Context(), Request{Kind: c.kind, Projection: "toy", Options: c.o}); !errors.As(err, &no) || no.Option != c.option || !strings.Contains(no.Why, c.says) {
			t.Errorf("%s with %+v: %v, want %s: %s", c.kind, c.o, err, c.option, c.says)
		}
	}
}
