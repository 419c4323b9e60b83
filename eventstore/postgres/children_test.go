package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

func TestMain(m *testing.M) {
	storetest.Children{
		"writes": opens(func(ctx context.Context, s *postgres.Store, _ []string) error {
			return storetest.AppendUntilKilled(ctx, s, os.Stdout)
		}),
		"writes and follows": opens(func(ctx context.Context, s *postgres.Store, args []string) error {
			return storetest.FollowBeside(ctx, s, args[1], os.Stdin, os.Stdout)
		}),
		"serves": opens(func(ctx context.Context, s *postgres.Store, _ []string) error {
			return storetest.Serve(ctx, s, os.Stdin, os.Stdout)
		}),
	}.Main(m)
}

// opens is a child that opens the store of its first argument.
func opens(does func(ctx context.Context, s *postgres.Store, args []string) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		s, err := postgres.Open(ctx, postgres.Config{URL: args[0]})
		if err != nil {
			return err
		}
		defer s.Close()
		return does(ctx, s, args)
	}
}

func TestAFollowerMissesNothingWhileTwoProcessesWrite(t *testing.T) {
	t.Parallel()
	for _, writers := range []int{16, 64} {
		t.Run(fmt.Sprintf("%d writers", writers), func(t *testing.T) {
			t.Parallel()
			url := migrated(t)
			storetest.Endure(t, openAt(t, url), storetest.Child(t, "writes and follows", url), writers)
		})
	}
}

func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	storetest.Kills(t, storetest.Times(t, 5), func() *exec.Cmd { return storetest.Child(t, "writes", url) }, func() eventstore.Store { return openAt(t, url) })
}
