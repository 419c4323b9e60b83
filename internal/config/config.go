// Package config is the settings of the salon command: one struct for each thing a role needs, with flags, environment
// variables of the same name (SALON_…) and, for what is secret, files.
//
// Every default works on one machine. Validate says everything that is wrong at once, with the flag's name.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Servers are the addresses of what a role talks to.
type Servers struct {
	Events     string `help:"Event store: postgres://USER@HOST/DB, esdb://HOST:PORT or sqlite:FILE." placeholder:"URL"`
	EventsFile string `help:"File that holds --events, for a URL with a password." type:"path" placeholder:"FILE"`
	Kafka      string `help:"Kafka brokers, host:port, comma-separated." placeholder:"HOST:PORT,…"`
	Reads      string `help:"Reads database: mysql://USER:PASSWORD@HOST:PORT/DB or sqlite:FILE. Of several hosts, separated by commas, the one that takes writes is used." placeholder:"URL"`
	ReadsFile  string `help:"File that holds --reads." type:"path" placeholder:"FILE"`
	Redis      string `help:"Redis: redis://HOST:PORT/DB, or redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB." placeholder:"URL"`
	RedisFile  string `help:"File that holds --redis." type:"path" placeholder:"FILE"`

	Topics Topics `embed:""`
}

// Topics is how the topics are made and named.
type Topics struct {
	Partitions  int    `help:"Partitions of each topic; fixed once the topics exist." default:"8"`
	Replication int    `help:"Replicas of each partition when topics are made." default:"1"`
	TopicPrefix string `help:"Put before every topic and consumer group, to share a cluster." placeholder:"PREFIX"`
}

// Secrets are the keys of a process that answers HTTP.
type Secrets struct {
	MasterKeys    `embed:""`
	ErasureLedger `embed:""`

	AuthJWKS    string   `name:"auth-jwks" help:"URL of the key set that signs tokens." placeholder:"URL" xor:"auth"`
	AuthIssuer  string   `help:"OpenID Connect issuer that signs tokens." placeholder:"URL" xor:"auth"`
	AuthKeyFile string   `help:"File with the local Ed25519 key that signs tokens (salon token mints with it)." type:"path" placeholder:"FILE" xor:"auth"`
	AuthKeyAlso []string `help:"Files with other local keys whose tokens are taken, too: for as long as the key of --auth-key-file is changed." type:"path" placeholder:"FILE"`
}

// MasterKeys wrap every person's key.
type MasterKeys struct {
	MasterKeyFile string   `help:"File with the 32-byte master key, base64, that wraps every person's key." type:"path" placeholder:"FILE"`
	MasterKeyAlso []string `help:"Files with other master keys, under which people's keys may still be, or already be, wrapped: for as long as the master key is changed (salon keys rewrap)." type:"path" placeholder:"FILE"`
}

// ErasureLedger is where it is written down who was erased.
type ErasureLedger struct {
	Erasures string `help:"Ledger of erasures, a file that is in no backup of the event store. What it has is applied before anything is served: a store that was restored from a backup has the keys again that were deleted after it." type:"path" placeholder:"FILE"`
}

// Replica is a copy of the reads database that answers reads.
type Replica struct {
	ReadsReplica     string        `help:"Replica of the reads database: the readapi role reads there while it is in step. mysql://USER:PASSWORD@HOST:PORT/DB; of several hosts the first that answers. The admin role watches each of them." placeholder:"URL"`
	ReadsReplicaFile string        `help:"File that holds --reads-replica." type:"path" placeholder:"FILE"`
	ReadsReplicaAge  time.Duration `help:"How much older than the primary a read without a token may be. With one it is never older than that." default:"2s"`
}

// ReadFiles takes the value that is given as a file, and complains about what is misspelt.
func (r *Replica) ReadFiles() error {
	err := fromFile(&r.ReadsReplica, r.ReadsReplicaFile, "--reads-replica")
	if err == nil && r.ReadsReplica != "" {
		err = check("--reads-replica", r.ReadsReplica, "mysql")
	}
	if r.ReadsReplicaAge < 0 {
		err = errors.Join(err, errors.New("--reads-replica-age is below zero"))
	}
	return err
}

// HTTP is how the APIs are served.
type HTTP struct {
	Listen        string         `help:"Address of the API." default:"127.0.0.1:8080"`
	MetricsListen string         `help:"Address of /metrics, when it is not to be on the API's." placeholder:"HOST:PORT"`
	RateLimit     float64        `help:"Requests a second and subject; 0 is no limit." default:"50"`
	PostRate      float64        `help:"Chat messages a second and sender; 0 is no limit." default:"10"`
	CORSOrigins   []string       `name:"cors-origins" help:"Origins that browsers may call from." placeholder:"ORIGIN"`
	TrustProxy    []netip.Prefix `help:"Peers whose X-Forwarded-For names the caller, who without a token is counted by address: the load balancers in front of this process. None: the peer is the caller." placeholder:"CIDR,…"`
	HoldTTL       time.Duration  `help:"How long a hold keeps its slot." default:"5m"`
}

// Notify is where notifications leave the system.
type Notify struct {
	NotifyWebhook    string `help:"https URL that the reactor role posts notifications to; none: they stay in the inboxes." placeholder:"URL"`
	NotifySecretFile string `help:"File with the secret, at least 16 bytes, that signs them." type:"path" placeholder:"FILE"`
}

// Secret reads what signs notifications.
func (n *Notify) Secret() ([]byte, error) {
	if n.NotifySecretFile == "" {
		return nil, errors.New("--notify-secret-file is missing: the endpoint of --notify-webhook tells by it that a notification is ours")
	}
	b, err := os.ReadFile(n.NotifySecretFile)
	if err != nil {
		return nil, fmt.Errorf("--notify-secret-file: %w", err)
	}
	return bytes.TrimSpace(b), nil
}

// Seals is how the history is sealed.
type Seals struct {
	SealKeyFile string `help:"File with the key that signs seals (salon keys DIR makes one): with it, the admin role seals the history every minute. salon up has its own." type:"path" placeholder:"FILE"`
	SealFile    string `help:"File that gets the head of each seal besides the store: best on a disk that whoever has the store cannot change." type:"path" placeholder:"FILE"`
}

// Observability is what is told about a running process.
type Observability struct {
	LogLevel     string `help:"debug, info, warn or error. Without it, info; warn in salon up." default:"" enum:",debug,info,warn,error"`
	OTLPEndpoint string `name:"otlp-endpoint" help:"URL of an OTLP/HTTP collector for traces; none: no traces." placeholder:"URL"`

	WatchFront []string `help:"URLs that users come in by, for the admin role to call now and then: whether they answer and when their certificates end are metrics." placeholder:"URL"`
}

// Fronts complains about addresses that could not be called, or that would show a password among the metrics.
func (o *Observability) Fronts() error {
	for _, f := range o.WatchFront {
		if u, err := url.Parse(f); err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("--watch-front takes http:// or https:// URLs, without a name or a password in them")
		}
	}
	return nil
}

// ReadFiles takes the values that are given as files.
func (s *Servers) ReadFiles() error {
	return errors.Join(
		fromFile(&s.Events, s.EventsFile, "--events"),
		fromFile(&s.Reads, s.ReadsFile, "--reads"),
		fromFile(&s.Redis, s.RedisFile, "--redis"),
	)
}

func fromFile(value *string, file, flag string) error {
	if file == "" {
		return nil
	}
	if *value != "" {
		return fmt.Errorf("%s and %s-file are both given: keep one", flag, flag)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%s-file: %w", flag, err)
	}
	*value = strings.TrimSpace(string(b))
	return nil
}

// Brokers is the broker list.
func (s *Servers) Brokers() []string { return strings.Split(s.Kafka, ",") }

// Need complains about every server that is asked for and missing or misspelt.
func (s *Servers) Need(events, kafka, reads, redis bool) error {
	var errs []error
	if events {
		errs = append(errs, check("--events", s.Events, "postgres", "postgresql", "sqlite", "esdb", "esdb+discover"))
	}
	if reads {
		errs = append(errs, check("--reads", s.Reads, "mysql", "sqlite"))
	}
	if redis {
		errs = append(errs, check("--redis", s.Redis, "redis", "rediss", "redis+sentinel", "rediss+sentinel"))
	}
	if kafka {
		if s.Kafka == "" {
			errs = append(errs, errors.New("--kafka is missing: give host:port,… or set SALON_KAFKA"))
		}
		for b := range strings.SplitSeq(s.Kafka, ",") {
			if host, port, ok := strings.Cut(b, ":"); s.Kafka != "" && (!ok || host == "" || port == "") {
				errs = append(errs, fmt.Errorf("--kafka: %q is not host:port", b))
			}
		}
	}
	if s.Topics.Partitions < 1 || s.Topics.Partitions > 1024 {
		errs = append(errs, fmt.Errorf("--partitions: %d is not within 1 to 1024", s.Topics.Partitions))
	}
	return errors.Join(errs...)
}

// check never repeats the value: it may hold a password.
func check(flag, value string, schemes ...string) error {
	if value == "" {
		return fmt.Errorf("%s is missing: give %s, or set SALON_%s", flag, strings.Join(schemes, ":… or ")+":…", strings.ToUpper(strings.TrimPrefix(flag, "--")))
	}
	scheme, rest, _ := strings.Cut(value, ":")
	for _, s := range schemes {
		if s != scheme {
			continue
		}
		if rest == "" {
			return fmt.Errorf("%s is %s: and names nothing", flag, scheme)
		}
		if scheme != "sqlite" {
			if strings.HasPrefix(scheme, "esdb") { // it may name several hosts, which a URL cannot
				value = strings.ReplaceAll(value, ",", "/")
			}
			u, err := url.Parse(value) // which allows several hosts, except in http
			if err != nil || u.Host == "" {
				return fmt.Errorf("%s is not a valid %s URL", flag, scheme)
			}
			return checkPath(flag, scheme, strings.Trim(u.Path, "/"))
		}
		return nil
	}
	return fmt.Errorf("%s has to start with %s", flag, strings.Join(schemes, ":, ")+":")
}

// checkPath is about what a server would be asked for only later, when it is no more the call that looks wrong.
func checkPath(flag, scheme, path string) error {
	switch scheme {
	case "mysql":
		if path == "" {
			return fmt.Errorf("%s names no database: mysql://USER:PASSWORD@HOST:PORT/DB", flag)
		}
	case "redis+sentinel", "rediss+sentinel":
		if master, db, _ := strings.Cut(path, "/"); master == "" || !isDatabase(db) {
			return fmt.Errorf("%s has to name the master that the sentinels watch, and may name a database: redis+sentinel://HOST:PORT,HOST:PORT/MASTER/0", flag)
		}
	case "redis", "rediss":
		if !isDatabase(path) {
			return fmt.Errorf("%s: a Redis database is a number: redis://HOST:PORT/0", flag)
		}
	}
	return nil
}

// isDatabase tells whether a part of a path can be the number of a Redis database. None is 0.
func isDatabase(s string) bool {
	_, err := strconv.ParseUint(s, 10, 31)
	return s == "" || err == nil
}
