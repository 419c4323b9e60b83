package doctor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dangdangsalon/salon/projections/admin"
)

// Offsets tells from a survey of the projections whether each version that is kept has an offset for each partition of its
// topics, that is neither beyond the log nor beyond the store, and moves. The log's ends and the store's head have to be
// those of a moment after the offsets were read.
func Offsets(all admin.Overview) (string, error) {
	var wrong []error
	var lag int64
	var seconds float64
	kept, waiting, filling := 0, 0, 0
	for _, s := range all.Items {
		at := fmt.Sprintf("%s@%d", s.Name, s.Version)
		switch s.State {
		case admin.Absent, admin.Building:
			continue
		case admin.Away:
			wrong = append(wrong, fmt.Errorf("where %s stands is not known: %s", at, s.Detail))
			continue
		case admin.Paused:
			if s.Serves {
				wrong = append(wrong, fmt.Errorf("%s serves and is paused: run `salon projections resume %s`", at, at))
			}
		}
		kept++
		lag += s.LagEvents
		seconds = max(seconds, s.LagSeconds)
		var missing, beyondLog, beyondStore, stuck []string
		for _, p := range s.Partitions {
			place := fmt.Sprintf("%s/%d", p.Topic, p.Part)
			switch {
			case p.State == admin.Waiting:
				missing = append(missing, place)
			case p.NextOffset > p.LogEnd:
				beyondLog = append(beyondLog, fmt.Sprintf("%s, offset %d of %d", place, p.NextOffset, p.LogEnd))
			case p.Position > all.StorePosition:
				beyondStore = append(beyondStore, fmt.Sprintf("%s, position %d of %d", place, p.Position, all.StorePosition))
			case p.State == admin.Stuck && s.State != admin.Paused:
				stuck = append(stuck, fmt.Sprintf("%s, %d records and %.0f s behind", place, p.LagEvents, p.LagSeconds))
			case p.State == admin.Filling:
				filling++
			}
		}
		if len(missing) > 0 && len(missing) == len(s.Partitions) {
			waiting++
			missing = nil
		}
		list := func(places []string, what, mend string) {
			if len(places) > 0 {
				wrong = append(wrong, fmt.Errorf("%s %s (%s): %s", at, what, strings.Join(places, "; "), mend))
			}
		}
		list(missing, "has no offset for a partition", noOffset(s))
		list(beyondLog, "is beyond the log, which lost its end or was made again", "when nothing writes any more that the old one had, run `salon topics accept`")
		list(beyondStore, "is beyond the event store, which was restored to an earlier time", restored(s))
		list(stuck, "does not move", "run `salon serve projector`, or read in its log why it stops")
	}
	switch {
	case waiting > 0 && waiting == kept:
		return "", errors.New("no projection has begun: run `salon serve projector`")
	case waiting > 0:
		wrong = append(wrong, fmt.Errorf("%d projections have not begun: run `salon serve projector` of this release", waiting))
	}
	detail := fmt.Sprintf("%d versions of projections, %d records behind", kept, lag)
	if lag > 0 {
		detail += fmt.Sprintf(", the oldest for %.1f s", seconds)
	}
	if filling > 0 {
		detail += fmt.Sprintf("; %d partitions of views are being filled", filling)
	}
	return detail, errors.Join(wrong...)
}

// noOffset is what to do when one is gone. A view is filled again by whoever claims the partition. Rows of a table are
// there still, and folding the log over them from its beginning would count things twice.
func noOffset(s admin.Status) string {
	if s.Target == "redis" {
		return "Redis forgot it; run `salon serve projector`, which fills it again"
	}
	return fmt.Sprintf("somebody removed it, and the rows that it stood for cannot be gone on with; restore the reads database, or, with another version serving, "+
		"`salon projections drop %s@%d` and `salon projections rebuild %s@%d`", s.Name, s.Version, s.Name, s.Version)
}

func restored(s admin.Status) string {
	if s.Target == "redis" {
		return "it is mended with the tables behind it"
	}
	return fmt.Sprintf("make the topics anew, then `salon projections rebuild %s@%d` of a version that is not live", s.Name, s.Version)
}
