package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// Clock is one clock that is compared with ours. Ask tells its time.
type Clock struct {
	Name string
	Ask  func(ctx context.Context) (time.Time, error)
}

// Clocks compares clocks with ours, now. One that is further off than a decision may be old is not well: the store refuses
// what such a node decides, and what it projects is late by as much.
//
// What a question takes bounds the error: the answer was true at some moment within it.
func Clocks(ctx context.Context, now func() time.Time, clocks []Clock) (string, error) {
	var seen []string
	var wrong []error
	for _, c := range clocks {
		before := now()
		there, err := c.Ask(ctx)
		took := now().Sub(before)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("the clock of %s is not known: %w", c.Name, err))
			continue
		}
		off := there.Sub(before.Add(took / 2))
		if off.Abs()-took/2 > eventstore.MaxDecisionAge {
			wrong = append(wrong, fmt.Errorf("the clock of %s is %s of ours, and at most %v is accepted: on the machine that is wrong, run `chronyc makestep`",
				c.Name, ahead(off), eventstore.MaxDecisionAge))
			continue
		}
		seen = append(seen, c.Name+" "+ahead(off))
	}
	return strings.Join(seen, ", "), errors.Join(wrong...)
}

func ahead(off time.Duration) string {
	if off < 0 {
		return fmt.Sprintf("%v short", (-off).Round(time.Millisecond))
	}
	return fmt.Sprintf("%v ahead", off.Round(time.Millisecond))
}
