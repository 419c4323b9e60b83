package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/internal/token"
	"github.com/dangdangsalon/salon/projections/engine"
)

// plants makes one fault of each kind and sees that the comparisons find it: a comparison that cannot fail shows
// nothing. The system is stopped; its read models are spoiled by this.
func plants(t *testing.T, c *cluster, w *town, h past, m models, find finder) {
	reports := func(what string, wrong []string, says string) {
		t.Helper()
		if !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, says) }) {
			t.Errorf("%s: not reported as %q: %v", what, says, wrong)
		}
	}
	cancelled := slices.IndexFunc(h.events, func(e engine.Event) bool { _, ok := e.Event.(groomer.Cancelled); return ok })
	done := w.deeds[slices.IndexFunc(w.deeds, func(d deed) bool { return d.command() == h.events[cancelled].Meta.CommandID })]
	refused := w.deeds[slices.IndexFunc(w.deeds, func(d deed) bool { return d.code != "" })]
	lost := done
	lost.key += "-lost"
	reports("a lost write", h.once(append(slices.Clone(w.deeds), lost), find), "acknowledged and not there")
	without := slices.DeleteFunc(slices.Clone(w.deeds), func(d deed) bool { return d.command() == done.command() })
	reports("a write that nobody was told of", h.once(without, find), "nobody was told")
	stored := done
	stored.code = "slot.taken"
	reports("a refusal that was stored", h.once(append(slices.Clone(w.deeds), stored), find), "refused with slot.taken and stored")
	accepted := refused
	accepted.code = ""
	reports("an answer for what was refused", h.once(append(slices.Clone(w.deeds), accepted), find), "acknowledged and not there")
	misplaced := done
	misplaced.seen.Entries = []token.Entry{{Position: done.seen.Entries[0].Position + 1}}
	reports("a token of another place", h.once(append(slices.Clone(w.deeds), misplaced), find), "was answered with a token")

	middle := len(h.recorded) / 2
	reports("a hole", lacking(h, middle).numbered(), "position")
	reports("an event twice", twice(h, middle).numbered(), "has revision")
	reports("an event of a command twice", twice(h, middle).once(w.deeds, find), "not the event")
	changed := past{recorded: slices.Clone(h.recorded), events: h.events}
	changed.recorded[middle].Data = []byte("{}")
	reports("a changed event", changed.numbered(), "another hash")

	booking := slices.IndexFunc(h.events, func(e engine.Event) bool { _, ok := e.Event.(groomer.Requested); return ok })
	double := twice(h, booking)
	request := double.events[booking+1].Event.(groomer.Requested)
	request.ReservationID += "x"
	double.events[booking+1].Event = request
	reports("a double booking", double.apart(), "takes")

	message := slices.IndexFunc(h.events, func(e engine.Event) bool { _, ok := e.Event.(chat.MessagePosted); return ok })
	reports("a message lost", lacking(h, message).said(w.rooms), "were acknowledged")
	reports("a message twice", twice(h, message).said(w.rooms), "stands twice")

	logs := past{recorded: slices.Clone(h.recorded), events: h.events}
	logs.recorded[middle].Hash[0]++
	reports("another event in the log", must(logged(t.Context(), c.kafka, c.prefix, clusterPartitions, logs))(t), "first occurrence")
	more := past{recorded: append(slices.Clone(h.recorded), h.recorded[middle]), events: h.events}
	reports("an event that the log lacks", must(logged(t.Context(), c.kafka, c.prefix, clusterPartitions, more))(t), "events")

	for _, planted := range []struct{ statement, says string }{
		{"UPDATE reservations_v2 SET status = 'lost' LIMIT 1", "status is lost"},
		{"DELETE FROM chat_messages_v1 LIMIT 1", "chat_messages lacks the row"},
		{"INSERT INTO history_v1 SELECT reservation_id, revision + 100000, groomer_id, customer_id, what, at, actor_id, actor_role, start_at, " +
			"from_start_at, reason, refund_percent, price_krw, ordering_key FROM history_v1 LIMIT 1", "history has the row"},
	} {
		if _, err := m.db.Writer().ExecContext(t.Context(), planted.statement); err != nil {
			t.Fatal(err)
		}
		reports(planted.statement, must(m.equalFold(t.Context(), h))(t), planted.says)
	}
	field, key := aField(t, m, "*slots_v1:calendar_salons:*")
	if err := m.redis.HDel(t.Context(), key, field).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.equalFold(t.Context(), h); err == nil || !strings.Contains(err.Error(), "whole false") {
		t.Errorf("a row lost in Redis: the view answers as if whole: %v", err)
	}
	// One that was not counted is for the comparison to find.
	tag, name, _ := strings.Cut(key, ":calendar_salons:")
	index, progress := tag+":index", tag+":offset"
	for _, err := range []error{
		m.redis.HDel(t.Context(), index, "calendar_salons:"+name).Err(), m.redis.HIncrBy(t.Context(), progress, "hashes", -1).Err(), m.redis.HDel(t.Context(), progress, "lost").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	reports("a row lost in Redis", must(m.equalFold(t.Context(), h))(t), "slots_v1: calendar_salons lacks the row")
}

func lacking(h past, i int) past {
	return past{recorded: slices.Delete(slices.Clone(h.recorded), i, i+1), events: slices.Delete(slices.Clone(h.events), i, i+1)}
}

func twice(h past, i int) past {
	again := h.recorded[i]
	return past{recorded: slices.Insert(slices.Clone(h.recorded), i+1, again), events: slices.Insert(slices.Clone(h.events), i+1, h.events[i])}
}

// aField is a field of some hash in Redis.
func aField(t *testing.T, m models, pattern string) (field, key string) {
	t.Helper()
	keys, err := m.redis.Keys(t.Context(), pattern).Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("no key like %s: %v", pattern, err)
	}
	fields, err := m.redis.HKeys(t.Context(), keys[0]).Result()
	if err != nil || len(fields) == 0 {
		t.Fatalf("%s is empty: %v", keys[0], err)
	}
	return fields[0], keys[0]
}
