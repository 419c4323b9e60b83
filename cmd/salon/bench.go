package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/internal/config"
)

type benchCmd struct {
	Name    string        `arg:"" help:"e2e: the whole way, from a command to the rows." enum:"e2e"`
	Each    time.Duration `help:"How long each load lasts." default:"10s"`
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

// Run measures on the servers that are named, else on embedded ones. Load goes to this machine alone.
func (c *benchCmd) Run(ctx context.Context, t *terminal) error {
	if err := c.ReadFiles(); err != nil {
		return usage(err)
	}
	r := &report{Bench: c.Name, Machine: machine(), Commit: commit}
	bench := &e2e{report: r, each: c.Each, log: t.err}
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
	if c.Events != "" {
		if err := c.Need(true, true, true, true); err != nil {
			return usage(err)
		}
		err = bench.real(ctx, c.Servers)
	} else {
		err = bench.embedded(ctx)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(t.out, r)
	}
	return r.print(t.out)
}

func (r *report) print(out io.Writer) error {
	fmt.Fprintf(out, "%s on %s\n", r.Bench, r.Machine)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tVALUE\tGOAL\tMET")
	for _, m := range r.Results {
		met := "yes"
		if !m.Met {
			met = "NO"
		}
		fmt.Fprintf(w, "%s\t%.1f %s\t%s\t%s\n", m.What, m.Value, m.Unit, m.Goal, met)
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
