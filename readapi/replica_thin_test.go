package readapi

import (
	"testing"
	"time"
)

// However long a replica is behind, the first state that it lacks is remembered, the newest are, and between them enough to tell
// its age when it has come that far: no gap is longer than what it is old.
func TestStatesOfThePrimaryAreRememberedMoreThinlyTheOlderTheyAre(t *testing.T) {
	t.Parallel()
	began := time.Unix(1_800_000_000, 0)
	var held []state
	for i := range 10_000 {
		now := began.Add(time.Duration(i) * time.Second)
		held = thin(append(held, state{at: now}))
		if len(held) > 2*replicaHeld || !held[0].at.Equal(began) || !held[len(held)-1].at.Equal(now) {
			t.Fatalf("after %d: %d are remembered, from %v to %v", i, len(held), held[0].at, held[len(held)-1].at)
		}
		for k := 1; k < len(held); k++ {
			gap, age := held[k].at.Sub(held[k-1].at), now.Sub(held[k-1].at)
			if recent := len(held)-k < replicaHeld; gap > age || recent && gap != time.Second {
				t.Fatalf("after %d: a gap of %v at an age of %v", i, gap, age)
			}
		}
	}
}
