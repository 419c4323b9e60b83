package engine

import (
	"path/filepath"
	"testing"
)

func sqliteURL(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") }

func TestRowsAreTheFoldOfTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	p, table := counters()
	seen := newProgress()
	w.log.addMany(50, 2000)
	w.start(w.relay().Run)
	w.start(w.runner(p, seen).Run)
	seen.wait(t, w.log.last(w.partitions))
	w.log.addMany(50, 2000)
	seen.wait(t, w.log.last(w.partitions))
	w.equal(table)
}
