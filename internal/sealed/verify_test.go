package sealed

import (
	"bytes"
	"errors"
	"testing"
)

func TestAnotherMasterKeyIsRefusedBeforeItWrapsAnything(t *testing.T) {
	t.Parallel()
	store := &keyTable{keys: map[keyName][]byte{}}
	master, other := bytes.Repeat([]byte{1}, MasterBytes), bytes.Repeat([]byte{2}, MasterBytes)
	for _, c := range []struct {
		master []byte
		want   error
	}{{master, nil}, {master, nil}, {other, ErrWrongMaster}} {
		k, err := New(store, c.master)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Verify(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("verify: %v, want %v", err, c.want)
		}
	}
}
