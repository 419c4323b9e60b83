package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/admin"
)

// The oldest record that is missing is looked for in the log: at an offset, or where retention has left the first.
func TestTheOldestRecordIsReadFromTheLog(t *testing.T) {
	t.Parallel()
	broker := harness.NewBroker(t)
	s := config.Servers{Kafka: broker.Addr, Topics: config.Topics{TopicPrefix: "mine."}}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	kafka := kadm.NewClient(client)
	if _, err := kafka.CreateTopics(t.Context(), 3, 1, nil, "mine.a", "mine.b"); err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	at := func(part int32, offset int) time.Time {
		return began.Add(time.Duration(part)*time.Hour + time.Duration(offset)*time.Minute)
	}
	for topic, part := range map[string]int32{"mine.a": 0, "mine.b": 2} {
		for offset := range 10 {
			r := &kgo.Record{Topic: topic, Partition: part, Headers: []kgo.RecordHeader{{Key: "ce_time", Value: []byte(at(part, offset).Format(time.RFC3339Nano))}}}
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, b := admin.Partition{Topic: "a", Part: 0}, admin.Partition{Topic: "b", Part: 2}
	for name, c := range map[string]struct {
		of   map[admin.Partition]int64
		want map[admin.Partition]time.Time
	}{
		"in the midst": {map[admin.Partition]int64{a: 4, b: 9}, map[admin.Partition]time.Time{a: at(0, 4), b: at(2, 9)}},
		"one of them":  {map[admin.Partition]int64{b: 0}, map[admin.Partition]time.Time{b: at(2, 0)}},
	} {
		got, err := recordedAt(t.Context(), s, c.of)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	gone := kadm.Offsets{}
	gone.Add(kadm.Offset{Topic: "mine.a", Partition: 0, At: 6})
	if _, err := kafka.DeleteRecords(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	got, err := recordedAt(t.Context(), s, map[admin.Partition]int64{a: 2})
	if err != nil || !got[a].Equal(at(0, 6)) {
		t.Errorf("after retention: %v, %v", got, err)
	}
}
