package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
)

// mostOfViews bounds the histories from which views are filled: of more, the rates are the same.
const mostOfViews = 300_000

// views measures how fast a view of a version that was just built is filled in Redis from its tables, for both views that
// there are. Its keys are those of a version that nobody else has.
func (b *rebuildBench) views(ctx context.Context, servers config.Servers) error {
	options, err := redis.ParseURL(servers.Redis)
	if err != nil {
		return usage(errors.New("--redis is not a valid redis:// URL"))
	}
	client := redis.NewClient(options)
	defer client.Close()
	events := min(mostOfViews, b.sizes[len(b.sizes)-1])
	version := 1_000_000 + int(time.Now().UnixMilli()%1_000_000_000)
	for _, v := range []struct {
		workload

		view engine.Projection
	}{
		{workload{"free slots", calendar.Projection(), bookings}, calendar.View()},
		{workload{"chat rooms", chatrooms.Projection(), messages}, chatrooms.View()},
	} {
		v.of.Version, v.view.Version = version, version
		if err := b.view(ctx, servers, client, v.workload, v.view, events); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	return nil
}

func (b *rebuildBench) view(ctx context.Context, servers config.Servers, client *redis.Client, w workload, view engine.Projection, events int) (err error) {
	b.say("%s: making %d events, and the tables behind the view …", w.name, events)
	past, err := b.fill(ctx, servers.Events, w.history(events))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, past.store.Close(), past.drop(context.WithoutCancel(ctx))) }()
	db, drop, err := b.reads(ctx, servers.Reads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
	built, _, err := b.rebuild(ctx, db, past.store, w.of, servers.Topics.Partitions)
	if err != nil {
		return err
	}
	// As a projector notes it that sees the topic.
	if _, err := db.Writer().ExecContext(ctx, "INSERT INTO projection_topics (topic, partitions, topic_id) VALUES (?, ?, '')", w.of.Topics[0], servers.Topics.Partitions); err != nil {
		return fmt.Errorf("note the topic: %w", err)
	}
	views := engine.Views{DB: db, Redis: client}
	var rowsRate, eventsRate, whole []sample
	for round := range b.rounds {
		began := time.Now()
		rows, err := views.Fill(ctx, view)
		took := time.Since(began)
		if err := errors.Join(err, views.Remove(context.WithoutCancel(ctx), view, nil)); err != nil {
			return err
		}

		b.say("round %d: %d rows of %s in %v", round+1, rows, view.Name, took.Round(time.Millisecond))
		rowsRate = append(rowsRate, sample{Rate: float64(rows) / took.Seconds()})
		eventsRate = append(eventsRate, sample{Rate: float64(events) / took.Seconds()})
		whole = append(whole, sample{Rate: float64(events) / (took + lasted(built)).Seconds()})
	}
	what := fmt.Sprintf("%s: %d events in Redis", w.name, events)
	b.report.atLeast(what+", from the tables", median(eventsRate, rate), "/s", 80_000)
	b.report.plain(what+", rows of them", median(rowsRate, rate), "/s")
	b.report.plain(what+", from the store, through the tables", median(whole, rate), "/s")
	return nil
}
