package postgres_test

import (
	"testing"
	"time"
)

func TestAStandbyIsToldOfWhileItFollows(t *testing.T) {
	t.Parallel()
	primary, url := own(t)
	store := openAt(t, url)
	followers := func(want int) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		deadline := time.After(time.Minute)
		for {
			got, err := store.Replicas(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for name, behind := range got {
				if name == "" || behind < 0 || behind > 30*time.Second {
					t.Errorf("%q is %v behind, with nothing to do", name, behind)
				}
			}
			if len(got) == want {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("%v follow, want %d", got, want)
			case <-tick.C:
			}
		}
	}
	followers(0)
	standby := primary.Standby(t)
	followers(1)
	standby.Kill(t)
	followers(0)
}
