package postgres_test

import (
	"context"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
)

// own is a server of the test's own with an empty store.
func own(t testing.TB, settings ...string) (*harness.OwnPostgres, string) {
	t.Helper()
	harness.NeedsServers(t)
	server := harness.NewPostgres(t, settings...)
	return server, ownStore(t, server)
}

func ownStore(t testing.TB, server *harness.OwnPostgres) string {
	t.Helper()
	url := server.Database(t)
	if err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

// settled lets 16 append to two instances while hurt does what it does, and holds the store to what they were told.
func settled(t *testing.T, url string, hurt func(ctx context.Context)) storetest.Settled {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	stores := []eventstore.Store{openAt(t, url), openAt(t, url)}
	enough := make(chan struct{})
	var hurting sync.WaitGroup
	hurting.Go(func() {
		defer close(enough)
		hurt(ctx)
	})
	s, err := storetest.Settle(ctx, stores, 16, enough)
	hurting.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", s)
	return s
}

func TestNothingAcknowledgedIsLostWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	server, url := own(t)
	s := settled(t, url, func(ctx context.Context) {
		for range storetest.Times(t, 3) {
			storetest.Underway(ctx)
			server.Kill(t)
			server.Start(t)
		}
		storetest.Underway(ctx)
	})
	if s.Unknown == 0 {
		t.Error("no append was hit: the test has shown nothing")
	}
}

// Each stream's answers have an explanation, also when the connections, the network or the whole server are gone.
func TestAnswersHaveAnExplanationUnderFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name  string
		under func(t *testing.T) (url string, hurt func(ctx context.Context))
	}{
		{"the server is killed", func(t *testing.T) (string, func(context.Context)) {
			server, url := own(t)
			return url, func(context.Context) {
				server.Kill(t)
				server.Start(t)
			}
		}},
		{"connections are killed", func(t *testing.T) (string, func(context.Context)) {
			url := migrated(t)
			beside := sql(t, url)
			return url, func(ctx context.Context) {
				for killed := 0; killed == 0; {
					if err := beside.QueryRow(ctx, terminateAppends).Scan(&killed); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}},
		{"the network is cut", func(t *testing.T) (string, func(context.Context)) {
			url, proxy := harness.Through(t, migrated(t))
			return url, func(context.Context) {
				proxy.Cut()
				proxy.Restore(t)
			}
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			url, hurt := fault.under(t)
			storetest.Explain(t, []eventstore.Store{openAt(t, url), openAt(t, url)}, hurt)
		})
	}
}

func TestAnswersHaveAnExplanationWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	storetest.ExplainKills(t, func() *exec.Cmd { return storetest.Child(t, "serves", url) })
}
