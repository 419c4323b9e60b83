package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests and checks that they left no goroutine behind. The settings of salon (SALON_…) that the
// caller's shell may have are taken away: tests say themselves what they mean, also to the processes they start. leaks are what a
// library is known to leave.
func Main(m *testing.M, leaks ...goleak.Option) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "SALON_") && !strings.HasPrefix(name, "SALON_TEST_") {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m, append(leaks, goleak.Cleanup(func(code int) {
		if built != "" {
			os.RemoveAll(filepath.Dir(built))
		}
		os.Exit(code)
	}))...)
}
