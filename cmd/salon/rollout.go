package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/internal/rollout"
)

type rolloutCmd struct {
	To     rolloutToCmd     `cmd:"" help:"Replace all nodes by those of a release, one by one; take it back when they do not do well. Called again after it was interrupted, it goes on."`
	Back   rolloutBackCmd   `cmd:"" help:"Take back a change that was interrupted; else go back to the release before, or to a named one that is kept."`
	Status rolloutStatusCmd `cmd:"" help:"Show what runs, what is kept, and what is under way."`
}

// rolloutSettings are how nodes are replaced and watched.
type rolloutSettings struct {
	rolloutDir `embed:""`

	Driver    string        `help:"Program that replaces processes: deploy/rollout/compose.sh does it for the nodes of docker-compose.yml, processes.sh beside it for those of one machine." required:"" placeholder:"PROGRAM"`
	Nodes     []string      `help:"All nodes, what reads events before what writes them." default:"projector-a,projector-b,readapi-a,readapi-b,relay-a,relay-b,admin-a,admin-b,live-a,live-b,reactor-a,reactor-b,commands-a,commands-b" placeholder:"NODE,…"`
	Ready     time.Duration `help:"How long a new process may take until it is ready." default:"45s"`
	Settle    time.Duration `help:"How long a new process's answers are counted before the next one's turn." default:"3s"`
	Watch     time.Duration `help:"How long all answers are counted at the end." default:"20s"`
	MaxErrors float64       `help:"The share of answers that may be failures, 5xx but 503." default:"0.01"`
	Keep      int           `help:"How many releases are kept to go back to." default:"5"`
	Notify    string        `help:"Command that is told --kind KIND TEXT at the start, success, failure and rollback, and of latency: \"deploy/notify --webhook-file FILE\" posts it to a webhook." placeholder:"COMMAND"`
}

type rolloutDir struct {
	Dir string `help:"Folder of what is kept of releases, and of what is under way." type:"path" default:".rollout"`
}

func (c *rolloutSettings) rollout(t *terminal) (*rollout.Rollout, error) {
	if c.Keep < 2 || c.MaxErrors < 0 || c.MaxErrors >= 1 || len(c.Nodes) == 0 || c.Ready <= 0 || c.Settle <= 0 || c.Watch <= 0 {
		return nil, usage(errors.New("--keep is at least 2, --max-errors within 0 and 1, and --nodes, --ready, --settle and --watch are not empty"))
	}
	driver, err := rollout.Command{Program: c.Driver, Dir: c.Dir, Output: t.err}.Find()
	if err != nil {
		return nil, usage(fmt.Errorf("--driver: %w", err))
	}
	cfg := rollout.Config{
		Dir: c.Dir, Driver: driver, Nodes: c.Nodes, Ready: c.Ready, Settle: c.Settle, Watch: c.Watch, MaxErrors: c.MaxErrors, Keep: c.Keep, Log: t.out,
	}
	if words := strings.Fields(c.Notify); len(words) > 0 {
		cfg.Tell = func(ctx context.Context, kind, text string) {
			// The change matters more than who hears of it; and whoever ended it is to be heard of, too.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			told := exec.CommandContext(ctx, words[0], slices.Concat(words[1:], []string{"--kind", kind, text})...) //nolint:gosec // the operator names the command
			told.Stdout, told.Stderr = t.err, t.err
			if err := told.Run(); err != nil {
				fmt.Fprintf(t.err, "%s: %v\n", words[0], err)
			}
		}
	}
	return rollout.New(cfg), nil
}

type rolloutToCmd struct {
	Version string `arg:"" help:"The release: an image's tag, or a binary's name."`
	From    string `help:"What runs now, where no rollout has noted that yet; its settings are kept as they are now. Without it, nothing runs." placeholder:"VERSION"`

	rolloutSettings `embed:""`
}

func (c *rolloutToCmd) Run(ctx context.Context, t *terminal) error {
	r, err := c.rollout(t)
	if err != nil {
		return err
	}
	return callWasWrong(r.To(ctx, c.Version, c.From))
}

type rolloutBackCmd struct {
	Version string `arg:"" optional:"" help:"The release. Without it, the one before."`

	rolloutSettings `embed:""`
}

func (c *rolloutBackCmd) Run(ctx context.Context, t *terminal) error {
	r, err := c.rollout(t)
	if err != nil {
		return err
	}
	return callWasWrong(r.Back(ctx, c.Version))
}

func callWasWrong(err error) error {
	if errors.As(err, new(*rollout.RefusedError)) {
		return usage(err)
	}
	return err
}

type rolloutStatusCmd struct {
	rolloutDir `embed:""`

	Output string `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

func (c *rolloutStatusCmd) Run(t *terminal) error {
	s, err := rollout.Load(c.Dir)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, s)
	}
	fmt.Fprintf(t.out, "current: %s\nkept: %s\n", firstOf(s.Current, "none yet"), firstOf(strings.Join(s.Releases, ", "), "none"))
	if r := s.Run; r != nil {
		fmt.Fprintf(t.out, "under way since %s: from %s to %s, %s %s\n", r.Began.Format(time.RFC3339), r.From, r.To, r.Phase, r.Why)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tIS TO RUN")
	for _, n := range slices.Sorted(maps.Keys(s.Nodes)) {
		fmt.Fprintf(w, "%s\t%s\n", n, s.Nodes[n])
	}
	return w.Flush()
}
