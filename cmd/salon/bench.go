package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/internal/config"
)

type benchCmd struct {
	Name    string        `arg:"" help:"append: an event store alone, each figure beside what its database can do. audit: what is asked of the past, verified and exported, and what appends pay for it. project: the projector alone, each figure beside what its database can do, and how soon rows can be seen. rebuild: a rebuild from history, beside a plain program that does the same once, what those notice who book and read meanwhile, and the fill of a view, the verification and the switch that follow it. e2e: the whole way, from a command to the rows. chat: sockets over two nodes." enum:"append,audit,project,rebuild,e2e,chat"`
	Each    time.Duration `help:"How long each load lasts." default:"5s"`
	Read    int           `help:"append: how many events there are to read." default:"500000"`
	Among   int           `help:"audit: how many events there are, in books of 1,000 each." default:"300000"`
	Project int           `help:"project: how many events are projected." default:"60000"`
	Sizes   []int         `help:"rebuild: how many events the histories have, smallest first." default:"100000,300000,1000000"`
	Plain   int           `help:"rebuild: the largest history that the plain program, which holds everything in memory, is measured with, too." default:"1000000"`
	Past    int           `help:"rebuild: how many events the history has that is rebuilt while people go on booking." default:"2000000"`
	Rounds  int           `help:"audit, rebuild: how often a figure is taken; the median counts." default:"3"`
	Small   bool          `hidden:""` // chat: few of everything, for tests
	Callers int           `hidden:""` // append: be one of several processes
	JSON    bool          `name:"json" help:"Print one JSON object."`
	Profile string        `help:"Write a CPU profile of the loads, for go tool pprof." type:"path" placeholder:"FILE"`

	config.Servers `embed:""`
}

// report is one benchmark's answer.
type report struct {
	Bench   string    `json:"bench"`
	Machine string    `json:"machine"`
	Commit  string    `json:"commit"`
	Results []measure `json:"results"`
}

// measure is one figure. Ceiling and ratio are null where none is meant.
type measure struct {
	What    string   `json:"what"`
	Value   float64  `json:"value"`
	Unit    string   `json:"unit"`
	Ceiling *float64 `json:"ceiling"`
	Ratio   *float64 `json:"ratio"`
	Goal    string   `json:"goal"`
	Met     bool     `json:"met"`
}

// atMost and atLeast hold a figure against its goal.
func (r *report) atMost(what string, value float64, unit string, goal float64) {
	r.Results = append(r.Results, measure{What: what, Value: value, Unit: unit, Goal: fmt.Sprintf("< %g %s", goal, unit), Met: value < goal})
}

func (r *report) atLeast(what string, value float64, unit string, goal float64) {
	r.Results = append(r.Results, measure{What: what, Value: value, Unit: unit, Goal: fmt.Sprintf("≥ %g %s", goal, unit), Met: value >= goal})
}

// plain reports a figure that has no goal of its own: others are held against it.
func (r *report) plain(what string, value float64, unit string) {
	r.Results = append(r.Results, measure{What: what, Value: value, Unit: unit, Met: true})
}

// ratio holds a figure against its ceiling.
func (r *report) ratio(what string, value float64, unit string, ceiling, ratio, goal float64) {
	r.Results = append(r.Results, measure{
		What: what, Value: value, Unit: unit, Ceiling: &ceiling, Ratio: &ratio, Goal: fmt.Sprintf("≥ %g ×", goal), Met: ratio >= goal,
	})
}

// below holds what should cost less than its ceiling.
func (r *report) below(what string, value float64, unit string, ceiling, goal float64) {
	ratio := value / ceiling
	r.Results = append(r.Results, measure{
		What: what, Value: value, Unit: unit, Ceiling: &ceiling, Ratio: &ratio, Goal: fmt.Sprintf("< %g ×", goal), Met: ratio < goal,
	})
}

// Run measures on the servers that are named, else on embedded ones. Load goes to this machine alone.
func (c *benchCmd) Run(ctx context.Context, t *terminal) error {
	if err := c.ReadFiles(); err != nil {
		return usage(err)
	}
	r := &report{Bench: c.Name, Machine: machine(), Commit: commit}
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return errors.Join(err, f.Close())
		}
		defer func() { pprof.StopCPUProfile(); _ = f.Close() }()
	}
	var err error
	switch c.Name {
	case "append":
		bench := &appendBench{report: r, each: c.Each, events: c.Read, log: t.err}
		if c.Callers > 0 {
			return bench.child(ctx, c.Events, c.Callers, t.out)
		}
		err = bench.run(ctx, c.Events)
	case "audit":
		err = (&auditBench{report: r, among: c.Among, each: c.Each, rounds: max(1, c.Rounds), log: t.err}).run(ctx, c.Events)
	case "project":
		err = c.project(ctx, r, t.err)
	case "rebuild":
		err = (&rebuildBench{report: r, sizes: c.Sizes, plain: c.Plain, past: c.Past, rounds: max(1, c.Rounds), each: c.Each, log: t.err}).run(ctx, c.Servers)
	case "chat":
		err = (&chatBench{report: r, each: c.Each, size: c.chatSize(), log: t.err}).measure(ctx, c.Servers)
	default:
		err = c.e2e(ctx, &e2e{report: r, each: c.Each, log: t.err})
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(t.out, r)
	}
	return r.print(t.out)
}

func (c *benchCmd) e2e(ctx context.Context, bench *e2e) error {
	if c.Events == "" {
		return bench.embedded(ctx)
	}
	if err := c.Need(true, true, true, true); err != nil {
		return usage(err)
	}
	return bench.real(ctx, c.Servers)
}

// project measures the projector alone, then how soon its rows can be seen under a steady load.
func (c *benchCmd) project(ctx context.Context, r *report, log io.Writer) error {
	b := &projectBench{report: r, events: c.Project, log: log}
	if err := b.run(ctx, c.Servers); err != nil {
		return err
	}
	whole := &e2e{report: r, each: c.Each, log: log}
	if c.Events == "" {
		return whole.seenEmbedded(ctx)
	}
	if err := c.Need(true, true, true, true); err != nil {
		return usage(err)
	}
	return whole.seen(ctx, c.Servers)
}

func (r *report) print(out io.Writer) error {
	fmt.Fprintf(out, "%s on %s\n", r.Bench, r.Machine)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tVALUE\tCEILING\tRATIO\tGOAL\tMET")
	for _, m := range r.Results {
		met := "yes"
		if !m.Met {
			met = "NO"
		}
		ceiling, ratio := "", ""
		if m.Ceiling != nil {
			ceiling, ratio = fmt.Sprintf("%.1f %s", *m.Ceiling, m.Unit), fmt.Sprintf("%.2f", *m.Ratio)
		}
		if m.Goal == "" {
			met = ""
		}
		digits := 1
		if m.Unit == "" { // a number by itself is a small one
			digits = 2
		}
		fmt.Fprintf(w, "%s\t%.*f %s\t%s\t%s\t%s\t%s\n", m.What, digits, m.Value, m.Unit, ceiling, ratio, m.Goal, met)
	}
	return w.Flush()
}

// machine says what the figures were measured on.
func machine() string {
	model := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if name, ok := strings.CutPrefix(s.Text(), "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(name, " \t:"))
				break
			}
		}
	}
	return fmt.Sprintf("%d cores, %s, %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}

// warnings is a log of what a benchmark's parts complain about.
func warnings(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
