package faulttest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// The events. The projection does not use ignored, and skips it by its name.
type (
	added   struct{ N int64 }
	spoiled struct{ N int64 } // cannot be folded until it is mended, and is like added then
	ignored struct{}
)

func (added) EventType() string   { return "test.added.v1" }
func (spoiled) EventType() string { return "test.spoiled.v1" }
func (ignored) EventType() string { return "test.ignored.v1" }

func catalog() []domain.Event { return []domain.Event{added{}, spoiled{}, ignored{}} }

// mended is the folder of the files that mend spoiled events, named by their N: what another release does to a fold.
var mended string

// amount is what an event adds.
func amount(e domain.Event) (int64, error) {
	switch e := e.(type) {
	case added:
		return e.N, nil
	case spoiled:
		if _, err := os.Stat(filepath.Join(mended, strconv.FormatInt(e.N, 10))); err != nil {
			return 0, errors.New("spoiled")
		}
		return e.N, nil
	}
	return 0, fmt.Errorf("an event that adds nothing: %T", e)
}

const (
	partitions = 6
	keys       = 40
)

// counter is the row of one key. An event left out, applied twice or out of its turn changes it for ever.
type counter struct {
	Key   string `db:"key,pk"`
	Count int64  `db:"count"`
	Sum   int64  `db:"sum"`
	Order string `db:"order_hash,text"` // of all positions of the key, in the order of arrival
}

func (c counter) add(key string, position uint64, n int64) counter {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%d", c.Order, position))
	return counter{Key: key, Count: c.Count + 1, Sum: c.Sum + n, Order: hex.EncodeToString(sum[:8])}
}

// The targets by name. The view's rows are those that MySQL has.
const (
	intoMySQL   = "mysql"
	intoBeside  = "beside" // in the same MySQL database: small batches of both are committed together
	intoMariaDB = "mariadb"
	intoRedis   = "redis"
)

func targets() []string { return []string{intoMySQL, intoBeside, intoMariaDB, intoRedis} }

// counters is the projection into one of the targets. Each has a name of its own, hence a consumer group.
func counters(into string) (engine.Projection, *engine.Table[counter]) {
	base := "faults_" + into
	if into == intoRedis {
		base = "faults_" + intoMySQL // a view has the tables that it is filled from
	}
	table := engine.NewTable[counter](base)
	p := engine.Projection{
		Name: "faults_" + into, Version: 1, Topics: []string{wire.BookingTopic}, Types: []domain.Event{added{}, spoiled{}}, Tables: []engine.AnyTable{table},
		Keys: func(e engine.Event) []engine.Ref { return []engine.Ref{table.Ref(e.Key)} },
		Fold: func(u *engine.Unit, e engine.Event) error {
			row, _, err := table.Get(u, e.Key)
			if err != nil {
				return err
			}
			n, err := amount(e.Event)
			if err != nil {
				return err
			}
			table.Put(u, row.add(e.Key, e.Position, n))
			return nil
		},
	}
	if into == intoRedis {
		p.Target, p.Behind = engine.Redis, "faults_"+intoMySQL
	}
	return p, table
}
