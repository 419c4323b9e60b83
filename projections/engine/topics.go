package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Partitions reads how many partitions a topic has, as the projector last saw it; 0 when it has not seen it yet.
func Partitions(ctx context.Context, q reads.Queryer, topic string) (int, error) {
	n, _, err := notedTopic(ctx, q, topic)
	return n, err
}

func notedTopic(ctx context.Context, q reads.Queryer, topic string) (partitions int, id string, err error) {
	err = q.QueryRowContext(ctx, "SELECT partitions, topic_id FROM projection_topics WHERE topic = ?", topic).Scan(&partitions, &id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, "", fmt.Errorf("read what is noted of topic %s: %w", topic, err)
	}
	return partitions, id, nil
}

// noteTopic tells the read side how many partitions a topic has, and which topic of that name it is. Another one than
// was noted before is a TopicReplacedError, unless it is to be accepted.
func noteTopic(ctx context.Context, db *reads.DB, topic string, partitions int, id string, accept bool) error {
	put := "INSERT INTO projection_topics (topic, partitions, topic_id) VALUES (?, ?, ?) "
	switch {
	case db.Dialect() == reads.MySQL && accept:
		put += "ON DUPLICATE KEY UPDATE partitions = VALUES(partitions), topic_id = VALUES(topic_id)"
	case db.Dialect() == reads.MySQL:
		put += "ON DUPLICATE KEY UPDATE topic = VALUES(topic)" // nothing; IGNORE would hide other errors
	case accept:
		put += "ON CONFLICT (topic) DO UPDATE SET partitions = excluded.partitions, topic_id = excluded.topic_id"
	default:
		put += "ON CONFLICT (topic) DO NOTHING"
	}
	return db.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, put, topic, partitions, id); err != nil {
			return fmt.Errorf("note topic %s: %w", topic, err)
		}
		_, noted, err := notedTopic(ctx, tx, topic)
		if err == nil && another(noted, id) {
			err = &TopicReplacedError{Topic: topic}
		}
		return err
	})
}

// AcceptTopics notes the topics that are there in place of those that projections began with, which were deleted. The
// projections go on from the position that each has, whatever the new offsets are.
func AcceptTopics(ctx context.Context, db *reads.DB, brokers []string, prefix string, topics []string, opts ...kgo.Opt) error {
	found, err := listTopics(ctx, brokers, prefix, topics, opts)
	if err != nil {
		return err
	}
	for i, t := range found {
		if err := noteTopic(ctx, db, topics[i], len(t.Partitions), t.ID.String(), true); err != nil {
			return err
		}
	}
	return nil
}

// listTopics asks Kafka for topics, in this order; all must be there.
func listTopics(ctx context.Context, brokers []string, prefix string, topics []string, opts []kgo.Opt) ([]kadm.TopicDetail, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	defer client.Close()
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = prefix + t
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	listed, err := kadm.NewClient(client).ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	out := make([]kadm.TopicDetail, len(topics))
	for i, name := range names {
		t, ok := listed[name]
		if !ok || t.Err != nil || len(t.Partitions) == 0 {
			return nil, fmt.Errorf("topic %s is not there: run `salon topics ensure` (%w)", name, errors.Join(t.Err))
		}
		out[i] = t
	}
	return out, nil
}

// another tells whether two topic IDs are of different topics. A broker before Kafka 2.8 gives none.
func another(noted, id string) bool {
	none := kadm.TopicID{}.String()
	return noted != id && noted != "" && id != "" && noted != none && id != none
}
