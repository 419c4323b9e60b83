package storetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Children are what a test binary does when it is started again as another process: one that appends beside its
// parent, or is killed. Each owns its standard input and output.
type Children map[string]func(ctx context.Context, args []string) error

const childVariable = "SALON_TEST_CHILD"

// Main runs a package's tests, or is one of the children.
func (c Children) Main(m *testing.M, leaks ...goleak.Option) {
	name := os.Getenv(childVariable)
	if name == "" {
		goleak.VerifyTestMain(m, leaks...)
		return
	}
	does, ok := c[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no child is called %q\n", name)
		os.Exit(2)
	}
	if err := does(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Child is the test binary as another process, not yet started. It does not outlive the test.
func Child(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), childVariable+"="+name)
	c.Stderr = os.Stderr
	return c
}

// Long is how long a check goes on that finds the more the longer it runs: a second, or what SALON_TEST_LONG says
// (`make test-long`). The long suite is the short one, only longer: nothing runs there that has not run here.
func Long(t testing.TB) time.Duration {
	t.Helper()
	v := os.Getenv("SALON_TEST_LONG")
	if v == "" {
		return time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		t.Fatalf("SALON_TEST_LONG=%q is not a duration such as 30s", v)
	}
	return d
}

// Times is how often a check repeats what it does few times in the short suite.
func Times(t testing.TB, few int) int {
	t.Helper()
	return few * int(max(1, min(10, Long(t)/(3*time.Second))))
}

// After is closed after a while, or when the test ends.
func After(t testing.TB, d time.Duration) <-chan struct{} {
	t.Helper()
	over := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(over) })
	t.Cleanup(func() { timer.Stop() })
	return over
}
