package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Erasure is a line of the ledger of erasures: whose key was deleted, which, and when that was asked.
type Erasure struct {
	Subject string    `json:"subject"`
	KeyID   string    `json:"key_id"`
	AskedAt time.Time `json:"asked_at"`
	AskedBy string    `json:"asked_by"`
}

// Erasures is the ledger of erasures: a file of JSON lines, only ever added to, that is kept apart from the store's backups.
// A backup has the keys that were deleted after it was made; the ledger says which they are, so that a store which was
// restored from one can be told, see [Owed].
type Erasures struct{ Path string }

// Add writes a line down for good: it is on disk when Add returns.
func (l Erasures) Add(e Erasure) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("ledger of erasures: %w", err)
	}
	f, err := os.OpenFile(l.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("ledger of erasures: %w", err)
	}
	line = append(line, '\n')
	// The line of somebody who died in the middle of writing it ends here, and is none.
	last := make([]byte, 1)
	if size, err := f.Seek(0, io.SeekEnd); err == nil && size > 0 {
		if _, err := f.ReadAt(last, size-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncFolder(filepath.Dir(l.Path))
	}
	if err != nil {
		return fmt.Errorf("ledger of erasures: %w", err)
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// All reads the ledger; one that is not there is empty. Half a line is none: its erasure was not begun. A whole line that
// cannot be read is an error: somebody's erasure would be forgotten.
func (l Erasures) All() (all []Erasure, err error) {
	b, err := os.ReadFile(l.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger of erasures: %w", err)
	}
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if !bytes.HasSuffix(line, []byte("}")) {
			continue
		}
		var e Erasure
		if err := json.Unmarshal(line, &e); err != nil || e.Subject == "" || e.KeyID == "" {
			return nil, fmt.Errorf("ledger of erasures: line %q is damaged: restore it, or remove it when it is nobody's", line)
		}
		all = append(all, e)
	}
	return all, nil
}

// Over are the texts as they will be when the ledger is applied: of a store that was restored, and that no node has served
// from yet, those of erased people would open.
func (l Erasures) Over(t Texts) (Texts, error) {
	all, err := l.All()
	if err != nil {
		return nil, err
	}
	gone := map[[2]string]bool{}
	for _, e := range all {
		gone[[2]string{e.Subject, e.KeyID}] = true
	}
	return withoutErased{t, gone}, nil
}

type withoutErased struct {
	Texts
	gone map[[2]string]bool // by subject and key ID
}

func (t withoutErased) Open(ctx context.Context, s domain.Sealed) (plain string, erased bool, err error) {
	if t.gone[[2]string{s.Subject, s.KeyID}] {
		return "", true, nil
	}
	return t.Texts.Open(ctx, s)
}

// Erase deletes a person's key, which makes every text of theirs unreadable wherever it is kept, and what their requests
// could be compared with. The ledger has it first: who dies in between has it done by [Apply]. had is false when there was
// no key; then what requests could be compared with goes all the same.
func Erase(ctx context.Context, store interface {
	eventstore.Store
	eventstore.Persons
}, l Erasures, subject, by string,
) (had bool, err error) {
	id, _, had, err := store.PersonKey(ctx, subject)
	if err != nil {
		return false, err
	}
	if had {
		if err := l.Add(Erasure{subject, id, time.Now().UTC().Truncate(time.Microsecond), by}); err != nil {
			return false, err
		}
	}
	return had, store.ErasePerson(ctx, subject)
}

// Owed lists the erasures whose key a store has: it was restored from a backup of before them, or who erased died before it
// was done. Nobody should be served before they are applied.
func Owed(ctx context.Context, store eventstore.Store, all []Erasure) (owed []Erasure, err error) {
	for _, e := range all {
		_, found, err := store.PersonKeyByID(ctx, e.Subject, e.KeyID)
		if err != nil {
			return nil, err
		}
		if found {
			owed = append(owed, e)
		}
	}
	return owed, nil
}

// Apply deletes the keys that are owed.
func Apply(ctx context.Context, store eventstore.Persons, owed []Erasure) error {
	for _, e := range owed {
		if err := store.ErasePerson(ctx, e.Subject); err != nil {
			return err
		}
	}
	return nil
}
