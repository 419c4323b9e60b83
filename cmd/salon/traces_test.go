package main

import (
	"compress/gzip"
	"fmt"
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

// traces receives what a system sends to an OTLP/HTTP endpoint.
type traces struct {
	url   string
	mu    sync.Mutex
	names map[string]map[string]bool // of spans, by trace
}

func newTraces(t *testing.T) *traces {
	t.Helper()
	c := &traces{names: map[string]map[string]bool{}}
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
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range sent.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				for _, s := range scope.Spans {
					id := string(s.TraceId)
					if c.names[id] == nil {
						c.names[id] = map[string]bool{}
					}
					c.names[id][s.Name] = true
				}
			}
		}
	}))
	t.Cleanup(receiver.Close)
	c.url = receiver.URL + "/v1/traces"
	return c
}

// lead waits for a trace that has both a request, by its method and the beginning of its path, and the batch that made its rows.
func (c *traces) lead(t *testing.T, request, projection string) {
	t.Helper()
	wait(t, 2*time.Minute, func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, spans := range c.names {
			asked, shown := false, false
			for name := range spans {
				asked = asked || strings.HasPrefix(name, request)
				shown = shown || strings.HasPrefix(name, "project "+projection+"_v")
			}
			if asked && shown {
				return ""
			}
		}
		return fmt.Sprintf("no trace has a %s and the rows of %s: %v", request, projection, c.names)
	})
}

// TestATraceLeadsFromTheRequestToTheRows: the batch that made a command visible is in the trace of the request that asked for
// it, by way of the event in the store.
func TestATraceLeadsFromTheRequestToTheRows(t *testing.T) {
	t.Parallel()
	c := newTraces(t)
	address := harness.Address(t)
	p := harness.Start(t, nil, "up", "--demo", "--data", filepath.Join(t.TempDir(), "data"), "--listen", address, "--otlp-endpoint", c.url)
	p.Ready(t, "http://"+address)
	c.lead(t, "POST /v1/", "reservations")
}

// TestATraceLeadsThroughKafka has the request, the relay and the rows in processes of their own.
func TestATraceLeadsThroughKafka(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c, k := newTraces(t), realCluster(t)
	k.prepare(t)
	var url string
	for _, role := range []string{"commands", "relay", "projector"} {
		m := k.member(t, role, role)
		m.args = append(m.args, "--otlp-endpoint", c.url)
		m.start(t)
		m.ready(t)
		url += m.url // one of them answers
	}
	newTown([]string{url}, nil, k.mint(t)).open(t.Context(), newSeed(t), salons(1))
	c.lead(t, "PUT /v1/groomers", "groomers")
}
