package engine

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// group lets batches that write little into one database do so together, of whatever projection and partition they are:
// what a small batch costs is its transaction and the flush of it, not its rows. Whatever comes while one transaction
// runs shares the next. So a batch never waits for company, and the busier the database is, the fewer its transactions.
//
//	a batch comes ──▶ a flight is free ──▶ lead: commit all that wait ──▶ whoever waits by now leads next
//	                └▶ none is ──▶ wait ──▶ committed by its leader, or told to go alone
//
// Together or not at all: a transaction that fails is undone, and each of its batches is tried again alone, under its
// own context. So errors mean what they mean without a group, and what keeps failing goes alone until it does no more.
type group struct {
	mu      sync.Mutex
	busy    int // flights on their way
	waiting []*member
}

// member is a batch in a transaction.
type member struct {
	o   *sqlOwner
	b   *batch
	ctx context.Context

	turn chan bool // true: lead; false: it has been dealt with
	outcome
}

// outcome is what became of a member.
type outcome struct {
	alone bool  // nothing yet: it is to go alone
	lost  error // the answer to the commit was lost
	err   error // nothing was written
}

// flights is how many transactions are on their way at once: one folds and writes while another waits for its flush.
const flights = 2

// company is up to how many events a batch joins others. More pay for a transaction of their own, and those of several
// partitions are folded and written at the same time.
const company = 64

// joins tells whether a batch may share a transaction. One whose partition failed before, or that changes a parked key,
// goes alone.
func (b *batch) joins() bool { return !b.apart && b.change == nil && len(b.events) <= company }

// commit commits one batch, in company where there is some.
func (g *group) commit(m *member) outcome {
	m.turn = make(chan bool, 1)
	g.mu.Lock()
	lead := g.busy < flights
	if lead {
		g.busy++
	} else {
		g.waiting = append(g.waiting, m)
	}
	g.mu.Unlock()
	if !lead {
		lead = <-m.turn
	}
	if lead {
		g.lead(m)
	}
	return m.outcome
}

func (g *group) lead(m *member) {
	g.mu.Lock()
	others := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	together(append([]*member{m}, others...))
	for _, other := range others {
		other.turn <- false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) > 0 {
		next := g.waiting[0]
		g.waiting = g.waiting[1:]
		next.turn <- true
	} else {
		g.busy--
	}
}

// together commits the members in one transaction. It ends with the context of any of them: a partition that was lost
// must not wait for the others.
func together(members []*member) {
	ctx := members[0].ctx
	if len(members) > 1 {
		both, cancel := context.WithCancel(context.Background())
		defer cancel()
		for _, m := range members {
			defer context.AfterFunc(m.ctx, cancel)()
		}
		ctx = both
	}
	lost, err := commit(ctx, members)
	for _, m := range members {
		m.outcome = outcome{lost: lost, err: err, alone: err != nil && len(members) > 1}
	}
}

// commit writes batches of different partitions in one transaction. After err nothing was written; lost is an answer
// to the commit that did not come.
func commit(ctx context.Context, members []*member) (lost, err error) {
	tx, err := members[0].o.t.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.end()
	// In one order, for the locks.
	members = slices.SortedFunc(slices.Values(members), func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.o.t.p.ID(), b.o.t.p.ID()), cmp.Compare(a.o.topic, b.o.topic), cmp.Compare(a.o.part, b.o.part))
	})
	for from := 0; from < len(members) && err == nil; {
		first, through := members[from].o, from+1
		for through < len(members) && members[through].o.t == first.t && members[through].o.topic == first.topic {
			through++
		}
		err = first.t.fold(ctx, tx, members[from:through])
		from = through
	}
	if err != nil {
		tx.tx.Rollback() // 1205 ends only the statement: the transaction must never be used again
		for _, m := range members {
			m.o.unit = NewUnit()
		}
		return nil, err
	}
	return tx.tx.Commit(), nil
}
