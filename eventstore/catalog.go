package eventstore

import (
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/inbox"
)

//go:generate go test . -run "TestEventsDocument|TestFixturesNeverChange" -update

// Catalog is the codec of every event type there is: what a package of domain adds to its own Catalog is known to the
// writers, the readers, docs/events.md and the fixtures by that alone.
func Catalog() *Codec {
	return NewCodec(groomer.Catalog(), chat.Catalog(), inbox.Catalog(), admin.Catalog()).Upcasting(upcasts()...)
}
