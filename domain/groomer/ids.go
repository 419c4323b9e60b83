package groomer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/fnv"
	"iter"
	"math"
	"slices"
)

// idPage is how many IDs share the note of where they began. An ID that is looked up costs the reading of the events
// between one page's beginning and the next's: a few hundred.
const idPage = 128

// IDs knows which holds, reservations and time off a book ever had, and roughly where each began, at four bytes an ID.
// Whoever asks for one that the state let go of reads only there; whoever makes an ID up, nearly always nothing.
//
// Two IDs of the same sum are told apart by what stands there. It is never changed: what adds gives other IDs, which
// share all full pages with the old.
type IDs struct {
	full []*page
	last page // fewer than idPage
}

type page struct {
	from uint64 // the revision of the first
	sums []uint32
}

func idSum(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum32()
}

// with notes an ID that begins at this revision, after all others.
func (s IDs) with(id string, revision uint64) IDs {
	if len(s.last.sums) == 0 {
		s.last.from = revision
	}
	sums := make([]uint32, len(s.last.sums)+1)
	copy(sums, s.last.sums)
	sums[len(sums)-1] = idSum(id)
	s.last.sums = sums
	if len(sums) == idPage {
		s.full = append(slices.Clip(s.full), &page{s.last.from, sums})
		s.last = page{}
	}
	return s
}

// Spans yields the revisions [from, to) between which the ID may have begun: none when the book never had it.
func (s IDs) Spans(id string) iter.Seq2[uint64, uint64] {
	sum := idSum(id)
	return func(yield func(uint64, uint64) bool) {
		for i, p := range s.full {
			if !slices.Contains(p.sums, sum) {
				continue
			}
			to := uint64(math.MaxUint64)
			switch {
			case i+1 < len(s.full):
				to = s.full[i+1].from
			case len(s.last.sums) > 0:
				to = s.last.from
			}
			if !yield(p.from, to) {
				return
			}
		}
		if slices.Contains(s.last.sums, sum) {
			yield(s.last.from, math.MaxUint64)
		}
	}
}

// Len counts.
func (s IDs) Len() int { return len(s.full)*idPage + len(s.last.sums) }

// idsJSON is IDs as JSON: where each page begins, and all sums, big-endian.
type idsJSON struct {
	From []uint64 `json:"from"`
	Sums []byte   `json:"sums"`
}

// MarshalJSON writes the pages in one piece.
func (s IDs) MarshalJSON() ([]byte, error) {
	out := idsJSON{From: make([]uint64, 0, len(s.full)+1), Sums: make([]byte, 0, 4*s.Len())}
	put := func(p page) {
		out.From = append(out.From, p.from)
		for _, sum := range p.sums {
			out.Sums = binary.BigEndian.AppendUint32(out.Sums, sum)
		}
	}
	for _, p := range s.full {
		put(*p)
	}
	if len(s.last.sums) > 0 {
		put(s.last)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *IDs) UnmarshalJSON(b []byte) error {
	var in idsJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	if n := len(in.Sums) / 4; len(in.Sums)%4 != 0 || len(in.From) != (n+idPage-1)/idPage {
		return errors.New("pages and sums do not fit")
	}
	*s = IDs{}
	for i, from := range in.From {
		p := page{from, make([]uint32, 0, idPage)}
		for part := in.Sums[4*idPage*i:]; len(part) > 0 && len(p.sums) < idPage; part = part[4:] {
			p.sums = append(p.sums, binary.BigEndian.Uint32(part))
		}
		if len(p.sums) < idPage {
			s.last = p
		} else {
			s.full = append(s.full, &p)
		}
	}
	return nil
}
