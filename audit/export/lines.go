package export

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

// maxLine is more than any line has: an event has 256 KiB, in base64 a third more; a seal's outline stays below.
const maxLine = 2 << 20

// out is a file of lines that grows, with the hash of what is in it.
type out struct {
	path string
	file *os.File
	buf  *bufio.Writer
	sum  hash.Hash
	size int64

	settled  int64      // of the size, what the disk was asked to take
	settling chan error // of that, while it does; nil when it is done
}

// settleEach is how much of a file is left to its disk for later.
const settleEach = 32 << 20

// grow opens FILE.part to go on behind the lines that keep accepts, each whole; what follows them is cut off.
func grow(path string, keep func(line []byte) bool) (*out, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // personal fields in it are sealed
	if err != nil {
		return nil, err
	}
	o := &out{path: path, file: f, sum: sha256.New()}
	err = eachLine(f, func(line []byte) error {
		if !keep(line) {
			return io.EOF
		}
		o.sum.Write(line)
		o.size += int64(len(line))
		return nil
	})
	if err == nil {
		err = f.Truncate(o.size)
	}
	if err == nil {
		_, err = f.Seek(o.size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("go on with %s: %w", path, err), f.Close())
	}
	o.buf, o.settled = bufio.NewWriterSize(f, 1<<20), o.size
	return o, nil
}

// eachLine calls with every line that ends, until one answers io.EOF.
func eachLine(r io.Reader, do func(line []byte) error) error {
	for in := bufio.NewReaderSize(r, maxLine); ; {
		line, err := in.ReadSlice('\n')
		if err == nil {
			err = do(line)
		}
		if errors.Is(err, io.EOF) {
			return nil // a line that does not end was cut off
		}
		if err != nil {
			return err
		}
	}
}

func (o *out) write(lines []byte) error {
	o.sum.Write(lines)
	o.size += int64(len(lines))
	_, err := o.buf.Write(lines)
	if err == nil && o.size-o.settled > settleEach {
		err = o.settle()
	}
	return err
}

// settle lets the disk take what there is while the export goes on: at the end, a third of its time was spent on waiting for that.
func (o *out) settle() error {
	err := o.wait()
	settling := make(chan error, 1)
	o.settled, o.settling = o.size, settling
	go func() { settling <- o.file.Sync() }()
	return err
}

// wait waits for what settle has begun.
func (o *out) wait() (err error) {
	if o.settling != nil {
		err, o.settling = <-o.settling, nil
	}
	return err
}

func (o *out) flush() error { return o.buf.Flush() }

// sync puts on its disk what was written.
func (o *out) sync() error { return errors.Join(o.buf.Flush(), o.wait(), o.file.Sync()) }

// done puts the file on its disk, and answers what the manifest says of it.
func (o *out) done(name string) (Part, error) {
	err := errors.Join(o.sync(), o.file.Close())
	return Part{name, o.size, hexOf(o.sum.Sum(nil))}, err
}

// eventLines is a sink of lines.
type eventLines struct{ *out }

func openLines(path string, keep func(event)) (eventLines, error) {
	o, err := grow(path, func(line []byte) bool {
		e, err := parseEvent(line)
		if err == nil {
			keep(e)
		}
		return err == nil
	})
	return eventLines{o}, err
}

// maskedMark ends the line of an event whose data is not what was stored.
const maskedMark = `,"masked":true}` + "\n"

func parseEvent(line []byte) (e event, err error) {
	e.Recorded, err = seal.ParseEvent(line)
	e.masked = bytes.HasSuffix(line, []byte(maskedMark))
	return e, err
}

func (l eventLines) prepare(events []event) any {
	size := 0
	for _, e := range events {
		size += 400 + len(e.Metadata) + len(e.Data)
	}
	lines := make([]byte, 0, size)
	for _, e := range events {
		if lines = seal.AppendEvent(lines, e.Recorded); e.masked {
			lines = append(lines[:len(lines)-len("}\n")], maskedMark...)
		}
	}
	return lines
}

func (l eventLines) write(prepared any) error { return l.out.write(prepared.([]byte)) }

func (l eventLines) done(name string) ([]Part, error) {
	part, err := l.out.done(name)
	return []Part{part}, err
}

func (l eventLines) close() error {
	if l.out == nil {
		return nil
	}
	return l.file.Close()
}

// command is a line of FILE.commands.
type command struct {
	ID           uuid.UUID `json:"command_id"`
	RequestHash  []byte    `json:"request_hash"`
	Actor        string    `json:"actor"`
	Stream       string    `json:"stream"`
	LastRevision int64     `json:"last_revision"`
	Position     uint64    `json:"position"`
	RecordedAt   time.Time `json:"recorded_at"`
	Silent       uint64    `json:"silent,omitempty"`
}

func appendCommand(b []byte, c eventstore.Accepted) []byte {
	b = append(append(b, `{"command_id":"`...), c.ID.String()...)
	b = base64.StdEncoding.AppendEncode(append(b, `","request_hash":"`...), c.RequestHash)
	b = seal.AppendText(append(b, `","actor":`...), c.Actor)
	b = seal.AppendText(append(b, `,"stream":`...), c.Stream)
	b = strconv.AppendInt(append(b, `,"last_revision":`...), int64(c.LastRevision), 10)
	b = strconv.AppendUint(append(b, `,"position":`...), c.Position, 10)
	b = append(c.RecordedAt.UTC().AppendFormat(append(b, `,"recorded_at":"`...), time.RFC3339Nano), '"')
	if c.Silent > 0 {
		b = strconv.AppendUint(append(b, `,"silent":`...), c.Silent, 10)
	}
	return append(b, "}\n"...)
}

func parseCommand(line []byte) (eventstore.Accepted, error) {
	var c command
	if err := json.Unmarshal(line, &c); err != nil {
		return eventstore.Accepted{}, fmt.Errorf("not a command: %w", err)
	}
	return eventstore.Accepted{
		Command: eventstore.Command{
			ID: c.ID, RequestHash: c.RequestHash, Actor: c.Actor, Stream: c.Stream, LastRevision: eventstore.Revision(c.LastRevision), Position: c.Position,
		},
		RecordedAt: c.RecordedAt.UTC(), Silent: c.Silent,
	}, nil
}

// parseSilent reads a command without events; of another one it makes nothing, and takes no time for it.
func parseSilent(line []byte) (eventstore.Accepted, error) {
	if !bytes.Contains(line, []byte(`,"silent":`)) {
		return eventstore.Accepted{}, nil
	}
	return parseCommand(line)
}

// sealed is a line of FILE.seals.
type sealed struct {
	Block         uint64 `json:"block"`
	Through       uint64 `json:"through"`
	SilentThrough uint64 `json:"silent_through"`
	Note          string `json:"note"`
	Outline       []byte `json:"outline"`
}
