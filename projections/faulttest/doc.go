// Package faulttest hurts a running system and looks whether a projection has lost, doubled or swapped an event (G3–G6).
//
// Everything is real and everything can be hurt: writers, relays and projectors are processes of their own, which are
// killed, frozen and cut off; PostgreSQL, MariaDB, MySQL, Redis and three Kafka brokers are servers of the test's own,
// which are killed, slowed, failed over and robbed of what they knew. The projection is one that forgives nothing: it
// counts, adds up, and hashes what it has seen in the order in which it saw it. The oracle folds the store by a loop of
// its own and compares every row with the fold at the row's own position, while the system runs.
//
// What is hurt when follows from a seed, which is printed. `make test-faults` is the short form, SALON_TEST_FAULTS=1000
// the long one; what that has counted so far is kept in .run/faults.jsonl, so that it may take several runs.
package faulttest
