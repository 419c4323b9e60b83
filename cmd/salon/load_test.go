package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestALoadTellsWhatFailedWasLostOrDoubled puts fronts before a system that do to every third write what a system is never to do.
func TestALoadTellsWhatFailedWasLostOrDoubled(t *testing.T) {
	t.Parallel()
	data, address := t.TempDir(), harness.Address(t)
	system, err := url.Parse("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	harness.Start(t, nil, "up", "--data", data, "--listen", address, "--rate-limit", "0").Ready(t, system.String())
	on := httputil.NewSingleHostReverseProxy(system)
	for _, c := range []struct {
		what  string
		third func(w http.ResponseWriter, r *http.Request)
		code  int
		says  string
		wrong func(r loadResult) bool
	}{
		{"all is well", on.ServeHTTP, 0, "", func(r loadResult) bool { return r.Failed+r.Lost+r.Doubled > 0 }},
		{
			"writes are refused", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprint(w, `{"code":"store.unavailable"}`)
			}, 0, "", func(r loadResult) bool {
				return r.Failed == 0 || r.Failures["503 store.unavailable"] != r.Failed || r.Lost+r.Doubled > 0
			},
		},
		{
			"writes are acknowledged and not done", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, `{}`)
			}, 1, "was acknowledged and is not there", func(r loadResult) bool { return r.Lost == 0 || r.Failed+r.Doubled > 0 },
		},
		{
			"writes are done twice", func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				again := r.Clone(r.Context())
				again.Body, r.Body = io.NopCloser(strings.NewReader(string(body))), io.NopCloser(strings.NewReader(string(body)))
				on.ServeHTTP(httptest.NewRecorder(), again)
				on.ServeHTTP(w, r)
			}, 1, "is there 2 times", func(r loadResult) bool { return r.Doubled == 0 || r.Failed+r.Lost > 0 },
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			var writes atomic.Int64
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/time-off") && writes.Add(1)%3 == 0 {
					c.third(w, r)
				} else {
					on.ServeHTTP(w, r)
				}
			}))
			defer front.Close()
			got := call(t, "load", "--url", front.URL, "--auth-key-file", filepath.Join(data, "auth.key"), "--for", "3s", "--pairs", "3", "--rate", "60", "-o", "json")
			var r loadResult
			if err := json.Unmarshal([]byte(got.out), &r); err != nil {
				t.Fatalf("%v\n%s%s", err, got.out, got.err)
			}
			if got.code != c.code || !strings.Contains(got.err, c.says) || r.Requests < 20 || c.wrong(r) {
				t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
			}
		})
	}
}
