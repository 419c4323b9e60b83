package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"

	"github.com/dangdangsalon/salon/projections/reads"
)

// loadData sends rows to the table by LOAD DATA; see [reads.LoadData].
func (t *tableSQL) loadData(ctx context.Context, tx *transaction, replace bool, rows []change) error {
	lines := &lines{d: t.at, rows: rows}
	taken, err := reads.LoadData(ctx, tx.tx, t.name, t.columns, replace, lines)
	switch {
	case lines.err != nil:
		return &foldError{lines.err} // the row cannot be stored: the fold's fault, not the database's
	case errors.Is(err, reads.ErrNoLocal):
		return err
	case err != nil:
		return fmt.Errorf("load into %s: %w", t.name, err)
	case !replace && taken != int64(len(rows)):
		return fmt.Errorf("load into %s: %d of %d rows were taken", t.name, taken, len(rows))
	}
	return nil
}

// lines are rows as LOAD DATA reads them, spelled as they are sent.
type lines struct {
	d    *Def
	rows []change
	rest []byte // spelled, not read yet
	buf  []byte
	err  error // of a row that cannot be spelled
}

// linesAtOnce is about how much is spelled before it is sent: a packet of the driver.
const linesAtOnce = 64 << 10

func (l *lines) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		l.buf = l.buf[:0]
		for len(l.rows) > 0 && len(l.buf) < linesAtOnce && l.err == nil {
			c := l.rows[0].slot
			l.rows = l.rows[1:]
			l.buf, l.err = l.d.appendLine(l.buf, c.row, c.ordering)
		}
		if l.err != nil {
			return 0, l.err
		}
		if len(l.buf) == 0 {
			return 0, io.EOF
		}
		l.rest = l.buf
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// appendLine spells a row, with the values of Def.Values.
func (d *Def) appendLine(b []byte, row any, ordering string) ([]byte, error) {
	v := reflect.ValueOf(row).Elem()
	for _, c := range d.Columns {
		f := v.Field(c.field)
		switch c.Kind {
		case ID, Text:
			b = appendEscaped(b, f.String())
		case Int:
			switch {
			case f.Kind() == reflect.Bool && f.Bool():
				b = append(b, '1')
			case f.Kind() == reflect.Bool:
				b = append(b, '0')
			case f.CanUint():
				b = strconv.AppendUint(b, f.Uint(), 10)
			default:
				b = strconv.AppendInt(b, f.Int(), 10)
			}
		case Time:
			var micros int64
			if t := f.Addr().Interface().(*time.Time); !t.IsZero() {
				micros = t.UnixMicro()
			}
			b = strconv.AppendInt(b, micros, 10)
		case JSON:
			text, err := json.Marshal(f.Interface())
			if err != nil {
				return b, fmt.Errorf("column %s.%s: %w", d.Base, c.Name, err)
			}
			b = appendEscaped(b, text)
		}
		b = append(b, '\t')
	}
	return append(appendEscaped(b, ordering), '\n'), nil
}

func appendEscaped[S string | []byte](b []byte, s S) []byte {
	copied := 0
	for i := range len(s) {
		var escaped byte
		switch s[i] {
		case '\\':
			escaped = '\\'
		case '\t':
			escaped = 't'
		case '\n':
			escaped = 'n'
		default:
			continue
		}
		b = append(append(b, s[copied:i]...), '\\', escaped)
		copied = i + 1
	}
	return append(b, s[copied:]...)
}
