package rebuild

import "time"

// meterSpan is how far back a rate is measured: long enough that a portion more or less does not show, short enough that
// it follows a change of pace.
const meterSpan = 15 * time.Second

// meter tells how fast a phase goes, and when it will have ended if it goes on like that.
type meter []sample

type sample struct {
	at   time.Time
	done int64 // of the phase's total
	work int64 // events or rows
}

func sampleOf(now time.Time, r *Run) sample {
	if r.Phase == Loading {
		return sample{now, r.Done, r.Events}
	}
	if r.Phase == Comparing {
		return sample{now, r.Done, r.Rows}
	}
	return sample{now, r.Done, r.Done}
}

// begin forgets what was, and measures from here.
func (m *meter) begin(now time.Time, r *Run) { *m = meter{sampleOf(now, r)} }

// look measures.
func (m *meter) look(now time.Time, r *Run) {
	s := sampleOf(now, r)
	*m = append(*m, s)
	for len(*m) > 2 && now.Sub((*m)[1].at) > meterSpan {
		*m = (*m)[1:]
	}
	first := (*m)[0]
	took := now.Sub(first.at)
	r.Rate, r.ETA = 0, time.Time{}
	if took > 0 {
		r.Rate = int64(float64(s.work-first.work) / took.Seconds())
	}
	if gone := s.done - first.done; gone > 0 && r.Total >= s.done {
		r.ETA = now.Add(time.Duration(float64(took) * float64(r.Total-s.done) / float64(gone))).UTC()
	}
}
