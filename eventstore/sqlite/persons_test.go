package sqlite_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
)

// Whoever has the files, and the master key, has nothing of an erased person: not in pages that are free, nor in the log.
func TestNoFileHasAnErasedKey(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s := openAt(t, path)
	key := bytes.Repeat([]byte("wrapped! "), 7)
	has := func() (found []string) {
		t.Helper()
		files, err := filepath.Glob(path + "*")
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, key) {
				found = append(found, filepath.Base(f))
			}
		}
		return found
	}
	subjects := map[string][]byte{}
	for i := range 500 { // so that pages are split, and hers is moved
		subject, wrapped := uuid.NewString(), []byte(uuid.NewString())
		if i == 25 {
			subject, wrapped = "customer:ana", key
		}
		if _, _, err := s.AddPersonKey(t.Context(), subject, uuid.NewString(), wrapped); err != nil {
			t.Fatal(err)
		}
		subjects[subject] = wrapped
	}
	if len(has()) == 0 {
		t.Fatal("no file has what is looked for: this test sees nothing")
	}
	if err := s.ErasePerson(t.Context(), "customer:ana"); err != nil {
		t.Fatal(err)
	}
	if found := has(); len(found) > 0 {
		t.Errorf("after the erasure %q have the key", found)
	}
	delete(subjects, "customer:ana")
	for k, err := range s.PersonKeys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(subjects[k.Subject], k.Wrapped) {
			t.Errorf("another's key: %+v", k)
		}
		delete(subjects, k.Subject)
	}
	if len(subjects) > 0 {
		t.Errorf("%d others' keys are gone", len(subjects))
	}
}
