// Package commands is the write side: one file per command, each with its request, its HTTP operation and the call to
// [Execute].
//
// What a caller of Execute relies on:
//
//   - An answer without an error means that the command is on disk, once. The same command ID is answered from what was
//     stored, for ever, from any node, also when the first answer was lost (G1).
//   - A decision counts only against the revision it read: an accepted one because the append verifies it; a refusal, or
//     a success without events, because the stream was read on just before.
//   - A refusal records nothing.
//   - What it costs does not grow with its stream: one append and no read while the folded state is kept in memory, which
//     is bounded in streams and bytes; after a restart, the stream's snapshot and at most a few hundred events more.
//     Snapshots are a cache: one of another fold, another history or other bytes is passed over.
//
// What it refuses to do: trust a read model (it never imports one), remember refusals, retry for ever, or see a
// personal text: those are sealed before a decision and opened in the HTTP answer alone.
package commands
