package audit

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, esdbtest.Leaks()...) }
