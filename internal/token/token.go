// Package token is the Consistency-Token: what a write answers, so that a later read is never older than it (G8).
//
// A token says up to where the events of which ordering keys must be seen, in which life of the store. It is opaque
// to callers; it is no secret and proves nothing, so a made-up one can only make its own read wait.
package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/dangdangsalon/salon/internal/problem"
)

// MaxEntries is how many entries a token has at most, also after merging several.
const MaxEntries = 8

// maxHeader bounds what is parsed: eight entries of the longest keys fit well.
const maxHeader = 8 << 10

// Entry asks that the events of Key in Topic are seen through Position.
type Entry struct {
	Topic    string `json:"t"`
	Key      string `json:"k"`
	Position uint64 `json:"p"`
}

// Token is what a read waits for. The zero value waits for nothing.
type Token struct {
	Incarnation string  `json:"i"` // of the store: another one began when a standby was promoted or a backup restored
	Entries     []Entry `json:"e"`
}

// String spells the token, safe in URLs and headers; "" for the zero token.
func (t Token) String() string {
	if len(t.Entries) == 0 {
		return ""
	}
	b, err := json.Marshal(t)
	if err != nil {
		panic("token: " + err.Error()) // strings and numbers always marshal
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// Parse reads a Consistency-Token header: several tokens, separated by commas, are merged by the highest position, into
// one for each life of the store. The error is a *problem.Problem: 400 request.invalid for what is not a token or asks for
// more than MaxEntries. "" is no token.
func Parse(header string) ([]Token, error) {
	if len(header) > maxHeader {
		return nil, malformed()
	}
	var merged []Token
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		t, err := parseOne(part)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(merged, func(m Token) bool { return m.Incarnation == t.Incarnation })
		if i < 0 {
			i, merged = len(merged), append(merged, Token{Incarnation: t.Incarnation})
		}
		for _, e := range t.Entries {
			merged[i].add(e)
		}
	}
	entries := 0
	for _, t := range merged {
		entries += len(t.Entries)
	}
	if entries > MaxEntries {
		return nil, problem.Invalid("header.Consistency-Token", "asks for more than eight keys")
	}
	return merged, nil
}

func parseOne(s string) (Token, error) {
	var t Token
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return t, malformed()
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil || d.More() || t.Incarnation == "" || len(t.Entries) == 0 {
		return t, malformed()
	}
	for _, e := range t.Entries {
		if e.Topic == "" || e.Key == "" {
			return t, malformed()
		}
	}
	return t, nil
}

func (t *Token) add(e Entry) {
	for i := range t.Entries {
		if t.Entries[i].Topic == e.Topic && t.Entries[i].Key == e.Key {
			t.Entries[i].Position = max(t.Entries[i].Position, e.Position)
			return
		}
	}
	t.Entries = append(t.Entries, e)
}

func malformed() error {
	return problem.Invalid("header.Consistency-Token", "is not a token of this service")
}
