// Package reactors is events in, commands out: what the salon does by itself when a time has come.
//
//	log ──▶ Timers (a projection: what is due, and when) ──▶ Firer ──▶ commands ──▶ log ──▶ the row is folded away
//
// [Timers] folds the log into one row per request that will expire and per visit that will be reminded of. It is a
// projection like any other: its position, fence, filling of holes, parking and rebuild are the engine's. A [Firer] reads
// the rows whose time has come and issues each one's command.
//
// What a caller relies on: the command precedes the position. A row leaves when the command's own event is folded, so
// whatever dies between the two, the row is still there and is fired again; the command ID derives from the event that
// made it due, so that again has no effect. Any number of firers may run, on any nodes, over a table that is late.
//
// What it refuses to do: decide. The command decides by the stream, at its own time; a row that is not true any more is
// refused there and changes nothing.
package reactors
