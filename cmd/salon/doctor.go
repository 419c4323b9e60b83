package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/internal/config"
)

type doctorCmd struct {
	config.Servers `embed:""`

	Data   string `help:"Data folder of a running salon up: without --events, its process is asked." type:"path" default:"${data}"`
	Full   bool   `help:"Also read every event of the store, and hold it to its hash and its place. Takes about a second for each 100,000."`
	Output string `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

// finding is what one probe saw.
type finding struct {
	Part   string `json:"part"`
	Well   bool   `json:"well"`
	Detail string `json:"detail"` // what was seen, or what is wrong and what to do
}

// probe looks at one part. It answers what it saw.
type probe struct {
	part string
	look func(ctx context.Context) (string, error)
	long bool // takes as long as it takes
}

func (c *doctorCmd) Run(ctx context.Context, t *terminal) error {
	findings, err := c.findings(ctx, t.err)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		e := json.NewEncoder(t.out)
		e.SetIndent("", "  ")
		err = e.Encode(findings)
	} else {
		err = printFindings(t.out, findings)
	}
	for _, f := range findings {
		if !f.Well {
			err = errors.Join(err, fmt.Errorf("%s is not well", f.Part))
		}
	}
	return err
}

func (c *doctorCmd) findings(ctx context.Context, log io.Writer) ([]finding, error) {
	if err := c.ReadFiles(); err != nil {
		return nil, usage(err)
	}
	if c.Events == "" {
		if c.Full {
			fmt.Fprintln(log, "The process that owns the folder reads every event; this may take a while.")
		}
		return askProcess(ctx, socketPath(c.Data), c.Full)
	}
	if err := c.Need(true, true, true, true); err != nil {
		return nil, usage(err)
	}
	probes := serverProbes(c.Servers)
	if c.Full {
		probes = append(probes, fullProbe(func(ctx context.Context) (string, error) {
			return probeEveryEvent(ctx, c.Events, log)
		}))
	}
	return examine(ctx, probes), nil
}

// examine runs the probes one after the other, each but a long one for at most three seconds.
func examine(ctx context.Context, probes []probe) []finding {
	findings := make([]finding, 0, len(probes))
	for _, p := range probes {
		ctx, cancel := ctx, func() {}
		if !p.long {
			ctx, cancel = context.WithTimeout(ctx, 3*time.Second)
		}
		detail, err := p.look(ctx)
		cancel()
		if err != nil {
			detail = err.Error()
		}
		findings = append(findings, finding{p.part, err == nil, detail})
	}
	return findings
}

func printFindings(out io.Writer, findings []finding) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PART\tWELL\tDETAIL")
	for _, f := range findings {
		well := "yes"
		if !f.Well {
			well = "NO"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Part, well, strings.ReplaceAll(f.Detail, "\n", "; "))
	}
	return w.Flush()
}

// askProcess lets the process that owns a data folder examine itself: nobody else may open its files.
func askProcess(ctx context.Context, socket string, full bool) ([]finding, error) {
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://salon/doctor?full=%t", full), nil)
	if err != nil {
		return nil, err
	}
	res, err := c.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no salon up runs on this data folder (nothing answers at %s): start it, or name servers with --events, --kafka, --reads and --redis", socket)
	}
	defer res.Body.Close()
	var findings []finding
	if err := json.NewDecoder(res.Body).Decode(&findings); err != nil {
		return nil, fmt.Errorf("read the process's answer: %w", err)
	}
	return findings, nil
}
