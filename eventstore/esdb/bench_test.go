package esdb_test

import (
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

// On the server in this process, which writes to no disk: what it says is the cost of the adapter, the client and gRPC.
func BenchmarkAppend(b *testing.B) {
	storetest.Bench(b, func(b testing.TB) eventstore.Store { return openAt(b, esdb.Config{URL: esdbtest.New(b).URL()}) })
}
