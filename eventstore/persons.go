package eventstore

import (
	"context"
	"iter"
)

// Persons is what a store offers, beside the contract, to those who erase people and those who rotate the master key.
// All three stores do.
type Persons interface {
	// ErasePerson deletes a person's key, for good, and puts [ErasedRequestHash] in the place of the request hashes of the
	// commands that the person gave: all of that, or nothing. Of a person without a key it does the second alone; again, it
	// does nothing. EventStoreDB changes no event: there the hashes stay, under a key that is gone.
	ErasePerson(ctx context.Context, subject string) error
	// PersonKeys yields every person's key. One that is added or erased meanwhile may be among them.
	PersonKeys(ctx context.Context) iter.Seq2[PersonKey, error]
	// RewrapPersonKey puts the same key, wrapped otherwise, in its place, if it still stands wrapped as it was; done is false
	// when it does not.
	RewrapPersonKey(ctx context.Context, was PersonKey, wrapped []byte) (done bool, err error)
}

// PersonKey is a person's key as a store keeps it.
type PersonKey struct {
	Subject string
	KeyID   string
	Wrapped []byte
}
