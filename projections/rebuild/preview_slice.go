package rebuild

import (
	"strings"

	"github.com/dangdangsalon/salon/eventstore"
)

// beginning tells whether the events of a key in a slice are all that there are of it, up to the slice's end.
type beginning struct {
	ends map[string]eventstore.Revision // of the key's streams
	cut  bool
}

// lacks takes the key's next event, and reports whether one before it is missing: of its stream, or of the key. A key begins
// with the first event of the stream that has its name; a chat's read marks, in streams of their own, come behind that.
func (b *beginning) lacks(e eventstore.Recorded) bool {
	end, known := b.ends[e.Stream]
	if !known {
		end = eventstore.NoStream
	}
	own := strings.HasSuffix(e.Stream, "-"+strings.ReplaceAll(e.Key, ":", "-"))
	if b.cut = b.cut || e.Revision != end+1 || b.ends == nil && !own; b.cut {
		return true
	}
	if b.ends == nil {
		b.ends = map[string]eventstore.Revision{}
	}
	b.ends[e.Stream] = e.Revision
	return false
}
