package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/readapi"
	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// conversation is one `salon chat`: a loop over what the room brings, what is typed and what was acknowledged. It alone
// prints, so lines are never mixed.
type conversation struct {
	*chatCmd
	out, err io.Writer                       // messages; everything else
	read     func() (line string, err error) // a line that was typed
	typed    func(key func())                // has key called for each key that is typed; before read
	ended    func()                          // nothing more can be typed

	bearer func(context.Context) (string, error)
	me     readapi.Person
	client *liveclient.Client

	from    uint64 // earlier messages are not shown
	known   bool   // from is known
	entered bool   // the room was
	head    uint64 // the last message there was when it was entered
	last    uint64 // the last message that was shown, or passed over
	theirs  uint64 // how far the other side has read
	typing  bool   // it was said that the other side is, since their last message

	connected bool
	lost      bool
	failed    int // attempts to connect, before the first connection

	waiting []*waitingPost // the first is under way
	refused int
	done    bool // nothing more is typed
	leaving bool // /leave was typed once
}

// waitingPost is a message that is not acknowledged.
type waitingPost struct {
	text string
	told bool // that it is not
}

const (
	maxTyped   = 64                     // lines that wait; more are not read
	tellAfter  = 300 * time.Millisecond // a message that is acknowledged sooner needs no mark
	typingGap  = 3 * time.Second
	frameQueue = 64
)

type (
	connectedTo string
	connection  struct{ lost error }
	outcome     struct {
		posted live.Posted
		err    error
	}
)

var errOver = errors.New("the conversation is over")

// run talks until everything is said, or ctx ends. It waits for whatever it starts, except a read of stdin, which nothing
// but the end of the process can end.
func (v *conversation) run(ctx context.Context) error {
	token, err := v.bearer(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()

	events := make(chan any, frameQueue)
	tell := func(event any) {
		select {
		case events <- event:
		case <-ctx.Done():
		}
	}
	v.client = liveclient.New(liveclient.Config{
		URLs: v.URL, InOrder: true, Token: v.bearer, On: tell,
		Connected:    func(url string) { tell(connectedTo(url)) },
		Disconnected: func(err error) { tell(connection{err}) },
	})
	var after uint64
	if page, found := v.earlier(ctx, token); found {
		for _, m := range page.Items {
			v.show(&live.Message{Type: "message", Message: m})
		}
		after, v.known, v.last, v.theirs = page.HeadSeq, true, page.HeadSeq, page.ReadSeq
	}
	v.client.Follow(v.Room, after)
	if v.last > 0 && v.Last > 0 {
		v.client.Read(v.Room, v.last)
	}
	over := make(chan error, 1)
	parts.Go(func() { over <- v.client.Run(ctx) })

	var typedAt time.Time
	v.typed(func() {
		if time.Since(typedAt) > typingGap {
			typedAt = time.Now()
			v.client.Typing(v.Room)
		}
	})
	lines := make(chan string)
	go func() { // not waited for
		defer close(lines)
		for {
			line, err := v.read()
			if err != nil {
				return
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	outcomes := make(chan outcome, 1)
	posting := false
	var unsaid <-chan time.Time
	for {
		if len(v.waiting) > 0 && !posting {
			posting = true
			text := v.waiting[0].text
			parts.Go(func() {
				posted, err := v.client.Post(ctx, v.Room, rand.Text(), text)
				outcomes <- outcome{posted, err}
			})
			unsaid = time.After(tellAfter)
		}
		if v.done && len(v.waiting) == 0 && v.entered && v.last >= v.head {
			return v.summary()
		}
		from := lines
		if v.done || len(v.waiting) >= maxTyped {
			from = nil
		}
		select {
		case <-ctx.Done():
			return v.summary()
		case err := <-over:
			if err != nil {
				return err
			}
			return v.summary()
		case event := <-events:
			err = v.take(event)
		case line, more := <-from:
			if err = nil; more {
				err = v.typedLine(ctx, strings.TrimRight(line, "\r\n"))
			} else {
				v.done = true
				v.ended()
			}
		case <-unsaid:
			v.mark()
		case o := <-outcomes:
			posting, err = false, v.settled(o)
		}
		if errors.Is(err, errOver) {
			return v.summary()
		}
		if err != nil {
			return err
		}
	}
}

// take handles what the client tells.
func (v *conversation) take(event any) error {
	if v.Output == "json" {
		switch event.(type) {
		case connectedTo, connection, *live.Message: // told, or shown
		default:
			v.line(event)
		}
	}
	switch e := event.(type) {
	case connectedTo:
		if v.lost {
			v.say("back, at %s", string(e))
		}
		v.connected, v.lost = true, false
	case connection:
		if !v.connected {
			if v.failed++; v.failed >= len(v.URL) {
				return fmt.Errorf("%w; start a system with make run, or name its nodes with --url", e.lost)
			}
		} else if !v.lost {
			v.lost = true
			v.say("the node is lost (%v); trying again", e.lost)
			v.mark()
		}
	case *live.Subscribed:
		v.enter(e)
	case *live.Message:
		v.show(e)
		v.client.Read(v.Room, e.Seq)
	case *live.HasRead:
		if e.Seq > v.theirs {
			v.theirs = e.Seq
			v.say("%s has read up to message %d", nameOf(e.Reader), e.Seq)
		}
	case *live.IsTyping:
		if !v.typing {
			v.typing = true
			v.say("%s is typing", nameOf(e.Sender))
		}
	case *live.Presence:
		v.say("%s is %s", nameOf(e.Member), map[bool]string{true: "here", false: "away"}[e.Online])
	case *live.Error:
		switch {
		case e.Code == "room.left":
			v.say("you left this room")
			return errOver
		case e.Code == "room.unknown" && v.entered: // of a mark that crossed a resync
		default:
			return v.explain(e)
		}
	}
	return nil
}

// enter is told where the room stands.
func (v *conversation) enter(s *live.Subscribed) {
	if v.entered && s.HeadSeq < v.last {
		v.say("the event store was restored: what was said after message %d is gone", s.HeadSeq)
		v.last = s.HeadSeq
	}
	if !v.known {
		v.known = true
		if last := uint64(v.Last); s.HeadSeq > last { //nolint:gosec // not negative
			v.from = s.HeadSeq - last
		}
	}
	if !v.entered {
		v.entered, v.head = true, s.HeadSeq
	}
}

// show prints a message, unless it is an earlier one than was asked for.
func (v *conversation) show(m *live.Message) {
	v.last = m.Seq
	if m.Sender != v.me {
		v.typing = false
	}
	switch {
	case m.Seq <= v.from:
	case v.Output == "json":
		v.line(m)
	default:
		fmt.Fprintln(v.out, shown(*m, v.me, time.Now()))
	}
}

// line prints a frame.
func (v *conversation) line(frame any) {
	if b, err := json.Marshal(frame); err == nil { // our own types
		fmt.Fprintf(v.out, "%s\n", b)
	}
}

// say tells what is no message.
func (v *conversation) say(format string, args ...any) {
	fmt.Fprintln(v.err, "--", oneLine(fmt.Sprintf(format, args...)))
}

// mark tells which messages are not acknowledged.
func (v *conversation) mark() {
	for _, w := range v.waiting {
		if !w.told {
			w.told = true
			v.say("not acknowledged yet: %s", w.text)
		}
	}
}

// settled is the outcome of the first that waits.
func (v *conversation) settled(o outcome) error {
	w := v.waiting[0]
	v.waiting = v.waiting[1:]
	var rejected *liveclient.RejectedError
	switch {
	case o.err == nil:
		if w.told {
			v.say("acknowledged as message %d: %s", o.posted.Seq, w.text)
		}
		if v.Output == "json" {
			v.line(o.posted)
		}
	case errors.As(o.err, &rejected):
		v.refused++
		v.say("not posted (%v): %s", o.err, w.text)
		if rejected.Frame.Code == "room.unknown" || rejected.Frame.Code == "room.left" {
			return v.explain(&rejected.Frame)
		}
	default: // ctx ended
		v.waiting = append([]*waitingPost{w}, v.waiting...)
	}
	return nil
}

// typedLine takes a line: a message, or what begins with /.
func (v *conversation) typedLine(ctx context.Context, line string) error {
	word, isCommand := strings.CutPrefix(strings.TrimSpace(line), "/")
	if text, escaped := strings.CutPrefix(word, "/"); isCommand && escaped {
		isCommand, line = false, "/"+text
	}
	leaving := v.leaving
	v.leaving = false
	switch {
	case strings.TrimSpace(line) == "":
	case !isCommand:
		v.waiting = append(v.waiting, &waitingPost{text: line})
	case word == "quit":
		v.done = true
		v.ended()
	case word == "read":
		v.client.Read(v.Room, v.last)
		v.say("you have read up to message %d, the other side up to %d", v.last, v.theirs)
	case word == "leave" && !leaving:
		v.leaving = true
		v.say("who leaves reads and writes no more here, for good; type /leave again")
	case word == "leave":
		token, err := v.bearer(ctx)
		if err == nil {
			err = v.leave(ctx, token)
		}
		if err != nil {
			v.say("you are still here: %v", err)
		}
	default:
		v.say("/%s is nothing: there are /read, /leave and /quit; // begins a text with /", word)
	}
	return nil
}

// summary is how it ended.
func (v *conversation) summary() error {
	switch {
	case len(v.waiting) > 0:
		return fmt.Errorf("%d messages were not acknowledged; they may have been posted", len(v.waiting))
	case v.refused > 0:
		return fmt.Errorf("%d messages were not posted", v.refused)
	case !v.entered:
		return errors.New("the room was not reached")
	}
	return nil
}
