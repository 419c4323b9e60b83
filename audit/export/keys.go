package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/dangdangsalon/salon/eventstore"
)

// personKey is a line of a file of persons' keys.
type personKey struct {
	Subject string `json:"subject"`
	KeyID   string `json:"key_id"`
	Wrapped []byte `json:"wrapped"`
}

// WriteKeys writes every person's wrapped key to a new file that its owner alone may read, and answers how many there are.
// With the master key it opens all personal fields of an export, also of who is erased later: it is for a move, to be thrown
// away behind it.
func WriteKeys(path string, keys iter.Seq2[eventstore.PersonKey, error]) (n int, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return 0, fmt.Errorf("%s %w", path, ErrThere)
	}
	if err != nil {
		return 0, err
	}
	var lines bytes.Buffer
	e := json.NewEncoder(&lines)
	for k, err := range keys {
		if err == nil {
			err = e.Encode(personKey(k))
		}
		if err != nil {
			return n, errors.Join(err, f.Close(), os.Remove(path))
		}
		n++
	}
	_, err = f.Write(lines.Bytes())
	return n, errors.Join(err, f.Sync(), f.Close())
}

// AddKeys gives a store the keys of a file. It may be done again; a person who has another key there is an error.
func AddKeys(ctx context.Context, path string, into eventstore.Store) (n int, err error) {
	keys := lines(path, func(line []byte) (k personKey, err error) { return k, json.Unmarshal(line, &k) })
	for k, err := range keys {
		if err != nil {
			return n, err
		}
		id, wrapped, err := into.AddPersonKey(ctx, k.Subject, k.KeyID, k.Wrapped)
		if err != nil {
			return n, err
		}
		if id != k.KeyID || !bytes.Equal(wrapped, k.Wrapped) {
			return n, fmt.Errorf("%s, line %d: the person has another key in this store already", path, n+1)
		}
		n++
	}
	return n, nil
}
