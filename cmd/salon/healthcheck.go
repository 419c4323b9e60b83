package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthcheckCmd is for containers, whose image has no shell and no other client.
type healthcheckCmd struct {
	URL     string        `name:"url" help:"What is asked; 200 is well." default:"http://127.0.0.1:8080/readyz" placeholder:"URL" env:"-"`
	Timeout time.Duration `help:"How long it may take." default:"3s" env:"-"`
}

// Run fails with what the process says about itself, which an orchestrator shows beside "unhealthy".
func (c *healthcheckCmd) Run(ctx context.Context, t *terminal) error {
	if err := checkURL(c.URL); err != nil {
		return usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return usage(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // what came of it is enough
		return fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(said)))
	}
	fmt.Fprintln(t.out, "well")
	return nil
}
