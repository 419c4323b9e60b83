package engine

import (
	"encoding/json"
	"fmt"
	"time"
)

// writing is the part of a script that writes rows. From an index in ARGV on it finds for each of KEYS[3..]: the hash's
// name in the index, how many fields to set, how many to delete, the fields and values, the fields. The index, KEYS[2],
// counts what HSET and HDEL say that they have changed; a hash without a name, which others write too, is not counted.
// Many fields go in several calls, since Lua's unpack has a limit; many counts in one, since each call costs.
const writing = `
local function counted(at)
  local names, counts = {}, {}
  for k = 3, #KEYS do
    names[k - 2] = ARGV[at]
    at = at + 3 + 2 * tonumber(ARGV[at + 1]) + tonumber(ARGV[at + 2])
  end
  for i = 1, #names, 100 do
    local some = redis.call('HMGET', KEYS[2], unpack(names, i, math.min(i + 99, #names)))
    for j = 1, #some do
      counts[i + j + 1] = names[i + j - 1] ~= '' and tonumber(some[j] or 0)
    end
  end
  return counts
end
local function write(at, counts)
  local puts, drops = {}, {}
  for k = 3, #KEYS do
    local name, sets, dels, rows = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), counts[k] or 0
    at = at + 3
    while sets > 0 do
      local n = math.min(sets, 100)
      rows = rows + redis.call('HSET', KEYS[k], unpack(ARGV, at, at + 2 * n - 1))
      at, sets = at + 2 * n, sets - n
    end
    while dels > 0 do
      local n = math.min(dels, 100)
      rows = rows - redis.call('HDEL', KEYS[k], unpack(ARGV, at, at + n - 1))
      at, dels = at + n, dels - n
    end
    if counts[k] and rows ~= counts[k] then
      if rows > 0 then
        puts[#puts + 1] = name
        puts[#puts + 1] = rows
      else
        drops[#drops + 1] = name
      end
    end
  end
  for i = 1, #puts, 200 do redis.call('HSET', KEYS[2], unpack(puts, i, math.min(i + 199, #puts))) end
  for i = 1, #drops, 100 do redis.call('HDEL', KEYS[2], unpack(drops, i, math.min(i + 99, #drops))) end
end
`

func micros(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMicro()
}

// writes gathers what becomes of hashes, in the order in which they were first named.
type writes struct {
	keys  redisKeys
	order []*hashWrites
	of    map[string]*hashWrites
	bytes int
	rows  int
}

type hashWrites struct {
	of         *writes
	name       string
	sets, dels []any
}

func (w *writes) hash(d *Def, ordering string) *hashWrites { return w.named(w.keys.name(d, ordering)) }

func (w *writes) named(name string) *hashWrites {
	h := w.of[name]
	if h == nil {
		h = &hashWrites{of: w, name: name}
		if w.of == nil {
			w.of = map[string]*hashWrites{}
		}
		w.of[name] = h
		w.order = append(w.order, h)
	}
	return h
}

func (h *hashWrites) set(d *Def, key string, row any) error {
	text, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encode %s: %w", d.Base, err)
	}
	h.put(key, text)
	return nil
}

func (h *hashWrites) put(key string, text []byte) {
	h.sets = append(h.sets, key, text)
	h.of.bytes += len(key) + len(text)
	h.of.rows++
}

// script spells KEYS and ARGV for writing, after what else the script needs.
func (w *writes) script(head ...any) (keys []string, args []any) {
	keys, args = []string{w.keys.offset(), w.keys.index()}, head
	for _, h := range w.order {
		keys = append(keys, w.keys.tag()+h.name)
		args = append(append(append(args, h.name, len(h.sets)/2, len(h.dels)), h.sets...), h.dels...)
	}
	return keys, args
}
