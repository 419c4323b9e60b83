// Package esdb keeps the events in EventStoreDB 22.6 or later (before, reads of a stream did not tell positions).
//
// The server, or the namespace of one that is shared, belongs to this store: an event in it that another program wrote
// is damage, and stops whoever reads it. Positions are the server's commit positions, of which every event has its own:
// they ascend, with holes.
//
// # One effect for each command
//
// EventStoreDB has neither transactions over two streams nor a memory of commands for ever. An append is therefore two
// writes. The first claims the stream command-{id}: it notes there to which stream, behind which exact revision, how
// many events are about to be written. The second writes the events, at exactly that revision. A command is accepted
// when its events stand in the place that it claimed, and Command looks there; a claim alone means nothing. A command
// without events is accepted by its claim, if the stream's next event, should there be one by now, stands in the log
// behind the claim: then the stream ended where the claim says when it was made.
//
//	no claim ── claim ──▶ claimed ── its event is the next of the stream ──────▶ accepted, for ever
//	                         │ ────── another event is the next of the stream ─▶ dead: may be claimed again
//	                         │ ────── withdrawn by whoever was refused ────────▶ dead
//	                         └ ────── nothing follows yet ─────────────────────▶ perhaps in flight
//
// What a crash between the two writes leaves is the last of these. The repetition of the command finds the claim, and
// nothing behind the claimed revision: it claims again, behind the same revision, and writes its own events there. Should
// the first attempt's write still arrive, one of the two is refused by the server, looks at what stands there, finds its
// own command's event and answers that the command was accepted. Each record in a command's stream is written behind
// the last one that its writer knows, so two attempts cannot settle one command in two ways. A claim that stands in the
// way of a repetition which cannot use the same place (without events, or to another stream) makes it answer
// ErrOutcomeUnknown, until the claim is three time-outs old: nobody sends the second write later than one time-out after
// the first, and the server ends what it was sent with the time-out of the call.
//
// The event's own ID in EventStoreDB is made of our event ID and the content hash: the server accepts again what it has
// already only when it is the same in every byte, and never another content under the same command.
//
// # Time
//
// recorded_at is this process's clock, but never before anything that it has read or appended: within a stream it never
// goes back, since a revision that an append expects was learned here. Two appends at the same moment to two streams may
// stand in the other order. How far the clock is off the server's is measured when the store is opened, each minute and
// whenever the clock jumps, by writing a small event and reading it back; ages of decisions are told by the server's
// clock, and a process that is more than 5 s off appends nothing.
//
// # Loading
//
// A history from another store is put down as its own appends would have: a claim and its events for each command, in their
// order, with the times, hashes and IDs that they have, and with the positions that they had in a second version of the envelope.
// The stream salon-import says that this was begun, and that it was finished; a store in between is opened by who loads alone,
// and the load goes on (docs/decisions/0023).
//
// # The server away
//
// Reads and appends go to the leader. Each call runs under a watch: one that neither answers nor ends with its context
// (which the client's do, see client.go) is left behind, and the next call gets a new client. ErrUnavailable: nothing was
// done. ErrOutcomeUnknown: the second write left, and its answer was lost.
//
// # Restore
//
// The incarnation is written into the store when it is first opened. A backup carries it, hence a restored server is
// taken for the one that it was. Before anything opens a restored store, delete its stream salon-store (softly): the next
// start writes another incarnation.
package esdb
