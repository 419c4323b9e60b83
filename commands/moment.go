package commands

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain/schedule"
)

// Moment is an RFC 3339 time, or a date that stands for the whole day in the groomer's zone.
type Moment struct {
	time time.Time
	date string
}

// The years a Moment may lie in: whatever is stored must be spelled and read by every database.
const (
	firstYear = 2000
	lastYear  = 2200
)

// Schema is for huma.
func (Moment) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Description: "an RFC 3339 time, or a date (the whole day in the groomer's zone)",
		Examples: []any{"2026-11-24T10:00:00+09:00", "2026-11-24"},
	}
}

// UnmarshalJSON reads either form.
func (m *Moment) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	day, err := time.Parse(time.DateOnly, s)
	if err == nil {
		m.date = s
	} else if m.time, err = time.Parse(time.RFC3339, s); err != nil {
		return fmt.Errorf("expected an RFC 3339 time or a date, got %d characters of something else", len(s))
	} else {
		m.time = m.time.UTC()
		day = m.time
	}
	if day.Year() < firstYear || day.Year() > lastYear {
		return fmt.Errorf("expected a year from %d to %d", firstYear, lastYear)
	}
	return nil
}

// MarshalJSON writes the form that was read.
func (m Moment) MarshalJSON() ([]byte, error) {
	if m.date != "" {
		return json.Marshal(m.date)
	}
	return json.Marshal(m.time)
}

func (m Moment) canonical() string {
	if m.date != "" {
		return m.date
	}
	return m.time.UTC().Format(time.RFC3339Nano)
}

// from is where the moment begins, to where it ends, in a zone: a date is the whole day.
func (m Moment) from(zone *time.Location) time.Time { return m.at(zone, 0) }
func (m Moment) to(zone *time.Location) time.Time   { return m.at(zone, 1) }

func (m Moment) at(zone *time.Location, days int) time.Time {
	if m.date == "" {
		return m.time
	}
	d, err := schedule.ParseDate(m.date)
	if err != nil {
		panic("commands: a date that was checked: " + err.Error())
	}
	return d.AddDays(days).Start(zone).UTC()
}

// DayOf is the moment of a whole day, TimeOf that of an instant.
func DayOf(date string) Moment  { return Moment{date: date} }
func TimeOf(t time.Time) Moment { return Moment{time: t.UTC()} }
