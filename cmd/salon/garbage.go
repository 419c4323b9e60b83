package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
)

// How much garbage may gather before the collector runs, however little is in use: by itself it begins when there is as much
// garbage as there is in use, from 4 MiB on. Of a difference of 1,000 events, which makes 7 MiB of it, the slowest of a hundred took
// twice as long as the middle one by that, and of a verification it was a tenth. Beyond so much in use it is the runtime's own rule.
const (
	usualGarbage = 64 << 20
	bulkGarbage  = 256 << 20 // of a verb that goes through a history: all that it reads is garbage a moment later
)

var garbage struct {
	most  atomic.Uint64 // bytes; 0: the runtime's own rule
	watch sync.Once
}

// allowGarbage has the collector wait for so many bytes. Where GOGC is set, that holds instead.
func allowGarbage(bytes uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	garbage.most.Store(bytes)
	setPercent()
	garbage.watch.Do(afterNextCollection)
}

// afterNextCollection sets the percentage again after each collection: the object, which nobody has, does not outlive the next.
func afterNextCollection() {
	type object struct{ _ *byte } // what has no pointer may lie with others that are kept
	runtime.AddCleanup(&object{}, func(struct{}) {
		setPercent()
		afterNextCollection()
	}, struct{}{})
}

// setPercent works out the percentage that the bytes are of what is in use.
func setPercent() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	used := max(live[0].Value.Uint64(), 1<<20)
	debug.SetGCPercent(int(max(100, 100*garbage.most.Load()/used))) //nolint:gosec // at most 25,600
}

// inBulk allows a verb that goes through a history more garbage, until the function that it answers is called.
func inBulk() (end func()) {
	before := garbage.most.Load()
	allowGarbage(bulkGarbage)
	return func() { allowGarbage(before) }
}
