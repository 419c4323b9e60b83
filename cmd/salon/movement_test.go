package main

import (
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/engine"
)

func TestBehindIsWellAsLongAsItMoves(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	status := func(offset, end int64) []engine.PartitionStatus {
		return []engine.PartitionStatus{{
			Projection: "reservations_v1", Topic: "salon.booking.v1", Part: 3, LogEnd: end, Progress: engine.Progress{NextOffset: offset}, Error: "no route to host",
		}}
	}
	var m movement
	second := 0
	after := func(seconds int, offset, end int64) []string {
		for range seconds {
			second++
			m.note(status(offset, end), began.Add(time.Duration(second)*time.Second))
		}
		return m.stuck("", began.Add(time.Duration(second)*time.Second))
	}
	still := int(admin.Still.Seconds())
	if got := after(3*still, 10, 10); got != nil {
		t.Errorf("with nothing to do: %v", got)
	}
	for i := range int64(30) { // it moves now and then, and falls further behind
		if got := after(still-1, 11+i, 1000+100*i); got != nil {
			t.Errorf("behind, and moving: %v", got)
		}
	}
	got := after(still+2, 40, 5000)
	if len(got) != 1 || !strings.Contains(got[0], "reservations_v1, salon.booking.v1/3: 4960 records behind and not moving") || !strings.Contains(got[0], "no route") {
		t.Errorf("behind, and not moving: %v", got)
	}
	if got := m.stuck("history_v1", began.Add(time.Hour)); got != nil {
		t.Errorf("of another projection: %v", got)
	}
	if got := after(1, 41, 5000); got != nil {
		t.Errorf("once it moves: %v", got)
	}
	after(still+2, 41, 5000)
	m.keep(nil)
	if got := m.stuck("", began.Add(time.Hour)); got != nil {
		t.Errorf("when another process has it: %v", got)
	}
}
