package commands

import (
	"container/list"
	"sync"
)

// cache keeps the folded states used last, within a number of streams and an estimate of their memory. Values are never
// changed, only replaced.
type cache struct {
	mu        sync.Mutex
	most      int
	mostBytes int
	bytes     int
	byName    map[string]*list.Element
	order     list.List // of *kept, the last used in front
}

type kept struct {
	stream string
	folded any // Folded[S]
	bytes  int
}

// keptBytes is what an entry takes besides its state: itself, its list element, its place in the map.
const keptBytes = 384

func (c *cache) get(stream string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byName[stream]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept).folded
}

// put keeps a state of about so many bytes.
func (c *cache) put(stream string, folded any, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes += keptBytes + len(stream)
	if e, ok := c.byName[stream]; ok {
		k := e.Value.(*kept)
		c.bytes += bytes - k.bytes
		k.folded, k.bytes = folded, bytes
		c.order.MoveToFront(e)
	} else {
		c.byName[stream] = c.order.PushFront(&kept{stream, folded, bytes})
		c.bytes += bytes
	}
	// The one just put stays, however large: it is in memory anyway, and its next command would fold it anew.
	for c.order.Len() > 1 && (c.order.Len() > c.most || c.bytes > c.mostBytes) {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	k := e.Value.(*kept)
	delete(c.byName, k.stream)
	c.order.Remove(e)
	c.bytes -= k.bytes
}

func (c *cache) drop(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[stream]; ok {
		c.remove(e)
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.byName)
	c.order.Init()
	c.bytes = 0
}
