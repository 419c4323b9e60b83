// Package audit shows the past from the event store: what a stream's state or a read model's rows were at a moment, what
// changed between two, by which event, command and person.
//
// It folds by the very functions that decide and project, so an answer is what was decided by, or what the screen showed,
// then, as this release folds it; nothing is read from the read models. A moment is a place in the store's one order: a
// time means the last event recorded at or before it, and each answer names the position through which it was folded.
// So the same question has the same answer for ever, but for personal texts that were erased since.
//
// A fold that cannot go on, at an event of a type that the catalogue lacks, or one that the fold refuses, ends there, as a
// reader's would: the answer is of the events before it and names it. What it cannot know it refuses by name (a
// [domain.Refusal]); it never answers something empty instead.
//
// Each call is recorded before it is answered, see [Desk].
package audit
