// Package storetest holds every event store to the contract of package eventstore.
//
// Run is the conformance suite: what it checks is what a store promises. Each check answers an error rather than
// failing a test, so that the tests of this package can show it failing: a store that draws positions before it
// commits, forgets commands or loses a follower's event is caught by the check that names the promise.
package storetest
