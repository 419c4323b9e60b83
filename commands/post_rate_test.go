package commands

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/internal/ratelimit"
)

func TestASenderHasOneRateByHTTPAndLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	room := strings.TrimPrefix(w.reserved(at(2, 10, 0)), "/v1/reservations/")
	path := "/v1/chat/rooms/" + room + "/messages"
	slow := func() { w.x.posts = ratelimit.New(0.001) } // a burst of one, and a thousand seconds until the next
	message := func(id string) map[string]any {
		return map[string]any{"client_message_id": id, "text": "안녕하세요"}
	}
	live := func(id string) error {
		r := PostMessage{ClientMessageID: id, Text: "안녕하세요"}
		m, err := w.x.NewMeta(t.Context(), kim, "post_message", PostMessageID(kim, room, id), r)
		if err == nil {
			_, err = w.x.PostMessage(t.Context(), m, room, r)
		}
		return err
	}

	slow()
	first := w.must(201, kimToken, "POST", path, message("a"))
	before := w.head()
	r := w.send(kimToken, "POST", path, message("b"))
	want(t, "status", r.status, 429)
	want(t, "code", r.problem.Code, "rate.limited")
	if s, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || s < 900 || s > 1000 { // since the first post
		t.Errorf("Retry-After: %q", r.header.Get("Retry-After"))
	}
	var p *problem.Problem
	if err := live("c"); !errors.As(err, &p) || p.Code != "rate.limited" {
		t.Errorf("live, after HTTP: %v", err)
	}
	w.refused(429, "rate.limited", kimToken, "POST", path, message("a"))                                           // a repeat
	w.refused(429, "rate.limited", kimToken, "POST", "/v1/chat/rooms/"+pastID(1)+"/messages", message("a"))        // made up
	w.refused(429, "rate.limited", kimToken, "POST", "/v1/chat/rooms/"+room+"/messages", message("a"), "X-Y", "z") // whatever
	want(t, "head", w.head(), before)
	w.refused(404, "room.unknown", "groomer:kim", "POST", path, message("a")) // who is another than customer kim
	w.must(201, mongToken, "POST", path, message("a"))
	w.must(200, kimToken, "POST", "/v1/chat/rooms/"+room+"/read", map[string]any{"seq": 1})

	// The refusal was not remembered, and what was accepted has its answer.
	slow()
	again := w.must(201, kimToken, "POST", path, message("a"))
	want(t, "replayed", again.header.Get("Idempotent-Replayed"), "true")
	want(t, "answer", again.raw, first.raw)
	slow()
	want(t, "seq", w.must(201, kimToken, "POST", path, message("b")).body["seq"], any(3.0))

	// Made-up rooms and bodies that are refused are counted: they cost reads.
	slow()
	w.refused(404, "room.unknown", leeToken, "POST", path, message("a"))
	w.refused(429, "rate.limited", leeToken, "POST", path, message("a"))
}

func TestTheRateOfPosts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := NewExecutor(Config{})
		taken := func(sub string) (n int) {
			for ok := true; ok; n++ {
				_, ok = x.posts.Take(sub)
			}
			return n - 1
		}
		want(t, "burst", taken("customer:kim"), 20)
		want(t, "customer kim is not groomer kim", taken("groomer:kim"), 20)
		<-time.After(time.Second)
		want(t, "in a second", taken("customer:kim"), 10)

		x = NewExecutor(Config{PostRate: -1})
		for i := range 1000 {
			if _, ok := x.posts.Take("customer:kim"); !ok {
				t.Fatal(fmt.Sprint("limited after ", i))
			}
		}
	})
}
