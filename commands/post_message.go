package commands

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/problem"
)

// PostMessage is a text or an image for a room.
type PostMessage struct {
	ClientMessageID string `json:"client_message_id" pattern:"^[!-~]{1,64}$" doc:"The sender's own: a message sent again under it is the same message"`
	Text            string `json:"text,omitempty" minLength:"1" maxLength:"2000"`
	ImageURL        string `json:"image_url,omitempty" maxLength:"1000" doc:"An https URL"`
}

// What the tags of PostMessage say, too.
const maxText, maxImageURL = 2000, 1000

// Resolve refuses both or neither. huma calls it.
func (r *PostMessage) Resolve(huma.Context) []error {
	if err := r.Check(); err != nil {
		return []error{err}
	}
	return nil
}

var clientMessageID = regexp.MustCompile(`^[!-~]{1,64}$`)

// Check says what is wrong with a message, whether or not it came through the schema.
func (r *PostMessage) Check() error {
	switch {
	case !clientMessageID.MatchString(r.ClientMessageID):
		return &huma.ErrorDetail{Location: "body.client_message_id", Message: "expected 1 to 64 printable ASCII characters without spaces"}
	case utf8.RuneCountInString(r.Text) > maxText:
		return &huma.ErrorDetail{Location: "body.text", Message: "expected at most 2000 characters"}
	case len(r.ImageURL) > maxImageURL:
		return &huma.ErrorDetail{Location: "body.image_url", Message: "expected at most 1000 characters"}
	}
	if (r.Text == "") == (r.ImageURL == "") {
		return &huma.ErrorDetail{Location: "body.text", Message: "expected either text or image_url"}
	}
	if r.ImageURL != "" {
		if u, err := url.Parse(r.ImageURL); err != nil || u.Scheme != "https" || u.Host == "" {
			return &huma.ErrorDetail{Location: "body.image_url", Message: "expected an https URL"}
		}
	}
	return nil
}

// PostMessageID is the command of a post, by HTTP or live: the sender's own ID of the message tells it apart.
func PostMessageID(by domain.Actor, room, clientMessageID string) uuid.UUID {
	return eventstore.CommandID(string(by.Role), by.ID, "post_message", room, clientMessageID)
}

// PostMessage decides and records. Seq of the state is the message's, At when it was sent.
//
// A sender who is too fast is refused with 429 rate.limited before anything is looked at, whatever the post would have come
// to: made-up rooms and repeats cost reads, too. A repeat that comes in time gets its answer.
func (x *Executor) PostMessage(ctx context.Context, m Meta, room string, r PostMessage) (Result[chat.Room], error) {
	posted, _, err := x.postMessage(ctx, m, room, r)
	return posted, err
}

// postMessage also tells what was recorded, sealed as it is.
func (x *Executor) postMessage(ctx context.Context, m Meta, room string, r PostMessage) (posted Result[chat.Room], message chat.Message, err error) {
	if wait, ok := x.posts.Take(m.Actor.Subject()); !ok {
		return posted, message, problem.RateLimited("too many messages; slow down", wait)
	}
	entry, err := x.enter(room)
	if err != nil {
		return posted, message, err
	}
	s := x.sealing(ctx, m.Actor)
	message = chat.Message{ClientMessageID: r.ClientMessageID, Text: s.text(r.Text), ImageURL: s.text(r.ImageURL)}
	if s.err != nil {
		return posted, message, s.err
	}
	posted, err = Execute(ctx, x, entry.Target, m, func(c chat.Room, _ time.Time) ([]domain.Event, error) {
		return c.Post(room, entry.members, m.Actor, message)
	})
	return posted, message, err
}

// PostedMessage is where a message stands.
type PostedMessage struct {
	RoomID string    `json:"room_id"`
	Seq    uint64    `json:"seq"`
	SentAt time.Time `json:"sent_at"`
}

// Said is a message that came by a socket and was recorded.
type Said struct {
	PostedMessage
	Token   string       // for reads that must show it
	Message chat.Message // as it was recorded: sealed
	// Revision is its event's, by which it can be told whether anything stands between it and what is known of the room.
	// Of a message that was recorded before, it is -1.
	Revision int64
}

// Say posts a message that came by a socket.
func (x *Executor) Say(ctx context.Context, by domain.Actor, room string, r PostMessage) (Said, error) {
	if err := r.Check(); err != nil {
		var wrong *huma.ErrorDetail
		errors.As(err, &wrong)
		return Said{}, problem.New(http.StatusBadRequest, "request.invalid", strings.TrimPrefix(wrong.Location, "body.")+": "+wrong.Message)
	}
	m, err := x.NewMeta(ctx, by, "post_message", PostMessageID(by, room, r.ClientMessageID), r)
	if err != nil {
		return Said{}, err
	}
	posted, message, err := x.postMessage(ctx, m, room, r)
	if err != nil {
		return Said{}, err
	}
	said := Said{PostedMessage{room, posted.State.Seq, posted.At}, tokenOf(x, posted), message, int64(posted.Revision)}
	if posted.Replayed {
		said.Revision = -1
	}
	return said, nil
}

func (x *Executor) servePostMessage(api huma.API) {
	type input struct {
		WriteHeaders
		RoomID string `path:"room_id" maxLength:"70"`
		Body   PostMessage
	}
	type output struct {
		Answer
		Body PostedMessage
	}
	op := httpserver.Operation("post-message", http.MethodPost, "/v1/chat/rooms/{room_id}/messages", "Say something", "customer", "groomer")
	op.DefaultStatus = http.StatusCreated
	huma.Register(api, op, func(ctx context.Context, in *input) (*output, error) {
		by, err := actor(ctx)
		if err != nil {
			return nil, err
		}
		in.IdempotencyKey = in.Body.ClientMessageID // also of posts that come by a socket
		m, err := x.metaWithID(ctx, by, "post_message", PostMessageID(by, in.RoomID, in.Body.ClientMessageID), in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.PostMessage(ctx, m, in.RoomID, in.Body)
		if err != nil {
			return nil, err
		}
		return &output{answer(x, in.WriteHeaders, r, uint64(r.Revision)), PostedMessage{in.RoomID, r.State.Seq, r.At}}, nil //nolint:gosec // the stream has events
	})
}
