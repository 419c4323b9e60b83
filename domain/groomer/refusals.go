package groomer

import "github.com/dangdangsalon/salon/domain"

// The refusals of a groomer's book. errors.Is compares them by code; request.invalid is made by invalid, with what is
// wrong where.
var (
	ErrGroomerUnknown = domain.Refuse("groomer.unknown", "there is no such groomer")
	ErrForbidden      = domain.Refuse("auth.forbidden", "only this groomer or an admin may do this")
	ErrZoneFixed      = domain.Refuse("zone.fixed", "the zone cannot change once the groomer exists")

	ErrTimeOffUnknown = domain.Refuse("time_off.unknown", "there is no such time off")
	ErrCalendarBooked = domain.Refuse("calendar.booked", "a booking or a hold lies in this time")

	ErrOffGrid           = domain.Refuse("slot.off_grid", "a visit starts at a full quarter of an hour")
	ErrOutsideHours      = domain.Refuse("slot.outside_hours", "the visit does not fit the opening hours of one day")
	ErrTooSoon           = domain.Refuse("slot.too_soon", "the start is nearer than the groomer's notice")
	ErrTooFar            = domain.Refuse("slot.too_far", "the start is further ahead than the groomer takes bookings")
	ErrOnTimeOff         = domain.Refuse("slot.time_off", "the groomer is away then")
	ErrSlotTaken         = domain.Refuse("slot.taken", "the slot is taken")
	ErrServiceNotOffered = domain.Refuse("service.not_offered", "the menu lacks a service for this size")
	ErrModeNotOffered    = domain.Refuse("mode.not_offered", "the groomer does not work this way")
	ErrAddressMissing    = domain.Refuse("visit.address_missing", "a visit at home needs an address")

	ErrHoldUnknown = domain.Refuse("hold.unknown", "there is no such hold")
	ErrHoldUsed    = domain.Refuse("hold.used", "the hold became a reservation already")
	ErrHoldExpired = domain.Refuse("hold.expired", "the hold has ended")
	ErrHoldTooMany = domain.Refuse("hold.too_many", "two holds at a time with one groomer")

	ErrReservationUnknown = domain.Refuse("reservation.unknown", "there is no such reservation")
	ErrWrongState         = domain.Refuse("reservation.wrong_state", "the reservation is past that")
	ErrRequestTooMany     = domain.Refuse("request.too_many", "three open requests at a time with one groomer")
	ErrVisitTooEarly      = domain.Refuse("visit.too_early", "it is too early for that")
	ErrRequestNotDue      = domain.Refuse("request.not_due", "the request has not expired yet")
	ErrReminderNotDue     = domain.Refuse("reminder.not_due", "the visit is not near yet")
)

// invalid refuses a request that is malformed or out of range.
func invalid(format string, args ...any) domain.Refusal {
	return domain.Refuse("request.invalid", format, args...)
}
