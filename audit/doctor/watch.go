package doctor

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Watch looks, tells, waits and looks again, until ctx ends, and answers the findings of the last look that came to its
// end. changed are those that are not as the look before had them: another part, well or no more well, or not well in
// other words; numbers alone are no change. At first all are.
func Watch(ctx context.Context, every time.Duration, look func(ctx context.Context) []Finding, tell func(all, changed []Finding) error) (last []Finding, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		now := look(ctx)
		if ctx.Err() != nil {
			return last, nil // asked to stop: what the end broke is no finding
		}
		if err := tell(now, changes(last, now)); err != nil {
			return now, err
		}
		last = now
		select {
		case <-ctx.Done():
			return last, nil
		case <-tick.C:
		}
	}
}

func changes(last, now []Finding) (changed []Finding) {
	for _, f := range now {
		if !slices.ContainsFunc(last, func(b Finding) bool { return b.Part == f.Part && b.shape() == f.shape() }) {
			changed = append(changed, f)
		}
	}
	return changed
}

// shape is a finding without its numbers.
func (f Finding) shape() string {
	if f.Well {
		return "well"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, f.Detail)
}
