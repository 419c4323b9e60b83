package sqlite_test

import (
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

func BenchmarkAppend(b *testing.B) {
	storetest.Bench(b, func(b testing.TB) eventstore.Store { return openAt(b, newFile(b)) })
}
