package main

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestATraceLeadsFromTheRequestToTheRows receives what a system sends to an OTLP/HTTP endpoint: the batch that made a command
// visible is in the trace of the request that asked for it, by way of the event in the store and in Kafka.
func TestATraceLeadsFromTheRequestToTheRows(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	names := map[string]map[string]bool{} // of spans, by trace
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		b, err := io.ReadAll(body)
		var sent collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &sent)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, of := range sent.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				for _, s := range scope.Spans {
					id := string(s.TraceId)
					if names[id] == nil {
						names[id] = map[string]bool{}
					}
					names[id][s.Name] = true
				}
			}
		}
	}))
	t.Cleanup(receiver.Close)
	address := harness.Address(t)
	p := harness.Start(t, nil, "up", "--demo", "--data", filepath.Join(t.TempDir(), "data"), "--listen", address, "--otlp-endpoint", receiver.URL+"/v1/traces")
	p.Ready(t, "http://"+address)
	wait(t, 2*time.Minute, func() string {
		mu.Lock()
		defer mu.Unlock()
		for _, spans := range names {
			asked, shown := false, false
			for name := range spans {
				asked = asked || strings.HasPrefix(name, "POST /v1/")
				shown = shown || name == "project reservations_v1" || name == "project reservations_v2"
			}
			if asked && shown {
				return ""
			}
		}
		return "no trace has a request and the rows of a reservation"
	})
}
