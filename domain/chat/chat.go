// Package chat decides what may happen in one room: who may post, in which order messages stand, how far a member
// has read.
//
// A Room and a ReadMark are plain values folded from their events. Pure, as all of domain: no clock, no I/O.
package chat
