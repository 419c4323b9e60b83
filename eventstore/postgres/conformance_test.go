package postgres_test

import (
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

// opened is a store that knows where it is.
type opened struct {
	*postgres.Store
	url string
}

func TestConformance(t *testing.T) {
	t.Parallel()
	another := func(t testing.TB, s eventstore.Store) eventstore.Store {
		url := s.(opened).url
		return opened{openAt(t, url), url}
	}
	storetest.Run(t, func(t testing.TB) eventstore.Store {
		url := migrated(t)
		return opened{openAt(t, url), url}
	}, storetest.Features{
		Dense:            true,
		ChecksExpectedID: true,
		Another:          another,
		Reopen: func(t testing.TB, s eventstore.Store) eventstore.Store {
			if err := s.(opened).Close(); err != nil {
				t.Fatal(err)
			}
			return another(t, s)
		},
	})
}
