// Package storetest holds every event store to the contract of package eventstore.
//
// Run is the conformance suite: what it checks is what a store promises, and the tests of this package show that it
// catches stores which break a promise (positions drawn before the commit, forgotten commands, a lost tail, …).
package storetest
