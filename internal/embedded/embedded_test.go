package embedded

import (
	"errors"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAFolderHasOneOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var owned *OwnedError
	if _, err := Open(dir); !errors.As(err, &owned) || owned.PID != os.Getpid() {
		t.Errorf("the second owner got %v, not the first one's pid %d", err, os.Getpid())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir)
	if err != nil {
		t.Fatalf("after the owner has left: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheLogIsThereAfterARestartAndTheCacheIsEmpty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, produced := range []int64{1, 2} {
		s, err := Start(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.DefaultProduceTopic("t"))
		if err != nil {
			t.Fatal(err)
		}
		admin := kadm.NewClient(c)
		if produced == 1 {
			if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.ProduceSync(t.Context(), &kgo.Record{Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		ends, err := admin.ListEndOffsets(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		if end, _ := ends.Lookup("t", 0); end.Offset != produced {
			t.Errorf("after start %d the log ends at %d", produced, end.Offset)
		}
		o, err := redis.ParseURL(s.RedisURL())
		if err != nil {
			t.Fatal(err)
		}
		r := redis.NewClient(o)
		if n, err := r.Incr(t.Context(), "n").Result(); err != nil || n != 1 {
			t.Errorf("a counter of the new cache is %d (%v)", n, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		c.Close()
		s.Close()
	}
}
