package readapi

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/text/language"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/inbox"
)

// Notification is one thing that the caller is told.
type Notification struct {
	ID            string     `json:"id" doc:"Later ones have larger numbers; a talk's changes with its newest message"`
	Kind          string     `json:"kind" enum:"requested,confirmed,moved,declined,expired,cancelled,reminder,message"`
	ReservationID string     `json:"reservation_id,omitempty" doc:"Of all but message"`
	RoomID        string     `json:"room_id,omitempty" doc:"Of message: there is something new in this room"`
	Start         *time.Time `json:"start,omitempty" doc:"Of the visit, as this notification knows it"`
	Text          string     `json:"text" doc:"In Korean or English, as Accept-Language prefers; on the salon's clock"`
	At            time.Time  `json:"at"`
	Read          bool       `json:"read"`
	Parked        bool       `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

type notificationsInput struct {
	ReadHeaders
	Paging
	Unread         bool   `query:"unread" doc:"true: only those that are not read"`
	AcceptLanguage string `header:"Accept-Language" doc:"ko (default) or en" example:"en"`
}

type notificationsOutput struct {
	Mark
	Language string   `header:"Content-Language"`
	Vary     []string `header:"Vary"`
	Body     Page[Notification]
}

func (s screens) registerNotifications(api huma.API) {
	huma.Register(api, operation("list-notifications", "/v1/notifications", "The inbox, newest first", "*"), s.notifications)
}

// notifications reads one person's rows of any ordering key. A row's place is its event's position; a talk moves to the
// front with each message, so a page that was read before may lack it and the first one has it.
func (s screens) notifications(ctx context.Context, in *notificationsInput) (*notificationsOutput, error) {
	who := subject(caller(ctx))
	var before int64
	more, err := decodeCursor(in.Cursor, &before)
	if err != nil {
		return nil, err
	}
	if more && before < 1 {
		return nil, badCursor()
	}
	var rows []inbox.Row
	var mark inbox.Mark
	var parked parkedKeys
	err = s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{inbox.Projection()}}, func(ctx context.Context, snap Snapshot) error {
		parked = snap.Parked("inbox")
		version := snap.Version("inbox")
		marks, err := engine.Query(ctx, snap, inbox.Marks, version, "WHERE receiver = ?", who)
		if err != nil {
			return err
		}
		if len(marks) > 0 {
			mark = marks[0]
		}
		where := conditions{}
		where.add("receiver = ?", who)
		if more {
			where.add("position < ?", before)
		}
		if in.Unread {
			where.add("position > ? AND seen = 0", int64(mark.Through)) //nolint:gosec // positions stay below 2^63
		}
		rows, err = engine.Query(ctx, snap, inbox.Table, version, where.where()+" ORDER BY position DESC LIMIT ?", append(where.args, in.Limit+1)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	lang := languageOf(in.AcceptLanguage)
	out := &notificationsOutput{Language: string(lang), Vary: []string{"Accept-Language"}}
	out.Body, err = page(rows, in.Limit,
		func(r inbox.Row) (Notification, error) {
			n := notification(r, mark, lang)
			key, _, _ := strings.Cut(r.Item, "@") // the groomer, or the room
			n.Parked = parked[key] || parked[who] // of the person: how far the inbox was read
			out.note(n.Parked)
			return n, nil
		},
		func(r inbox.Row) any { return r.Position })
	return out, err
}

// subject is who reads, as rows name a receiver.
func subject(id auth.Identity) string { return id.Role + ":" + id.Sub }

func notification(r inbox.Row, m inbox.Mark, l inbox.Language) Notification {
	n := Notification{
		ID: strconv.FormatUint(r.Position, 10), Kind: r.Kind, ReservationID: r.ReservationID, Start: given(r.StartAt),
		Text: r.Text(l), At: r.At, Read: r.Seen || r.Position <= m.Through,
	}
	if r.Kind == inbox.Message {
		n.ReservationID, n.RoomID = "", r.ReservationID
	}
	return n
}

// languageOf is the language that a caller wants most, of those we have; Korean when none of theirs is.
func languageOf(accept string) inbox.Language {
	spoken := []language.Tag{language.Korean, language.English}
	_, i := language.MatchStrings(language.NewMatcher(spoken), accept)
	if spoken[i] == language.English {
		return inbox.English
	}
	return inbox.Korean
}
