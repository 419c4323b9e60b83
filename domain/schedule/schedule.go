// Package schedule is the arithmetic of time that a groomer's book and the free-slot screens share: intervals that
// may not overlap, the 15-minute grid, opening hours with breaks in a zone with daylight saving.
//
// Pure: values in, values out. Instants are UTC; wall clocks are read in the zone that the caller passes.
package schedule

// Hours is one opening on one weekday; a weekday may have several that do not overlap. Times are wall clock in the
// groomer's zone, "10:00"; Closes may be "24:00".
type Hours struct {
	Weekday string  `json:"weekday"` // mon tue wed thu fri sat sun
	Opens   string  `json:"opens"`
	Closes  string  `json:"closes"`
	Breaks  []Break `json:"breaks,omitempty"`
}

// Break is a pause within Hours.
type Break struct {
	From string `json:"from"`
	To   string `json:"to"`
}
