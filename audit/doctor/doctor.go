// Package doctor looks at each part of a system, and says how it is and which command mends what is not well.
//
// A look changes nothing and is recorded nowhere. The parts are looked at all at the same time, each within a limit of its
// own, so a part that is away holds up no other, and findings come in the order of the parts. What a part is, main says:
// it fills a [Probe] with a function over whatever it has open. Those over an event store, clocks and the survey of
// projections stand here, and do no I/O but through what they are given.
//
// The error of a probe is written for whoever has to act. The commands that mend stand in it between backquotes, as in
// "the schema is not up to date: run `salon migrate up`", and [Finding] lists them.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Finding is what a look at one part found.
type Finding struct {
	Part   string   `json:"part"`
	Well   bool     `json:"well"`
	Detail string   `json:"detail"`         // what was seen, or what is wrong and what to do; a line for each
	Mend   []string `json:"mend,omitempty"` // the commands that mend it
}

// Probe looks at one part. Look answers what it saw, or an error for whoever has to act: several are joined.
type Probe struct {
	Part string
	Look func(ctx context.Context) (string, error)
	Long bool // takes as long as it takes
}

// Limit is how long a probe may take where nothing else is said: with what it takes to open and to print, all of them
// together end within three seconds.
const Limit = 1800 * time.Millisecond

// Examine runs the probes at the same time, each but the long ones within the limit.
func Examine(ctx context.Context, limit time.Duration, probes []Probe) []Finding {
	findings := make([]Finding, len(probes))
	var all sync.WaitGroup
	for i, p := range probes {
		all.Go(func() { findings[i] = p.examine(ctx, limit) })
	}
	all.Wait()
	return findings
}

func (p Probe) examine(ctx context.Context, limit time.Duration) Finding {
	if !p.Long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	detail, err := p.Look(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) { // in whatever words it says so
		err = fmt.Errorf("did not answer within %v", limit)
	}
	return Found(p.Part, detail, err)
}

// Found is the finding of a probe that answered so.
func Found(part, detail string, err error) Finding {
	if err == nil {
		return Finding{Part: part, Well: true, Detail: detail}
	}
	return Finding{Part: part, Detail: err.Error(), Mend: commandsIn(err.Error())}
}

// commandsIn lists what stands between backquotes, each once.
func commandsIn(text string) (commands []string) {
	seen := map[string]bool{}
	for {
		_, rest, found := strings.Cut(text, "`")
		command, after, closed := strings.Cut(rest, "`")
		if !found || !closed {
			return commands
		}
		if !seen[command] {
			seen[command] = true
			commands = append(commands, command)
		}
		text = after
	}
}

// Unwell is the error of findings that are not all well, nil of others. It names the parts.
func Unwell(findings []Finding) error {
	var parts []string
	for _, f := range findings {
		if !f.Well {
			parts = append(parts, f.Part)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s is not well", parts[0])
	}
	return fmt.Errorf("%s and %s are not well", strings.Join(parts[:len(parts)-1], ", "), parts[len(parts)-1])
}
