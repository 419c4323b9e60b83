package main

import (
	"context"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/internal/telemetry"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/readapi/live"
)

// newGateway is the live gateway over what this process has: it posts with the executor, and reads the store beside it.
func (n *node) newGateway(keys *sealed.Keys) *live.Gateway {
	g := live.New(live.Config{
		Brokers: n.servers.Brokers(), TopicPrefix: n.servers.Topics.TopicPrefix, Decode: chatrooms.Changes(codec()),
		Commands: speech{n.executor}, Store: stream{n.store, codec()}, Reads: n.reads, Redis: n.redis, Texts: keys, Log: n.tel.Log, Origins: n.http.CORSOrigins,
		Delivered: n.tel.Metrics.LiveDelay,
	})
	n.tel.Metrics.Live(func() telemetry.LiveNumbers {
		s := g.Status()
		return telemetry.LiveNumbers{
			Follows: s.Placed && s.Trouble == "",
			Sockets: s.Sockets, Rooms: s.Rooms, WindowBytes: s.WindowBytes,
			Messages: s.Delivered, Frames: s.Frames, Bytes: s.Bytes, Resyncs: s.Resyncs, PageReads: s.PageReads, StoreReads: s.StoreReads,
		}
	})
	return g
}

// speech is the write side as sockets use it.
type speech struct{ x *commands.Executor }

func (s speech) Enter(ctx context.Context, room string) (live.Membership, error) {
	r, err := s.x.Enter(ctx, room)
	if err != nil {
		return live.Membership{}, err
	}
	m := live.Membership{CustomerID: r.Members.CustomerID, GroomerID: r.Members.GroomerID, HeadSeq: r.Seq, Revision: r.Revision}
	for of, left := range map[**uint64]chat.Left{&m.CustomerLeft: r.CustomerLeft, &m.GroomerLeft: r.GroomerLeft} {
		if left.Gone {
			*of = &left.Seq
		}
	}
	return m, nil
}

func (s speech) Post(ctx context.Context, by auth.Identity, p live.Post) (live.Posted, chatrooms.Change, error) {
	said, err := s.x.Say(ctx, actorOf(by), p.RoomID, commands.PostMessage{ClientMessageID: p.ClientMessageID, Text: p.Text, ImageURL: p.ImageURL})
	if err != nil {
		return live.Posted{}, chatrooms.Change{}, err
	}
	return live.Posted{Seq: said.Seq, SentAt: said.SentAt, ConsistencyToken: said.Token}, chatrooms.Change{
		Room: p.RoomID, Revision: said.Revision, Message: &chatrooms.Message{
			RoomID: p.RoomID, Seq: said.Seq, SenderID: by.Sub, SenderRole: by.Role, ClientID: p.ClientMessageID,
			Text: said.Message.Text, ImageURL: said.Message.ImageURL, SentAt: said.SentAt,
		},
	}, nil
}

func (s speech) MarkRead(ctx context.Context, by auth.Identity, room string, seq uint64) error {
	return s.x.MarkReadLive(ctx, actorOf(by), room, commands.MarkRead{Seq: seq})
}

func actorOf(id auth.Identity) domain.Actor {
	return domain.Actor{ID: id.Sub, Role: domain.Role(id.Role)}
}

// stream reads a room's messages from the event store.
type stream struct {
	store eventstore.Store
	codec *eventstore.Codec
}

// Messages reads on from the revision below which seq from cannot be: the room's opening stands before its first message.
func (t stream) Messages(ctx context.Context, room string, from uint64, limit int) (out []chatrooms.Message, err error) {
	for r, err := range t.store.ReadStream(ctx, eventstore.ChatStream(room), eventstore.Revision(from)) { //nolint:gosec // seqs stay below 2^63
		if err != nil {
			return nil, err
		}
		c, err := chatrooms.ChangeOf(t.codec, r)
		if err != nil {
			return nil, err
		}
		if c.Message != nil && c.Message.Seq >= from {
			if out = append(out, *c.Message); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}
