// Package seal makes a changed history show: seals over blocks of events and commands, each signed and chained to the one
// before, made beside the write path; their verification, which names the first event that is not what was sealed; and
// proofs that one event stands in a sealed block.
//
// A block is the next events of the store in their order, at least one, at most [MostEvents], with the commands they are of
// and the commands without events that were accepted meanwhile. Two Merkle trees are made of it, hashed as in RFC 6962
// section 2.1 (golang.org/x/mod/sumdb/tlog): of the events' content hashes, and of the commands' hashes
// (eventstore.CommandHash), first of the events' commands in their order, then of the others. Positions are not hashed:
// the order of the leaves is the order of the events, and an import elsewhere keeps every seal.
//
// A seal is a signed note (golang.org/x/mod/sumdb/note, Ed25519) whose text is one line, the JSON of [Body]. Beside it the
// store keeps an outline, eight bytes of each leaf, of which the note has the hash: a root tells that a block is not what
// was sealed, the outline tells which event is not.
//
// What it cannot do: tell what happened to events that are not sealed yet, beyond what they say of themselves (hash,
// revision, position); or stop whoever holds the key from signing another history. Against that, the head of each seal also
// goes elsewhere, see [Head]. An erased request hash (eventstore.ErasedRequestHash) verifies, whoever put it there.
// A row among the commands that no event is of is found in a store (eventstore.Strays), sealed or not, but where it was also
// given a number among the commands without events, that no seal covers yet.
package seal
