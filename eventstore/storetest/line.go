package storetest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dangdangsalon/salon/eventstore"
)

// line is what a stream is, in the simplest words: the accepted commands in order, as "command:events ". It is a string
// so that two of them can be compared and none be changed.
type line string

// step tells whether a stream that is like this could have answered so, and what it is like then.
func step(state, input, output any) (bool, any) {
	l, q, r := state.(line), input.(question), output.(reply)
	revision, last, known := l.find(q.command)
	switch q.asks {
	case reads:
		return r.seen == l.seen(), l
	case looksUp:
		return known == (r.outcome == done) && (!known || r.last == last), l
	}
	expected := q.expected == eventstore.AnyRevision || q.expected == revision
	switch r.outcome {
	case duplicate:
		return known && r.last == last, l
	case conflict:
		return !known && !expected && r.last == revision, l
	default:
		l += line(fmt.Sprintf("%d:%d ", q.command, q.events))
		return !known && expected && r.last == revision+eventstore.Revision(q.events), l
	}
}

// each goes over the accepted commands.
func (l line) each(do func(command, events int)) {
	for entry := range strings.FieldsSeq(string(l)) {
		command, events, _ := strings.Cut(entry, ":") // written by step
		c, _ := strconv.Atoi(command)
		n, _ := strconv.Atoi(events)
		do(c, n)
	}
}

// find is the stream's revision, and that at which a command ended.
func (l line) find(command int) (revision, last eventstore.Revision, known bool) {
	revision = eventstore.NoStream
	l.each(func(c, events int) {
		revision += eventstore.Revision(events)
		if c == command {
			last, known = revision, true
		}
	})
	return revision, last, known
}

// seen is what a read shows: each event's command.
func (l line) seen() string {
	var b strings.Builder
	l.each(func(command, events int) {
		b.WriteString(strings.Repeat(fmt.Sprintf("%d ", command), events))
	})
	return b.String()
}
