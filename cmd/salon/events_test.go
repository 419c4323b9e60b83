package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
)

// well calls and fails the test when the call does.
func well(t *testing.T, args ...string) string {
	t.Helper()
	got := call(t, args...)
	if got.code != 0 {
		t.Fatalf("salon %v: exit %d\n%s%s", args, got.code, got.out, got.err)
	}
	return got.out
}

// A running system is sealed, verified and exported by its process; the file proves itself elsewhere, and fills another
// system, which serves what the first one did.
func TestHistoryOfARunningSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, address := filepath.Join(dir, "data"), harness.Address(t)
	file, heads, proof := filepath.Join(dir, "history.jsonl"), filepath.Join(dir, "heads.jsonl"), filepath.Join(dir, "proof.json")
	p := harness.Start(t, nil, "up", "--demo", "--data", data, "--listen", address, "--seal-file", heads)
	p.Await(t, "Tokens to try")
	groomers := func(address string) string {
		a, err := newClient("http://"+address, "").call(t.Context(), "GET", "/v1/groomers", "", nil)
		if err != nil || a.status != 200 {
			t.Fatal(err, a.status)
		}
		return string(a.body)
	}
	public := filepath.Join(data, sealKeyName+".pub")

	var made seal.Made
	if err := json.Unmarshal([]byte(well(t, "events", "seal", "--data", data, "-o", "json")), &made); err != nil || len(made.Items) != 1 {
		t.Fatalf("sealed %+v: %v", made, err)
	}
	for _, c := range []struct {
		role string
		want int
	}{{"admin", 200}, {"analyst", 403}, {"customer", 403}} {
		token := strings.TrimSpace(well(t, "token", "--sub", "kim", "--role", c.role, "--ttl", "1m", "--data", data))
		a, err := newClient("http://"+address, token).call(t.Context(), "POST", "/v1/admin/events/seal", "", nil)
		if err != nil || a.status != c.want {
			t.Errorf("POST /v1/admin/events/seal by role %s: %d %s, %v", c.role, a.status, a.body, err)
		}
	}
	if out := well(t, "events", "verify", "--data", data, "--seal-file", heads); !strings.Contains(out, "everything is as it was stored") || !strings.Contains(out, "signed by salon-seal+") {
		t.Error(out)
	}
	if out := well(t, "doctor", "--data", data, "--limit", "15s"); !strings.Contains(out, "ago covers position") {
		t.Error(out)
	}
	well(t, "events", "prove", "12", "--data", data, "--to", proof)
	if out := well(t, "events", "prove", "--check", proof, "--key", public); !strings.Contains(out, "in seal 1") {
		t.Error(out)
	}
	call(t, "events", "prove", "999999", "--data", data).refused(t, 1, "no seal covers")
	well(t, "events", "export", "--data", data, "--to", file, "--person-keys", filepath.Join(dir, "persons"))
	call(t, "events", "export", "--data", data, "--to", file).refused(t, 1, "not written over")
	if out := well(t, "events", "verify", "--file", file, "--key", public, "--seal-file", heads); !strings.Contains(out, "everything is as it was stored") {
		t.Error(out)
	}
	// As Parquet, and with the personal texts in the clear, which is on record.
	columns, rules := filepath.Join(dir, "columns"), filepath.Join(dir, "rules.json")
	well(t, "events", "export", "--data", data, "--to", columns, "--format", "parquet")
	if out := well(t, "events", "verify", "--file", columns, "--key", public); !strings.Contains(out, "everything is as it was stored") {
		t.Error(out)
	}
	well(t, "events", "import", columns, "--data", filepath.Join(dir, "fourth"))
	if err := os.WriteFile(rules, []byte(`{"types": {"reservation.requested.v1": {"dogs[].name": "open", "note": "drop"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	masked := filepath.Join(dir, "masked.jsonl")
	well(t, "events", "export", "--data", data, "--to", masked, "--mask", rules)
	if b, err := os.ReadFile(masked); err != nil || !strings.Contains(string(b), `"dogs":[{"name":"콩이"`) || !strings.Contains(string(b), `"masked":true}`) {
		t.Errorf("nobody's name is opened: %v", err)
	}
	if out := well(t, "events", "verify", "--file", masked, "--key", public); !strings.Contains(out, "the hash and its place are proven") {
		t.Error(out)
	}
	call(t, "events", "import", masked, "--data", filepath.Join(dir, "fifth")).refused(t, 2, "masked")
	call(t, "projections", "preview", "reservations", "--from-file", masked).refused(t, 2, "masked", "export without --mask")
	if err := os.WriteFile(rules, []byte(`{"types": {"reservation.requested.v1": {"dog": "open"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "events", "export", "--data", data, "--to", filepath.Join(dir, "none"), "--mask", rules).refused(t, 2, `no personal field "dog"`, "dogs[].name")
	served := groomers(address)
	p.Stop(t)

	// Each call was recorded, with what it was about.
	if called := operationsIn(t, "sqlite:"+filepath.Join(data, eventsName)); !slices.Contains(called, admin.Called{Operation: "export-events", About: "masked opened"}) {
		t.Errorf("that texts were opened is not recorded: %v", called)
	}
	url := "sqlite:" + filepath.Join(data, eventsName)
	for operation, about := range map[string]string{"seal-events": "", "verify-events": "", "prove-event": "12", "export-events": ""} {
		if !slices.Contains(operationsIn(t, url), admin.Called{Operation: operation, About: about}) {
			t.Errorf("%s of %q is not recorded: %v", operation, about, operationsIn(t, url))
		}
	}

	other := filepath.Join(dir, "other")
	well(t, "events", "import", file, "--data", other, "--person-keys", filepath.Join(dir, "persons"))
	call(t, "events", "import", file, "--data", other).refused(t, 2, "not empty")
	if out := well(t, "events", "verify", "--events", "sqlite:"+filepath.Join(other, eventsName), "--key", public); !strings.Contains(out, "everything is as it was stored") {
		t.Error(out)
	}
	// Under another master key, the persons' keys that came along are noticed, and nobody's are made anew.
	foreign, robbed := filepath.Join(dir, "foreign"), filepath.Join(dir, "robbed")
	for _, copied := range []string{foreign, robbed} {
		if err := os.CopyFS(copied, os.DirFS(other)); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(robbed, eventsName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "DELETE FROM seals")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	call(t, "events", "verify", "--events", "sqlite:"+filepath.Join(robbed, eventsName), "--key", public).refused(t, 1, "there is no seal")
	call(t, "up", "--data", foreign, "--listen", "127.0.0.1:0").refused(t, 1, "master key")
	master, err := os.ReadFile(filepath.Join(data, masterKeyName))
	if err == nil {
		err = os.WriteFile(filepath.Join(other, masterKeyName), master, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	again := harness.Address(t)
	q := harness.Start(t, nil, "up", "--data", other, "--listen", again)
	q.Await(t, "is open at http://"+again)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for groomers(again) != served { // within the test's own time
		<-tick.C
	}

	// A file that was changed is not believed, and says which event it is.
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), "groomer.registered.v1", "groomer.registered.v2", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "events", "verify", "--file", file, "--key", public).refused(t, 1, "position 1 ")
	// Nor one that another key signed.
	stranger := filepath.Join(dir, "stranger")
	well(t, "keys", stranger)
	call(t, "events", "prove", "--check", proof, "--key", filepath.Join(stranger, sealKeyName+".pub")).refused(t, 1, "no known key")
}

// operationsIn are the calls that a file's history tells of.
func operationsIn(t *testing.T, url string) (out []admin.Called) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: strings.TrimPrefix(url, "sqlite:"), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{Types: []string{admin.Called{}.EventType()}}) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := codec().Decode(r.Type, r.Data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.(admin.Called))
	}
	return out
}

// On real servers the verbs open the store themselves. One changed byte behind its back is named.
func TestHistoryOnRealServers(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	c := realCluster(t)
	c.prepare(t)
	dir := t.TempDir()
	well(t, "keys", dir)
	events, key := []string{"--events", c.events}, filepath.Join(dir, sealKeyName)
	call(t, append([]string{"events", "seal"}, events...)...).refused(t, 2, "--seal-key-file")
	for range 3 { // each call is an event of its own
		well(t, append([]string{"events", "seal", "--seal-key-file", key}, events...)...)
	}
	verify := append([]string{"events", "verify", "--key", key + ".pub"}, events...)
	if out := well(t, verify...); !strings.Contains(out, "everything is as it was stored") {
		t.Error(out)
	}
	looked := call(t, append(append(append([]string{"doctor", "--limit", "15s"}, c.databases()...), c.topics()...), "--redis", c.redis)...) // no projector runs: not well
	if !strings.Contains(looked.out, "seal 3 of") {
		t.Errorf("doctor tells of no seal:\n%s", looked.out)
	}
	file := filepath.Join(dir, "history.jsonl")
	well(t, append([]string{"events", "export", "--to", file}, events...)...)
	well(t, "events", "import", file, "--events", "sqlite:"+filepath.Join(dir, "events.db"))
	well(t, "events", "verify", "--key", key+".pub", "--events", "sqlite:"+filepath.Join(dir, "events.db"))

	db, err := sql.Open("pgx", c.events)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "UPDATE events SET data = data || '' WHERE position = 2; UPDATE events SET data = '\\x7b7d' WHERE position = 2"); err != nil {
		t.Fatal(err)
	}
	call(t, verify...).refused(t, 1, "position 2 ", "is changed")
}

// An import that is killed leaves a store that is empty or whole, and the next one is taken or not needed.
func TestAKilledImportLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "history.jsonl")
	const n = 16_000
	bigExport(t, filepath.Join(dir, "old.db"), file, n)
	empty := 0
	for try := range 4 {
		path := filepath.Join(dir, fmt.Sprintf("new-%d.db", try))
		p := harness.Start(t, nil, "events", "import", file, "--events", "sqlite:"+path)
		grown := time.NewTicker(time.Millisecond)
		for {
			if i, err := os.Stat(path + "-wal"); err == nil && i.Size() > int64(try+1)<<20 {
				break
			}
			<-grown.C
		}
		grown.Stop()
		p.Kill()
		var out, errs bytes.Buffer // not by call: an import may take a while on a machine with much else to do
		got := called{code: run(t.Context(), []string{"events", "import", file, "--events", "sqlite:" + path}, &out, &errs)}
		if got.out, got.err = out.String(), errs.String(); got.code == 0 {
			empty++
		} else {
			got.refused(t, 2, "not empty") // it had come to its end before
		}
		if out := well(t, "events", "verify", "--events", "sqlite:"+path); !strings.Contains(out, "everything is as it was stored") {
			t.Error(out)
		}
	}
	if empty == 0 {
		t.Error("every import was over before it was killed: nothing is shown")
	}
}

// bigExport makes an export of n events.
func bigExport(t *testing.T, path, file string, n int) {
	t.Helper()
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	from := eventstore.Loaded{
		Events: func(yield func(eventstore.Recorded, error) bool) {
			for i := range n {
				stream := fmt.Sprintf("groomer-%d", i%100)
				r := eventstore.Recorded{
					Position: uint64(i + 1), Stream: stream, Revision: eventstore.Revision(i / 100), ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), //nolint:gosec // not negative
					Type: "test.v1", Key: stream, RecordedAt: time.UnixMicro(int64(i)).UTC(), Metadata: []byte("{}"), Data: fmt.Appendf(nil, `{"text":"%0200d"}`, i),
				}
				r.Hash = eventstore.ContentHash(r)
				if !yield(r, nil) {
					return
				}
			}
		},
		Commands: func(func(eventstore.Accepted, error) bool) {},
		Seals:    func(func(eventstore.Seal, error) bool) {},
	}
	if err := s.Load(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	if _, err := export.Write(t.Context(), s, export.Order{Path: file, Kind: "sqlite", Dense: true}); err != nil {
		t.Fatal(err)
	}
}
