package commands

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/harness"
)

// call is a request that another process makes.
type call struct {
	Token, Method, Path string
	Body                any
}

const otherProcess = "SALON_TEST_ELSEWHERE" // {"url": of the database, "call": call}

// TestElsewhere is the other process of TestNothingRestsOnWhatAnotherProcessChanged: this binary, started again with
// something to do. Without that it does nothing.
func TestElsewhere(t *testing.T) {
	given := os.Getenv(otherProcess)
	if given == "" {
		return
	}
	var do struct {
		URL  string
		Call call
	}
	if err := json.Unmarshal([]byte(given), &do); err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, openPostgres(t, do.URL))
	if r := w.send(do.Call.Token, do.Call.Method, do.Call.Path, do.Call.Body); r.status >= 300 {
		t.Fatalf("%+v: %d %s", do.Call, r.status, r.raw)
	}
}

// What a refusal, a success without events and another stream that is looked at rest on is the store as it is now: here
// is a process whose cached state would answer otherwise, since another one has changed the stream meanwhile.
func TestNothingRestsOnWhatAnotherProcessChanged(t *testing.T) {
	t.Parallel()
	slot, groomers := wish(at(2, 10, 0)), "/v1/groomers/mong"
	in := func(path, id string) string { return strings.ReplaceAll(path, "ID", id) }
	for _, c := range []struct {
		name  string
		warm  []call // this process remembers what they come to; ID is lee's reservation
		other call
		then  call
		want  int
		code  string
	}{
		{
			"a slot is free again", nil,
			call{leeToken, "POST", "/v1/reservations/ID/cancel", nil}, call{kimToken, "POST", "/v1/reservations", slot}, 201, "",
		}, {
			"a slot is taken by now", []call{{leeToken, "POST", "/v1/reservations/ID/cancel", nil}},
			call{leeToken, "POST", "/v1/reservations", slot}, call{kimToken, "POST", "/v1/holds", slot}, 409, "slot.taken",
		}, {
			"settings that were the same are not any more", nil,
			call{mongToken, "PUT", groomers, settings("request")}, call{mongToken, "PUT", groomers, settings("instant")}, 200, "",
		}, {
			"a reservation that could be moved cannot any more", nil,
			call{leeToken, "POST", "/v1/reservations/ID/cancel", nil},
			call{leeToken, "POST", "/v1/reservations/ID/reschedule", map[string]any{"start": at(2, 15, 0)}}, 409, "reservation.wrong_state",
		}, {
			"a room's reservation is there by now", []call{{kimToken, "POST", "/v1/holds", wish(at(2, 18, 0))}},
			call{kimToken, "POST", "/v1/reservations", wish(at(2, 16, 0))},
			call{kimToken, "POST", "/v1/chat/rooms/NEW/messages", map[string]any{"client_message_id": "m", "text": "안녕"}}, 201, "",
		}, {
			"who left a room says no more", []call{{leeToken, "POST", "/v1/chat/rooms/ID/messages", map[string]any{"client_message_id": "m", "text": "안녕"}}},
			call{leeToken, "POST", "/v1/chat/rooms/ID/leave", nil},
			call{leeToken, "POST", "/v1/chat/rooms/ID/messages", map[string]any{"client_message_id": "n", "text": "안녕"}}, 422, "room.left",
		}, {
			"what was said since may be marked as read", []call{{leeToken, "POST", "/v1/chat/rooms/ID/messages", map[string]any{"client_message_id": "m", "text": "안녕"}}},
			call{mongToken, "POST", "/v1/chat/rooms/ID/messages", map[string]any{"client_message_id": "n", "text": "네"}},
			call{leeToken, "POST", "/v1/chat/rooms/ID/read", map[string]any{"seq": 2}}, 200, "",
		},
	} {
		check := func(t *testing.T, w *world, elsewhere func(call)) {
			w.salon("instant")
			id := fmt.Sprint(w.must(201, leeToken, "POST", "/v1/reservations", slot).body["reservation_id"])
			for _, r := range c.warm {
				if got := w.send(r.Token, r.Method, in(r.Path, id), r.Body); got.status >= 300 {
					t.Fatalf("%+v: %d %s", r, got.status, got.raw)
				}
			}
			before := w.head()
			c := c
			c.other.Path, c.then.Path = in(c.other.Path, id), in(c.then.Path, id)
			elsewhere(c.other)
			changed := w.head()
			if changed == before {
				t.Fatal("the other process changed nothing")
			}
			if strings.Contains(c.then.Path, "NEW") {
				c.then.Path = strings.ReplaceAll(c.then.Path, "NEW", w.newestReservation())
			}
			got := w.send(c.then.Token, c.then.Method, c.then.Path, c.then.Body)
			if got.status != c.want || got.problem.Code != c.code {
				t.Errorf("got %d %s, want %d %s: %s", got.status, got.problem.Code, c.want, c.code, got.raw)
			}
			want(t, "it was recorded", w.head() > changed, c.want < 300)
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Run("two executors on SQLite", func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				_, handler := w.node()
				check(t, w, func(r call) {
					if got := sendTo(t, handler, r.Token, r.Method, r.Path, r.Body); got.status >= http.StatusMultipleChoices {
						t.Fatalf("%+v: %d %s", r, got.status, got.raw)
					}
				})
			})
			t.Run("two processes on PostgreSQL", func(t *testing.T) {
				harness.NeedsServers(t)
				t.Parallel()
				url := harness.Postgres(t)
				if err := postgres.Migrate(t.Context(), url); err != nil {
					t.Fatal(err)
				}
				check(t, newWorldOn(t, openPostgres(t, url)), func(r call) {
					given, err := json.Marshal(map[string]any{"url": url, "call": r})
					if err != nil {
						t.Fatal(err)
					}
					cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestElsewhere$")
					cmd.Env = append(os.Environ(), otherProcess+"="+string(given))
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Fatalf("the other process: %v\n%s", err, out)
					}
				})
			})
		})
	}
}

// newestReservation is the ID of the last reservation in mong's book, by a look that no cache knows of.
func (w *world) newestReservation() string {
	w.t.Helper()
	var id string
	for r, err := range w.store.ReadStream(w.t.Context(), eventstore.GroomerStream("mong"), 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		if r.Type != "reservation.requested.v1" {
			continue
		}
		var e struct {
			ID string `json:"reservation_id"`
		}
		if err := json.Unmarshal(r.Data, &e); err != nil {
			w.t.Fatal(err)
		}
		id = e.ID
	}
	return id
}
