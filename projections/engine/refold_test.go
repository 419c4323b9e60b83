package engine

import (
	"errors"
	"testing"
	"time"
)

func TestAPartitionThatWasBorrowedIsClaimedAnewAtOnce(t *testing.T) {
	t.Parallel()
	r := &Runner{FencedWait: time.Hour}
	twice := borrow(borrow("ours"))
	if err := fenced("ours", twice); errors.Is(err, ErrFenced) || r.backoff(1, err) >= time.Second {
		t.Errorf("after the rows of two keys: %v, claimed after %v", err, r.backoff(1, err))
	}
	for _, now := range []string{"theirs", borrow("theirs"), "ours"} { // the last with another epoch
		if err := fenced("ours", now); r.backoff(1, err) != time.Hour {
			t.Errorf("%q: %v, claimed after %v", now, err, r.backoff(1, err))
		}
	}
}
