package rebuild

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// PreviewRequest is what is asked of a preview.
type PreviewRequest struct {
	Projection string `json:"projection"` // as in Request
	Against    int    `json:"against,omitempty"`
	From       string `json:"from,omitempty"` // as ParseBound reads it
	To         string `json:"to,omitempty"`
	Sample     int    `json:"sample,omitempty"`
	Seed       uint32 `json:"seed,omitempty"`
	Examples   int    `json:"examples,omitempty"`

	Slice bool `json:"-"` // as of Preview
}

// mostExamples are as many as somebody may read, and as a report may hold.
const mostExamples = 1000

// Preview folds events by two versions, and writes nothing. Without a version to hold it against it is the one that serves; a
// Desk that has no DB must be told. The error is ErrUnknown for what there is not, and an OptionError for what has no meaning.
func (d *Desk) Preview(ctx context.Context, q PreviewRequest, of Events, scans bool, codec *eventstore.Codec) (*Previewed, error) {
	p := Preview{Events: of, Scans: scans, Slice: q.Slice, Codec: codec, Sample: q.Sample, Seed: q.Seed, Examples: q.Examples}
	if err := p.take(q); err != nil {
		return nil, err
	}
	var err error
	if p.New, _, err = d.find(q.Projection); err != nil {
		return nil, err
	}
	if p.New.Behind != "" {
		return nil, refused("%s is a view of %s: preview that", p.New.Name, p.New.Origin().ID())
	}
	switch {
	case q.Against != 0:
		if p.Old, _, err = d.find(engine.Projection{Name: p.New.Name, Version: q.Against}.ID()); err != nil {
			return nil, err
		}
	case d.DB == nil:
		return nil, &OptionError{"against", "must be given: without the reads database nobody knows which version serves"}
	default:
		if p.Old, err = d.serving(ctx, d.DB.Reader(), p.New.Name); err != nil {
			return nil, err
		}
	}
	if p.Old.Version == p.New.Version {
		return nil, &OptionError{"against", fmt.Sprintf("is missing: %s would be held against itself. Name another version, to preview or to hold it against: %v", p.New.ID(), d.others(p.New))}
	}
	return p.Run(ctx)
}

// take reads what may be wrong with a request.
func (p *Preview) take(q PreviewRequest) (err error) {
	if p.From, err = ParseBound("from", q.From); err != nil {
		return err
	}
	if p.To, err = ParseBound("to", q.To); err != nil {
		return err
	}
	switch {
	case p.To.Position > 0 && p.From.Position > p.To.Position, !p.To.At.IsZero() && p.From.At.After(p.To.At):
		return &OptionError{"to", "comes before from"}
	case q.Sample < 0 || q.Sample > 1_000_000:
		return &OptionError{"sample", "is out of range: 1 to 1,000,000 keys; without it, all"}
	case q.Seed != 0 && q.Sample == 0:
		return &OptionError{"seed", "draws a sample: it goes with sample"}
	case q.Examples < 0 || q.Examples > mostExamples:
		return &OptionError{"examples", "is out of range: 0 to 1,000"}
	}
	if q.Sample > 0 && q.Seed == 0 {
		p.Seed = rand.Uint32() //nolint:gosec // it draws a sample
	}
	return nil
}

// Other is the newest version of a projection besides the one that is named; 0 when there is none.
func (d *Desk) Other(name string) (other int) {
	p, _, err := d.find(name)
	if err != nil {
		return 0
	}
	for _, v := range d.others(p) {
		other = max(other, v)
	}
	return other
}

func (d *Desk) others(p engine.Projection) (versions []int) {
	for _, of := range d.Of {
		for _, v := range of.Versions() {
			if v.Name == p.Name && v.Version != p.Version {
				versions = append(versions, v.Version)
			}
		}
	}
	return versions
}

// Changes reports whether any row differs, as is expected or not.
func (p *Previewed) Changes() bool {
	return p.Unexpected > 0 || slices.ContainsFunc(p.Tables, func(t TableDiff) bool { return t.Added+t.Removed+t.Changed > 0 })
}
