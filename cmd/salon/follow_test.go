package main

import (
	"strings"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"

	"github.com/dangdangsalon/salon/projections/rebuild"
)

func TestProgressSaysWhatIsDoneAndLeft(t *testing.T) {
	t.Parallel()
	r := rebuild.Run{
		Kind: rebuild.Rebuild, Projection: "reservations", Version: 2, State: rebuild.Running, Phase: rebuild.Loading, Done: 512, Total: 1024,
		Events: 90_000, Rows: 12_000, Rate: 81_000, ETA: time.Now().Add(90 * time.Second), Detail: "held back to 50 %: a read takes 120 ms",
	}
	want := "rebuild reservations@2: loading, 512 of 1024 slices, 90000 events, 12000 rows, 81000 events/s, 1m30s left; held back to 50 %: a read takes 120 ms"
	if got := progressLine(r, 0); got != want {
		t.Errorf("\n%s\n%s", got, want)
	}
	var lines strings.Builder
	p := newProgress(&lines)
	for range 5 { // the same again is not said again
		p.show(r)
	}
	r.Phase, r.Done, r.Total, r.ETA, r.Detail = rebuild.CatchingUp, 0, 0, time.Time{}, ""
	p.show(r)
	p.show(rebuild.Run{Kind: rebuild.Rebuild, Projection: "x", Version: 1, State: rebuild.Asked})
	p.end()
	if n := strings.Count(lines.String(), "\n"); n != 3 || strings.Contains(lines.String(), "\r") {
		t.Errorf("%d lines:\n%s", n, &lines)
	}
	lines.Reset()
	p = newProgress(&lines, mpb.ForceTTY(), mpb.ForceAutoRefresh(), mpb.WithWidth(200))
	r.Phase, r.Done, r.Total = rebuild.Loading, 512, 1024
	p.show(r)
	p.end()
	if got := lines.String(); !strings.Contains(got, "512 of 1024 slices") || !strings.Contains(got, "=") {
		t.Errorf("%q", got)
	}
}

func TestProgressCountsWhatTheRunCounts(t *testing.T) {
	t.Parallel()
	comparing := rebuild.Run{Kind: rebuild.Verify, Projection: "x", Version: 1, State: rebuild.Running, Phase: rebuild.Comparing, Done: 30, Total: 100, Rows: 900, Rate: 80}
	for want, o := range map[string]rebuild.Options{
		"30 of 100 keys, 80 rows/s":   {Fresh: true, Sample: 100},
		"30 of 100 slices, 80 rows/s": {Fresh: true},
		"30 of 100 rows, 80 rows/s":   {},
	} {
		r := comparing
		r.Options = o
		if got := progressLine(r, 0); got != "verify x@1: comparing, "+want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
