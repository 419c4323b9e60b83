package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// AppendEvent writes an event as a line of JSON, from which the event can be had again in every byte that its hash covers:
// metadata and data stand there as they are, or, when that would not be one line of JSON, as metadata_base64 and
// data_base64.
func AppendEvent(b []byte, r eventstore.Recorded) []byte {
	b = strconv.AppendUint(append(b, `{"position":`...), r.Position, 10)
	b = AppendText(append(b, `,"stream":`...), r.Stream)
	b = strconv.AppendInt(append(b, `,"revision":`...), int64(r.Revision), 10)
	b = AppendText(append(b, `,"id":`...), r.ID.String())
	b = AppendText(append(b, `,"type":`...), r.Type)
	b = AppendText(append(b, `,"key":`...), r.Key)
	b = append(r.RecordedAt.UTC().AppendFormat(append(b, `,"recorded_at":"`...), time.RFC3339Nano), '"')
	b = appendBytes(b, "metadata", r.Metadata)
	b = appendBytes(b, "data", r.Data)
	b = hex.AppendEncode(append(b, `,"hash":"`...), r.Hash[:])
	return append(b, "\"}\n"...)
}

// AppendText appends a text as JSON. Most texts of a history need no look at their characters but one.
func AppendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always can be
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendBytes(b []byte, name string, value []byte) []byte {
	b = append(append(b, ',', '"'), name...)
	if line(value) {
		return append(append(b, `":`...), value...)
	}
	b = base64.StdEncoding.AppendEncode(append(b, `_base64":"`...), value)
	return append(b, '"')
}

// line reports whether bytes are a JSON object that may stand in a line as it is, and comes back so.
func line(b []byte) bool {
	return len(b) > 1 && b[0] == '{' && b[len(b)-1] == '}' && bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 &&
		jsontext.Value(b).IsValid(jsontext.AllowDuplicateNames(true)) // its UTF-8 as well
}

// ParseEvent reads what AppendEvent wrote. Whether the hash is right is another question.
func ParseEvent(b []byte) (r eventstore.Recorded, err error) {
	var e struct {
		Position       uint64          `json:"position"`
		Stream         string          `json:"stream"`
		Revision       int64           `json:"revision"`
		ID             uuid.UUID       `json:"id"`
		Type           string          `json:"type"`
		Key            string          `json:"key"`
		RecordedAt     time.Time       `json:"recorded_at"`
		Metadata       json.RawMessage `json:"metadata"`
		MetadataBase64 *[]byte         `json:"metadata_base64"`
		Data           json.RawMessage `json:"data"`
		DataBase64     *[]byte         `json:"data_base64"`
		Hash           Hash            `json:"hash"`
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return r, fmt.Errorf("not an event: %w", err)
	}
	if e.Position == 0 || e.Stream == "" || e.Revision < 0 || (e.Data == nil) == (e.DataBase64 == nil) || (e.Metadata == nil) == (e.MetadataBase64 == nil) {
		return r, errors.New("not an event: a part is missing")
	}
	if e.MetadataBase64 != nil {
		e.Metadata = *e.MetadataBase64
	}
	if e.DataBase64 != nil {
		e.Data = *e.DataBase64
	}
	return eventstore.Recorded{
		Position: e.Position, Stream: e.Stream, Revision: eventstore.Revision(e.Revision), ID: e.ID, Type: e.Type, Key: e.Key,
		RecordedAt: e.RecordedAt.UTC(), Metadata: e.Metadata, Data: e.Data, Hash: e.Hash,
	}, nil
}
