package groomer

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// DefaultZone is a groomer's who names none.
const DefaultZone = "Asia/Seoul"

// Settings are all that a groomer decides about their book.
type Settings struct {
	Zone     string // IANA; "" for the present one, at first DefaultZone
	Profile  Profile
	Menu     []MenuItem
	Hours    []schedule.Hours
	Policies Policies
}

var (
	groomerID = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
	area      = regexp.MustCompile(`^[a-z0-9-]+(/[a-z0-9-]+)*$`)
	zoneName  = regexp.MustCompile(`^(UTC|[A-Za-z]+(/[A-Za-z0-9_+-]+)+)$`)
)

// Put registers the groomer or changes the settings: events for what differs, none when nothing does. What is booked
// stays as it was booked.
func (g Groomer) Put(id string, by domain.Actor, s Settings) ([]domain.Event, error) {
	if by.Role != domain.Admin && (by.Role != domain.Groomer || by.ID != id) {
		return nil, ErrForbidden
	}
	s, err := g.checked(id, s)
	if err != nil {
		return nil, err
	}
	first := !g.Registered()
	var out []domain.Event
	if first {
		out = append(out, Registered{GroomerID: id, Zone: s.Zone})
	}
	if first || !g.Profile.equal(s.Profile) {
		out = append(out, ProfileChanged(s.Profile))
	}
	if first || !slices.Equal(g.Menu, s.Menu) {
		out = append(out, MenuChanged{Menu: s.Menu})
	}
	if first || !slices.EqualFunc(g.Hours, s.Hours, equalHours) {
		out = append(out, HoursChanged{Hours: s.Hours})
	}
	if first || !g.Policies.equal(s.Policies) {
		out = append(out, PoliciesChanged(s.Policies))
	}
	return out, nil
}

// checked is the settings with their defaults, or what is wrong with them.
func (g Groomer) checked(id string, s Settings) (Settings, error) {
	if !groomerID.MatchString(id) {
		return s, invalid("groomer_id: want 1 to 40 of a-z, 0-9 and -")
	}
	if s.Zone == "" {
		if s.Zone = g.Zone; s.Zone == "" {
			s.Zone = DefaultZone
		}
	}
	if g.Registered() && s.Zone != g.Zone {
		return s, ErrZoneFixed
	}
	if err := checkZone(s.Zone); err != nil {
		return s, err
	}
	if err := s.Profile.check(); err != nil {
		return s, err
	}
	if err := checkMenu(s.Menu); err != nil {
		return s, err
	}
	if err := checkHours(s.Hours); err != nil {
		return s, err
	}
	s.Policies = s.Policies.withDefaults()
	if err := s.Policies.check(); err != nil {
		return s, err
	}
	// Lists are stored as lists, never as null.
	s.Profile.Areas, s.Profile.Modes = list(s.Profile.Areas), list(s.Profile.Modes)
	s.Menu, s.Hours, s.Policies.Cancellation = list(s.Menu), list(s.Hours), list(s.Policies.Cancellation)
	return s, nil
}

func list[T any](in []T) []T { return append(make([]T, 0, len(in)), in...) }

func checkZone(name string) error {
	// "Local", "localtime" and the posix/ and right/ trees are whatever the machine has.
	ok := zoneName.MatchString(name) && len(name) <= 64 && !strings.HasPrefix(name, "posix/") && !strings.HasPrefix(name, "right/")
	if ok {
		_, err := time.LoadLocation(name)
		ok = err == nil
	}
	if !ok {
		return invalid("zone: want a zone of the IANA data base, such as %s", DefaultZone)
	}
	return nil
}

func (p Profile) check() error {
	if !text(p.Name, 1, 100) {
		return invalid("name: want 1 to 100 printable characters")
	}
	if !text(p.Address, 0, 300) {
		return invalid("address: want at most 300 printable characters")
	}
	if len(p.Areas) > 50 {
		return invalid("areas: want at most 50")
	}
	for i, a := range p.Areas {
		if len(a) > 100 || !area.MatchString(a) {
			return invalid("areas[%d]: want a name such as seoul/gangnam-gu, at most 100 characters", i)
		}
		if slices.Contains(p.Areas[:i], a) {
			return invalid("areas[%d]: named twice", i)
		}
	}
	if len(p.Modes) == 0 {
		return invalid("modes: want shop, visit or both")
	}
	for i, m := range p.Modes {
		if m != Shop && m != House {
			return invalid("modes[%d]: want shop or visit", i)
		}
		if slices.Contains(p.Modes[:i], m) {
			return invalid("modes[%d]: named twice", i)
		}
	}
	return nil
}

// text reports that s has so many printable characters, not only spaces when it must have any.
func text(s string, least, most int) bool {
	n := utf8.RuneCountInString(s)
	return utf8.ValidString(s) && n >= least && n <= most &&
		(least == 0 || strings.TrimSpace(s) != "") && !strings.ContainsFunc(s, unicode.IsControl)
}

func (p Profile) equal(q Profile) bool {
	return p.Name == q.Name && p.Address == q.Address && slices.Equal(p.Areas, q.Areas) && slices.Equal(p.Modes, q.Modes)
}
