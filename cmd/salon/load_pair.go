package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/readapi"
	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// loadPair is a customer and a groomer: what they did, and what they were told of it.
type loadPair struct {
	*loadRun

	url, name   string
	wait        int // seconds, Prefer: wait
	connections http.RoundTripper
	customer    *client
	groomer     *client
	room        string
	days        time.Time // from where the groomer's time off lies

	said  int                // messages that were sent
	acked map[string]uint64  // client message ID → seq, of those that were acknowledged
	off   map[time.Time]bool // beginning of a time off → acknowledged

	mu    sync.Mutex
	heard uint64 // the last message on the socket
	news  chan struct{}
}

// open makes the salon, and the reservation whose room they talk in.
func (p *loadPair) open(ctx context.Context, mint minter) (err error) {
	if p.groomer, err = as(p.url, mint, p.name, "groomer"); err != nil {
		return err
	}
	if p.customer, err = as(p.url, mint, p.name, "customer"); err != nil {
		return err
	}
	p.groomer.http.Transport, p.customer.http.Transport = p.connections, p.connections
	salon := demoSalon{p.name, p.name, "서울 종로구 세종대로 1", []string{"seoul/jongno-gu"}, []string{"shop"}, "instant", 1000}
	if _, err := p.groomer.must(ctx, http.MethodPut, "/v1/groomers/"+p.name, "open", salonBody(salon), nil); err != nil {
		return err
	}
	p.customer.seen = p.groomer.seen
	from := time.Now().AddDate(0, 0, 2)
	var free struct{ Items []slot }
	path := fmt.Sprintf("/v1/groomers/%s/slots?from=%s&to=%s&services=bath&size=small", p.name, from.Format(time.DateOnly), from.AddDate(0, 0, 5).Format(time.DateOnly))
	if err := p.settled(ctx, p.customer, path, &free); err != nil {
		return err
	}
	if len(free.Items) == 0 {
		return fmt.Errorf("%s has no free slot", p.name)
	}
	var r reservation
	_, err = p.customer.must(ctx, http.MethodPost, "/v1/reservations", "reserve", map[string]any{
		"groomer_id": p.name, "start": free.Items[0].Start, "mode": "shop",
		"dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
	}, &r)
	p.customer.wait, p.groomer.wait = p.wait, p.wait
	p.room, p.days = r.ID, time.Now().AddDate(0, 0, 100).UTC().Truncate(time.Hour)
	return err
}

// listen is the groomer's socket.
func (p *loadPair) listen(ctx context.Context) {
	var lost time.Time
	c := liveclient.New(liveclient.Config{
		URLs: []string{p.url}, Token: func(context.Context) (string, error) { return p.groomer.token, nil },
		Connected: func(string) {
			if !lost.IsZero() {
				p.socketAway(time.Since(lost))
			}
			lost = time.Time{}
		},
		Disconnected: func(error) {
			if lost.IsZero() && ctx.Err() == nil {
				lost = time.Now()
			}
		},
		On: func(frame any) {
			m, ok := frame.(*live.Message)
			if !ok {
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			switch {
			case m.Seq <= p.heard:
				p.wrong(&p.result.Doubled, "%s: the socket got message %d twice", p.room, m.Seq)
			case m.Seq > p.heard+1:
				p.wrong(&p.result.Lost, "%s: the socket got message %d after %d", p.room, m.Seq, p.heard)
			}
			p.heard = max(p.heard, m.Seq)
			select {
			case p.news <- struct{}{}:
			default:
			}
		},
	})
	c.Follow(p.room, 0)
	_ = c.Run(ctx) // whom it does not let in hears nothing, which is counted
}

// live goes on until it is time to end: a message, what is read of it, a time off, free slots, which are views in Redis, and the
// reservation, which is in tables.
func (p *loadPair) live(ctx context.Context, end <-chan struct{}, pace time.Duration) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-end:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch n % 5 {
		case 0:
			p.say(ctx)
		case 1:
			p.look(ctx)
		case 2:
			p.takeOff(ctx)
		case 3:
			day := p.days.Format(time.DateOnly)
			p.counted(ctx, p.customer, http.MethodGet, fmt.Sprintf("/v1/groomers/%s/slots?from=%s&to=%s&minutes=30", p.name, day, day), nil)
		case 4:
			p.counted(ctx, p.groomer, http.MethodGet, "/v1/reservations/"+p.room, nil)
		}
	}
}

// counted calls, and counts what came of it.
func (p *loadPair) counted(ctx context.Context, who *client, method, path string, body any) (a answer, ok bool) {
	began := time.Now()
	a, err := who.call(ctx, method, path, "", body)
	return a, p.answered(method != http.MethodGet, began, a, err)
}

func (p *loadPair) say(ctx context.Context) {
	p.said++
	id := "m" + strconv.Itoa(p.said)
	a, ok := p.counted(ctx, p.customer, http.MethodPost, "/v1/chat/rooms/"+p.room+"/messages", map[string]any{"client_message_id": id, "text": "말 " + id})
	if ok {
		var m struct{ Seq uint64 }
		if err := a.decode(&m); err == nil {
			p.acked[id] = m.Seq
		}
	}
}

// look reads the newest message: with the token of the last write, it is to be the one that was acknowledged.
func (p *loadPair) look(ctx context.Context) {
	last, acked := p.acked["m"+strconv.Itoa(p.said)]
	a, ok := p.counted(ctx, p.customer, http.MethodGet, "/v1/chat/rooms/"+p.room+"/messages?limit=1", nil)
	if !ok || !acked {
		return
	}
	var page readapi.Messages
	if err := a.decode(&page); err != nil || page.HeadSeq < last {
		p.wrong(&p.result.Lost, "%s: a read with the token of message %d has %d (%v)", p.room, last, page.HeadSeq, err)
	}
}

func (p *loadPair) takeOff(ctx context.Context) {
	from := p.days.Add(time.Duration(len(p.off)) * time.Hour)
	p.off[from] = false
	_, p.off[from] = p.counted(ctx, p.groomer, http.MethodPost, "/v1/groomers/"+p.name+"/time-off", map[string]any{"from": from, "to": from.Add(time.Hour)})
}

// check reads everything back. A write that was not acknowledged may have happened, once.
func (p *loadPair) check(ctx context.Context) error {
	times := map[string]int{}
	head := uint64(0)
	for {
		var page readapi.Messages
		if err := p.settled(ctx, p.customer, fmt.Sprintf("/v1/chat/rooms/%s/messages?after=%d&limit=100", p.room, head), &page); err != nil {
			return err
		}
		for _, m := range page.Items {
			if m.Seq != head+1 {
				p.wrong(&p.result.Lost, "%s: message %d stands after %d", p.room, m.Seq, head)
			}
			if seq, ok := p.acked[m.ClientMessageID]; ok && seq != m.Seq {
				p.wrong(&p.result.Lost, "%s: message %s was acknowledged as %d and is %d", p.room, m.ClientMessageID, seq, m.Seq)
			}
			head = m.Seq
			times[m.ClientMessageID]++
		}
		if len(page.Items) == 0 {
			break
		}
	}
	for n := range p.said {
		id := "m" + strconv.Itoa(n+1)
		_, acked := p.acked[id]
		p.once(p.room+": message "+id, times[id], acked)
	}
	begun := map[time.Time]int{}
	for cursor, more := "", true; more; {
		var page readapi.Page[readapi.TimeOff]
		if err := p.settled(ctx, p.groomer, "/v1/groomers/"+p.name+"/time-off?limit=100&cursor="+url.QueryEscape(cursor), &page); err != nil {
			return err
		}
		for _, off := range page.Items {
			begun[off.From.UTC()]++
		}
		if more = page.NextCursor != nil; more {
			cursor = *page.NextCursor
		}
	}
	for from, acked := range p.off {
		p.once(p.name+": time off from "+from.Format(time.RFC3339), begun[from], acked)
	}
	return p.hears(ctx, head)
}

// once counts what was found so many times.
func (p *loadPair) once(what string, times int, acked bool) {
	switch {
	case acked && times == 0:
		p.wrong(&p.result.Lost, "%s was acknowledged and is not there", what)
	case times > 1:
		p.wrong(&p.result.Doubled, "%s is there %d times", what, times)
	}
}

// settled reads until it is answered: what was broken may still be coming back, and many who begin at once are a burst.
func (p *loadPair) settled(ctx context.Context, who *client, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := who.must(ctx, http.MethodGet, path, "", nil, into)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot be read back: %w", err)
		case <-tick.C:
		}
	}
}

// hears waits until the socket has the last message.
func (p *loadPair) hears(ctx context.Context, head uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		p.mu.Lock()
		heard := p.heard
		p.mu.Unlock()
		if heard >= head {
			return nil
		}
		select {
		case <-ctx.Done():
			p.wrong(&p.result.Lost, "%s: the socket has heard %d of %d messages", p.room, heard, head)
			return nil
		case <-p.news:
		}
	}
}
