package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
)

// erins are what erin has said of herself: words that stand nowhere else.
var erins = []string{"몽글이-q7x", "성수동 2가 q8x", "010-4711-0815", "벨을 누르지 마세요 q9x", "늦어요 q10x", "아파요 q11x"}

// folder is a salon up on a data folder.
type folder struct {
	data, address string
	key           *auth.LocalKey
	p             *harness.Process
}

func (f *folder) up(t *testing.T, args ...string) {
	t.Helper()
	f.p = harness.Start(t, nil, append([]string{"up", "--data", f.data, "--listen", f.address, "--rate-limit", "0"}, args...)...)
	f.p.Ready(t, "http://"+f.address)
	var err error
	if f.key, err = auth.LoadKeyFile(filepath.Join(f.data, authKeyName)); err != nil {
		t.Fatal(err)
	}
}

func (f *folder) stop(t *testing.T) {
	t.Helper()
	if code := f.p.Stop(t); code != 0 {
		t.Fatalf("stopped with exit code %d", code)
	}
}

func (f *folder) system() system { return system{"http://" + f.address, f.key} }

// system is one that is called over HTTP.
type system struct {
	url string
	key *auth.LocalKey
}

func (s system) mint(sub, role string) (string, error) { return s.key.Mint(sub, role, time.Hour) }

func (s system) as(t *testing.T, sub, role string) *client {
	t.Helper()
	c, err := as(s.url, s.mint, sub, role)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// erin books a visit, talks, and cancels, in words of hers; the reservation is answered.
func (s system) erin(t *testing.T) (reservation string, booking map[string]any) {
	t.Helper()
	must := func(_ answer, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := seed(t.Context(), s.url, s.mint, io.Discard); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(demoSalons, func(s demoSalon) bool { return slices.Contains(s.modes, "visit") })
	salon, erin := demoSalons[i].id, s.as(t, "erin", "customer")
	from := time.Now().AddDate(0, 0, 8)
	var free struct{ Items []slot }
	must(erin.must(t.Context(), http.MethodGet, fmt.Sprintf("/v1/groomers/%s/slots?from=%s&to=%s&services=bath&size=small", salon, from.Format(time.DateOnly), from.AddDate(0, 0, 7).Format(time.DateOnly)), "", nil, &free))
	booking = map[string]any{
		"groomer_id": salon, "start": free.Items[0].Start, "mode": "visit", "visit_address": erins[1], "phone": erins[2], "note": erins[3],
		"dogs": []map[string]any{{"name": erins[0], "size": "small", "services": []string{"bath"}}},
	}
	var made struct {
		ID string `json:"reservation_id"`
	}
	must(erin.must(t.Context(), http.MethodPost, "/v1/reservations", "erins-booking", booking, &made))
	must(erin.must(t.Context(), http.MethodPost, "/v1/chat/rooms/"+made.ID+"/messages", "", map[string]string{"client_message_id": "one", "text": erins[4]}, nil))
	owner := s.as(t, salon, "groomer")
	must(owner.must(t.Context(), http.MethodPost, "/v1/chat/rooms/"+made.ID+"/messages", "", map[string]string{"client_message_id": "one", "text": "괜찮아요 z1x"}, nil))
	must(erin.must(t.Context(), http.MethodPost, "/v1/reservations/"+made.ID+"/cancel", "erins-cancel", map[string]string{"reason": erins[5]}, nil))
	return made.ID, booking
}

// says lists which of erin's words a text has.
func says(text []byte) (words []string) {
	for _, w := range erins {
		if bytes.Contains(text, []byte(w)) {
			words = append(words, w)
		}
	}
	return words
}

// asked is all that can be asked about erin: by herself, the salon, an admin, and on the command line.
func (f *folder) asked(t *testing.T, reservation string) []byte {
	t.Helper()
	salon, _, _ := strings.Cut(reservation, ".")
	var all []byte
	for _, c := range []*client{f.system().as(t, "erin", "customer"), f.system().as(t, salon, "groomer"), f.system().as(t, "operator", "admin")} {
		for _, path := range []string{
			"/v1/reservations/" + reservation, "/v1/reservations?limit=100", "/v1/chat/rooms", "/v1/chat/rooms/" + reservation + "/messages",
			"/v1/notifications", "/v1/admin/streams/groomer-" + salon + "/state", "/v1/admin/streams/chat-" + reservation + "/state",
			"/v1/admin/rows/reservations/" + salon, "/v1/admin/rows/chatrooms/" + reservation,
			"/v1/admin/rows/reservations/" + reservation + "/diff?from=position:0",
		} {
			a, err := c.call(t.Context(), http.MethodGet, path, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a.body...)
		}
	}
	got := call(t, "person", "export", "customer/erin", "--data", f.data)
	if got.code != 0 {
		t.Fatalf("export: exit %d\n%s", got.code, got.err)
	}
	return append(all, got.out...)
}

// caughtUp waits until the read models have what erin did.
func (s system) caughtUp(t *testing.T) {
	t.Helper()
	c := s.as(t, "erin", "customer")
	deadline := time.Now().Add(30 * time.Second)
	for {
		a, err := c.call(t.Context(), http.MethodGet, "/v1/chat/rooms", "", nil)
		if err == nil && bytes.Contains(a.body, []byte("last_message")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the rooms of erin: %v %s", err, a.body)
		}
		pause(t.Context(), 10*time.Millisecond)
	}
}

// TestAnErasedPersonIsGone has a person erased and looks for their words in every answer, and in every file before and after;
// the sealed history verifies all the same. Then the folder is restored from a backup of before that, with the ledger of
// erasures and without.
func TestAnErasedPersonIsGone(t *testing.T) {
	t.Parallel()
	f := &folder{data: filepath.Join(t.TempDir(), "data"), address: harness.Address(t)}
	f.up(t)
	reservation, booking := f.system().erin(t)
	f.system().caughtUp(t)
	if found := says(f.asked(t, reservation)); len(found) != len(erins) {
		t.Fatalf("before: only %q are said", found)
	}
	f.stop(t)
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, withoutSockets{os.DirFS(f.data)}); err != nil {
		t.Fatal(err)
	}
	notInFiles(t, f.data, reservation)

	f.up(t)
	if got := call(t, "events", "seal", "--data", f.data); got.code != 0 {
		t.Fatalf("seal: exit %d\n%s%s", got.code, got.out, got.err)
	}
	call(t, "person", "erase", "customer/erin", "--data", f.data).refused(t, 2, "nothing was erased", "--confirm customer/erin")
	call(t, "person", "erase", "customer/erin", "--confirm", "groomer/erin", "--data", f.data).refused(t, 2, "nothing was erased")
	call(t, "person", "erase", "erin", "--confirm", "erin", "--data", f.data).refused(t, 2, "ROLE/SUB")
	call(t, "person", "export", "system/cli.root", "--data", f.data).refused(t, 2, "ROLE/SUB")
	for _, want := range []string{"customer/erin is erased", "has no key"} {
		if got := call(t, "person", "erase", "customer/erin", "--confirm", "customer/erin", "--data", f.data); got.code != 0 || !strings.Contains(got.out, want) {
			t.Fatalf("erase: exit %d, %s%s", got.code, got.out, got.err)
		}
	}
	f.stop(t) // a process that has the key in memory may use it for a minute
	f.up(t)
	gone := func(when string) {
		t.Helper()
		all := f.asked(t, reservation)
		if found := says(all); len(found) > 0 {
			t.Errorf("%s: %q are said", when, found)
		}
		for _, stays := range []string{reservation, "reservation.cancelled.v1", "erased", "괜찮아요 z1x"} { // the other side's words are the other side's
			if !bytes.Contains(all, []byte(stays)) {
				t.Errorf("%s: %q is gone, too", when, stays)
			}
		}
		a, err := f.system().as(t, "erin", "customer").call(t.Context(), http.MethodPost, "/v1/reservations", "erins-booking", booking)
		if err != nil || a.status != http.StatusCreated || a.header.Get("Idempotent-Replayed") != "true" || len(says(a.body)) > 0 {
			t.Errorf("%s: her request once more: %d %s, %v", when, a.status, a.body, err)
		}
	}
	gone("after the erasure")
	if got := call(t, "events", "verify", "--data", f.data); got.code != 0 {
		t.Errorf("verify: exit %d\n%s%s", got.code, got.out, got.err)
	}
	f.stop(t)

	restore := func() {
		t.Helper()
		if err := os.RemoveAll(f.data); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(f.data, os.DirFS(backup)); err != nil {
			t.Fatal(err)
		}
	}
	restore()
	f.up(t, "--erasures", filepath.Join(t.TempDir(), "none")) // the words are in the backup: the ledger is what keeps them from coming back
	if found := says(f.asked(t, reservation)); len(found) != len(erins) {
		t.Errorf("restored without the ledger: only %q are said", found)
	}
	f.stop(t)
	restore()
	// Nobody has served from it yet, so the key is there.
	for want, verb := range map[string][]string{
		`"erased":`:   {"person", "export", "customer/erin"},
		"erased":      {"state", "reservations/" + reservation},
		`"name":null`: {"diff", "reservations/" + reservation, "--from", "position:1"},
	} {
		args := append(verb, "--events", "sqlite:"+filepath.Join(f.data, eventsName), "--master-key-file", filepath.Join(f.data, masterKeyName))
		if got := call(t, args...); got.code != 0 || len(says([]byte(got.out))) == 0 {
			t.Errorf("%v of a restored store: exit %d, nothing is said: %s%s", verb, got.code, got.out, got.err)
		}
		if got := call(t, append(args, "--erasures", f.data+".erasures")...); got.code != 0 || len(says([]byte(got.out))) > 0 || !strings.Contains(got.out, want) {
			t.Errorf("%v with the ledger of erasures: exit %d: %s%s", verb, got.code, got.out, got.err)
		}
		call(t, append(verb, "--data", f.data, "--erasures", "ledger")...).refused(t, 2, "--erasures is for --events")
	}
	f.up(t)
	gone("after a restore")
	f.stop(t)
}

// withoutSockets is a folder's files.
type withoutSockets struct{ fs.FS }

func (w withoutSockets) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(w.FS, name)
	return slices.DeleteFunc(all, func(e fs.DirEntry) bool { return e.Type()&fs.ModeSocket != 0 }), err
}

// notInFiles looks for erin's words in every file of a folder. The reservation's ID, which is no secret, shows that it sees.
func notInFiles(t *testing.T, folder, reservation string) {
	t.Helper()
	tell := 0
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if found := says(b); len(found) > 0 {
			t.Errorf("%s has %q", path, found)
		}
		if bytes.Contains(b, []byte(reservation)) {
			tell++
		}
		return err
	})
	if err != nil || tell < 3 { // events, read models, the broker's log
		t.Errorf("%d files tell of the reservation: %v", tell, err)
	}
}

// TestAPersonGetsAllThatIsKept compares what a person is handed with what the person did and what became of it.
func TestAPersonGetsAllThatIsKept(t *testing.T) {
	t.Parallel()
	f := &folder{data: filepath.Join(t.TempDir(), "data"), address: harness.Address(t)}
	f.up(t)
	reservation, _ := f.system().erin(t)
	file := filepath.Join(t.TempDir(), "erin.jsonl")
	if got := call(t, "person", "export", "customer/erin", "--data", f.data, "--to", file); got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	call(t, "person", "export", "customer/erin", "--data", f.data, "--to", file).refused(t, 2, "exists")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var m struct {
			Type   string
			Sealed []string
			Erased []string
		}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		types = append(types, m.Type)
		if others := strings.Contains(lines.Text(), `"role":"groomer"`) && m.Type == "chat.message_posted.v1"; (len(m.Sealed) > 0) != others || len(m.Erased) > 0 {
			t.Errorf("sealed %q, erased %q in %s", m.Sealed, m.Erased, lines.Text())
		}
	}
	want := []string{"reservation.requested.v1", "reservation.confirmed.v1", "chat.opened.v1", "chat.message_posted.v1", "chat.message_posted.v1", "reservation.cancelled.v1"}
	if slices.Sort(types); !slices.Equal(types, slices.Sorted(slices.Values(want))) {
		t.Errorf("got %q of reservation %s, want %q", types, reservation, want)
	}
	if found := says(b); len(found) != len(erins) || bytes.Contains(b, []byte("괜찮아요")) || bytes.Contains(b, []byte("minji")) {
		t.Errorf("%q are said, in\n%s", found, b)
	}
	f.stop(t)
}

// TestTheMasterKeyOfAFolderIsChanged changes it, also in the middle of another change, and the old one opens nothing more.
func TestTheMasterKeyOfAFolderIsChanged(t *testing.T) {
	t.Parallel()
	f := &folder{data: filepath.Join(t.TempDir(), "data"), address: harness.Address(t)}
	f.up(t)
	reservation, _ := f.system().erin(t)
	f.system().caughtUp(t)
	call(t, "keys", "rotate", "--data", f.data).refused(t, 1, "in use")
	f.stop(t)
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(f.data, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := read(masterKeyName)
	if got := call(t, "keys", "rotate", "--data", f.data); got.code != 0 || !strings.Contains(got.out, "wrapped again") {
		t.Fatalf("exit %d: %s%s", got.code, got.out, got.err)
	}
	second := read(masterKeyName)
	if bytes.Equal(first, second) {
		t.Fatal("the master key is what it was")
	}
	f.up(t)
	if found := says(f.asked(t, reservation)); len(found) != len(erins) {
		t.Errorf("after the change, only %q are said", found)
	}
	f.stop(t)
	// A change that was killed when it had wrapped the keys again, before it put the new one in place.
	if got := call(t, "keys", "rotate", "--data", f.data); got.code != 0 {
		t.Fatalf("exit %d: %s%s", got.code, got.out, got.err)
	}
	third := read(masterKeyName)
	for name, key := range map[string][]byte{masterKeyName: second, nextKeyName: third} {
		if err := os.WriteFile(filepath.Join(f.data, name), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.up(t)
	if found := says(f.asked(t, reservation)); len(found) != len(erins) {
		t.Errorf("in the middle of the change, only %q are said", found)
	}
	f.stop(t)
	if got := call(t, "keys", "rotate", "--data", f.data); got.code != 0 || !bytes.Equal(read(masterKeyName), third) {
		t.Fatalf("it did not go on: exit %d: %s%s", got.code, got.out, got.err)
	}
	if err := os.WriteFile(filepath.Join(f.data, masterKeyName), first, 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "up", "--data", f.data, "--listen", f.address).refused(t, 1, "another master key")
}

// TestServersHaveNothingInTheClear looks for what a person has said in all that PostgreSQL, MySQL, Redis and Kafka hold, and
// erases the person there.
func TestServersHaveNothingInTheClear(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	all := c.member(t, "all", "commands", "readapi", "admin", "relay", "projector", "reactor", "live")
	all.start(t)
	all.ready(t)
	s := system{all.url, c.key}
	reservation, _ := s.erin(t)
	s.caughtUp(t)
	for name, held := range c.held(t) {
		if found := says(held); len(found) > 0 {
			t.Errorf("%s has %q", name, found)
		}
		if !bytes.Contains(held, []byte(reservation)) {
			t.Errorf("%s: nothing of the reservation in %d bytes", name, len(held))
		}
	}
	ledger := filepath.Join(t.TempDir(), "erasures")
	person := func(verb string, args ...string) called {
		return call(t, append([]string{"person", verb, "customer/erin", "--events", c.events, "--master-key-file", c.masterFile}, args...)...)
	}
	if got := person("export"); got.code != 0 || len(says([]byte(got.out))) != len(erins) {
		t.Errorf("export: exit %d %s%s", got.code, got.out, got.err)
	}
	person("erase", "--confirm", "customer/erin").refused(t, 2, "--erasures")
	if got := person("erase", "--confirm", "customer/erin", "--erasures", ledger); got.code != 0 {
		t.Errorf("erase: exit %d %s%s", got.code, got.out, got.err)
	}
	if got := person("export"); got.code != 0 || len(says([]byte(got.out))) > 0 || !strings.Contains(got.out, `"erased":["/`) {
		t.Errorf("export after the erasure: exit %d %s%s", got.code, got.out, got.err)
	}
	if b, err := os.ReadFile(ledger); err != nil || len(says(b)) > 0 || !bytes.Contains(b, []byte(`"customer:erin"`)) {
		t.Errorf("the ledger is %s, %v", b, err)
	}
}
