package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

type demoCmd struct {
	URL         []string      `name:"url" help:"The system's addresses; with several, one person's socket is at the first and the other's at the last." default:"http://127.0.0.1:8080" placeholder:"URL,…"`
	Talk        time.Duration `help:"How long the two talk on, so that a node can be killed meanwhile." default:"0s"`
	AuthKeyFile string        `help:"The local key that the system trusts. Without it, the one in the data folder." type:"path" placeholder:"FILE"`
	Data        string        `help:"Data folder of salon up." type:"path" default:"${data}"`
}

// Run plays a day in a salon of its own: nobody else's book is touched, and it can run again and again.
func (c *demoCmd) Run(ctx context.Context, t *terminal) error {
	file := keyFile(c.AuthKeyFile, c.Data)
	mint := func(sub, role string) (string, error) { return mint(file, sub, role, time.Hour) }
	nodes := make([]string, len(c.URL))
	for i, u := range c.URL {
		if err := checkURL(u); err != nil {
			return usage(err)
		}
		nodes[i] = strings.TrimSuffix(u, "/")
		if _, err := newClient(u, "").call(ctx, http.MethodGet, "/healthz", "", nil); err != nil {
			return fmt.Errorf("nothing answers at %s: start a system with `make run`, or name one with --url (%w)", u, err)
		}
	}
	return c.story(ctx, nodes, mint, t.out)
}

// reservation is what the story looks at in a reservation.
type reservation struct {
	ID            string    `json:"reservation_id"`
	Status        string    `json:"status"`
	Start         time.Time `json:"start"`
	PriceKRW      int64     `json:"price_krw"`
	RefundPercent *int      `json:"refund_percent"`
	UpdatedAt     time.Time `json:"updated_at"`
}

func (c *demoCmd) story(ctx context.Context, nodes []string, mint minter, out io.Writer) error {
	base := nodes[0]
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	run := hex.EncodeToString(b[:])
	salon := demoSalon{"demo-" + run, "데모 살롱 " + run, "서울 종로구 세종대로 1", []string{"seoul/jongno-gu"}, []string{"shop"}, "request", 1000}
	groomer, err := as(base, mint, salon.id, "groomer")
	if err != nil {
		return err
	}
	customer, err := as(base, mint, "minji-"+run, "customer")
	if err != nil {
		return err
	}
	rival, err := as(base, mint, "jiho-"+run, "customer")
	if err != nil {
		return err
	}
	s := &stage{ctx: ctx, out: out}

	s.step("a groomer opens a salon", groomer, http.MethodPut, "/v1/groomers/"+salon.id, salonBody(salon), 200, nil)
	customer.seen = groomer.seen // the token of the groomer's write: the customer's read cannot be older
	from, to := time.Now().AddDate(0, 0, 2), time.Now().AddDate(0, 0, 8)
	var free struct{ Items []slot }
	s.step("a customer sees its free slots at once", customer, http.MethodGet,
		fmt.Sprintf("/v1/groomers/%s/slots?from=%s&to=%s&services=bath,nails&size=small", salon.id, from.Format(time.DateOnly), to.Format(time.DateOnly)), nil, 200, &free)
	if s.err == nil && len(free.Items) < 10 {
		return fmt.Errorf("a new salon has only %d free slots in a week", len(free.Items))
	}
	if s.err != nil {
		return s.err
	}
	first, later := free.Items[0].Start, free.Items[len(free.Items)-1].Start
	dogs := []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath", "nails"}}}

	var hold struct {
		ID string `json:"hold_id"`
	}
	s.step("she holds the first", customer, http.MethodPost, "/v1/holds",
		map[string]any{"groomer_id": salon.id, "start": first, "mode": "shop", "dogs": dogs}, 201, &hold)
	s.step("somebody else is too late", rival, http.MethodPost, "/v1/reservations",
		map[string]any{"groomer_id": salon.id, "start": first, "mode": "shop", "dogs": dogs}, 409, nil)
	var r reservation
	s.step("she reserves what she holds", customer, http.MethodPost, "/v1/reservations", map[string]any{"hold_id": hold.ID, "note": "귀 청소는 살살 부탁드려요"}, 201, &r)
	s.step("the same request again: the same answer, one reservation", customer, http.MethodPost, "/v1/reservations",
		map[string]any{"hold_id": hold.ID, "note": "귀 청소는 살살 부탁드려요"}, 201, &r)
	path := "/v1/reservations/" + r.ID
	s.step("the groomer confirms", groomer, http.MethodPost, path+"/confirm", nil, 200, &r)
	customer.seen = groomer.seen
	s.step("she reads it confirmed", customer, http.MethodGet, path, nil, 200, &r)
	if s.err == nil && r.Status != "confirmed" {
		return fmt.Errorf("read %q after the confirmation was acknowledged", r.Status)
	}
	room := "/v1/chat/rooms/" + r.ID + "/messages"
	s.step("she writes to the groomer", customer, http.MethodPost, room, map[string]any{"client_message_id": "m1", "text": "콩이가 낯을 조금 가려요"}, 201, nil)
	s.step("she reads the room", customer, http.MethodGet, room, nil, 200, nil)
	s.talk(nodes, r.ID, customer, groomer, c.Talk)
	confirmed := r.UpdatedAt
	s.step("she moves the visit, in one step", customer, http.MethodPost, path+"/reschedule", map[string]any{"start": later}, 200, &r)
	moved := r.UpdatedAt
	s.step("and cancels it", customer, http.MethodPost, path+"/cancel", map[string]any{"reason": "여행 일정이 생겼어요"}, 200, &r)
	s.step("its history tells who did what", customer, http.MethodGet, path+"/history", nil, 200, nil)
	groomer.seen = customer.seen
	s.step("the groomer's numbers", groomer, http.MethodGet, fmt.Sprintf("/v1/stats/daily?groomer_id=%s&from=%s&to=%s", salon.id, from.Format(time.DateOnly), to.Format(time.DateOnly)), nil, 200, nil)
	admin, err := as(base, mint, "demo-"+run, "admin")
	if err != nil {
		return err
	}
	s.whoMoved(admin, r.ID, "minji-"+run, confirmed, moved)
	analyst, err := as(base, mint, "demo-"+run, "analyst")
	if err != nil {
		return err
	}
	s.rebuild(analyst, customer, path)
	if s.err != nil {
		return s.err
	}
	fmt.Fprintf(out, "\n%d steps, all answered as they should.\n", s.n)
	return nil
}

// stage shows each step and stops at the first that is not answered as it should be.
type stage struct {
	ctx context.Context
	out io.Writer
	n   int
	err error
}

func (s *stage) step(what string, who *client, method, path string, body any, status int, into any) {
	if s.err != nil {
		return
	}
	s.n++
	key := ""
	if method != http.MethodGet {
		b, _ := json.Marshal(body) // the key of a request is the request: repeating a step repeats its key
		key = fmt.Sprintf("demo-%x", sha256.Sum256(b))
	}
	began := time.Now()
	a, err := who.call(s.ctx, method, path, key, body)
	if err != nil {
		s.err = fmt.Errorf("step %d, %s: %w", s.n, what, err)
		return
	}
	fmt.Fprintf(s.out, "%2d. %s\n    %s %s → %d in %.1f ms\n    %s\n", s.n, what, method, path, a.status, float64(time.Since(began).Microseconds())/1000, excerpt(a.body))
	if a.status != status {
		s.err = fmt.Errorf("step %d, %s: answered %d, expected %d", s.n, what, a.status, status)
		return
	}
	if into != nil {
		s.err = a.decode(into)
	}
}

// excerpt is the beginning of a body, cut between runes.
func excerpt(body []byte) string {
	r := []rune(strings.TrimSpace(string(body)))
	if len(r) > 160 {
		return string(r[:160]) + "…"
	}
	return string(r)
}
