package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// OwnKafka is a cluster of the test's own, each broker a controller as well: to be killed and frozen one by one.
type OwnKafka struct {
	Brokers []*OwnBroker

	voters string // those brokers that are controllers
}

// OwnBroker is one of its brokers.
type OwnBroker struct {
	own
	ID    int32
	Addr  string // host:port, the same after each start
	Way   *Proxy // another address of it: whoever came by a way is told of ways alone, and can be cut off from Kafka alone
	aside string // where the way leads
	dir   string
	java  []string
}

// NewKafka starts a cluster of n brokers, until the end of the test. Sessions may be short: who is killed or frozen is
// replaced within a few seconds.
func NewKafka(t testing.TB, n int) *OwnKafka {
	t.Helper()
	return newKafka(t, make([]string, n))
}

// NewKafkaIn starts a cluster of one, which writes in a folder that the test gives, with these settings ("name=value") beside
// the defaults.
func NewKafkaIn(t testing.TB, dir string, settings ...string) *OwnKafka {
	t.Helper()
	return newKafka(t, []string{dir}, settings...)
}

// newKafka starts as many brokers as there are folders to write in; "" is one of the test's own.
func newKafka(t testing.TB, dirs []string, settings ...string) *OwnKafka {
	t.Helper()
	k, n := &OwnKafka{}, len(dirs)
	controllers := make([]string, n)
	voters := make([]string, n)
	for i := range n {
		controllers[i] = Address(t)
		voters[i] = fmt.Sprintf("%d@%s", i+1, controllers[i])
	}
	k.voters = strings.Join(voters, ",")
	for i := range n {
		k.Brokers = append(k.Brokers, k.broker(t, dirs[i], i+1, controllers[i], n, settings...))
	}
	var formatting sync.WaitGroup
	errs := make([]error, n)
	for i, b := range k.Brokers {
		formatting.Go(func() { errs[i] = b.format() })
	}
	formatting.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, b := range k.Brokers {
		b.cleanup(t)
		b.Launch(t)
	}
	for _, b := range k.Brokers {
		b.ready(t, 0)
	}
	return k
}

// Join starts one more broker, which is no controller, until the end of the test. It gets no partitions by itself.
func (k *OwnKafka) Join(t testing.TB) *OwnBroker {
	t.Helper()
	b := k.broker(t, "", len(k.Brokers)+1, "", len(k.Brokers))
	if err := b.format(); err != nil {
		t.Fatal(err)
	}
	k.Brokers = append(k.Brokers, b)
	b.cleanup(t)
	b.Start(t)
	return b
}

// broker writes the settings of one of n; controller is where it is one, "" for none.
func (k *OwnKafka) broker(t testing.TB, logs string, id int, controller string, n int, settings ...string) *OwnBroker {
	t.Helper()
	b := &OwnBroker{own: own{name: fmt.Sprintf("Kafka broker %d", id), log: &buffer{}}, ID: int32(id), Addr: Address(t), aside: Address(t), dir: t.TempDir(), java: kafkaJava(t)} //nolint:gosec // a broker's number
	b.Way = NewProxy(t, b.aside)
	all := kafkaSettings(b, cmp.Or(logs, b.dir), controller, k.voters, n) + strings.Join(settings, "\n")
	if err := os.WriteFile(b.properties(), []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *OwnBroker) format() error {
	out, err := b.command("kafka.tools.StorageTool", "format", "-t", "salonFaultClusterAAAAA", "-c", b.properties()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format broker %d: %w\n%s", b.ID, err, out)
	}
	return nil
}

// Tool is the command line of one of Kafka's own tools, up to its arguments.
func (b *OwnBroker) Tool(class string) []string { return b.command(class).Args }

// Addrs are the brokers' addresses.
func (k *OwnKafka) Addrs() []string {
	var out []string
	for _, b := range k.Brokers {
		out = append(out, b.Addr)
	}
	return out
}

// Ways are the addresses of the brokers' ways.
func (k *OwnKafka) Ways() []string {
	var out []string
	for _, b := range k.Brokers {
		out = append(out, b.Way.Addr)
	}
	return out
}

// Leader is the broker that leads a partition.
func (k *OwnKafka) Leader(t testing.TB, topic string, part int32) *OwnBroker {
	t.Helper()
	leader := int32(-1)
	k.ask(t, "who leads "+topic, func(ctx context.Context, admin *kadm.Client) (bool, error) {
		topics, err := admin.ListTopics(ctx, topic)
		if err != nil {
			return false, err
		}
		leader = topics[topic].Partitions[part].Leader
		return leader > 0, nil
	})
	return k.Brokers[leader-1]
}

// InSync waits until every partition has all its replicas in sync again: the next broker may go.
func (k *OwnKafka) InSync(t testing.TB) {
	t.Helper()
	k.ask(t, "whether all replicas are in sync", func(ctx context.Context, admin *kadm.Client) (bool, error) {
		topics, err := admin.ListTopicsWithInternal(ctx)
		if err != nil {
			return false, err
		}
		for _, topic := range topics {
			for _, p := range topic.Partitions {
				if p.Leader <= 0 || len(p.ISR) < len(p.Replicas) {
					return false, p.Err
				}
			}
		}
		return true, nil
	})
}

// ask asks the cluster until it answers yes.
func (k *OwnKafka) ask(t testing.TB, what string, yes func(ctx context.Context, admin *kadm.Client) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addrs()...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for {
		one, done := context.WithTimeout(ctx, 5*time.Second)
		ok, err := yes(one, kadm.NewClient(client))
		done()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("ask Kafka %s: %v", what, err)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Start starts a broker that was killed, and waits until it takes part again.
func (b *OwnBroker) Start(t testing.TB) {
	t.Helper()
	said := len(b.log.String())
	b.Launch(t)
	b.ready(t, said)
}

// Launch starts a broker that may come up or not.
func (b *OwnBroker) Launch(t testing.TB) {
	t.Helper()
	b.begin(t, b.command("kafka.Kafka", b.properties()))
}

// ready waits until the broker has said so, after what it had said before.
func (b *OwnBroker) ready(t testing.TB, said int) {
	t.Helper()
	b.await(t, func() error {
		if !strings.Contains(b.log.String()[said:], "Kafka Server started") {
			return errors.New("it has not said that it started")
		}
		c, err := net.Dial("tcp", b.Addr)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func (b *OwnBroker) properties() string { return filepath.Join(b.dir, "server.properties") }

func (b *OwnBroker) command(args ...string) *exec.Cmd {
	return exec.Command(b.java[0], append(append([]string{}, b.java[1:]...), args...)...)
}

// kafkaSettings are a small cluster's that notices quickly who is gone.
func kafkaSettings(b *OwnBroker, logs, controller, voters string, n int) string {
	copies := min(n, 3)
	roles, listens := "broker", ""
	if controller != "" {
		roles, listens = "broker,controller", ",CONTROLLER://"+controller
	}
	return `process.roles=` + roles + `
node.id=` + strconv.Itoa(int(b.ID)) + `
controller.quorum.voters=` + voters + `
listeners=PLAINTEXT://` + b.Addr + `,WAY://` + b.aside + listens + `
advertised.listeners=PLAINTEXT://` + b.Addr + `,WAY://` + b.Way.Addr + `
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,WAY:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=` + filepath.Join(logs, "log") + `
auto.create.topics.enable=false
message.max.bytes=2097152
default.replication.factor=` + strconv.Itoa(copies) + `
offsets.topic.replication.factor=` + strconv.Itoa(copies) + `
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=` + strconv.Itoa(copies) + `
transaction.state.log.min.isr=` + strconv.Itoa(max(1, copies-1)) + `
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=` + strconv.Itoa(copies) + `
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
num.network.threads=2
num.io.threads=3
`
}

var kafkaVersion = regexp.MustCompile(`<kafka\.version>(.*)</kafka\.version>`)

// kafkaJava is the command line up to the class, on the jars that the service scripts have fetched.
func kafkaJava(t testing.TB) []string {
	t.Helper()
	scripts := filepath.Join(moduleRoot(t), "deploy", "services", "kafka")
	pom, err := os.ReadFile(filepath.Join(scripts, "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	version := kafkaVersion.FindSubmatch(pom)
	if version == nil {
		t.Fatal("no Kafka version in " + scripts)
	}
	found, _ := filepath.Glob(filepath.Join(cache(t), "kafka-"+string(version[1])+"-*[0-9]"))
	if len(found) == 0 {
		t.Fatal("Kafka is not installed: run `deploy/services/services.sh install`")
	}
	java, err := exec.LookPath("java")
	if err != nil {
		t.Fatal("java is not installed: run `deploy/services/services.sh install`")
	}
	return []string{
		java, "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=" + filepath.Join(scripts, "log4j2.xml"), "-cp", filepath.Join(found[len(found)-1], "*"),
	}
}

// cache is where the service scripts keep what they have fetched.
func cache(t testing.TB) string {
	t.Helper()
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "salon")
}

// moduleRoot is the folder of go.mod, above the tested package.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the tested package")
		}
		dir = filepath.Dir(dir)
	}
}
