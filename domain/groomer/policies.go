package groomer

import "slices"

// The ranges of policies.
const (
	maxBufferMinutes  = 8 * 60
	maxNoticeMinutes  = 90 * 24 * 60
	maxHorizonDays    = 730
	maxExpiresMinutes = 30 * 24 * 60
	maxTiers          = 10
	maxTierHours      = 365 * 24

	// defaultExpiresMinutes is for a groomer who books instantly and says nothing: should they ask first one day.
	defaultExpiresMinutes = 24 * 60
)

func (p Policies) withDefaults() Policies {
	if p.Booking == Instant && p.RequestExpiresMinutes == 0 {
		p.RequestExpiresMinutes = defaultExpiresMinutes
	}
	return p
}

func (p Policies) check() error {
	for _, n := range []struct {
		name               string
		value, least, most int
	}{
		{"buffer_minutes", p.BufferMinutes, 0, maxBufferMinutes},
		{"min_notice_minutes", p.MinNoticeMinutes, 0, maxNoticeMinutes},
		{"horizon_days", p.HorizonDays, 0, maxHorizonDays},
		{"request_expires_minutes", p.RequestExpiresMinutes, 1, maxExpiresMinutes},
	} {
		if n.value < n.least || n.value > n.most {
			return invalid("%s: want %d to %d", n.name, n.least, n.most)
		}
	}
	if p.Booking != Instant && p.Booking != OnRequest {
		return invalid("booking: want instant or request")
	}
	if len(p.Cancellation) > maxTiers {
		return invalid("cancellation: want at most %d", maxTiers)
	}
	for i, t := range p.Cancellation {
		if t.HoursBefore < 0 || t.HoursBefore > maxTierHours {
			return invalid("cancellation[%d].hours_before: want 0 to %d", i, maxTierHours)
		}
		if t.RefundPercent < 0 || t.RefundPercent > 100 {
			return invalid("cancellation[%d].refund_percent: want 0 to 100", i)
		}
		if slices.ContainsFunc(p.Cancellation[:i], func(u RefundTier) bool { return u.HoursBefore == t.HoursBefore }) {
			return invalid("cancellation[%d].hours_before: named twice", i)
		}
	}
	return nil
}

func (p Policies) equal(q Policies) bool {
	return p.BufferMinutes == q.BufferMinutes && p.MinNoticeMinutes == q.MinNoticeMinutes && p.HorizonDays == q.HorizonDays &&
		p.Booking == q.Booking && p.RequestExpiresMinutes == q.RequestExpiresMinutes && slices.Equal(p.Cancellation, q.Cancellation)
}
