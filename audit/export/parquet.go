package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"github.com/dangdangsalon/salon/eventstore"
)

// row is an event in a Parquet file. Optional columns are NULL where there is nothing.
type row struct {
	Position   int64    `parquet:"position,delta"`
	Stream     string   `parquet:"stream,dict"`
	Revision   int64    `parquet:"revision"`
	ID         [16]byte `parquet:"id,uuid"`
	Type       string   `parquet:"type,dict"`
	Key        string   `parquet:"key,dict"`
	RecordedAt int64    `parquet:"recorded_at,timestamp(microsecond)"`
	told
	Metadata      []byte   `parquet:"metadata,json"` // v0.32.0 of the library writes no optional JSON: null is for that
	MetadataBytes []byte   `parquet:"metadata_bytes,optional"`
	Data          []byte   `parquet:"data,json"`
	DataBytes     []byte   `parquet:"data_bytes,optional"`
	Hash          [32]byte `parquet:"hash"`
	Masked        bool     `parquet:"masked"`
}

// told is what the metadata tells, for queries.
type told struct {
	CommandID     string `parquet:"command_id,optional"`
	Command       string `parquet:"command,optional,dict"`
	ActorRole     string `parquet:"actor_role,optional,dict"`
	ActorID       string `parquet:"actor_id,optional,dict"`
	CorrelationID string `parquet:"correlation_id,optional"`
}

func toldIn(metadata []byte) told {
	t := told{CommandID: textIn(metadata, `"command_id":"`), Command: textIn(metadata, `"command":"`), CorrelationID: textIn(metadata, `"correlation_id":"`)}
	if _, actor, there := bytes.Cut(metadata, []byte(`"actor":{`)); there {
		t.ActorRole, t.ActorID = textIn(actor, `"role":"`), textIn(actor, `"id":"`)
	}
	return t
}

// Bounds of what is in memory, and of what an interruption loses.
const (
	partEvents  = 262_144
	partBytes   = 512 << 20
	groupEvents = 65_536
	groupBytes  = 64 << 20
)

func partName(n int) string { return fmt.Sprintf("part-%05d.parquet", n) }

func rowOf(e event) row {
	r := row{
		Position: int64(e.Position), Stream: e.Stream, Revision: int64(e.Revision), ID: e.ID, Type: e.Type, Key: e.Key, //nolint:gosec // stores keep it as a signed number
		RecordedAt: e.RecordedAt.UnixMicro(), Hash: e.Hash, Masked: e.masked, told: toldIn(e.Metadata),
	}
	r.Metadata, r.MetadataBytes = column(e.Metadata)
	r.Data, r.DataBytes = column(e.Data)
	return r
}

// column is where bytes go: to one of JSON, or to one of bytes, beside which the other is null.
func column(b []byte) (text, raw []byte) {
	if utf8.Valid(b) && json.Valid(b) && !bytes.Equal(b, null) {
		return b, nil
	}
	return null, b
}

var null = []byte("null")

// textIn finds a text in metadata by its name, as the metadata's own codec writes it; of what was written otherwise it finds
// nothing, and the metadata says it all the same. Within a text a quotation mark has a backslash before it.
func textIn(metadata []byte, name string) string {
	_, after, _ := bytes.Cut(metadata, []byte(name))
	for i, c := range after {
		switch c {
		case '"':
			return string(after[:i])
		case '\\':
			var text string
			_ = json.NewDecoder(bytes.NewReader(append([]byte{'"'}, after...))).Decode(&text)
			return text
		}
	}
	return ""
}

func (r row) event() event {
	metadata, data := r.Metadata, r.Data
	if bytes.Equal(metadata, null) {
		metadata = r.MetadataBytes
	}
	if bytes.Equal(data, null) {
		data = r.DataBytes
	}
	metadata, data = eventstore.Piece(metadata, data) // the library's are its page's
	return event{
		Recorded: eventstore.Recorded{
			Position: uint64(r.Position), Stream: r.Stream, Revision: eventstore.Revision(r.Revision), ID: uuid.UUID(r.ID), Type: r.Type, Key: r.Key, //nolint:gosec // whatever it is, it is held to the hash
			RecordedAt: time.UnixMicro(r.RecordedAt).UTC(), Metadata: metadata, Data: data, Hash: r.Hash,
		},
		masked: r.Masked,
	}
}

// columns is a sink of Parquet files in a folder. Each file is written under another name and gets its own when it is whole
// and on its disk.
type columns struct {
	dir    string
	most   int
	before func() error // is called before a file gets its name
	parts  []Part

	file  *os.File
	sum   hash.Hash
	rows  *parquet.GenericWriter[row]
	count struct{ rows, bytes, groupRows, groupBytes int }
}

// openColumns goes on behind the parts that are there and whole, and tells their events.
func openColumns(dir string, most int, told func(event), before func() error) (*columns, error) {
	if most <= 0 {
		most = partEvents
	}
	c := &columns{dir: dir, most: most, before: before}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // personal fields in it are sealed
		return nil, err
	}
	for {
		path := filepath.Join(dir, partName(len(c.parts)+1))
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			// What was begun of the next one has no end.
			if err := os.Remove(path + unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			return c, nil
		}
		for e, err := range rowsOf([]string{path}) {
			if err != nil {
				return nil, fmt.Errorf("go on behind %s: %w", path, err)
			}
			told(e)
		}
		sum, size, err := sumOf(path)
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, Part{partName(len(c.parts) + 1), size, sum})
	}
}

func (c *columns) prepare(events []event) any {
	rows := make([]row, len(events))
	for i, e := range events {
		rows[i] = rowOf(e)
	}
	return rows
}

func (c *columns) write(prepared any) error {
	for rows := prepared.([]row); len(rows) > 0; {
		if c.file == nil {
			if err := c.begin(); err != nil {
				return err
			}
		}
		some := rows[:min(len(rows), c.most-c.count.rows, groupEvents-c.count.groupRows)]
		rows = rows[len(some):]
		if _, err := c.rows.Write(some); err != nil {
			return fmt.Errorf("write %s: %w", c.file.Name(), err)
		}
		n := &c.count
		for _, r := range some {
			n.groupBytes += len(r.Data) + len(r.DataBytes) + len(r.Metadata) + len(r.MetadataBytes)
		}
		n.rows, n.groupRows = n.rows+len(some), n.groupRows+len(some)
		switch {
		case n.rows == c.most || n.bytes+n.groupBytes >= partBytes:
			if err := c.end(); err != nil {
				return err
			}
		case n.groupRows == groupEvents || n.groupBytes >= groupBytes:
			if err := c.rows.Flush(); err != nil {
				return fmt.Errorf("write %s: %w", c.file.Name(), err)
			}
			n.bytes, n.groupRows, n.groupBytes = n.bytes+n.groupBytes, 0, 0
		}
	}
	return nil
}

// begin begins the next part.
func (c *columns) begin() (err error) {
	if c.file, err = os.OpenFile(filepath.Join(c.dir, partName(len(c.parts)+1)+unfinished), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644); err != nil { //nolint:gosec // personal fields in it are sealed
		return err
	}
	c.sum = sha256.New()
	c.count = struct{ rows, bytes, groupRows, groupBytes int }{}
	// Nobody looks for a range of these: their bounds in the index would only be in the way.
	c.rows = parquet.NewGenericWriter[row](io.MultiWriter(c.file, c.sum), parquet.Compression(&parquet.Snappy), parquet.CreatedBy("salon", "1", ""),
		parquet.SkipPageBounds("metadata"), parquet.SkipPageBounds("data"), parquet.SkipPageBounds("hash"), parquet.SkipPageBounds("id"))
	return nil
}

// end puts the part on its disk, and gives it its name.
func (c *columns) end() error {
	name := c.file.Name()
	err := c.rows.Close()
	size, seekErr := c.file.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, seekErr, c.file.Sync(), c.file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	c.file = nil
	part := Part{partName(len(c.parts) + 1), size, hexOf(c.sum.Sum(nil))}
	path := filepath.Join(c.dir, part.Name)
	if err := c.before(); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(name, path), syncDir(path)); err != nil {
		return err
	}
	c.parts = append(c.parts, part)
	return nil
}

// done ends the last part; of no events there is one, too, which has the columns.
func (c *columns) done(name string) ([]Part, error) {
	if c.file == nil && len(c.parts) == 0 {
		if err := c.begin(); err != nil {
			return nil, err
		}
	}
	if c.file != nil {
		if err := c.end(); err != nil {
			return nil, err
		}
	}
	for i := range c.parts {
		c.parts[i].Name = filepath.Join(name, c.parts[i].Name)
	}
	return c.parts, nil
}

func (c *columns) close() error {
	if c == nil || c.file == nil {
		return nil
	}
	return errors.Join(c.file.Close(), os.Remove(c.file.Name()))
}

// errUnreadable says that a Parquet file is none.
var errUnreadable = errors.New("it cannot be read as Parquet")

// rowsOf yields the events of Parquet files.
func rowsOf(paths []string) iter.Seq2[event, error] {
	return func(yield func(event, error) bool) {
		for _, path := range paths {
			if !rowsIn(path, yield) {
				return
			}
		}
	}
}

func rowsIn(path string, yield func(event, error) bool) bool {
	file, err := os.Open(path)
	if err != nil {
		yield(event{}, err)
		return false
	}
	defer file.Close()
	var rows *parquet.GenericReader[row]
	defer func() {
		if rows != nil {
			_ = guarded(rows.Close)
		}
	}()
	page := make([]row, 1024)
	more, n := true, 0
	for more {
		// The library takes a file at its word, and panics where that is not so.
		err := guarded(func() (err error) {
			if rows == nil {
				rows = parquet.NewGenericReader[row](file)
			}
			clear(page)
			if n, err = rows.Read(page); errors.Is(err, io.EOF) {
				more, err = false, nil
			}
			return err
		})
		if err != nil {
			yield(event{}, fmt.Errorf("%s: %w: %w", path, errUnreadable, err))
			return false
		}
		for _, r := range page[:n] {
			e := r.event()
			if toldIn(e.Metadata) != r.told { // no hash covers these columns
				yield(event{}, fmt.Errorf("%s: %w: at position %d the columns do not say what the metadata does", path, errUnreadable, e.Position))
				return false
			}
			if !yield(e, nil) {
				return false
			}
		}
	}
	return true
}

func guarded(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return work()
}

func sumOf(path string) (sum string, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	h := sha256.New()
	size, err = io.Copy(h, file)
	return hexOf(h.Sum(nil)), size, err
}
