package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/dangdangsalon/salon/projections/rebuild"
)

// follow tells on stderr how a run goes, until it has ended. Whoever stops following does not stop the run.
func (c *whichSystem) follow(ctx context.Context, t *terminal, d runsDesk, r rebuild.Run) (rebuild.Run, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	p := newProgress(t.err)
	defer p.end()
	for !r.Ended() {
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("the run goes on without us: salon projections runs %s shows it, cancel %s ends it", r.Projection, r.ID)
		case <-tick.C:
		}
		now, err := d.Follow(ctx, r.ID)
		if err != nil {
			return r, err
		}
		if r = now; !r.Ended() {
			p.show(r)
		}
	}
	return r, nil
}

// progress shows how a run goes: on a terminal as a bar, else as a line whenever something is new, and every two seconds.
type progress struct {
	out   io.Writer
	began time.Time
	said  time.Time
	last  string

	bars *mpb.Progress // nil: lines
	bar  *mpb.Bar
	line atomic.Value // beside the bar
}

func newProgress(out io.Writer, options ...mpb.ContainerOption) *progress {
	p := &progress{out: out, began: time.Now()}
	if !isTerminal(out) && len(options) == 0 {
		return p
	}
	p.line.Store("")
	p.bars = mpb.New(append(options, mpb.WithOutput(out))...)
	p.bar = p.bars.AddBar(0, mpb.BarWidth(22), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + p.line.Load().(string) })))
	return p
}

// isTerminal tells whether somebody sees what is written, who can be shown it anew.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) show(r rebuild.Run) {
	line := progressLine(r, time.Since(p.began))
	if p.bars != nil {
		p.line.Store(line)
		p.bar.SetTotal(r.Total, false)
		p.bar.SetCurrent(r.Done)
		return
	}
	what := string(r.State) + r.Phase
	if what == p.last && time.Since(p.said) < 2*time.Second {
		return
	}
	p.said, p.last = time.Now(), what
	fmt.Fprintln(p.out, line)
}

// end takes the bar away.
func (p *progress) end() {
	if p.bars != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}

// unitsOf are what a run counts in its phase, and what its rate counts; "" where there is nothing to count.
func unitsOf(r rebuild.Run) (unit, rate string) {
	switch {
	case r.Phase == rebuild.Loading && r.Options.Key == "":
		return "slices", "events"
	case r.Phase == rebuild.CatchingUp:
		return "records", "records"
	case r.Phase == rebuild.Comparing && r.Options.Sample > 0:
		return "keys", "rows"
	case r.Phase == rebuild.Comparing && r.Options.Fresh:
		return "slices", "rows"
	case r.Phase == rebuild.Comparing:
		return "rows", "rows"
	}
	return "", ""
}

func progressLine(r rebuild.Run, followed time.Duration) string {
	parts := []string{fmt.Sprintf("%s %s@%d: %s", r.Kind, r.Projection, r.Version, strings.ReplaceAll(firstOf(r.Phase, string(r.State)), "_", " "))}
	unit, rate := unitsOf(r)
	switch {
	case r.State == rebuild.Asked && followed > 5*time.Second:
		parts = append(parts, "nobody has begun with it: does a projector run?")
	case unit != "" && r.Total > 0:
		parts = append(parts, fmt.Sprintf("%d of %d %s", r.Done, r.Total, unit))
	case unit != "" && r.Done > 0:
		parts = append(parts, fmt.Sprintf("%d %s", r.Done, unit))
	}
	if r.Phase == rebuild.Loading {
		parts = append(parts, fmt.Sprintf("%d events", r.Events), fmt.Sprintf("%d rows", r.Rows))
	}
	if r.Rate > 0 && rate != "" {
		parts = append(parts, fmt.Sprintf("%d %s/s", r.Rate, rate))
	}
	if !r.ETA.IsZero() {
		parts = append(parts, fmt.Sprintf("%s left", max(0, time.Until(r.ETA)).Round(time.Second)))
	}
	return strings.TrimSuffix(strings.Join(parts, ", ")+"; "+r.Detail, "; ")
}
