package sealed

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// keyTable is a key store in memory.
type keyTable struct {
	mu    sync.Mutex
	keys  map[keyName][]byte
	calls int
}

func (k *keyTable) PersonKey(_ context.Context, subject string) (string, []byte, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	for n, w := range k.keys {
		if n.subject == subject {
			return n.id, w, true, nil
		}
	}
	return "", nil, false, nil
}

func (k *keyTable) PersonKeyByID(_ context.Context, subject, id string) ([]byte, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	w, ok := k.keys[keyName{subject, id}]
	return w, ok, nil
}

func (k *keyTable) AddPersonKey(ctx context.Context, subject, id string, wrapped []byte) (string, []byte, error) {
	if standing, w, ok, _ := k.PersonKey(ctx, subject); ok {
		return standing, w, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[keyName{subject, id}] = wrapped
	return id, wrapped, nil
}

func (k *keyTable) erase() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.keys)
}

func newKeys(t *testing.T, table *keyTable, master byte) *Keys {
	t.Helper()
	k, err := New(table, bytes.Repeat([]byte{master}, MasterBytes))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestATextIsReadableOnlyWithItsOwnersKey(t *testing.T) {
	t.Parallel()
	table := &keyTable{keys: map[keyName][]byte{}}
	k := newKeys(t, table, 1)
	const text = "서울시 강남구 콩이네 3층"
	s, err := k.Seal(t.Context(), "customer:kim", text)
	if err != nil {
		t.Fatal(err)
	}
	stored, _ := json.Marshal(s)
	if strings.Contains(string(stored), "콩이") {
		t.Errorf("stored in the clear: %s", stored)
	}
	check := func(what string, k *Keys, s domain.Sealed, want string, wantErased, wantErr bool) {
		t.Helper()
		got, erased, err := k.Open(t.Context(), s)
		if got != want || erased != wantErased || (err != nil) != wantErr {
			t.Errorf("%s: got %q erased=%v err=%v", what, got, erased, err)
		}
	}
	check("by the same process", k, s, text, false, false)
	check("by another process", newKeys(t, table, 1), s, text, false, false)
	check("with another master key", newKeys(t, table, 2), s, "", false, true)
	if _, err := k.Seal(t.Context(), "customer:lee", "x"); err != nil {
		t.Fatal(err)
	}
	lee, _ := k.Seal(t.Context(), "customer:lee", "x")
	check("passed off as another's", k, domain.Sealed{Subject: lee.Subject, KeyID: lee.KeyID, Cipher: s.Cipher}, "", false, true)
	s.Cipher[len(s.Cipher)-1] ^= 1
	check("changed by a bit", k, s, "", false, true)
	check("cut short", k, domain.Sealed{Subject: s.Subject, KeyID: s.KeyID, Cipher: s.Cipher[:3]}, "", false, true)
	check("nothing", k, domain.Sealed{}, "", false, false)
}

func TestAnErasureReachesEveryProcessWithinAMinute(t *testing.T) {
	t.Parallel()
	table := &keyTable{keys: map[keyName][]byte{}}
	k := newKeys(t, table, 1)
	now := time.Now()
	k.now = func() time.Time { return now }
	s, err := k.Seal(t.Context(), "customer:kim", "hello")
	if err != nil {
		t.Fatal(err)
	}
	calls := table.calls
	if _, _, err := k.Open(t.Context(), s); err != nil || table.calls != calls {
		t.Errorf("%d calls for a key in the cache, err %v", table.calls-calls, err)
	}
	table.erase()
	now = now.Add(time.Minute)
	if got, erased, err := k.Open(t.Context(), s); got != "" || !erased || err != nil {
		t.Errorf("got %q erased=%v err=%v, want erased", got, erased, err)
	}
	again, err := k.Seal(t.Context(), "customer:kim", "hello")
	if err != nil || again.KeyID == s.KeyID {
		t.Errorf("a person that comes back has a new key; err %v", err)
	}
}

func TestAMACTellsMessagesApartUntilItsKeyIsErased(t *testing.T) {
	t.Parallel()
	table := &keyTable{keys: map[keyName][]byte{}}
	mac := func(k *Keys, subject, message string) []byte {
		t.Helper()
		b, err := k.MAC(t.Context(), subject, []byte(message))
		if err != nil || len(b) != 32 {
			t.Fatalf("mac of %d bytes: %v", len(b), err)
		}
		return b
	}
	first := newKeys(t, table, 1)
	a := mac(first, "customer:kim", "a")
	if !SameMessage(a, mac(newKeys(t, table, 1), "customer:kim", "a")) {
		t.Error("the same message in another process is another")
	}
	if SameMessage(a, mac(first, "customer:kim", "b")) {
		t.Error("another message is the same")
	}
	if bytes.Equal(a, mac(first, "customer:lee", "a")) {
		t.Error("two persons have one MAC")
	}
	table.erase()
	if !SameMessage(a, mac(newKeys(t, table, 1), "customer:kim", "b")) {
		t.Error("after the erasure nobody can tell: it must count as the same")
	}
	if SameMessage(a, nil) || SameMessage(nil, nil) {
		t.Error("what is no MAC is the same as one")
	}
}

func TestTwoProcessesAgreeOnAFirstKey(t *testing.T) {
	t.Parallel()
	table := &keyTable{keys: map[keyName][]byte{}}
	a, b := newKeys(t, table, 1), newKeys(t, table, 1)
	sealedByA, err := a.Seal(t.Context(), "groomer:mong", "x")
	if err != nil {
		t.Fatal(err)
	}
	b.current = map[string]*personKey{}
	if got, _, err := b.Open(t.Context(), sealedByA); got != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTheMasterKeyIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	made := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range made {
		wg.Go(func() {
			var err error
			if made[i], err = LoadOrCreateMaster(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, m := range made {
		if !bytes.Equal(m, made[0]) {
			t.Error("two processes have two master keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, err %v", info.Mode(), err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".master-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(path, []byte("c2hvcnQ=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateMaster(path); err == nil {
		t.Error("a damaged key is taken, or replaced")
	}
}
