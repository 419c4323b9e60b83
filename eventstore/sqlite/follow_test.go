package sqlite_test

import (
	"fmt"
	"testing"

	"github.com/dangdangsalon/salon/eventstore/storetest"
)

func TestAFollowerMissesNothingHoweverLongManyWrite(t *testing.T) {
	t.Parallel()
	for _, writers := range []int{16, 64} {
		t.Run(fmt.Sprintf("%d writers", writers), func(t *testing.T) {
			t.Parallel()
			storetest.Endure(t, openAt(t, newFile(t)), nil, writers)
		})
	}
}
