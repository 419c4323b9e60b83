package eventstore

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
)

// namespace of every identifier derived here. Fixed for ever: changing it would forget every idempotency key.
var namespace = uuid.MustParse("6f2f8f0e-6d0b-5c55-9d4e-2d1a6f9a7c11")

// derive is UUIDv5 over length-prefixed parts, so that ("a","bc") and ("ab","c") differ.
func derive(parts ...string) uuid.UUID {
	var b strings.Builder
	for _, p := range parts {
		b.WriteByte(byte(len(p) >> 24))
		b.WriteByte(byte(len(p) >> 16))
		b.WriteByte(byte(len(p) >> 8))
		b.WriteByte(byte(len(p)))
		b.WriteString(p)
	}
	return uuid.NewSHA1(namespace, []byte(b.String()))
}

// CommandID is the identity of a command: who, what, and the caller's own key for it.
func CommandID(role, sub, method, path, idempotencyKey string) uuid.UUID {
	return derive(role, sub, method, path, idempotencyKey)
}

// EventID is the identity of a command's n-th event, from 0.
func EventID(command uuid.UUID, stream string, n int) uuid.UUID {
	return derive(command.String(), stream, strconv.Itoa(n))
}

// Suffix is the 26 characters by which a new hold, reservation or time off is told apart in its groomer's book,
// derived from the command that makes it: a retry makes the same one.
func Suffix(command uuid.UUID, kind string) string {
	sum := sha256.Sum256(append(command[:], kind...))
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// GroomerStream is one groomer's book.
func GroomerStream(groomerID string) string { return "groomer-" + groomerID }

// ChatStream is the room's stream.
func ChatStream(roomID string) string { return "chat-" + roomID }

// ChatReadStream is one member's read marks in one room.
func ChatReadStream(roomID, role string) string { return "chatread-" + roomID + "-" + role }

// InboxStream is how far a person has read their inbox. Its ordering key is the person, Actor.Subject.
func InboxStream(a domain.Actor) string { return "inbox-" + string(a.Role) + "-" + a.ID }

// AdminStream is what an admin, an analyst or an operator looked at and did; it is not relayed. Its ordering key is the
// person, Actor.Subject.
func AdminStream(a domain.Actor) string { return "admin-" + string(a.Role) + "-" + a.ID }

// GroomerOf is the groomer whose book an ID ("{groomer}.{26 characters}") belongs to; ok is false for other strings.
func GroomerOf(id string) (groomerID string, ok bool) {
	groomerID, suffix, found := strings.Cut(id, ".")
	return groomerID, found && groomerID != "" && len(groomerID) <= 40 && len(suffix) == 26
}
