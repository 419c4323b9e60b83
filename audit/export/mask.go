package export

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Rules say what becomes of personal fields in an export. As a file:
//
//	{
//	  "default": "keep",
//	  "types": {
//	    "reservation.requested.v1": {"note": "drop", "dogs[].name": "hash", "phone": {"replace": "010-0000-0000"}},
//	    "chat.message_posted.v1":   {"text": "open"}
//	  }
//	}
//
// A field that no rule names, of whatever event, is dealt with as default says; without one it is kept.
type Rules struct {
	Default Rule                       `json:"default"`
	Types   map[string]map[string]Rule `json:"types"` // by event type and field
}

// Rule is what becomes of a field: the name of what is done, or {"replace": TEXT}.
type Rule struct {
	Do   string
	With string // of Replaced
}

// What can be done.
const (
	Kept     = "keep"    // it stays sealed; the zero rule
	Dropped  = "drop"    // it is left out
	Replaced = "replace" // every text by the same one
	Hashed   = "hash"    // HMAC-SHA256 of the text under a key: who has the same text shows, and the text does not
	Opened   = "open"    // the text, in the clear
)

// UnmarshalJSON implements json.Unmarshaler.
func (r *Rule) UnmarshalJSON(b []byte) error {
	with := struct {
		Replace *string `json:"replace"`
	}{}
	if err := json.Unmarshal(b, &r.Do); err == nil {
		switch r.Do {
		case Kept, Dropped, Hashed, Opened:
			return nil
		}
	} else if err := strict(b, &with); err == nil && with.Replace != nil {
		*r = Rule{Replaced, *with.Replace}
		return nil
	}
	return fmt.Errorf(`%s is no rule: there are "keep", "drop", "hash", "open" and {"replace": TEXT}`, b)
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is more behind its end")
	}
	return nil
}

// ErrRules says that rules cannot be followed.
var ErrRules = errors.New("the rules of what is masked")

// ParseRules reads rules, and refuses types and fields that the catalogue does not have.
func ParseRules(b []byte) (r Rules, err error) {
	refused := func(why string, args ...any) (Rules, error) {
		return Rules{}, fmt.Errorf("%w: %s", ErrRules, fmt.Sprintf(why, args...))
	}
	if err := strict(b, &r); err != nil {
		return refused("%v", err)
	}
	catalog := eventstore.Catalog()
	for eventType, fields := range r.Types {
		there := catalog.Personal(eventType)
		if len(there) == 0 {
			var types []string
			for _, t := range catalog.Types() {
				if len(catalog.Personal(t)) > 0 {
					types = append(types, t)
				}
			}
			return refused("no event type %q has personal fields; these have: %s", eventType, strings.Join(types, ", "))
		}
		for field := range fields {
			if !strings.Contains("\n"+strings.Join(there, "\n")+"\n", "\n"+field+"\n") {
				return refused("%s has no personal field %q; it has: %s", eventType, field, strings.Join(there, ", "))
			}
		}
	}
	return r, nil
}

// of is the rule of a field.
func (r Rules) of(eventType, field string) Rule {
	if rule, there := r.Types[eventType][field]; there {
		return rule
	}
	return r.Default
}

// Uses reports whether anything is dealt with in one of these ways.
func (r Rules) Uses(ways ...string) bool {
	uses := func(rule Rule) bool {
		for _, w := range ways {
			if rule.Do == w {
				return true
			}
		}
		return false
	}
	for _, fields := range r.Types {
		for _, rule := range fields {
			if uses(rule) {
				return true
			}
		}
	}
	return uses(r.Default)
}

// Texts opens personal ones.
type Texts interface {
	Open(ctx context.Context, s domain.Sealed) (plain string, erased bool, err error)
}

// Masked is what a manifest says of it. An event of which a field was dropped, replaced, hashed or opened keeps its hash, and is
// marked: that it is the hash of this event cannot be told any more. Request hashes of commands are as an erasure leaves them,
// so that nothing can be guessed by them; what seals cover of commands stays.
type Masked struct {
	Rules  string `json:"rules_sha256"`
	Key    string `json:"key,omitempty"` // tells keys of hashes apart
	Opened bool   `json:"opened"`        // some texts are in the clear
	Events uint64 `json:"events"`        // how many are marked
}

// mask follows rules. Of a nil one nothing is masked.
type mask struct {
	rules Rules
	said  Masked
	key   []byte
	texts Texts
}

// leastMaskKey is how many bytes a key of hashes has at least.
const leastMaskKey = 16

func (o Order) mask() (*mask, error) {
	if o.Rules == nil {
		return nil, nil //nolint:nilnil // nothing is masked
	}
	rules, err := ParseRules(o.Rules)
	if err != nil {
		return nil, err
	}
	m := &mask{rules: rules, key: o.MaskKey, texts: o.Texts, said: Masked{Opened: rules.Uses(Opened)}}
	sum := sha256.Sum256(o.Rules)
	m.said.Rules = hexOf(sum[:])
	if rules.Uses(Hashed) {
		if len(m.key) < leastMaskKey {
			return nil, fmt.Errorf("%w: hashes need a key of at least %d bytes", ErrRules, leastMaskKey)
		}
		m.said.Key = m.hash("")[:16]
	}
	if rules.Uses(Hashed, Opened) && m.texts == nil {
		return nil, fmt.Errorf("%w: hashes and texts in the clear need the master key", ErrRules)
	}
	return m, nil
}

func (m *mask) hash(text string) string {
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(text))
	return hexOf(h.Sum(nil))
}

// manifest is what is said before the first event.
func (m *mask) manifest() *Masked {
	if m == nil {
		return nil
	}
	said := m.said
	return &said
}

// command is one without what a request could be compared with.
func (m *mask) command(c eventstore.Accepted) eventstore.Accepted {
	if m != nil && !eventstore.IsErasedRequestHash(c.RequestHash) {
		c.RequestHash = eventstore.ErasedRequestHash(c.RequestHash)
	}
	return c
}

// event masks what is personal in an event.
func (m *mask) event(ctx context.Context, r eventstore.Recorded) (event, error) {
	if m == nil || !bytes.Contains(r.Data, []byte(`"c"`)) {
		return event{Recorded: r}, nil
	}
	d := json.NewDecoder(bytes.NewReader(r.Data))
	d.UseNumber()
	var data any
	if err := d.Decode(&data); err != nil {
		return event{Recorded: r}, nil //nolint:nilerr // it has no fields
	}
	w := masking{mask: m, ctx: ctx, eventType: r.Type}
	data, _, err := w.value(data, "")
	if err == nil && w.touched {
		r.Data, err = json.Marshal(data)
	}
	if err != nil {
		return event{}, fmt.Errorf("mask the event at position %d: %w", r.Position, err)
	}
	return event{Recorded: r, masked: w.touched}, nil
}

// masking is one event's.
type masking struct {
	*mask

	ctx       context.Context
	eventType string
	touched   bool
}

// value masks a value and what is within it; keep is false of one that is to be left out.
func (w *masking) value(v any, at string) (masked any, keep bool, err error) {
	switch v := v.(type) {
	case map[string]any:
		if s, ok := sealedText(v); ok {
			return w.text(v, s, strings.TrimPrefix(at, "."))
		}
		for k, x := range v {
			if v[k], keep, err = w.value(x, at+"."+k); err != nil {
				return nil, false, err
			} else if !keep {
				delete(v, k)
			}
		}
	case []any:
		for i, x := range v {
			if v[i], keep, err = w.value(x, at+"[]"); err != nil {
				return nil, false, err
			} else if !keep {
				v[i] = nil // its place stays
			}
		}
	}
	return v, true, nil
}

// text masks a personal text. One that was erased is null where it would be opened or hashed.
func (w *masking) text(v any, s domain.Sealed, field string) (masked any, keep bool, err error) {
	rule := w.rules.of(w.eventType, field)
	if rule.Do == Kept || rule.Do == "" || len(s.Cipher) == 0 {
		return v, true, nil
	}
	w.touched = true
	switch rule.Do {
	case Dropped:
		return nil, false, nil
	case Replaced:
		return rule.With, true, nil
	}
	plain, erased, err := w.texts.Open(w.ctx, s)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("%s: %w", field, err)
	case erased:
		return nil, true, nil
	case rule.Do == Hashed:
		return w.hash(plain), true, nil
	}
	return plain, true, nil
}

// sealedText tells whether a value is a personal text, also in an event of a type that is known no more.
func sealedText(o map[string]any) (s domain.Sealed, ok bool) {
	subject, hasSubject := o["s"].(string)
	key, hasKey := o["k"].(string)
	cipher, hasCipher := o["c"].(string)
	b, err := base64.StdEncoding.DecodeString(cipher)
	return domain.Sealed{Subject: subject, KeyID: key, Cipher: b}, len(o) == 3 && hasSubject && hasKey && hasCipher && err == nil
}
