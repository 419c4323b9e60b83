package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
)

// onEach runs a test with each database that the reads may live in.
func onEach(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	harness.NeedsServers(t)
	for name, url := range map[string]func(testing.TB) string{
		"sqlite": func(testing.TB) string { return "" }, "mariadb": harness.MariaDB, "mysql": harness.MySQL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, url(t)))
		})
	}
}

func TestEachIsDeliveredOnceAndSigned(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		names := each("event-%d", 40)
		var events []Event
		for i, n := range names {
			events = append(events, w.confirmed(int32(i%partitions), n)) //nolint:gosec // small
		}
		w.confirmed(0, names[0]) // a relay may write an event twice
		stop := w.run(w.sender(nil))
		w.confirmed(0, "last")
		got := w.deliveries(append(names, "last")...)
		if len(got) != len(names)+1 {
			t.Errorf("%d requests for %d notifications", len(got), len(names)+1)
		}
		for _, d := range got {
			// What an endpoint has to do, in its own words.
			var at, sum string
			for p := range strings.SplitSeq(d.headers.Get("Salon-Signature"), ",") {
				if k, v, _ := strings.Cut(p, "="); k == "t" {
					at = v
				} else if k == "v1" {
					sum = v
				}
			}
			mac := hmac.New(sha256.New, secret)
			fmt.Fprintf(mac, "%s.%s", at, d.raw)
			if given, err := hex.DecodeString(sum); err != nil || !hmac.Equal(given, mac.Sum(nil)) {
				t.Fatalf("signature of %s: %s", d.raw, d.headers.Get("Salon-Signature"))
			}
			if d.headers.Get("Salon-Notification-Id") != d.body.ID.String() {
				t.Errorf("id %s in the header, %s in the body", d.headers.Get("Salon-Notification-Id"), d.body.ID)
			}
		}
		i := slices.IndexFunc(got, func(d delivery) bool { return d.name == names[7] })
		want := fmt.Sprintf(`{"id":"%s","kind":"confirmed","receiver":{"id":"event-7","role":"customer"},"reservation_id":"event-7",`+
			`"start":"2026-11-10T01:00:00Z","text":{"ko":"예약이 확정되었어요","en":"Your booking is confirmed"},"at":"%s",`+
			`"event":{"id":"%s","type":"reservation.confirmed.v1"}}`,
			got[i].body.ID, events[7].At.Format(time.RFC3339Nano), events[7].ID)
		if diff := cmp.Diff(want, string(got[i].raw)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		w.until("all is noted", func() bool { return w.count("notification_sent") == len(names)+1 })
		stop()

		// Another group reads all of it again, as one whose offsets expired would.
		stop = w.run(w.sender(func(c *Config) { c.Group = "again" }))
		w.confirmed(0, "more")
		if got := w.deliveries("more"); len(got) != 1 {
			t.Errorf("sent again: %d requests", len(got)-1)
		}
		stop()
	})
}

func TestAnEndpointMayStumble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.endpoint.answers(func(_ string, n int) int {
		return []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusTooManyRequests, http.StatusOK}[min(n, 4)-1]
	})
	w.confirmed(0, "a")
	stop := w.run(w.sender(nil))
	got := w.deliveries("a")
	var statuses []int
	for _, d := range got {
		statuses = append(statuses, d.status)
		if d.body.ID != got[0].body.ID {
			t.Errorf("another id at the next try: %s, %s", got[0].body.ID, d.body.ID)
		}
	}
	if diff := cmp.Diff([]int{500, 502, 429, 200}, statuses); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.until("it is noted", func() bool { return w.count("notification_sent") == 1 })
	stop()
	if n := w.count("notification_parked"); n != 0 {
		t.Errorf("%d parked", n)
	}
}

func TestWhatCannotBeDeliveredIsParkedAndTheOthersGoOn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		poison := func(name string, _ int) int {
			switch name {
			case "broken":
				return http.StatusInternalServerError
			case "refused":
				return http.StatusUnprocessableEntity
			}
			return http.StatusOK
		}
		w.endpoint.answers(poison)
		w.confirmed(1, "broken")
		w.confirmed(1, "refused")
		names := each("event-%d", 20)
		for i, n := range names {
			w.confirmed(int32(i%2), n) //nolint:gosec // small
		}
		s := w.sender(nil)
		w.run(s)
		got := w.deliveries(names...)
		tries := map[string]int{}
		for _, d := range got {
			tries[d.name]++
		}
		if tries["broken"] != 4 || tries["refused"] != 1 {
			t.Errorf("%d tries of what fails, %d of what is refused", tries["broken"], tries["refused"])
		}
		waiting, err := Parking{s.DB}.List(t.Context(), 10)
		if err != nil || len(waiting) != 2 {
			t.Fatalf("%+v, %v", waiting, err)
		}
		for _, p := range waiting {
			wantCause, later := "status 500", true
			if p.Receiver == "customer:refused" {
				wantCause, later = "status 422", false
			}
			if p.Cause != wantCause || p.EventType != "reservation.confirmed.v1" || p.RetryAt == nil == later {
				t.Errorf("%+v", p)
			}
		}
		if asked, err := (Parking{s.DB}).Retry(t.Context(), "status 422"); err != nil || asked != 1 {
			t.Fatalf("%d asked for, %v", asked, err)
		}
		d := <-w.endpoint.got
		if d.name != "refused" || d.body.ID == got[0].body.ID {
			t.Errorf("asked for, and came: %+v", d)
		}
		w.endpoint.answers(nil)
		w.until("it is parked again", func() bool {
			waiting, err := Parking{s.DB}.List(t.Context(), 10)
			return err == nil && !slices.ContainsFunc(waiting, func(p Parked) bool { return p.Cause == "status 422" && p.RetryAt != nil })
		})
		if asked, err := (Parking{s.DB}).Retry(t.Context(), ""); err != nil || asked != 2 {
			t.Fatalf("%d asked for, %v", asked, err)
		}
		again := w.deliveries("broken", "refused")
		if len(again) != 2 {
			t.Errorf("%d requests for two", len(again))
		}
		first := slices.IndexFunc(got, func(d delivery) bool { return d.name == "broken" })
		second := slices.IndexFunc(again, func(d delivery) bool { return d.name == "broken" })
		if got[first].body.ID != again[second].body.ID {
			t.Error("another id after parking")
		}
		w.until("nothing is parked", func() bool { return w.count("notification_parked") == 0 && w.count("notification_sent") == 22 })
	})
}

func TestAnEndpointThatWasAwayGetsAllLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.endpoint.answers(func(string, int) int { return http.StatusServiceUnavailable })
	names := each("event-%d", 12)
	for _, n := range names {
		w.confirmed(0, n)
	}
	s := w.sender(func(c *Config) { c.Later = []time.Duration{20 * time.Millisecond, 20 * time.Millisecond, time.Hour} })
	w.run(s)
	w.until("all are parked", func() bool { return w.count("notification_parked") == len(names) })
	w.endpoint.answers(nil)
	if _, err := (Parking{s.DB}).Retry(t.Context(), ""); err != nil { // those that already wait the hour
		t.Fatal(err)
	}
	w.deliveries(names...)
	w.until("nothing is parked", func() bool { return w.count("notification_parked") == 0 && w.count("notification_sent") == len(names) })
}

func TestAProcessThatDiesBeforeItNotesADeliveryRepeatsItUnderTheSameID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	exec := func(statement string) {
		t.Helper()
		if _, err := w.db.Writer().ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
			t.Fatal(err)
		}
	}
	// Noting fails, looking up does not: what a process sees that is about to lose its database, and then its life.
	exec("CREATE TRIGGER no_notes BEFORE INSERT ON notification_sent BEGIN SELECT RAISE(ABORT, 'gone'); END")
	w.confirmed(2, "a")
	stop := w.run(w.sender(nil))
	first := w.deliveries("a")
	stop()
	exec("DROP TRIGGER no_notes")
	if n := w.count("notification_sent"); n != 0 {
		t.Fatalf("%d noted", n)
	}
	stop = w.run(w.sender(nil))
	second := w.deliveries("a")
	if len(first) != 1 || len(second) != 1 || first[0].body.ID != second[0].body.ID {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	w.until("it is noted", func() bool { return w.count("notification_sent") == 1 })
	stop()
	w.run(w.sender(nil))
	w.confirmed(2, "b")
	if got := w.deliveries("b"); len(got) != 1 {
		t.Errorf("noted and sent again: %d requests", len(got))
	}
}

// A member whose handler is busy with a message that fails gives its partitions up when the group rebalances, and takes
// part again afterwards.
func TestARebalanceWithAFailingMessageDoesNotStopTheMember(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	var mu sync.Mutex
	healed := false
	w.endpoint.answers(func(name string, _ int) int {
		mu.Lock()
		defer mu.Unlock()
		if name == "poison" && !healed {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	stubborn := func(c *Config) { c.Attempts, c.Pause = 1_000_000, 50*time.Millisecond }
	w.confirmed(3, "poison")
	w.run(w.sender(stubborn))
	for d := range w.endpoint.got { // it is being tried
		if d.name == "poison" {
			break
		}
	}
	round := 0
	othersGoOn := func() {
		t.Helper()
		round++
		var names []string
		for part := range int32(partitions - 1) {
			for i := range 5 {
				names = append(names, fmt.Sprintf("round-%d-%d-%d", round, part, i))
				w.confirmed(part, names[len(names)-1])
			}
		}
		w.deliveries(names...)
	}
	othersGoOn()
	stop := w.run(w.sender(stubborn)) // joins: a rebalance
	othersGoOn()
	stop() // leaves: another
	othersGoOn()
	mu.Lock()
	healed = true
	mu.Unlock()
	w.confirmed(3, "behind the poison")
	w.deliveries("poison", "behind the poison")
}

// Retention took what this group had not read: it goes on at the log's beginning, not at its end, and not never.
func TestALogThatWasCutPastOurOffset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.confirmed(0, "a")
	w.confirmed(1, "b")
	stop := w.run(w.sender(nil))
	w.deliveries("a", "b")
	w.until("it is noted", func() bool { return w.count("notification_sent") == 2 })
	stop()
	w.confirmed(0, "cut")
	var cut kadm.Offsets
	cut.Add(kadm.Offset{Topic: w.prefix + wire.BookingTopic, Partition: 0, At: 2})
	if _, err := kadm.NewClient(w.kafka).DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	w.confirmed(0, "c")
	w.confirmed(1, "d")
	w.run(w.sender(nil))
	w.confirmed(0, "e")
	if got := w.deliveries("c", "d", "e"); len(got) != 3 {
		t.Errorf("%+v", got)
	}
}

func TestWhatIsNoNewsPasses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.record(0, "yesterday", groomer.Confirmed{ReservationID: "yesterday"}, time.Now().Add(-25*time.Hour))
	w.record(0, "of another type", groomer.CheckedIn{ReservationID: "x"}, time.Now())
	marker := wire.Marker{Incarnation: "test-1"}
	var headers []kgo.RecordHeader
	for _, h := range marker.Headers() {
		headers = append(headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	w.produce(&kgo.Record{Headers: headers})
	w.produce(&kgo.Record{Key: []byte("k"), Value: []byte("no event at all")})
	w.produce(&kgo.Record{})
	w.confirmed(0, "today")
	s := w.sender(nil)
	w.run(s)
	if got := w.deliveries("today"); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	// Two records that are none of ours cannot be told, and are not lost sight of.
	waiting, err := Parking{s.DB}.List(t.Context(), 10)
	if err != nil || len(waiting) != 2 || waiting[0].Cause != "record" || waiting[0].RetryAt != nil {
		t.Errorf("%+v, %v", waiting, err)
	}
}

func TestWhomToTellMayBeKnownLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	var mu sync.Mutex
	asked, knows := map[string]int{}, false
	directory := asking(func(e Event) ([]Notice, error) {
		mu.Lock()
		defer mu.Unlock()
		asked[e.Key]++
		switch {
		case e.Key == "late" && asked[e.Key] < 20:
			return nil, fmt.Errorf("the inboxes: %w", ErrBehind)
		case e.Key == "parked there" && !knows:
			return nil, fmt.Errorf("the inboxes: %w", ErrUnknown)
		case e.Key == "a hiccup" && asked[e.Key] < 3:
			return nil, errors.New("connection lost")
		case e.Key == "nobody's":
			return nil, nil
		}
		return everybody{}.Notices(t.Context(), e)
	})
	for _, n := range []string{"late", "parked there", "a hiccup", "nobody's", "last"} {
		w.confirmed(0, n)
	}
	s := w.sender(func(c *Config) { c.Directory = directory })
	w.run(s)
	w.deliveries("late", "a hiccup", "last")
	waiting, err := Parking{s.DB}.List(t.Context(), 10)
	if err != nil || len(waiting) != 1 || waiting[0].Cause != "receivers unknown" || waiting[0].Receiver != "" {
		t.Fatalf("%+v, %v", waiting, err)
	}
	mu.Lock()
	knows = true
	mu.Unlock()
	if _, err := (Parking{s.DB}).Retry(t.Context(), "receivers unknown"); err != nil {
		t.Fatal(err)
	}
	w.deliveries("parked there")
	w.until("nothing is parked", func() bool { return w.count("notification_parked") == 0 && w.count("notification_sent") == 4 })
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for u, ok := range map[string]bool{
		"https://hooks.example/salon": true, "https://hooks.example:8443/a?b=c": true, "http://127.0.0.1:9000/hook": true, "http://[::1]/": true,
		"http://localhost:1/x": true, "http://hooks.example/salon": false, "http://10.0.0.1/": false, "http://localhost.example/": false,
		"ftp://hooks.example/": false, "hooks.example": false, "": false, "https://": false, "https://me:pw@hooks.example/": false, "https://a/#b": false,
	} {
		if err := (Endpoint{u, secret}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", u, err)
		} else if err != nil && u != "" && strings.Contains(err.Error(), "hooks.example") {
			t.Errorf("%q is repeated: %v", u, err)
		}
	}
	if (Endpoint{"https://hooks.example/", []byte("short")}).Validate() == nil {
		t.Error("a short secret passes")
	}
}

// What an endpoint answers decides nothing but whether it was accepted.
func TestAnswers(t *testing.T) {
	t.Parallel()
	elsewhere := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/redirect", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere++ })
	mux.HandleFunc("/endless", func(rw http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // before that a server does not see that its client left
		<-r.Context().Done()
	})
	mux.HandleFunc("/gone", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusGone) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for path, want := range map[string]*failure{
		"/redirect": {cause: "status 307", final: true},
		"/endless":  nil,
		"/slow":     {cause: "timeout"},
		"/gone":     {cause: "status 410", final: true},
	} {
		w := newWebhook(Endpoint{server.URL + path, secret}, time.Now)
		w.client.Timeout = 300 * time.Millisecond
		got := w.post(t.Context(), "id", []byte("{}"))
		w.close()
		if (got == nil) != (want == nil) || got != nil && (got.cause != want.cause || got.final != want.final) {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
		if got != nil && strings.Contains(got.Error(), path) {
			t.Errorf("%s is repeated: %v", path, got)
		}
	}
	if elsewhere != 0 {
		t.Error("it followed a redirect")
	}
	w := newWebhook(Endpoint{"http://127.0.0.1:1/secret-path", secret}, time.Now)
	if got := w.post(t.Context(), "id", nil); got == nil || got.cause != "unreachable" || strings.Contains(got.Error(), "secret-path") {
		t.Errorf("nobody there: %+v", got)
	}
}

// An actor is (role, sub), and an event may have several receivers: each has an ID of their own, for ever the same one.
func TestIDs(t *testing.T) {
	t.Parallel()
	e := Event{Key: "x"}.ID
	seen := map[string]bool{}
	for _, a := range []domain.Actor{{ID: "kim", Role: domain.Customer}, {ID: "kim", Role: domain.Groomer}, {ID: "lee", Role: domain.Customer}} {
		seen[key{e, a.Subject(), channel}.id().String()] = true
	}
	if len(seen) != 3 {
		t.Error(seen)
	}
	if got := (key{e, "customer:kim", channel}).id().String(); got != "ff6aa28f-23f4-5ee9-8642-0eb969317fa4" {
		t.Errorf("the ID of one and the same notification has become %s: endpoints would take all for new", got)
	}
}
