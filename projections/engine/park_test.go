package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
)

// The whole life of a parked key: its later events wait, a retry in vain changes nothing, a restart neither; once mended
// it drains in order, exactly once, while new events of it come in. Everyone else goes on all the time.
func TestAPoisonEventParksItsKeyAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, how := range []string{refused, panicking, nameless, undecodable, tooLong} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			labs(t, func(t *testing.T, l *lab) {
				if how == tooLong {
					if l.redis != nil {
						return // Redis takes any text
					}
					l.limitLabels()
				}
				const key = "salon-3"
				l.log.addMany(20, 400)
				at := map[string]uint64{key: l.poison(key, how)}
				l.log.addMany(20, 400)
				l.start(l.relay().Run)
				r := l.runner()
				stop := l.start(r.Run)
				l.seen.wait(t, l.log.last(l.partitions))
				l.expect(at)
				list := l.list()
				if len(list) != 1 || list[0].Key != key || list[0].FromPos != at[key] || list[0].EventType != (tricky{}).EventType() || list[0].Attempts != 1 ||
					list[0].Part != partitionOf(key, l.partitions) || list[0].Cause == "" || strings.Contains(list[0].Cause, key) {
					t.Fatalf("parked: %+v", list)
				}
				if stack := strings.Contains(list[0].Detail, "park_kit_test.go"); stack != (how == panicking || how == nameless) {
					t.Errorf("detail: %s", list[0].Detail)
				}
				for _, s := range r.Status() {
					if s.Error != "" || s.Lag() != 0 || s.Parked != map[bool]int{true: 1}[s.Part == list[0].Part] {
						t.Errorf("status %+v", s)
					}
				}

				// In vain.
				if found, err := l.parking().Retry(t.Context(), l.p, "salon-4"); found || err != nil {
					t.Fatalf("a key that is not parked: %v, %v", found, err)
				}
				if found, err := l.parking().Retry(t.Context(), l.p, key); !found || err != nil {
					t.Fatalf("retry: %v, %v", found, err)
				}
				eventually(t, func() (bool, bool) {
					list := l.list()
					return true, len(list) == 1 && list[0].Attempts == 2 && list[0].RetryAt.IsZero()
				})
				l.expect(at)

				// A restart.
				stop()
				l.start(l.runner().Run)
				l.log.addMany(20, 400)
				l.seen.wait(t, l.log.last(l.partitions))
				l.expect(at)

				// Mended, while the key goes on.
				l.mend()
				if n, err := l.parking().RetryByCause(t.Context(), l.p, list[0].Cause); n != 1 || err != nil {
					t.Fatalf("retry by cause: %d, %v", n, err)
				}
				eventually(t, func() (bool, bool) { l.log.addMany(20, 20); return true, len(l.list()) == 0 })
				l.log.addMany(20, 100)
				l.seen.wait(t, l.log.last(l.partitions))
				l.expect(nil)
			})
		})
	}
}

// The owner dies, or is replaced, in the middle of a drain of many portions, again and again.
func TestADrainThatIsCutGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	labs(t, func(t *testing.T, l *lab) {
		const key = "salon-0"
		l.log.addMany(7, 300)
		at := l.poison(key, refused)
		l.log.addMany(3, 6000)
		l.start(l.relay().Run)
		stop := l.start(l.runner().Run)
		l.seen.wait(t, l.log.last(l.partitions))
		l.expect(map[string]uint64{key: at})
		stop()
		l.mend()
		if found, err := l.parking().Retry(t.Context(), l.p, key); !found || err != nil {
			t.Fatal(found, err)
		}
		part, cuts := partitionOf(key, l.partitions), 0
		for i := 0; len(l.list()) > 0; i++ {
			if i == 50 {
				t.Fatal("the key does not move on")
			}
			r, n, cut := l.runner(), atomic.Int64{}, make(chan struct{})
			from := l.list()[0].FromPos
			var others sync.WaitGroup
			hook := func(e Event) {
				if e.Key != key {
					return
				}
				if e.Position < from {
					t.Errorf("event %d was folded again: the key waits from %d on", e.Position, from)
				}
				if n.Add(1) == int64(37+i*173%(3*fillEvents)) { // somewhere in the first, second or third portion
					cuts++
					if i%2 == 0 {
						r.lose()
					} else {
						l.takeOver(part, &others)
					}
					close(cut)
				}
			}
			l.hook.Store(&hook)
			stop := l.start(r.Run)
			eventually(t, func() (bool, bool) {
				select {
				case <-cut:
					return true, true
				default:
					return true, len(l.list()) == 0
				}
			})
			stop()
			others.Wait()
		}
		l.hook.Store(nil)
		l.start(l.runner().Run)
		l.log.addMany(7, 70)
		l.seen.wait(t, l.log.last(l.partitions))
		l.expect(nil)
		if cuts < 2 {
			t.Errorf("%d cuts: the test shows nothing", cuts)
		}
	})
}

// takeOver claims a partition as another process would, from inside a fold of its owner.
func (l *lab) takeOver(part int32, wg *sync.WaitGroup) {
	claim := func(tg target) {
		if _, err := tg.claim(context.Background(), l.p.Topics[0], part, 0); err != nil {
			l.t.Error(err)
		}
	}
	if l.redis != nil {
		claim(newRedisTarget(l.redis, l.p, 0))
		return
	}
	wg.Go(func() { claim(newSQLTarget(l.db, l.p, 0)) }) // the owner holds the row, or the connection, until it commits
}

// One cause over many keys stops the partition instead, which goes on once it is mended.
func TestManyPoisonedKeysStopThePartition(t *testing.T) {
	t.Parallel()
	for limit, set := range map[string]func(*Runner){
		"ParkPerMinute": func(r *Runner) { r.ParkPerMinute = 3 },
		"ParkAtMost":    func(r *Runner) { r.ParkAtMost = 3 },
	} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			labs(t, func(t *testing.T, l *lab) {
				l.log.addMany(60, 600)
				part, poisoned := partitionOf("salon-0", l.partitions), 0
				for i := range 60 {
					if key := fmt.Sprintf("salon-%d", i); partitionOf(key, l.partitions) == part && poisoned < 6 {
						l.poison(key, refused)
						poisoned++
					}
				}
				l.log.addMany(60, 600)
				l.start(l.relay().Run)
				r := l.runner()
				set(r)
				stop := l.start(r.Run)
				others := l.log.last(l.partitions)
				delete(others, part)
				l.seen.wait(t, others)
				stopped := func(s PartitionStatus) bool { return s.Part == part && strings.Contains(s.Error, limit) }
				status := eventually(t, func() (PartitionStatus, bool) {
					i := slices.IndexFunc(r.Status(), stopped)
					if i < 0 {
						return PartitionStatus{}, false
					}
					return r.Status()[i], true
				})
				if status.Parked != 3 || !strings.Contains(status.Error, "refused") || !strings.Contains(status.Error, "salon projections retry") {
					t.Errorf("%+v", status)
				}
				if n := len(l.list()); n != 3 {
					t.Errorf("%d keys are parked", n)
				}
				stop()
				r = l.runner()
				set(r)
				l.start(r.Run)
				eventually(t, func() (bool, bool) { return true, slices.ContainsFunc(r.Status(), stopped) })
				l.mend()
				l.seen.wait(t, l.log.last(l.partitions))
				if n, err := l.parking().RetryByCause(t.Context(), l.p, l.list()[0].Cause); n != 3 || err != nil {
					t.Fatalf("retry by cause: %d, %v", n, err)
				}
				eventually(t, func() (bool, bool) { return true, len(l.list()) == 0 })
				l.expect(nil)
			})
		})
	}
}

// What is poison may also come out of the store, when a hole of the log is filled.
func TestPoisonInAHoleOfTheLogParksItsKeyAlone(t *testing.T) {
	t.Parallel()
	for _, how := range []string{refused, undecodable} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			labs(t, func(t *testing.T, l *lab) {
				l.partitions, l.prefix = 1, "one."
				l.topics()
				l.log.addMany(10, 400)
				at := map[string]uint64{"salon-3": l.poison("salon-3", how)}
				l.log.addMany(10, 300)
				at["salon-5"] = l.poison("salon-5", how) // the record after the hole
				l.log.addMany(10, 100)
				records := l.log.records(0, 1)
				l.write(l.p.Topics[0], append(records[:100:100], records[701:]...))
				l.start(l.runner().Run)
				l.seen.wait(t, l.log.last(1))
				l.expect(at)
				l.mend()
				for key := range at {
					if found, err := l.parking().Retry(t.Context(), l.p, key); !found || err != nil {
						t.Fatal(found, err)
					}
				}
				eventually(t, func() (bool, bool) { return true, len(l.list()) == 0 })
				l.expect(nil)
			})
		})
	}
}

// A key that is longer than the columns for it, though the store took it.
func TestAKeyTooLongForTheColumnsIsParked(t *testing.T) {
	t.Parallel()
	for name, url := range databases(t) {
		if name == "sqlite" {
			continue // has no limit
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, newWorld(t, url(t)), nil)
			key := strings.Repeat("k", eventstore.MaxNameBytes-len("groomer-"))
			l.log.addMany(20, 200)
			at := map[string]uint64{key: l.log.add(key, added{}.EventType(), added{1})}
			l.log.addMany(20, 200)
			l.start(l.relay().Run)
			l.start(l.runner().Run)
			l.seen.wait(t, l.log.last(l.partitions))
			l.expect(at)
			if got := l.waiting(); !maps.Equal(got, at) {
				t.Errorf("parked %v", got)
			}
		})
	}
}

// A store that is not the one that parked the key has nothing for it.
func TestAStoreThatLacksTheParkedEventUnparksNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, newWorld(t, sqliteURL(t)), nil)
	l.log.addMany(5, 50)
	at := map[string]uint64{"salon-3": l.poison("salon-3", refused)}
	l.log.addMany(5, 50)
	l.start(l.relay().Run)
	r := l.runner()
	restored := newLog()
	restored.addMany(5, 200)
	r.Store = restored
	l.start(r.Run)
	l.seen.wait(t, l.log.last(l.partitions))
	l.mended.Store(true)
	if found, err := l.parking().Retry(t.Context(), l.p, "salon-3"); !found || err != nil {
		t.Fatal(found, err)
	}
	eventually(t, func() (bool, bool) {
		list := l.list()
		return true, len(list) == 1 && list[0].Attempts == 2 && strings.Contains(list[0].Cause, "does not have the event")
	})
	l.expect(at)
}

func TestWhatIsKeptOfAnError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		err   error
		cause string
	}{
		{"the root of a chain", &foldError{fmt.Errorf("fold at position 5: %w", errors.New("spoiled"))}, "t: spoiled"},
		{"one line of a panic", &foldError{errors.New("panic: nil map\ngoroutine 7")}, "t: panic: nil map"},
		{"without what it quotes", errors.New(`parsing "콩이 \" 010-1234" as '값' for column 'note'`), "t: parsing … as … for column 'note'"},
		{"as long as the column", errors.New(strings.Repeat("댕", 400)), "t: " + strings.Repeat("댕", maxCause-4) + "…"},
		{"as text", errors.New("a\x00b\xff"), "t: a\uFFFDb\uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if cause, _ := describe("t", c.err); cause != c.cause {
				t.Errorf("got %q, want %q", cause, c.cause)
			}
		})
	}
	if _, detail := describe("t", errors.New(strings.Repeat("댕", maxDetail))); len(detail) > maxDetail || !strings.HasPrefix(detail, "댕") {
		t.Errorf("%d bytes of detail", len(detail))
	}
}
