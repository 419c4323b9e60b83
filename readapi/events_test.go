package readapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/history"
)

// until lets "role:sub" be a token that ends at a time.
type until time.Time

func (u until) Verify(ctx context.Context, bearer string) (auth.Identity, error) {
	id, err := verifier{}.Verify(ctx, bearer)
	id.Expires = time.Time(u)
	return id, err
}

// node is a process that answers, on a port of its own.
type node struct {
	url     string
	screens screens
	stop    func()      // and waits for its requests
	ended   chan string // routes of requests that are over
}

func (w *world) node(tokens httpserver.Verifier, small bool) *node {
	w.t.Helper()
	n := &node{screens: newScreens(Deps{Reads: w.db, Texts: w.texts}), ended: make(chan string, 1000)}
	s := httpserver.New(httpserver.Config{Verifier: tokens, Log: slog.New(accessLog{slog.DiscardHandler, n.ended})})
	n.screens.register(s.API())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	n.url = "http://" + l.Addr().String()
	if small {
		l = smallBuffers{l}
	}
	n.stop = harness.Background(w.t, func(ctx context.Context) error { return s.Run(ctx, l) })
	return n
}

// accessLog tells the routes of requests that are over.
type accessLog struct {
	slog.Handler
	ended chan string
}

func (l accessLog) Enabled(context.Context, slog.Level) bool { return true }

func (l accessLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if r.Message == "request" && a.Key == "route" {
			select {
			case l.ended <- a.Value.String():
			default: // nobody counts so many: a request that waited here would be a stream that is never answered
			}
		}
		return true
	})
	return nil
}

// smallBuffers makes a reader that does not read be felt soon.
type smallBuffers struct{ net.Listener }

func (s smallBuffers) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

type sent struct{ id, event, data string }

// listen opens a stream. It gives a reader of the next event, which fails when the stream is over.
func (n *node) listen(ctx context.Context, as, reservation, last string) (*http.Response, func() (sent, error), error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/v1/reservations/"+reservation+"/events", nil)
	if err != nil {
		return nil, nil, err
	}
	r.Close = true
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(answer.Body)
	return answer, func() (e sent, err error) {
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "id":
				e.id = value
			case name == "event":
				e.event = value
			case name == "data":
				e.data = value
			case lines.Text() == "" && e.data != "":
				return e, nil
			case lines.Text() == ":":
				return sent{event: "heartbeat"}, nil
			}
		}
		return e, errors.Join(lines.Err(), io.EOF)
	}, nil
}

// TestAStreamTellsTheHistory follows every reservation of busy salons, by readers whose node stops again and again while
// things happen. What each was told, one after the other, is the history: nothing missing, nothing twice.
func TestAStreamTellsTheHistory(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		tokens := until(time.Now().Add(time.Hour))
		dice := rand.New(rand.NewPCG(rand.Uint64(), 0))
		salons := []*foldtest.Salon{w.log.Open("kim", "Asia/Seoul"), w.log.Open("lee", "America/New_York"), w.log.Open("park", "Asia/Seoul")}
		var up sync.RWMutex // held while no node is up
		up.Lock()
		n := w.node(tokens, false)
		up.Unlock()

		ctx, leave := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		type told struct {
			reservation string
			sent        sent
		}
		news := make(chan told)
		follow := func(as, reservation string) {
			last := ""
			for ctx.Err() == nil {
				up.RLock()
				answer, next, err := n.listen(ctx, as, reservation, last)
				up.RUnlock()
				if err != nil {
					continue // ctx is over: some node is up
				}
				if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" || answer.Header.Get("X-Accel-Buffering") != "no" {
					t.Errorf("%s as %s: %d %v", reservation, as, answer.StatusCode, answer.Header)
				}
				for {
					e, err := next()
					if err != nil {
						break
					}
					last = e.id
					select {
					case news <- told{reservation, e}:
					case <-ctx.Done():
					}
				}
				answer.Body.Close()
			}
		}
		defer readers.Wait()
		defer leave()

		transcripts := map[string][]sent{}
		followed := map[string]bool{}
		owed := 0
		hear := func() {
			select {
			case e := <-news:
				transcripts[e.reservation] = append(transcripts[e.reservation], e.sent)
				owed--
			case <-t.Context().Done():
				t.Fatal("the test is over")
			}
		}
		begun := 0
		for round := range 12 {
			for range 1 + dice.IntN(8) {
				salons[dice.IntN(len(salons))].Step(dice.IntN)
			}
			w.project(history.Projection())
			total := 0
			for _, s := range salons {
				for _, v := range s.Visits {
					total += len(want[Page[Happening]](w.get("admin:root", "/v1/reservations/"+v.ID+"/history?limit=100"), http.StatusOK).Items)
					if !followed[v.ID] {
						followed[v.ID] = true
						as := []string{"customer:" + v.CustomerID, "groomer:" + s.ID, "admin:" + v.ID}[dice.IntN(3)] // one admin would have too many streams
						readers.Go(func() { follow(as, v.ID) })
					}
				}
			}
			owed, begun = owed+total-begun, total
			for range dice.IntN(owed + 1) {
				hear()
			}
			if round%3 == 2 { // with some of it on the way
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					up.Lock()
					defer up.Unlock()
					n.stop()
					n = w.node(tokens, false)
				}()
				for waiting := true; waiting; {
					select {
					case <-stopped:
						waiting = false
					case e := <-news:
						transcripts[e.reservation] = append(transcripts[e.reservation], e.sent)
						owed--
					}
				}
			}
		}
		for owed > 0 {
			hear()
		}
		for reservation, got := range transcripts {
			var what []Happening
			for _, e := range got {
				var h Happening
				if err := json.Unmarshal([]byte(e.data), &h); err != nil || e.id != fmt.Sprint(h.Revision) || e.event != h.What {
					t.Errorf("%+v: %v", e, err)
				}
				what = append(what, h)
			}
			truth := want[Page[Happening]](w.get("admin:root", "/v1/reservations/"+reservation+"/history?limit=100"), http.StatusOK).Items
			if diff := cmp.Diff(truth, what); diff != "" {
				t.Errorf("%s (-history +told)\n%s", reservation, diff)
			}
		}
		if len(transcripts) != len(followed) {
			t.Errorf("%d of %d reservations were told", len(transcripts), len(followed))
		}
	})
}

func TestWhoMayFollowAReservation(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v, other := s.Request("c1", tenth), w.log.Open("lee", "Asia/Seoul").Request("c2", tenth)
		w.project()
		n := w.node(until(time.Now().Add(time.Hour)), false)
		open := func(as, reservation, last string) (status int, code string, end func()) {
			t.Helper()
			ctx, leave := context.WithCancel(t.Context())
			answer, _, err := n.listen(ctx, as, reservation, last)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode == http.StatusOK {
				return http.StatusOK, "", func() { leave(); answer.Body.Close(); <-n.ended }
			}
			defer leave()
			defer answer.Body.Close()
			var p struct{ Code string }
			if err := json.NewDecoder(answer.Body).Decode(&p); err != nil {
				t.Error(err)
			}
			<-n.ended
			if answer.StatusCode == http.StatusTooManyRequests && answer.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			return answer.StatusCode, p.Code, nil
		}
		for _, c := range []struct {
			as, reservation, last string
			status                int
			code                  string
		}{
			{"customer:c1", v.ID, "", 200, ""},
			{"groomer:kim", v.ID, "0", 200, ""},
			{"admin:root", v.ID, "999999999999999999", 200, ""},
			{"", v.ID, "", 401, "auth.missing"},
			{"analyst:a", v.ID, "", 403, "auth.forbidden"},
			{"customer:c2", v.ID, "", 404, "reservation.unknown"},
			{"groomer:lee", v.ID, "", 404, "reservation.unknown"},
			{"customer:kim", v.ID, "", 404, "reservation.unknown"},
			{"groomer:c1", v.ID, "", 404, "reservation.unknown"},
			{"customer:c1", other.ID, "", 404, "reservation.unknown"},
			{"customer:c1", strings.Repeat("0", 30), "", 404, "reservation.unknown"},
			{"admin:root", "kim.00000000000000000000000000", "", 404, "reservation.unknown"},
			{"customer:c1", v.ID, "-1", 400, "request.invalid"},
			{"customer:c1", v.ID, "x", 400, "request.invalid"},
			{"customer:c1", v.ID, "9223372036854775808", 400, "request.invalid"},
			{"customer:c1", v.ID, "1, 2", 400, "request.invalid"},
		} {
			status, code, end := open(c.as, c.reservation, c.last)
			if status != c.status || code != c.code {
				t.Errorf("%s by %s after %q: %d %s, want %d %s", c.reservation, c.as, c.last, status, code, c.status, c.code)
			}
			if end != nil {
				end()
			}
		}

		var ends []func()
		for range maxStreams {
			status, _, end := open("customer:c1", v.ID, "")
			if status != http.StatusOK {
				t.Fatal(status)
			}
			ends = append(ends, end)
		}
		if status, code, _ := open("customer:c1", v.ID, ""); status != http.StatusTooManyRequests || code != "rate.limited" {
			t.Errorf("one too many: %d %s", status, code)
		}
		status, _, end := open("groomer:kim", v.ID, "")
		if status != http.StatusOK {
			t.Errorf("somebody else: %d", status)
		}
		ends[0]()
		status, _, ends[0] = open("customer:c1", v.ID, "")
		if status != http.StatusOK {
			t.Errorf("after one was closed: %d", status)
		}
		for _, end := range append(ends, end) {
			end()
		}
		if got := n.screens.streams.open; len(got) != 0 {
			t.Errorf("still counted: %v", got)
		}
		if got := n.screens.watching.watched; len(got) != 0 {
			t.Errorf("still watched: %v", got)
		}
	})
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		v := w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project()
		n := w.node(until(time.Now().Add(time.Second)), false)
		answer, next, err := n.listen(t.Context(), "customer:c1", v.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if e, err := next(); err != nil || e.event != "requested" {
			t.Errorf("%+v, %v", e, err)
		}
		if e, err := next(); !errors.Is(err, io.EOF) {
			t.Errorf("after the token's end: %+v, %v", e, err)
		}
	})
}

// Who does not read is cut off, and holds nobody else up.
func TestAReaderThatDoesNotReadIsCutOff(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		for i := range 1000 {
			s.Move(v, tenth.Add(time.Duration(i)*15*time.Minute))
		}
		w.project(history.Projection())
		n := w.node(until(time.Now().Add(time.Hour)), true)
		n.screens.streams.stalled = 100 * time.Millisecond
		c, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /v1/reservations/%s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer customer:c1\r\n\r\n", v.ID)
		<-n.ended // it stalls, with a thousand entries to come

		answer, next, err := n.listen(t.Context(), "groomer:kim", v.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		for i := range 1001 {
			if e, err := next(); err != nil {
				t.Fatalf("entry %d: %+v, %v", i, e, err)
			}
		}
	})
}

// A database that is away is silence, with heartbeats, and the stream goes on after it.
func TestAStreamOutlivesItsReadModel(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		w.project()
		n := w.node(until(time.Now().Add(time.Hour)), false)
		n.screens.streams.heartbeat = 20 * time.Millisecond
		answer, next, err := n.listen(t.Context(), "customer:c1", v.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var heard bytes.Buffer
		hear := func(event string) {
			t.Helper()
			for {
				e, err := next()
				if err != nil {
					t.Fatalf("waiting for %s: %v, after %s", event, err, &heard)
				}
				if e.event == event {
					return
				}
				fmt.Fprintln(&heard, e)
				if e.event != "heartbeat" {
					t.Fatalf("waiting for %s: %+v", event, e)
				}
			}
		}
		rename := func(from, to string) {
			t.Helper()
			if _, err := w.db.Writer().ExecContext(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to); err != nil {
				t.Fatal(err)
			}
		}
		hear("requested")
		hear("heartbeat")
		for _, table := range []string{"projection_offsets", history.Table.Def().Name(history.Version)} {
			rename(table, "gone")
			for range 10 {
				hear("heartbeat")
			}
			rename("gone", table)
			s.Move(v, tenth.Add(time.Hour))
			w.project(history.Projection())
			hear("rescheduled")
		}
		// And one that goes while there is something to read.
		s.Confirm(v)
		w.project(history.Projection())
		rename(history.Table.Def().Name(history.Version), "gone")
		rename("gone", history.Table.Def().Name(history.Version))
		hear("confirmed")
	})
}
