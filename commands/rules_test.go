package commands

import (
	"strings"
	"testing"
	"time"
)

func TestASlotObeysTheRulesOfTheSalon(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("request")
	off := at(9, 0, 0).Format(time.DateOnly)
	w.must(201, mongToken, "POST", "/v1/groomers/mong/time-off", map[string]any{"from": off, "to": off})
	w.must(200, otherSalon, "PUT", "/v1/groomers/other", settings("instant", set("modes", []string{"shop"})))
	dog := func(size string, services ...string) func(map[string]any) {
		return set("dogs", []any{map[string]any{"name": "콩이", "size": size, "services": services}})
	}
	for _, c := range []struct {
		name   string
		status int
		code   string
		body   map[string]any
	}{
		{"off the grid", 422, "slot.off_grid", wish(at(2, 10, 7))},
		{"off the grid by a second", 422, "slot.off_grid", wish(at(2, 10, 0).Add(time.Second))},
		{"in the past", 422, "slot.too_soon", wish(at(2, 10, 0).AddDate(0, 0, -35))},
		{"long ago", 422, "slot.too_soon", wish(time.Date(1999, 12, 31, 0, 15, 0, 0, time.UTC))},
		{"too far ahead", 422, "slot.too_far", wish(at(80, 10, 0))},
		{"at the end of time", 422, "slot.too_far", wish(time.Date(9999, 12, 31, 23, 45, 0, 0, time.UTC))},
		{"before the doors open", 422, "slot.outside_hours", wish(at(2, 8, 45))},
		{"into the break", 422, "slot.outside_hours", wish(at(2, 12, 30))},
		{"past closing time", 422, "slot.outside_hours", wish(at(2, 20, 30))},
		{"on Sunday", 422, "slot.outside_hours", wish(at(2, 10, 0).AddDate(0, 0, 6))},
		{"while the groomer is away", 422, "slot.time_off", wish(at(9, 10, 0))},
		{"a visit without an address", 422, "visit.address_missing", wish(at(2, 10, 0), set("mode", "visit"))},
		{"a way of working that is not offered", 422, "mode.not_offered", wish(at(2, 10, 0), set("groomer_id", "other"), set("mode", "visit"), set("visit_address", "a"))},
		{"a service that is not offered", 422, "service.not_offered", wish(at(2, 10, 0), dog("small", "ears"))},
		{"a size that is not offered", 422, "service.not_offered", wish(at(2, 10, 0), dog("large", "bath"))},
		{"a service twice", 400, "request.invalid", wish(at(2, 10, 0), dog("small", "bath", "bath"))},
		{"no dogs", 400, "request.invalid", wish(at(2, 10, 0), set("dogs", []any{}))},
		{"dogs of null", 400, "request.invalid", wish(at(2, 10, 0), set("dogs", nil))},
		{"six dogs", 400, "request.invalid", wish(at(2, 10, 0), set("dogs", make([]any, 6)))},
		{"a time without an offset", 400, "request.invalid", wish(at(2, 10, 0), set("start", "2026-11-24T10:00:00"))},
		{"no start", 400, "request.invalid", wish(at(2, 10, 0), unset("start"))},
		{"no groomer", 400, "request.invalid", wish(at(2, 10, 0), unset("groomer_id"))},
		{"no mode", 400, "request.invalid", wish(at(2, 10, 0), unset("mode"))},
		{"a name too long", 400, "request.invalid", wish(at(2, 10, 0), set("phone", strings.Repeat("1", 31)))},
		{"a groomer that is not there", 404, "groomer.unknown", wish(at(2, 10, 0), set("groomer_id", "nobody"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			w.refused(c.status, c.code, kimToken, "POST", "/v1/holds", c.body)
			w.refused(c.status, c.code, kimToken, "POST", "/v1/reservations", c.body)
			for _, other := range []string{mongToken, adminToken, "analyst:a"} {
				w.refused(403, "auth.forbidden", other, "POST", "/v1/holds", c.body)
				w.refused(403, "auth.forbidden", other, "POST", "/v1/reservations", c.body)
			}
		})
	}
	w.t = t
	w.refused(400, "request.invalid", kimToken, "POST", "/v1/reservations", wish(at(2, 10, 0), set("hold_id", "x")))
	for _, hour := range []int{9, 10} {
		w.must(201, kimToken, "POST", "/v1/holds", wish(at(2, hour, 0)))
	}
	w.refused(422, "hold.too_many", kimToken, "POST", "/v1/holds", wish(at(2, 11, 0)))
	for _, hour := range []int{14, 15, 16} {
		w.must(201, kimToken, "POST", "/v1/reservations", wish(at(2, hour, 0)))
	}
	w.refused(422, "request.too_many", kimToken, "POST", "/v1/reservations", wish(at(2, 17, 0)))
	w.must(201, leeToken, "POST", "/v1/reservations", wish(at(2, 17, 0)))
}

func TestTextsAreCountedInCharacters(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	room := "/v1/chat/rooms/" + strings.TrimPrefix(w.reserved(at(2, 10, 0)), "/v1/reservations/") + "/messages"
	w.must(201, kimToken, "POST", room, map[string]any{"client_message_id": "1", "text": strings.Repeat("댕", 2000)})
	w.refused(400, "request.invalid", kimToken, "POST", room, map[string]any{"client_message_id": "2", "text": strings.Repeat("댕", 2001)})
	w.refused(400, "request.invalid", kimToken, "POST", room, map[string]any{"client_message_id": "2", "text": ""})
	w.refused(400, "request.invalid", kimToken, "POST", room, map[string]any{"client_message_id": "2"})
	w.refused(400, "request.invalid", kimToken, "POST", room, map[string]any{"client_message_id": "2", "text": "a", "image_url": "https://x.example/a"})
	w.refused(400, "request.invalid", kimToken, "POST", room, map[string]any{"client_message_id": "2", "image_url": "javascript:alert(1)"})
	w.refused(400, "request.invalid", kimToken, "POST", room, map[string]any{"client_message_id": "", "text": "a"})
	w.refused(400, "request.invalid", kimToken, "POST", room, map[string]any{"client_message_id": "한", "text": "a"})
	w.must(201, leeToken, "POST", "/v1/reservations", wish(at(2, 15, 0), set("note", strings.Repeat("메", 1000))))
	w.refused(400, "request.invalid", leeToken, "POST", "/v1/reservations", wish(at(2, 16, 0), set("note", strings.Repeat("메", 1001))))
}
