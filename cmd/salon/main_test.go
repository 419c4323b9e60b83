package main

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv("SALON_TEST_FAILING") != "" {
		os.Exit(failing(os.Args))
	}
	harness.Main(m)
}

// failing is a release that says it is ready, and then fails every request.
func failing(args []string) int {
	flag := func(name string) string { return args[slices.Index(args, name)+1] }
	var failed atomic.Int64
	go func() {
		_ = http.ListenAndServe(flag("--metrics-listen"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test's
			if r.URL.Path == "/metrics" {
				fmt.Fprintf(w, "salon_http_request_seconds_count{method=\"POST\",route=\"/v1/holds\",status=\"500\"} %d\n", failed.Load())
			}
		}))
	}()
	err := http.ListenAndServe(flag("--listen"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // a test's
		failed.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}
