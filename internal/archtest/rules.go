package archtest

// everywhere is every folder of the binary except domain, which knows the standard library alone.
var everywhere = []string{"eventstore", "commands", "projections", "reactors", "readapi", "audit", "internal", "cmd"}

// Table returns the rules of this module: DESIGN section 3, as code.
func Table() Rules {
	return Rules{
		Layers:      layers(),
		Libraries:   append(append(owned(), transport()...), general()...),
		TestSupport: []string{"internal/harness", "internal/archtest", "eventstore/storetest", "eventstore/esdb/esdbtest"},
	}
}

func layers() []Layer {
	return []Layer{
		{
			Folder: "domain",
			Why:    "decisions are pure values: what they know comes in as arguments, so every test is a table and every replay is equal",
		},
		{
			Folder: "eventstore", May: []string{"domain"},
			Why: "the store keeps events and knows nothing of who writes or reads them; otherwise the truth depends on its users",
		},
		{
			Folder: "commands", May: []string{"domain", "eventstore/.", "eventstore/wire", "internal"},
			Why: "a decision trusts the stream alone: a read model is late by design (never projections, readapi), and which store serves is main's choice",
		},
		{
			Folder: "projections", May: []string{"domain", "eventstore/.", "eventstore/wire", "internal"},
			Why: "a fold gets events and writes rows; it issues no commands, and reads the store through an interface that main fills",
		},
		{
			Folder: "reactors", May: []string{"domain", "commands", "eventstore/wire", "projections/engine", "projections/reads", "internal"},
			Why: "a reactor turns an event into a command; it decides by neither read models nor the store (what is due is a table of its own, in the reads database)",
		},
		{
			Folder: "readapi", May: []string{"projections", "internal"},
			Why: "the read side never imports eventstore, commands or domain: what a screen needs is a column or a function of a projection, so reads scale and fail apart from writes",
		},
		{
			Folder: "readapi/live", May: []string{"readapi", "projections", "internal", "eventstore/wire"},
			Why: "the live gateway reads the tail's records (eventstore/wire); it posts and reads the store through small interfaces that main fills",
		},
		{
			Folder: "audit", May: []string{"domain", "eventstore/.", "eventstore/wire", "projections", "internal"},
			Why: "the past is shown from the store by the folds; it issues no commands and serves no screens",
		},
		{
			Folder: "internal", May: []string{"domain", "eventstore/.", "eventstore/wire"},
			Why: "what every layer shares may know events and the store's errors, but no layer above: otherwise each layer reaches the others through it",
		},
		{
			Folder: "cmd", May: append([]string{"domain"}, everywhere...),
			Why: "main wires the roles of the system's own folders",
		},
	}
}

// owned are the libraries that hold a server's protocol: each behind one folder, so that a fault of theirs has one home.
func owned() []Library {
	return []Library{
		{Path: "github.com/jackc/pgx/v5", In: []string{"eventstore/postgres"}, Why: "PostgreSQL is one of three stores: its driver stays behind eventstore/postgres"},
		{Path: "github.com/EventStore/EventStore-Client-Go", In: []string{"eventstore/esdb"}, Why: "the client hangs on a dead server and forgets how to come back; only eventstore/esdb guards it"},
		{Path: "google.golang.org/grpc", In: []string{"eventstore/esdb"}, Why: "it is how EventStoreDB is spoken to; nothing else of ours is called that way"},
		{
			Path: "modernc.org/sqlite", In: []string{"eventstore/sqlite", "projections"}, Most: 2,
			Why: "the embedded databases have one home each, the event store's in eventstore/sqlite and the read models' in one package of projections: their locking settings must not differ by caller",
		},
		{
			Path: "github.com/go-sql-driver/mysql", In: []string{"projections"}, Most: 1,
			Why: "clientFoundRows, sql_mode and collation must be set on every connection, or a fence silently reports zero rows: one package of projections opens them",
		},
		{Path: "github.com/pressly/goose/v3", In: []string{"eventstore/postgres", "eventstore/sqlite", "projections", "cmd"}, Why: "migrations belong to the folder that owns the tables"},
		{
			Path: "github.com/twmb/franz-go", In: []string{"eventstore/relay", "projections/engine", "readapi/live", "cmd/salon"},
			Why: "order and contiguity hold because few places speak Kafka: the relay writes, the engine and the live tail read, main opens",
		},
		{Path: "github.com/twmb/franz-go/pkg/kfake", In: []string{"cmd/salon", "internal/embedded"}, Why: "the in-process broker is for salon up; no other part may know which broker it talks to"},
		{Path: "github.com/alicebob/miniredis/v2", In: []string{"cmd/salon", "internal/embedded"}, Why: "the in-process Redis is for salon up; no other part may know which one it talks to"},
		{Path: "github.com/redis/go-redis/v9", In: []string{"projections", "readapi", "internal/ratelimit", "cmd/salon"}, Why: "Redis holds views, presence and limits; the write side must work without it"},
		{Path: "github.com/ThreeDotsLabs/watermill", In: []string{"projections/engine", "reactors"}, Why: "the Router keeps order only with one message in flight a partition, which the engine's subscriber guarantees"},
		{Path: "github.com/ThreeDotsLabs/watermill-kafka", In: []string{"reactors"}, Why: "it does not notice a hole in the log: good for what leaves the system, not for state"},
		{Path: "github.com/IBM/sarama", In: []string{"reactors"}, Why: "it is watermill-kafka's client and comes no further; ours is franz-go"},
		{
			Path: "github.com/go-json-experiment/json", In: []string{"audit/seal", "eventstore", "readapi/live"},
			Why: "the codec decodes, and an export checks, so much that encoding/json's speed matters, and a socket's frames have no huma that refuses what encoding/json forgives",
		},
		{Path: "github.com/parquet-go/parquet-go", In: []string{"audit"}, Why: "a file format for exports"},
	}
}

// transport are the libraries of HTTP, WebSocket, tokens and the command line.
func transport() []Library {
	http := []string{"commands", "readapi", "audit", "projections/admin", "internal/httpserver", "internal/problem", "cmd"}
	return []Library{
		{Path: "github.com/danielgtaylor/huma/v2", In: http, Why: "an HTTP operation stands beside what it drives; stores, folds and decisions do not know they are called over HTTP"},
		{Path: "github.com/labstack/echo/v4", In: append([]string{"internal/auth", "internal/telemetry"}, http...), Why: "an HTTP operation stands beside what it drives; stores, folds and decisions do not know they are called over HTTP"},
		{Path: "github.com/coder/websocket", In: []string{"readapi/live"}, Why: "sockets are the live gateway's"},
		{Path: "github.com/golang-jwt/jwt/v5", In: []string{"internal/auth"}, Why: "one place decides who a caller is"},
		{Path: "github.com/coreos/go-oidc/v3", In: []string{"internal/auth"}, Why: "one place decides who a caller is; it also limits the key-set fetches that go-oidc does not"},
		{Path: "github.com/alecthomas/kong", In: []string{"cmd"}, Why: "flags are main's; the parts get Config structs"},
		{Path: "github.com/vbauerster/mpb/v8", In: []string{"cmd"}, Why: "a progress bar belongs to a terminal"},
	}
}

// general are libraries without a home, and those of tests, which the binary must not carry.
func general() []Library {
	const notDomain = "domain imports the standard library alone"
	const testsOnly = "it is for tests; the binary must not carry it"
	return []Library{
		{Path: "github.com/google/uuid", In: everywhere, Why: notDomain + "; identifiers come in as arguments"},
		{Path: "github.com/prometheus/client_golang", In: everywhere, Why: notDomain + "; a decision is not measured from inside"},
		{Path: "go.opentelemetry.io", In: everywhere, Why: notDomain + "; a decision is not traced from inside"},
		{Path: "golang.org/x", In: everywhere, Why: notDomain},
		{Path: "github.com/google/go-cmp", Why: testsOnly},
		{Path: "go.yaml.in/yaml/v3", Why: testsOnly},
		{Path: "github.com/compose-spec/compose-go/v2", Why: testsOnly + "; it reads docker-compose.yml as Compose does"},
		{Path: "pgregory.net/rapid", Why: testsOnly},
		{Path: "go.uber.org/goleak", Why: testsOnly},
		{Path: "google.golang.org/protobuf", Why: testsOnly},
		{Path: "github.com/anishathalye/porcupine", Why: testsOnly},
		{Path: "github.com/Shopify/toxiproxy/v2", Why: testsOnly},
	}
}
