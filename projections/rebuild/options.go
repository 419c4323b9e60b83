package rebuild

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Options are what may be said with it. They are kept with the run. Their JSON is the API's.
type Options struct {
	Against int    `json:"against,omitempty" minimum:"1" doc:"To verify: the version to compare with; without it, the one that serves"`
	Fresh   bool   `json:"fresh,omitempty" doc:"To verify: hold the version, without a number the one that serves, to a fold of the event store instead"`
	Sample  int    `json:"sample,omitempty" minimum:"1" maximum:"1000000" doc:"To verify with fresh: so many keys, drawn at random; without it, all"`
	Seed    uint32 `json:"seed,omitempty" doc:"To verify a sample: draw the keys that another run drew with this seed"`
	Force   bool   `json:"force,omitempty" doc:"To switch or roll back although the version was not verified, or lags"`
	// AcceptParked is apart from Force: who forces a version that was not compared need not want one whose rows stand still.
	AcceptParked bool   `json:"accept_parked,omitempty" doc:"To switch although keys are parked in the version: their rows stand still until they are retried"`
	Reason       string `json:"reason,omitempty" maxLength:"500" doc:"Why it is asked; kept with the run. To force it, or to accept parked keys, there must be one"`
	Confirm      string `json:"confirm,omitempty" maxLength:"120" doc:"To drop: the version's name, reservations_v1"`
	Key          string `json:"key,omitempty" minLength:"1" maxLength:"191" doc:"To rebuild: the rows of this ordering key alone, in a version that is live; without a number, the one that serves"`
	Pace         Pace   `json:"pace,omitempty" enum:"gentle,normal,full" doc:"To rebuild: how much it may take of what live projections and reads share with it; normal without it. Not with key"`
	MaxRate      int    `json:"max_rate,omitempty" minimum:"1" doc:"To rebuild: events a second at most. Not with key"`
}

// OptionError is an option that does not go with what is asked, or has no meaning. Option is its name in the API.
type OptionError struct{ Option, Why string }

func (e *OptionError) Error() string { return e.Option + " " + e.Why }

// consistent refuses what does not go together: an option that is passed over in silence is one that somebody counts on.
func (q Request) consistent() error {
	o := q.Options
	for _, one := range []struct {
		option string
		given  bool
		with   []Kind
	}{
		{"against", o.Against != 0, []Kind{Verify}},
		{"fresh", o.Fresh, []Kind{Verify}},
		{"sample", o.Sample != 0, []Kind{Verify}},
		{"seed", o.Seed != 0, []Kind{Verify}},
		{"force", o.Force, []Kind{Switch, Rollback}},
		{"accept_parked", o.AcceptParked, []Kind{Switch}},
		{"confirm", o.Confirm != "", []Kind{Drop}},
		{"key", o.Key != "", []Kind{Rebuild}},
		{"pace", o.Pace != "", []Kind{Rebuild}},
		{"max_rate", o.MaxRate != 0, []Kind{Rebuild}},
	} {
		if one.given && !slices.Contains(one.with, q.Kind) {
			verbs := make([]string, len(one.with))
			for i, k := range one.with {
				verbs[i] = string(k)
			}
			return &OptionError{one.option, fmt.Sprintf("goes with %s, not with %s", strings.Join(verbs, " or "), q.Kind)}
		}
	}
	_, paced := paces[o.Pace]
	switch {
	case strings.ContainsFunc(o.Reason, unicode.IsControl):
		return &OptionError{"reason", "has a control character: one line of text is accepted"}
	case strings.ContainsFunc(o.Key, unicode.IsControl):
		return &OptionError{"key", "has a control character: no ordering key has one"}
	case o.Fresh && o.Against != 0:
		return &OptionError{"against", "names a version to compare with: with fresh, a version is held to the event store instead"}
	case o.Sample != 0 && !o.Fresh:
		return &OptionError{"sample", "is drawn for a fresh verification: it goes with fresh"}
	case o.Sample < 0:
		return &OptionError{"sample", "is too small: from 1 key on"}
	case o.Seed != 0 && o.Sample == 0:
		return &OptionError{"seed", "draws a sample: it goes with sample"}
	case o.Key != "" && o.Pace != "":
		return &OptionError{"pace", "is for a whole version: it does not go with key"}
	case o.Key != "" && o.MaxRate != 0:
		return &OptionError{"max_rate", "is for a whole version: it does not go with key"}
	case o.Pace != "" && o.Pace != Full && !paced:
		return &OptionError{"pace", "is none: gentle, normal and full are accepted"}
	case o.MaxRate < 0:
		return &OptionError{"max_rate", "is too small: from 1 event a second on"}
	}
	return nil
}
