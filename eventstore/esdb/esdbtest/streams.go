package esdbtest

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxAppendSize is the real one's default.
const maxAppendSize = 1 << 20

type service struct {
	streams.UnimplementedStreamsServer
	s *Server
}

func (v service) Append(call streams.Streams_AppendServer) error {
	ctx := call.Context()
	if err := v.s.admit(ctx, "Append"); err != nil {
		return err
	}
	first, err := call.Recv()
	if err != nil {
		return err
	}
	options := first.GetOptions()
	stream, expected := string(options.GetStreamIdentifier().GetStreamName()), anyRevision
	switch e := options.GetExpectedStreamRevision().(type) {
	case *streams.AppendReq_Options_Revision:
		expected = int64(e.Revision) //nolint:gosec // the real one casts, too
	case *streams.AppendReq_Options_NoStream:
		expected = noStream
	case *streams.AppendReq_Options_StreamExists:
		expected = streamExists
	}
	var proposed []*streams.AppendReq_ProposedMessage
	size := 0
	for {
		m, err := call.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		p := m.GetProposedMessage()
		if size += 2*len(p.GetMetadata()["type"]) + len(p.GetData()) + len(p.GetCustomMetadata()); size > maxAppendSize {
			return status.Errorf(codes.InvalidArgument, "Maximum Append Size of %d Exceeded.", maxAppendSize)
		}
		proposed = append(proposed, p)
	}
	if stream == "" || stream == "$$" {
		return status.Error(codes.InvalidArgument, "stream name")
	}
	if err := v.s.step(ctx, stream, false); err != nil {
		return err
	}
	done := v.s.content.append(stream, expected, proposed)
	if err := v.s.step(ctx, stream, true); err != nil {
		return err
	}
	return call.SendAndClose(answer(expected, done))
}

func answer(expected int64, done outcome) *streams.AppendResp {
	current := uint64(max(done.current, 0)) //nolint:gosec // not negative
	if done.accepted {
		return &streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{
			CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: current},
			PositionOption: &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{
				CommitPosition: done.position, PreparePosition: done.position,
			}},
		}}}
	}
	wrong := &streams.AppendResp_WrongExpectedVersion{
		CurrentRevisionOption: &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: current},
	}
	if done.current < 0 {
		wrong.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &shared.Empty{}}
	}
	switch expected {
	case noStream:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &shared.Empty{}}
	case streamExists:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &shared.Empty{}}
	default:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: uint64(expected)} //nolint:gosec // not negative here
	}
	return &streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: wrong}}
}

func (v service) Read(r *streams.ReadReq, call streams.Streams_ReadServer) error {
	if err := v.s.admit(call.Context(), "Read"); err != nil {
		return err
	}
	o := r.GetOptions()
	if o.GetSubscription() != nil {
		return v.subscribe(o, call)
	}
	forward := o.GetReadDirection() == streams.ReadReq_Options_Forwards
	var events []*record
	if s := o.GetStream(); s != nil {
		from := uint64(0)
		switch at := s.GetRevisionOption().(type) {
		case *streams.ReadReq_Options_StreamOptions_Revision:
			from = at.Revision
		case *streams.ReadReq_Options_StreamOptions_End:
			from = math.MaxUint64
		}
		var found bool
		if events, found = v.s.content.stream(string(s.GetStreamIdentifier().GetStreamName()), from, forward, o.GetCount()); !found {
			return call.Send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{
				StreamNotFound: &streams.ReadResp_StreamNotFound{StreamIdentifier: s.GetStreamIdentifier()},
			}})
		}
	} else {
		from := uint64(0)
		switch at := o.GetAll().GetAllOption().(type) {
		case *streams.ReadReq_Options_AllOptions_Position:
			from = at.Position.GetCommitPosition()
		case *streams.ReadReq_Options_AllOptions_End:
			from = math.MaxInt64
		}
		var valid bool
		if events, valid = v.s.content.all(from, forward, o.GetCount()); !valid {
			return status.Error(codes.Unknown, "Unexpected ReadAllResult: InvalidPosition")
		}
	}
	for _, e := range events {
		if err := call.Send(appeared(e)); err != nil {
			return err
		}
	}
	return nil
}

// subscribe sends what follows a position until the client or a connection ends it.
func (v service) subscribe(o *streams.ReadReq_Options, call streams.Streams_ReadServer) error {
	if o.GetAll() == nil || o.GetFilter() != nil {
		return status.Error(codes.Unimplemented, "esdbtest: only unfiltered subscriptions to $all")
	}
	from := int64(-1)
	switch at := o.GetAll().GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		from = int64(min(at.Position.GetCommitPosition(), math.MaxInt64)) //nolint:gosec // cut
	case *streams.ReadReq_Options_AllOptions_End:
		from = v.s.content.endPosition()
	}
	if err := call.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
		Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()},
	}}); err != nil {
		return err
	}
	for caughtUp := false; ; {
		events, changed := v.s.content.after(from)
		for _, e := range events {
			if err := call.Send(appeared(e)); err != nil {
				return err
			}
			from = int64(e.position) //nolint:gosec // a test's log is small
		}
		if !caughtUp {
			caughtUp = true
			if err := call.Send(&streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-call.Context().Done():
			return context.Cause(call.Context())
		}
		if err := v.s.admit(call.Context(), "Push"); err != nil { // a server that hangs sends nothing either
			return err
		}
	}
}

func appeared(e *record) *streams.ReadResp {
	meta := maps.Clone(e.proposed.GetMetadata())
	meta["created"] = strconv.FormatInt(e.created.UnixNano()/100, 10)
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{
		Event: &streams.ReadResp_ReadEvent_RecordedEvent{
			Id: e.proposed.GetId(), StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(e.stream)}, StreamRevision: e.revision,
			PreparePosition: e.position, CommitPosition: e.position, Metadata: meta, CustomMetadata: e.proposed.GetCustomMetadata(), Data: e.proposed.GetData(),
		},
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: e.position},
	}}}
}
