package readapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/token"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/reservations"
)

var tenth = time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC)

// waits makes a channel that says that somebody waits.
func (w *world) waits() <-chan struct{} {
	waiting := make(chan struct{}, 1000)
	look := w.screens.waiting.look
	w.screens.waiting.look = func(ctx context.Context, of []string) ([]engine.Place, error) {
		waiting <- struct{}{}
		return look(ctx, of)
	}
	return waiting
}

func TestAReadWithATokenWaitsForItsWrite(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		v := w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		waiting := w.waits()
		answered := make(chan response)
		go func() {
			answered <- w.get("customer:c1", "/v1/reservations/"+v.ID, "Consistency-Token", w.token(), "Prefer", "wait=30")
		}()
		<-waiting
		w.project()
		r := <-answered
		if got := want[Reservation](r, http.StatusOK); got.ReservationID != v.ID {
			t.Errorf("got %+v", got)
		}
		if got := r.Header().Get("Preference-Applied"); got != "wait=30" {
			t.Errorf("Preference-Applied: %q", got)
		}
	})
}

func TestAReadIsNeverOlderThanItsToken(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		for i := range 20 {
			s.Move(v, tenth.Add(time.Duration(i)*time.Hour))
			tok, revision := w.token(), v.Revision
			done := make(chan struct{})
			go func() { w.project(reservations.Projection()); close(done) }()
			got := want[Reservation](w.get("customer:c1", "/v1/reservations/"+v.ID, "Consistency-Token", tok, "Prefer", "wait=30"), http.StatusOK)
			if got.Revision < revision {
				t.Fatalf("revision %d with a token of %d", got.Revision, revision)
			}
			<-done
		}
	})
}

func TestATokenThatCannotBeMet(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		path := "/v1/reservations/" + v.ID
		ask := func(tok string) response {
			return w.get("customer:c1", path, "Consistency-Token", tok, "Prefer", "wait=0")
		}

		r := ask(w.token())
		if d := refused(r, http.StatusServiceUnavailable, "read_model.behind"); !strings.Contains(d, "nothing") {
			t.Errorf("a projection that never ran: %s", d)
		}
		if r.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}

		w.project()
		want[Reservation](ask(w.token()), http.StatusOK)
		s.Confirm(v)
		d := refused(ask(w.token()), http.StatusServiceUnavailable, "read_model.behind")
		if !strings.Contains(d, "1 before") || !strings.Contains(d, "catching up") {
			t.Errorf("one event behind, just moved: %s", d)
		}
		if got := want[Reservation](w.get("customer:c1", path), http.StatusOK); got.Status != "requested" {
			t.Errorf("without a token it is answered at once, as far as it is: %+v", got)
		}

		_, err := w.db.Writer().ExecContext(t.Context(), "UPDATE projection_offsets SET updated_at = updated_at - 60000000")
		if err != nil {
			t.Fatal(err)
		}
		if d := refused(ask(w.token()), http.StatusServiceUnavailable, "read_model.behind"); !strings.Contains(d, "not moved for 6") {
			t.Errorf("a minute without a move: %s", d)
		}

		before := token.Token{Incarnation: "before", Entries: []token.Entry{{Topic: booking, Key: "kim", Position: 1}}}.String()
		refused(ask(before), http.StatusPreconditionFailed, "store.restored")
		refused(ask("what?"), http.StatusBadRequest, "request.invalid")
	})
}

// The rows are of the third life. It took over two events from the second, which had taken over three from the first.
func TestATokenOfAnEarlierLifeStandsAsLongAsItsWriteDoes(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		v := w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project()
		if len(w.log.Events) < 3 {
			t.Fatal("too few events")
		}
		lives := []Life{{"first", 0}, {"second", 3}, {life, 2}}
		asked, away := 0, false
		w.screens.lineage.ask = func(context.Context) ([]Life, error) {
			if asked++; away {
				return nil, errors.New("the store is away")
			}
			return slices.Clone(lives), nil
		}
		of := func(incarnation string, position uint64) string {
			return token.Token{Incarnation: incarnation, Entries: []token.Entry{{Topic: booking, Key: "kim", Position: position}}}.String()
		}
		ask := func(tok string) response {
			w.screens.lineage.asked = time.Time{}
			return w.get("customer:c1", "/v1/reservations/"+v.ID, "Consistency-Token", tok, "Prefer", "wait=0")
		}
		for name, c := range map[string]struct {
			tok    string
			status int
			code   string
		}{
			"what all three have":                     {of("first", 2), http.StatusOK, ""},
			"what the third did not get of the first": {of("first", 3), http.StatusPreconditionFailed, "store.restored"},
			"what the third did not get":              {of("second", 3), http.StatusPreconditionFailed, "store.restored"},
			"what the third got":                      {of("second", 2), http.StatusOK, ""},
			"of two lives, all there":                 {of("first", 1) + "," + w.token(), http.StatusOK, ""},
			"of two lives, one lost":                  {of("second", 4) + "," + w.token(), http.StatusPreconditionFailed, "store.restored"},
			"of a life of another history":            {of("another", 1), http.StatusPreconditionFailed, "store.restored"},
			"there, and not applied yet":              {of(life, 1<<40), http.StatusServiceUnavailable, "read_model.behind"},
		} {
			if r := ask(c.tok); r.Code != c.status || c.code != "" && !strings.Contains(r.Body.String(), c.code) {
				t.Errorf("%s: %d %s", name, r.Code, r.Body)
			}
		}
		lives = append(lives, Life{"fourth", 2})
		if d := refused(ask(of("fourth", 3)), http.StatusServiceUnavailable, "read_model.behind"); !strings.Contains(d, "failed over") {
			t.Errorf("of a life that the rows will come to: %s", d)
		}
		away = true
		want[Reservation](ask(of("second", 2)), http.StatusOK) // known by now
		refused(ask(of("fifth", 2)), http.StatusServiceUnavailable, "read_model.unavailable")

		// Made up tokens do not reach the store more often than this, nor one that is away.
		madeUp := func(status int, code string) {
			t.Helper()
			before := asked
			w.screens.lineage.asked = time.Now().Add(time.Hour)
			refused(w.get("customer:c1", "/v1/reservations/"+v.ID, "Consistency-Token", of("sixth", 1), "Prefer", "wait=0"), status, code)
			if asked != before {
				t.Errorf("asked %d times more", asked-before)
			}
		}
		madeUp(http.StatusServiceUnavailable, "read_model.unavailable")
		away = false
		refused(ask(of("fifth", 2)), http.StatusPreconditionFailed, "store.restored")
		madeUp(http.StatusPreconditionFailed, "store.restored")
	})
}

func TestATokenWaitsOnlyForWhatTheScreenShows(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		v := w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project()
		path := "/v1/reservations/" + v.ID
		for name, e := range map[string]token.Entry{
			"another topic": {Topic: "salon.chat.v1", Key: "kim", Position: 1 << 40},
			"another key":   {Topic: booking, Key: "lee", Position: 1 << 40},
		} {
			tok := token.Token{Incarnation: life, Entries: []token.Entry{e}}.String()
			if r := w.get("customer:c1", path, "Consistency-Token", tok, "Prefer", "wait=0"); r.Code != http.StatusOK {
				t.Errorf("%s: %d %s", name, r.Code, r.Body)
			}
			if e.Topic == booking {
				refused(w.get("customer:c1", "/v1/reservations", "Consistency-Token", tok, "Prefer", "wait=0"),
					http.StatusServiceUnavailable, "read_model.behind") // a list over all salons shows that key too
			}
		}
	})
}

func TestTokensInSeveralHeaderLinesAreOneList(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		w.project()
		old := w.token()
		s.Confirm(v)
		refused(w.get("customer:c1", "/v1/reservations/"+v.ID, "Consistency-Token", old, "Consistency-Token", w.token(), "Prefer", "wait=0"),
			http.StatusServiceUnavailable, "read_model.behind")
	})
}

// Projections move each on their own: each screen waits for its own one.
func TestEachScreenWaitsForItsOwnProjection(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		v := w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project(history.Projection())
		headers := []string{"Consistency-Token", w.token(), "Prefer", "wait=0"}
		want[Page[Happening]](w.get("customer:c1", "/v1/reservations/"+v.ID+"/history", headers...), http.StatusOK)
		refused(w.get("customer:c1", "/v1/reservations/"+v.ID, headers...), http.StatusServiceUnavailable, "read_model.behind")
	})
}

func TestADatabaseThatIsAway(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		v := w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project()
		w.db.Close()
		for _, headers := range [][]string{nil, {"Consistency-Token", w.token()}} {
			r := w.get("customer:c1", "/v1/reservations/"+v.ID, headers...)
			refused(r, http.StatusServiceUnavailable, "read_model.unavailable")
			if r.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
	})
}

// view is a Redis view that says what it is told.
type view struct {
	rows engine.ViewRows
	err  error
}

func (v view) Read(context.Context, engine.Serving, string, string) (engine.ViewRows, error) {
	return v.rows, v.err
}

func TestAViewAnswersOnlyWhenItIsWholeAndAtTheToken(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project()
		last := uint64(len(w.log.Events))
		w.screens.lineage.ask = func(context.Context) ([]Life, error) {
			return []Life{{life, 0}, {"has it", last}, {"lacks it", last - 1}}, nil
		}
		for name, c := range map[string]struct {
			view ViewReader
			tok  string
			want string
		}{
			"whole, no token":          {view{rows: engine.ViewRows{Whole: true}}, "", "view"},
			"whole, at the token":      {view{rows: engine.ViewRows{Whole: true, Position: last, Incarnation: life}}, w.token(), "view"},
			"whole, behind the token":  {view{rows: engine.ViewRows{Whole: true, Position: last - 1, Incarnation: life}}, w.token(), "tables"},
			"of another life":          {view{rows: engine.ViewRows{Whole: true, Position: last + 9, Incarnation: "before"}}, w.token(), "tables"},
			"of a life that has it":    {view{rows: engine.ViewRows{Whole: true, Position: last + 9, Incarnation: "has it"}}, w.token(), "view"},
			"of a life that lacks it":  {view{rows: engine.ViewRows{Whole: true, Position: last + 9, Incarnation: "lacks it"}}, w.token(), "tables"},
			"not whole":                {view{rows: engine.ViewRows{Position: last}}, "", "tables"},
			"Redis is away":            {view{err: fmt.Errorf("away")}, "", "tables"},
			"there is no Redis at all": {nil, "", "tables"},
		} {
			var got string
			err := w.screens.ReadView(t.Context(), ReadHeaders{ConsistencyToken: c.tok}, c.view, booking, "kim",
				func(engine.ViewRows) error { got = "view"; return nil },
				[]engine.Projection{reservations.Projection()},
				func(context.Context, Snapshot) error { got = "tables"; return nil })
			if err != nil || got != c.want {
				t.Errorf("%s: %q, want %q (%v)", name, got, c.want, err)
			}
		}
	})
}
