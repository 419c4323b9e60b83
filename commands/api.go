package commands

import (
	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/token"
)

// Answer is the headers of every successful write. Answers embed it.
type Answer struct {
	ConsistencyToken string `header:"Consistency-Token" doc:"Give it to a read that must not be older than this write."`
	ETag             string `header:"ETag"`
	IdempotencyKey   string `header:"Idempotency-Key" doc:"The key of this write: the caller's, or the one made for it."`
	Replayed         string `header:"Idempotent-Replayed" doc:"true when this key was answered before and this is that answer."`
}

// answer fills the headers. revision is what the ETag names.
func answer[S any](x *Executor, h WriteHeaders, r Result[S], revision uint64) Answer {
	a := Answer{IdempotencyKey: h.IdempotencyKey, ETag: etag(revision)}
	if r.Replayed {
		a.Replayed = "true"
	}
	a.ConsistencyToken = tokenOf(x, r)
	return a
}

// tokenOf is what a read is given that must show this write; "" for one that no read shows.
func tokenOf[S any](x *Executor, r Result[S]) string {
	topic := wire.TopicOf(r.Stream)
	if topic == "" || r.Position == 0 {
		return ""
	}
	return token.Token{Incarnation: x.incarnation(), Entries: []token.Entry{{Topic: topic, Key: r.Key, Position: r.Position}}}.String()
}

// noBody is a success that has nothing to show.
type noBody struct{ Answer }

// Register adds every write of API.md to the API.
func Register(api huma.API, x *Executor) {
	x.serveRegisterGroomer(api)
	x.serveAddTimeOff(api)
	x.serveRemoveTimeOff(api)
	x.serveHoldSlot(api)
	x.serveReleaseHold(api)
	x.serveReserve(api)
	x.serveConfirm(api)
	x.serveDecline(api)
	x.serveCancel(api)
	x.serveReschedule(api)
	x.serveCheckIn(api)
	x.serveComplete(api)
	x.serveNoShow(api)
	x.servePostMessage(api)
	x.serveMarkRead(api)
	x.serveLeaveRoom(api)
	x.serveReadInbox(api)
}
