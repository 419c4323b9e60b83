package storetest

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// Explain is Linearize with 16 writers while hurt is called a few times, each some moments after the last.
func Explain(t *testing.T, stores []eventstore.Store, hurt func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	enough := make(chan struct{})
	var hurting sync.WaitGroup
	hurting.Go(func() {
		defer close(enough)
		for range Times(t, 4) {
			Underway(ctx)
			hurt(ctx)
		}
		Underway(ctx)
	})
	seed := rand.Uint64()
	h, err := Linearize(ctx, stores, 16, seed, enough)
	hurting.Wait()
	t.Logf("seed %d: %+v", seed, h)
	if err != nil {
		t.Fatal(err)
	}
	if h.Unknown == 0 {
		t.Error("no append was hit: the test has shown nothing")
	}
}

// ExplainKills is Explain of a store whose process, a child that does Serve, is killed.
func ExplainKills(t *testing.T, child func() *exec.Cmd) {
	t.Helper()
	r := NewRemote(t, child)
	Explain(t, []eventstore.Store{r}, func(context.Context) {
		if err := r.Restart(); err != nil {
			t.Error(err)
		}
	})
}

// Underway lets some appends pass, for a random while.
func Underway(ctx context.Context) {
	select {
	case <-time.After(50*time.Millisecond + time.Duration(rand.IntN(200))*time.Millisecond): //nolint:gosec // a test's dice
	case <-ctx.Done():
	}
}
