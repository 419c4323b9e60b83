package doctor

import (
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
