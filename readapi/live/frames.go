package live

import (
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"github.com/dangdangsalon/salon/readapi"
)

// Subprotocol is what a client offers and the server chooses. A browser, which cannot set headers, offers its token
// beside it: "bearer." and the JWT.
const (
	Subprotocol  = "salon.v1"
	BearerPrefix = "bearer."
)

// Close codes. Those below 4000 are RFC 6455's.
const (
	CloseRestart websocket.StatusCode = 1012 // this node ends: connect again, to another
	CloseExpired websocket.StatusCode = 4401 // the token expired: connect again with a new one
	CloseSlow    websocket.StatusCode = 4408 // the client read nothing for too long
	CloseAbuse   websocket.StatusCode = websocket.StatusPolicyViolation
)

// Frames of a client. Each is one JSON object in a text message.
type (
	// Subscribe asks for all messages of a room after one: those that are there, then those that come.
	Subscribe struct {
		Type     string `json:"type" enum:"subscribe"`
		RoomID   string `json:"room_id"`
		AfterSeq uint64 `json:"after_seq,omitzero" doc:"The last message that the client has; 0: none"`
	}
	// Unsubscribe ends it.
	Unsubscribe struct {
		Type   string `json:"type" enum:"unsubscribe"`
		RoomID string `json:"room_id"`
	}
	// Post says something. Sent again under the same ID it is the same message, for ever.
	Post struct {
		Type            string `json:"type" enum:"post"`
		RoomID          string `json:"room_id"`
		ClientMessageID string `json:"client_message_id" doc:"The sender's own: 1 to 64 printable ASCII characters without spaces"`
		Text            string `json:"text,omitzero" doc:"1 to 2,000 characters; either this or image_url"`
		ImageURL        string `json:"image_url,omitzero" doc:"An https URL"`
	}
	// Read notes how far the client has read. A mark never goes back.
	Read struct {
		Type   string `json:"type" enum:"read"`
		RoomID string `json:"room_id"`
		Seq    uint64 `json:"seq"`
	}
	// Typing tells the others that somebody is writing. It is kept nowhere.
	Typing struct {
		Type   string `json:"type" enum:"typing"`
		RoomID string `json:"room_id"`
	}
	// Ping asks for a Pong, for clients that do not see the protocol's own.
	Ping struct {
		Type string `json:"type" enum:"ping"`
	}
)

// Frames of the server.
type (
	// Subscribed answers a Subscribe. HeadSeq is the last message that there is for the client: whoever is told a lower
	// one than they have is looking at a store that was restored, and starts over.
	Subscribed struct {
		Type    string `json:"type" enum:"subscribed"`
		RoomID  string `json:"room_id"`
		HeadSeq uint64 `json:"head_seq"`
	}
	// Message is the room's next message. Seqs come without holes, none twice.
	Message struct {
		Type string `json:"type" enum:"message"`
		readapi.Message
	}
	// Posted answers a Post: the message is on disk, and never another.
	Posted struct {
		Type             string    `json:"type" enum:"posted"`
		RoomID           string    `json:"room_id"`
		ClientMessageID  string    `json:"client_message_id"`
		Seq              uint64    `json:"seq"`
		SentAt           time.Time `json:"sent_at"`
		ConsistencyToken string    `json:"consistency_token,omitzero" doc:"For HTTP reads that must show this message"`
	}
	// HasRead tells that the other side has read up to and with Seq.
	HasRead struct {
		Type   string         `json:"type" enum:"read"`
		RoomID string         `json:"room_id"`
		Reader readapi.Person `json:"reader"`
		Seq    uint64         `json:"seq"`
	}
	// IsTyping tells that the other side is writing.
	IsTyping struct {
		Type   string         `json:"type" enum:"typing"`
		RoomID string         `json:"room_id"`
		Sender readapi.Person `json:"sender"`
	}
	// Presence tells whether the other side has a socket open in this room, on any node.
	Presence struct {
		Type   string         `json:"type" enum:"presence"`
		RoomID string         `json:"room_id"`
		Member readapi.Person `json:"member"`
		Online bool           `json:"online"`
	}
	// Resync ends a subscription that fell behind: the client subscribes again after what it has.
	Resync struct {
		Type    string `json:"type" enum:"resync"`
		RoomID  string `json:"room_id"`
		FromSeq uint64 `json:"from_seq" doc:"The first message that was not sent"`
	}
	// Pong answers a Ping.
	Pong struct {
		Type string `json:"type" enum:"pong"`
	}
	// Error refuses a frame, or ends a subscription: its code is one of HTTP's (room.unknown, room.left, rate.limited…).
	Error struct {
		Type            string `json:"type" enum:"error"`
		Code            string `json:"code"`
		Frame           string `json:"frame,omitzero" doc:"The type of the client's frame that was refused, when that is known; subscribe also when a subscription fails later"`
		RoomID          string `json:"room_id,omitzero"`
		ClientMessageID string `json:"client_message_id,omitzero" doc:"Of the Post that was refused"`
		Detail          string `json:"detail,omitzero" doc:"For people; the wording may change"`
		RetryAfter      int    `json:"retry_after,omitzero" doc:"Seconds after which it may be tried again"`
	}
)

// maxFrame is the longest frame of a client, in bytes: a text of 2,000 characters, each spelled as two \u escapes, fits.
const maxFrame = 32 << 10

// parse reads a client's frame: a pointer to one of its types. Nothing is forgiven: unknown members, another letter
// case, repeated names and broken UTF-8 are refused.
func parse(frame []byte) (any, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(frame, &kind); err != nil {
		return nil, errors.New("a frame is one JSON object with a type")
	}
	var into any
	switch kind.Type {
	case "subscribe":
		into = &Subscribe{}
	case "unsubscribe":
		into = &Unsubscribe{}
	case "post":
		into = &Post{}
	case "read":
		into = &Read{}
	case "typing":
		into = &Typing{}
	case "ping":
		into = &Ping{}
	default:
		return nil, errors.New("type: expected subscribe, unsubscribe, post, read, typing or ping")
	}
	if err := json.Unmarshal(frame, into, json.RejectUnknownMembers(true)); err != nil {
		return nil, &malformedError{kind.Type}
	}
	return into, nil
}

// malformedError is of a frame that says what it is, and is not.
type malformedError struct{ frame string }

func (e *malformedError) Error() string {
	return "this " + e.frame + " frame has members or values that it cannot have"
}

// encode writes a frame of the server.
func encode(frame any) []byte {
	b, err := json.Marshal(frame)
	if err != nil {
		panic(fmt.Sprintf("live: %T: %v", frame, err)) // our own types
	}
	return b
}

// ParseServer reads a frame of the server, for clients: a pointer to one of its types, nil for a type of a later release.
func ParseServer(frame []byte) (any, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(frame, &kind); err != nil {
		return nil, fmt.Errorf("read a frame: %w", err)
	}
	var into any
	switch kind.Type {
	case "subscribed":
		into = &Subscribed{}
	case "message":
		into = &Message{}
	case "posted":
		into = &Posted{}
	case "read":
		into = &HasRead{}
	case "typing":
		into = &IsTyping{}
	case "presence":
		into = &Presence{}
	case "resync":
		into = &Resync{}
	case "pong":
		into = &Pong{}
	case "error":
		into = &Error{}
	default:
		return nil, nil //nolint:nilnil // nothing to see, and no fault
	}
	if err := json.Unmarshal(frame, into); err != nil {
		return nil, fmt.Errorf("read a %s frame: %w", kind.Type, err)
	}
	return into, nil
}
