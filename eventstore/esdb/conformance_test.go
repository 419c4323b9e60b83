package esdb_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

func TestMain(m *testing.M) {
	storetest.Children{
		"append until killed": func(ctx context.Context, args []string) error {
			s, err := esdb.Open(ctx, esdb.Config{URL: args[0]})
			if err != nil {
				return err
			}
			return storetest.AppendUntilKilled(ctx, s, os.Stdout)
		},
	}.Main(m, esdbtest.Leaks()...)
}

// opened is a store that knows where it is.
type opened struct {
	*esdb.Store
	config esdb.Config
}

func openAt(t testing.TB, config esdb.Config) opened {
	t.Helper()
	s, err := esdb.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return opened{s, config}
}

var features = storetest.Features{
	TimeByStream: true,
	Patience:     5 * time.Minute, // under the race detector, beside everything else
	Another:      func(t testing.TB, s eventstore.Store) eventstore.Store { return openAt(t, s.(opened).config) },
	Reopen: func(t testing.TB, s eventstore.Store) eventstore.Store {
		if err := s.(opened).Close(); err != nil {
			t.Fatal(err)
		}
		return openAt(t, s.(opened).config)
	},
}

// The suite wants a new store each time: a server of its own, or a namespace of the one that is named.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(t testing.TB) eventstore.Store { return openAt(t, esdb.Config{URL: esdbtest.New(t).URL()}) }, features)
	})
	if url := os.Getenv("SALON_TEST_EVENTSTOREDB"); url != "" && !testing.Short() {
		t.Run("EventStoreDB", func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t testing.TB) eventstore.Store {
				return openAt(t, esdb.Config{URL: url, Namespace: "test" + strings.ToLower(rand.Text()) + "-"})
			}, features)
		})
	}
}
