package export_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

func TestRulesAreRefused(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]string{
		`{"default": "burn"}`:                        `"burn" is no rule`,
		`{"default": {"replace": 3}}`:                "is no rule",
		`{"default": {"replace": "x", "with": "y"}}`: "is no rule",
		`{"defaults": "keep"}`:                       "defaults",
		`{} {}`:                                      "more behind",
		`{"types": {"reservation.asked.v1": {"note": "drop"}}}`:       "no event type \"reservation.asked.v1\" has personal fields; these have: ",
		`{"types": {"groomer.registered.v1": {"name": "drop"}}}`:      "no event type",
		`{"types": {"reservation.requested.v1": {"notes": "drop"}}}`:  `reservation.requested.v1 has no personal field "notes"; it has: `,
		`{"types": {"reservation.requested.v1": {"note": "unseal"}}}`: "is no rule",
	} {
		if _, err := export.ParseRules([]byte(rules)); !errors.Is(err, export.ErrRules) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want: %s", rules, err, want)
		}
	}
	for _, o := range []export.Order{{Rules: []byte(`{"default":"hash"}`), Texts: shelf{}}, {Rules: []byte(`{"default":"open"}`)}, {Rules: []byte(`{"default":"hash"}`), MaskKey: []byte("0123456789abcdef")}} {
		o.Path = filepath.Join(t.TempDir(), "x")
		if _, err := export.Write(t.Context(), newSQLite(t), o); !errors.Is(err, export.ErrRules) {
			t.Errorf("%s: %v", o.Rules, err)
		}
	}
}

// shelf opens what was sealed for a test: the ciphertext is the text, upside down.
type shelf struct{}

func (shelf) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	if s.Subject == "customer:gone" {
		return "", true, nil
	}
	return strings.TrimPrefix(string(s.Cipher), "sealed "), false, nil
}

// Each rule does what it says, in either format; what was touched is marked, keeps its hash, and stands in its seal; commands
// tell nothing to compare with.
func TestMasking(t *testing.T) {
	t.Parallel()
	s, k, dir := newSQLite(t), newKey(t), t.TempDir()
	text := func(subject, plain string) string {
		b, err := json.Marshal(domain.Sealed{Subject: subject, KeyID: "1", Cipher: []byte("sealed " + plain)})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for i, data := range []string{
		fmt.Sprintf(`{"reservation_id":"r","note":%s,"dogs":[{"name":%s},{"name":%s}],"visit_address":%s}`, text("customer:kim", "a note"), text("customer:kim", "콩이"), text("customer:gone", "x"), text("customer:kim", "an address")),
		`{"reservation_id":"r"}`,
		fmt.Sprintf(`{"odd":%s}`, text("customer:kim", "of another time")),
	} {
		id, by := uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), domain.Actor{ID: "kim", Role: "customer"}
		metadata, err := json.Marshal(eventstore.Metadata{CommandID: id, Command: "test", Actor: by})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Append(t.Context(), eventstore.Append{
			Stream: "groomer-1", Key: "groomer-1", Expected: eventstore.AnyRevision, Metadata: metadata, DecidedAt: time.Now(),
			Command: eventstore.Command{ID: id, RequestHash: []byte("tell-tale request hash"), Actor: by.Subject()},
			Events:  []eventstore.NewEvent{{ID: eventstore.EventID(id, "groomer-1", 0), Type: []string{"reservation.requested.v1", "reservation.requested.v1", "forgotten.v1"}[i], Data: []byte(data)}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&seal.Sealer{Store: s, Key: k}).Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := []byte("sixteen bytes or more")
	sum := hmac.New(sha256.New, key)
	sum.Write([]byte("콩이"))
	for name, c := range map[string]struct {
		rules string
		want  map[string]any // of the first event
		other any            // of the third, when it is touched
	}{
		"by field": {
			`{"types":{"reservation.requested.v1":{"note":"drop","dogs[].name":"hash","visit_address":{"replace":"somewhere"}}}}`,
			map[string]any{"dogs": []any{map[string]any{"name": hex.EncodeToString(sum.Sum(nil))}, map[string]any{"name": nil}}, "visit_address": "somewhere"}, nil,
		},
		"by default": {
			`{"default":"open","types":{"reservation.requested.v1":{"visit_address":"drop"}}}`,
			map[string]any{"note": "a note", "dogs": []any{map[string]any{"name": "콩이"}, map[string]any{"name": nil}}}, "of another time",
		},
	} {
		for _, format := range []string{export.JSONL, export.Parquet} {
			t.Run(name+" "+format, func(t *testing.T) {
				o := order(filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+format))
				o.Format, o.Rules, o.MaskKey, o.Texts = format, []byte(c.rules), key, shelf{}
				m := exported(t, s, o)
				touched := uint64(1)
				if c.other != nil {
					touched = 2
				}
				if m.Masked == nil || m.Masked.Events != touched || m.Masked.Opened != (c.other != nil) {
					t.Errorf("the manifest says %+v", m.Masked)
				}
				r := verified(t, o.Path, k)
				if r.Finding != nil || r.Masked != touched || r.Seals != 1 || r.Commands != 3 {
					t.Errorf("%+v: %v", r, r.Finding)
				}
				f, err := export.Open(o.Path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if err := export.Import(t.Context(), f, newSQLite(t), nil); !errors.Is(err, export.ErrMasked) {
					t.Errorf("import: %v", err)
				}
				commands, err := os.ReadFile(o.Path + ".commands")
				if err != nil || strings.Contains(string(commands), "dGVsbC10YWxl") {
					t.Errorf("the commands tell of requests: %s, %v", commands, err)
				}
				if format == export.Parquet {
					return
				}
				b, err := os.ReadFile(o.Path)
				if err != nil {
					t.Fatal(err)
				}
				var data []map[string]any
				for line := range strings.Lines(string(b)) {
					var e struct{ Data map[string]any }
					if err := json.Unmarshal([]byte(line), &e); err != nil {
						t.Fatal(err)
					}
					delete(e.Data, "reservation_id")
					data = append(data, e.Data)
				}
				if diff := cmp.Diff(c.want, data[0]); diff != "" {
					t.Errorf("masked (-want +got):\n%s", diff)
				}
				if _, sealed := data[2]["odd"].(map[string]any); sealed != (c.other == nil) || !sealed && data[2]["odd"] != c.other {
					t.Errorf("of a type that is known no more: %v", data[2])
				}
				// What is marked is not believed where the manifest tells of none, nor is another number of them.
				changed := strings.Replace(string(b), `{"reservation_id":"r"}`, `{"reservation_id":"s"}`, 1)
				for _, forged := range []string{changed, strings.Replace(changed, "\"}\n", "\",\"masked\":true}\n", 1)} {
					if err := os.WriteFile(o.Path, []byte(forged), 0o600); err != nil {
						t.Fatal(err)
					}
					if r := verified(t, o.Path, k); r.Finding == nil || r.Finding.What != seal.Changed {
						t.Errorf("%+v", r.Finding)
					}
				}
			})
		}
	}
}
