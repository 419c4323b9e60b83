package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/audit/doctor"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/internal/config"
)

type doctorCmd struct {
	config.Servers       `embed:""`
	config.ErasureLedger `embed:""`

	SealKey  []string      `help:"Public key of seals, or a file that holds one (seal.key.pub): the last seal must be signed by it. A running salon up knows its own." placeholder:"KEY"`
	Data     string        `help:"Data folder of a running salon up: without --events, its process is asked." type:"path" default:"${data}"`
	Full     bool          `help:"Also hold every event of the store to its hash and its place, and every row of both read models to a fold of the store. Takes about a second for each 100,000 events, and more for the rows."`
	Limit    time.Duration `help:"How long each part may take. With the default, all of them end within three seconds." default:"1800ms"`
	Watch    bool          `help:"Look again and again, until Ctrl-C: redrawn on a terminal, else a line for each finding that changes; as JSON an object a line."`
	Interval time.Duration `help:"With --watch: how often." default:"2s"`
	Output   string        `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

// Help teaches the verb.
func (c *doctorCmd) Help() string {
	return "Looks at a running salon up, by its data folder, or at the servers that --events, --kafka, --reads and --redis name. Nothing\n" +
		"is changed and nothing recorded. Of the read models some ordering keys are held to a fold of the store, those changed\n" +
		"last and others from all of the history; with --full, all.\n\n" +
		"Exit code 0: every part is well. 1: one is not; its finding says what is wrong and the command that mends it. With --watch,\n" +
		"that of the last look."
}

func (c *doctorCmd) Run(ctx context.Context, t *terminal) error {
	if err := c.valid(); err != nil {
		return usage(err)
	}
	if c.Watch {
		return c.watch(ctx, t)
	}
	findings, err := c.look(ctx, t.err)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		err = writeJSON(t.out, findings)
	} else {
		err = printFindings(t.out, findings)
	}
	return errors.Join(err, doctor.Unwell(findings))
}

func (c *doctorCmd) valid() error {
	var errs []error
	if c.Limit <= 0 {
		errs = append(errs, errors.New("--limit: more than nothing is needed"))
	}
	if c.Interval <= 0 {
		errs = append(errs, errors.New("--interval: more than nothing is needed"))
	}
	if _, err := seal.Known(c.SealKey...); err != nil {
		errs = append(errs, fmt.Errorf("--seal-key: %w", err))
	}
	if err := c.ReadFiles(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if c.Events != "" {
		errs = append(errs, c.Need(true, true, true, true))
		if strings.HasPrefix(c.Events, "sqlite:") {
			errs = append(errs, errors.New("--events: a SQLite event store belongs to its process: give --data instead"))
		}
	}
	return errors.Join(errs...)
}

// look examines the servers that are named, or has the process of the data folder examine itself: nobody else may open its
// files.
func (c *doctorCmd) look(ctx context.Context, log io.Writer) ([]doctor.Finding, error) {
	if c.Events == "" {
		if c.Full {
			fmt.Fprintln(log, "The process that owns the folder reads every event and every row; this may take a while.")
		}
		return askDoctor(ctx, socketPath(c.Data), c.Full, c.Limit)
	}
	s := examine(ctx, c)
	defer s.close()
	return doctor.Examine(ctx, c.Limit, s.probes(c.Full, log)), nil
}

func askDoctor(ctx context.Context, socket string, full bool, limit time.Duration) (findings []doctor.Finding, err error) {
	d := socketDesk{socketClient(socket), socket}
	return findings, d.call(ctx, http.MethodGet, "/doctor", url.Values{"full": {strconv.FormatBool(full)}, "limit": {limit.String()}}, &findings)
}

// doctorRoute examines this process for another one.
func (n *node) doctorRoute(mux *http.ServeMux, answer func(w http.ResponseWriter, body any, err error)) {
	mux.HandleFunc("GET /doctor", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		limit, err := time.ParseDuration(q.Get("limit"))
		if err != nil || limit <= 0 {
			limit = doctor.Limit
		}
		s := &patient{node: n}
		answer(w, doctor.Examine(r.Context(), limit, s.probes(q.Get("full") == "true", io.Discard)), nil)
	})
}

// printFindings prints a line for each finding, and one more for each further thing that is wrong with a part.
func printFindings(out io.Writer, findings []doctor.Finding) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PART\tWELL\tDETAIL")
	for _, f := range findings {
		part, well := f.Part, "yes"
		if !f.Well {
			well = "NO"
		}
		for line := range strings.SplitSeq(f.Detail, "\n") {
			fmt.Fprintf(w, "%s\t%s\t%s\n", part, well, line)
			part, well = "", ""
		}
	}
	return w.Flush()
}

// watch looks until ctx ends, and is as well as the last look was.
func (c *doctorCmd) watch(ctx context.Context, t *terminal) error {
	redraw := isTerminal(t.out)
	lines := json.NewEncoder(t.out)
	last, err := doctor.Watch(ctx, c.Interval, func(ctx context.Context) []doctor.Finding {
		findings, err := c.look(ctx, t.err)
		if err != nil {
			return []doctor.Finding{doctor.Found("salon up", "", err)}
		}
		return findings
	}, func(all, changed []doctor.Finding) error {
		now := time.Now()
		if c.Output == "json" {
			for _, f := range changed {
				if err := lines.Encode(seen{now.UTC(), f}); err != nil {
					return err
				}
			}
			return nil
		}
		if redraw {
			return redrawn(t.out, now, all)
		}
		return printChanges(t.out, now, changed)
	})
	return errors.Join(err, doctor.Unwell(last))
}

// seen is a finding that changed, and when.
type seen struct {
	At time.Time `json:"at"`
	doctor.Finding
}

// redrawn prints the table over the last one.
func redrawn(out io.Writer, now time.Time, all []doctor.Finding) error {
	var b strings.Builder
	err := printFindings(&b, all)
	if err == nil {
		// Home; clear the rest of each line that is written over, then what is below.
		_, err = fmt.Fprintf(out, "\x1b[H%s\x1b[K\n%s\x1b[J", now.Format(time.DateTime), strings.ReplaceAll(b.String(), "\n", "\x1b[K\n"))
	}
	return err
}

func printChanges(out io.Writer, now time.Time, changed []doctor.Finding) error {
	for _, f := range changed {
		well := "well"
		if !f.Well {
			well = "NOT WELL"
		}
		if _, err := fmt.Fprintf(out, "%s %s %s: %s\n", now.UTC().Format(time.RFC3339), f.Part, well, strings.ReplaceAll(f.Detail, "\n", "; ")); err != nil {
			return err
		}
	}
	return nil
}
