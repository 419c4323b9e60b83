package export_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

func inParquet(path string) export.Order {
	o := order(path)
	o.Format, o.PartEvents = export.Parquet, 32
	return o
}

// A history as Parquet proves itself, and fills a store with the same bytes, as one of lines does.
func TestParquetIsVerifiedAndImported(t *testing.T) {
	t.Parallel()
	for name, fresh := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, k, path := fresh(t), newKey(t), filepath.Join(t.TempDir(), "history")
			write(t, s, k, 100)
			odd(t, s)
			m := exported(t, s, inParquet(path))
			if r := verified(t, path, k); r.Finding != nil || r.Events != m.Events || r.Seals == 0 || len(m.Files) < 6 {
				t.Errorf("%d of %d events, %d seals, %d files: %v", r.Events, m.Events, r.Seals, len(m.Files), r.Finding)
			}
			f, err := export.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			into := newSQLite(t)
			if err := export.Import(t.Context(), f, into, nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(contentsOf(t, s), contentsOf(t, into)); diff != "" {
				t.Errorf("imported (-want +got):\n%s", diff)
			}
		})
	}
}

// odd appends events whose data is no JSON, or nothing, and whose metadata has what must be escaped.
func odd(t testing.TB, s eventstore.Store) {
	t.Helper()
	for i, data := range [][]byte{{}, {0, 0xff}, []byte("null"), []byte("{} ")} {
		id := uuid.NewSHA1(uuid.Max, fmt.Append(nil, i))
		metadata, err := json.Marshal(eventstore.Metadata{CommandID: id, Command: "odd", Actor: domain.Actor{ID: `k"},{`, Role: "admin"}, CorrelationID: `","command":"other`})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Append(t.Context(), eventstore.Append{
			Stream: "odd-1", Key: "odd-1", Expected: eventstore.AnyRevision, Metadata: metadata, DecidedAt: time.Now(),
			Command: eventstore.Command{ID: id, RequestHash: []byte("x"), Actor: "admin:kim"},
			Events:  []eventstore.NewEvent{{ID: eventstore.EventID(id, "odd-1", 0), Type: "odd.v1", Data: data}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Other readers see typed columns.
func TestParquetHasTypedColumns(t *testing.T) {
	t.Parallel()
	s, k, path := newSQLite(t), newKey(t), filepath.Join(t.TempDir(), "history")
	write(t, s, k, 3)
	odd(t, s)
	exported(t, s, inParquet(path))
	part := filepath.Join(path, "part-00001.parquet")
	file, err := os.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	i, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := parquet.OpenFile(file, i.Size())
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, f := range p.Schema().Fields() {
		types[f.Name()] = f.Type().String()
	}
	want := map[string]string{
		"position": "INT(64,true)", "stream": "STRING", "revision": "INT(64,true)", "id": "UUID", "type": "STRING", "key": "STRING",
		"recorded_at": "TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)", "command_id": "STRING", "command": "STRING", "actor_role": "STRING", "actor_id": "STRING",
		"correlation_id": "STRING", "metadata": "JSON", "metadata_bytes": "BYTE_ARRAY", "data": "JSON", "data_bytes": "BYTE_ARRAY",
		"hash": "FIXED_LEN_BYTE_ARRAY(32)", "masked": "BOOLEAN",
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	type seen struct {
		Stream        string  `parquet:"stream"`
		RecordedAt    int64   `parquet:"recorded_at,timestamp(microsecond)"`
		Command       *string `parquet:"command,optional"`
		ActorID       *string `parquet:"actor_id,optional"`
		CorrelationID *string `parquet:"correlation_id,optional"`
		Data          string  `parquet:"data,json"`
	}
	rows, err := parquet.ReadFile[seen](part)
	if err != nil {
		t.Fatal(err)
	}
	events := contentsOf(t, s).Events
	if len(rows) != len(events) {
		t.Fatalf("%d rows of %d events", len(rows), len(events))
	}
	for i, e := range events {
		m, err := eventstore.DecodeMetadata(e.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		r, data := rows[i], "null"
		if json.Valid(e.Data) {
			data = string(e.Data)
		}
		if r.Stream != e.Stream || r.RecordedAt != e.RecordedAt.UnixMicro() || *r.Command != m.Command || r.Data != data {
			t.Errorf("row %d is %+v of %+v", i, r, e)
		}
		if m.CorrelationID != "" && *r.CorrelationID != m.CorrelationID || *r.ActorID != m.Actor.ID {
			t.Errorf("row %d has correlation %v of %q, actor %v of %q", i, r.CorrelationID, m.CorrelationID, r.ActorID, m.Actor.ID)
		}
	}
}

// An export that was interrupted goes on behind its last whole part.
func TestAnInterruptedParquetGoesOn(t *testing.T) {
	t.Parallel()
	s, k, dir := newSQLite(t), newKey(t), t.TempDir()
	write(t, s, k, 100)
	want := exported(t, s, inParquet(filepath.Join(dir, "whole")))
	copied := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, from))
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	parts := len(want.Files) - 2
	for there := range parts + 1 {
		path := filepath.Join(dir, fmt.Sprint(there))
		if _, err := export.Write(t.Context(), cut{store: s}, inParquet(path)); !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		// A kill leaves some whole parts, the one that it was at, and the commands ahead of them.
		for n := range there {
			name := fmt.Sprintf("part-%05d.parquet", n+1)
			copied(filepath.Join("whole", name), filepath.Join(path+".part", name))
		}
		copied("whole.commands", path+".commands.part")
		if err := os.WriteFile(fmt.Sprintf("%s.part/part-%05d.parquet.part", path, there+1), []byte("PAR1…"), 0o600); err != nil {
			t.Fatal(err)
		}
		if there == 1 {
			if _, err := export.Write(t.Context(), s, order(path)); err == nil || !strings.Contains(err.Error(), "another export") {
				t.Errorf("going on in another format: %v", err)
			}
		}
		got := exported(t, s, inParquet(path))
		if got.Events != want.Events || got.Commands != want.Commands || len(got.Files) != len(want.Files) {
			t.Errorf("behind %d parts: %+v, want %+v", there, got, want)
		}
		if r := verified(t, path, k); r.Finding != nil {
			t.Errorf("behind %d parts: %v", there, r.Finding)
		}
	}
}

// A column that no hash covers is held to the metadata, also where the manifest was made anew.
func TestColumnsSayWhatTheMetadataDoes(t *testing.T) {
	t.Parallel()
	s, k, path := newSQLite(t), newKey(t), filepath.Join(t.TempDir(), "history")
	write(t, s, k, 5)
	exported(t, s, inParquet(path))
	part := filepath.Join(path, "part-00001.parquet")
	b, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	rows := parquet.NewReader(bytes.NewReader(b))
	forging := parquet.NewWriter(&out, rows.Schema())
	leaf, _ := rows.Schema().Lookup("command")
	for page := make([]parquet.Row, 1); ; {
		n, err := rows.ReadRows(page)
		for _, row := range page[:n] {
			row[leaf.ColumnIndex] = parquet.ValueOf("forged").Level(0, 1, leaf.ColumnIndex)
		}
		if _, err := forging.WriteRows(page[:n]); err != nil {
			t.Fatal(err)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(forging.Close(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	forged := out.Bytes()
	manifest, err := os.ReadFile(path + ".manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	was, is := sha256.Sum256(b), sha256.Sum256(forged)
	manifest = bytes.Replace(manifest, []byte(hex.EncodeToString(was[:])), []byte(hex.EncodeToString(is[:])), 1)
	for path, b := range map[string][]byte{part: forged, path + ".manifest.json": manifest} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := export.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if r, err := f.Verify(t.Context(), f.Options()); err == nil || !strings.Contains(err.Error(), "columns do not say") {
		t.Errorf("%+v, %v", r.Finding, err)
	}
}

// Whatever is changed in the folder is found, and no file of it brings the reader down.
func TestAChangedParquetIsNamed(t *testing.T) {
	t.Parallel()
	s, k, dir := newSQLite(t), newKey(t), t.TempDir()
	write(t, s, k, 60)
	path := filepath.Join(dir, "history")
	exported(t, s, inParquet(path))
	part := filepath.Join(path, "part-00002.parquet")
	before, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(part, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verified(t, path, k); r.Finding == nil {
			t.Errorf("%s: nothing was found", name)
		}
	}
	for at := 0; at < len(before); at += 1 + len(before)/25 {
		b := append([]byte{}, before...)
		b[at] ^= 0x55
		try(fmt.Sprintf("byte %d", at), b)
	}
	try("cut off", before[:len(before)/2])
	try("empty", nil)
	if err := os.WriteFile(part, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, path, k); r.Finding != nil {
		t.Fatal(r.Finding)
	}
	if err := os.WriteFile(filepath.Join(path, "part-00099.parquet"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, path, k); r.Finding == nil || !strings.Contains(r.Finding.Why, "files in it") {
		t.Errorf("a file more: %+v", r.Finding)
	}
}
