// Package rebuild builds versions of projections from the event store, proves them, and points reads at them (G7).
//
// Whatever is asked is a run: a row that any node writes and every node may follow. Those that take long (rebuild, verify,
// drop) are carried out by a [Worker], of which every projector process has one; what takes a moment (switch, rollback, pause,
// resume) is done by whoever is asked.
//
//	asked ──▶ running ──▶ done | failed | cancelled
//
//	rebuild:  preparing ──▶ loading ──▶ indexing ──▶ catching_up ──▶ filling      what of it is done stands in the database,
//	            │             │                          │             │         so any worker goes on where another one died
//	   log ends, then     passes over slices,     the engine,      views in
//	   the store's head   each with its rows      past the head    Redis
//
// What a caller relies on: a projection has one unfinished run, and each live version
// one that only looks at it, or mends a key, beside that; a worker that was replaced writes nothing, since every
// transaction begins with the lease; a version that serves is never touched; a run that is cancelled, or fails, leaves
// nothing behind; the pointer moves to a version that was verified and keeps up, or with a reason that is kept.
//
// It folds with the engine's own unit of work, and runs no side effects: a process manager's rows may be rebuilt as any
// others, its commands are the reactor's.
package rebuild
