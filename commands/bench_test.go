package commands

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
)

// The layer alone: what a command costs without a disk.
func BenchmarkExecuteOnACachedStream(b *testing.B) {
	store := newMemory()
	x := newExecutor(b, store)
	count := Kind[int]{Evolve: func(n int, _ domain.Fact) int { return n + 1 }}
	target := Target[int]{Kind: count, Stream: "chat-r", Key: "r"}
	event := []domain.Event{chat.MessagePosted{RoomID: "r", Seq: 1, Sender: kim, ClientMessageID: "c"}}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		m := toyMeta(b, x, fmt.Sprint(i), "a")
		if _, err := Execute(b.Context(), x, target, m, func(int, time.Time) ([]domain.Event, error) { return event, nil }); err != nil {
			b.Fatal(err)
		}
	}
}

const benchSalons = 256

// salons are benchSalons groomers with an open book each.
func salons(b *testing.B, w *world) {
	b.Helper()
	for i := range benchSalons {
		id := fmt.Sprint("g", i)
		w.must(200, "groomer:"+id, "PUT", "/v1/groomers/"+id, settings("instant"))
	}
}

// The burst that DESIGN section 12 asks for, flushes included: holds over many salons.
func BenchmarkHoldsOnSQLite(b *testing.B) {
	w := newWorld(b)
	salons(b, w)
	start := at(2, 10, 0)
	var n atomic.Int64
	b.SetParallelism(128)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			// One customer a salon: each hold takes the place of that customer's last.
			by := domain.Actor{ID: fmt.Sprint("c", i%benchSalons), Role: domain.Customer}
			r := HoldSlot{GroomerID: fmt.Sprint("g", i%benchSalons), Start: start, Mode: "shop", Dogs: []DogRequest{{"콩이", "small", []string{"bath"}}}}
			m, err := w.x.NewMeta(b.Context(), by, "hold_slot", eventstore.CommandID("customer", by.ID, "POST", "/v1/holds", fmt.Sprint(i)), r)
			if err == nil {
				_, err = w.x.HoldSlot(b.Context(), m, r)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

// The same over HTTP, without a network: routing, validation, answer.
func BenchmarkHoldsOverHTTP(b *testing.B) {
	w := newWorld(b)
	salons(b, w)
	start := at(2, 10, 0)
	var n atomic.Int64
	b.SetParallelism(128)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1) % benchSalons
			r := sendTo(b, w.handler, fmt.Sprint("customer:c", i), http.MethodPost, "/v1/holds", wish(start, set("groomer_id", fmt.Sprint("g", i))))
			if r.status != http.StatusCreated {
				b.Errorf("%d %s", r.status, r.raw)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}
