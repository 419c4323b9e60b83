package rebuild

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

func TestBulkWorkRestsForItsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			pace  Pace
			feels []time.Duration // lags, one a look
			want  time.Duration   // rest after a second of work
		}{
			{Full, []time.Duration{time.Minute}, 0},
			{"", nil, 0},
			{Normal, []time.Duration{300 * time.Millisecond}, 0},
			{Normal, []time.Duration{600 * time.Millisecond}, 3 * time.Second}, // twice as much as may be: a quarter
			{Normal, []time.Duration{600 * time.Millisecond, 600 * time.Millisecond}, 15 * time.Second},        // and a quarter of that
			{Normal, []time.Duration{600 * time.Millisecond, 200 * time.Millisecond}, 3 * time.Second},         // not up again so soon
			{Normal, []time.Duration{600 * time.Millisecond, 0, 0, 100 * time.Millisecond, 0, 0}, time.Second}, // but then
			{Gentle, nil, 3 * time.Second},                                                      // a quarter from the start
			{Gentle, []time.Duration{400 * time.Millisecond}, 15 * time.Second},                 // and of it a quarter
			{Normal, []time.Duration{9e9, 9e9, 9e9, 9e9, 9e9, 9e9, 9e9, 9e9}, 49 * time.Second}, // and never nothing
		} {
			p := newPacer(Options{Pace: c.pace})
			if c.pace != Full {
				for _, lag := range c.feels {
					p.feel(lag, 0)
				}
			}
			began := time.Now()
			if err := p.rest(t.Context(), 0, time.Second); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began).Round(time.Millisecond); got != c.want {
				t.Errorf("%s %v: rests for %v, want %v", c.pace, c.feels, got, c.want)
			}
			if held := p.held(); (held == "") != (p.share == p.most) {
				t.Errorf("%s %v: %q", c.pace, c.feels, held)
			}
		}
		// A slow read counts as a lag does.
		p := newPacer(Options{})
		p.feel(0, 200*time.Millisecond)
		if !strings.Contains(p.held(), "25 %: a read takes 200 ms") {
			t.Errorf("%q", p.held())
		}
		// Who rests is called back as soon as nobody feels it any more.
		p.feel(9*time.Second, 0)
		began := time.Now()
		go func() {
			for range 20 {
				p.feel(0, 0)
			}
		}()
		if err := p.rest(t.Context(), 0, time.Hour); err != nil || time.Since(began) > time.Second {
			t.Errorf("rested for %v: %v", time.Since(began), err)
		}
		// And a rest ends with the run.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newPacer(Options{Pace: Gentle}).rest(ctx, 0, time.Hour); err == nil {
			t.Error("rested on")
		}
	})
}

func TestARateIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(Options{Pace: Full, MaxRate: 1000})
		began := time.Now()
		for range 5 {
			if err := p.rest(t.Context(), 2500, 0); err != nil { // more at once than the rate has in a second
				t.Fatal(err)
			}
		}
		if took := time.Since(began).Round(time.Second); took < 11*time.Second || took > 12*time.Second { // a second's worth is there at first
			t.Errorf("12,500 events took %v at 1,000 a second", took)
		}
	})
}

func TestALagIsCountedSinceTheLogHadMore(t *testing.T) {
	t.Parallel()
	var l lagging
	at := Partition{"salon.booking.v1", 1}
	began := time.Now()
	look := func(after time.Duration, end, next int64) time.Duration {
		now := began.Add(after)
		l.ended(now, map[Partition]int64{at: end})
		return l.behind(now, []engine.Place{{Projection: "toy_v1", Topic: at.Topic, Part: at.Part, Progress: engine.Progress{NextOffset: next}}})
	}
	for i, c := range []struct {
		after     time.Duration
		end, next int64
		want      time.Duration
	}{
		{0, 10, 10, 0},
		{time.Second, 12, 10, 0}, // it may have been written just now
		{2 * time.Second, 13, 10, time.Second},
		{3 * time.Second, 13, 12, time.Second},
		{4 * time.Second, 13, 13, 0},
		{100 * time.Second, 14, 13, 0},
		{101 * time.Second, 14, 14, 0},
		{110 * time.Second, 20, 15, 0},
		{120 * time.Second, 20, 15, 10 * time.Second},
		{126 * time.Second, 20, 15, 0}, // it is stopped: no pause helps
		{127 * time.Second, 20, 16, 17 * time.Second},
	} {
		if got := look(c.after, c.end, c.next); got != c.want {
			t.Errorf("look %d: %v behind, want %v", i, got, c.want)
		}
	}
}

// Live projections seem to be behind for a while: the rebuild is held back, says so, and is done when they are not.
func TestARebuildGivesWay(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(500, 2000)
		w.caughtUp(w.newest.Earlier[0])
		worker := w.worker()
		worker.Parallel, worker.MostRows = 1, 100
		var behind atomic.Int64
		worker.Ends = func(ctx context.Context, topics []string) (map[Partition]int64, error) {
			ends, err := w.ends(ctx, topics)
			for at := range ends {
				ends[at] += behind.Load()
			}
			return ends, err
		}
		var id string
		asked, times := make(chan struct{}), 0
		worker.At = func(phase string) {
			if times++; phase != Loading || times != 3 { // the first portion
				return
			}
			<-asked
			behind.Store(1)
			r := w.until(id, func(r Run) bool { return strings.Contains(r.Detail, "held back") })
			if !strings.Contains(r.Detail, "live projections are") || r.Rate == 0 || r.ETA.IsZero() {
				t.Errorf("%+v", r)
			}
			behind.Store(0)
		}
		w.start(worker.Run)
		r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(t, err)
		id = r.ID
		close(asked)
		if r = w.ended(id); r.State != Done || r.Detail != "" || r.Rate == 0 {
			t.Errorf("%+v", r)
		}
		w.equal(w.newest)
	})
}

func TestTheEndIsReckonedFromTheLastWhile(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	r := Run{Phase: Loading, Done: 100, Total: 1000, Events: 5000} // as another worker left it
	var m meter
	m.begin(now, &r)
	m.look(now, &r)
	if r.Rate != 0 || !r.ETA.IsZero() {
		t.Errorf("before anything: %d a second, until %v", r.Rate, r.ETA)
	}
	for range 30 { // thirty seconds of ten slices and 1,000 events
		now = now.Add(time.Second)
		r.Done, r.Events = r.Done+10, r.Events+1000
		m.look(now, &r)
	}
	if r.Rate != 1000 || r.ETA.Sub(now).Round(time.Second) != 60*time.Second {
		t.Errorf("%d a second, %v left", r.Rate, r.ETA.Sub(now))
	}
	for range 20 { // and at half the speed
		now = now.Add(time.Second)
		r.Done, r.Events = r.Done+5, r.Events+500
		m.look(now, &r)
	}
	if r.Rate != 500 || r.ETA.Sub(now).Round(time.Second) != 100*time.Second {
		t.Errorf("%d a second, %v left", r.Rate, r.ETA.Sub(now))
	}
}
