package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// System is how the system is as a whole, whichever processes do the work: what a process sees that looks at the servers and
// not at itself. What it could not find out is nil, and not shown.
type System struct {
	Servers     map[string]bool // whether each answers: events, reads, redis, kafka
	Replicas    map[string][]Replica
	Projections []Projection
	Lookups     *time.Duration // how long the first event behind the look-up index has waited
	Seals       *time.Duration // how long the first event behind the last seal has waited
	Erasures    *int           // people of the ledger whose keys the store has
	Unmirrored  *int           // partitions of Kafka with a replica that is out of step
	Disks       []Disk
	Fronts      []Front
}

// Replica is a follower of a server.
type Replica struct {
	Name   string
	Behind *time.Duration // how old is what it has
	Runs   *bool          // whether it gets and applies what its primary writes, of one that is there by our settings: others are only seen while they do
}

// Projection is one version of a projection, as its target and the log have it.
type Projection struct {
	Version string // Projection.ID
	State   string
	Serves  bool
	Behind  time.Duration
	Parked  int
}

// Disk is the file system behind a broker's log, as the broker tells.
type Disk struct {
	Broker     int
	Folder     string
	Free, Size int64
}

// Front is an address that users call, as a call of ours found it.
type Front struct {
	URL     string
	Up      bool
	Took    time.Duration
	Expires time.Time // of the certificate that ends first; zero: none
}

type systemBoard struct {
	board
	server, replicas, replica, runs, state, behind, parked, lookups, seals, erasures, unmirrored, free, size, front, frontTook, expires *prometheus.Desc
}

func newSystemBoard() *systemBoard {
	b := &systemBoard{}
	b.server = b.family("salon_server_up", "1 while a server answers: events, reads, redis or kafka.", "server")
	b.replicas = b.family("salon_replicas", "Replicas that follow a server.", "server")
	b.replica = b.family("salon_replica_behind_seconds", "How old is what a replica has of its primary.", "server", "replica")
	b.runs = b.family("salon_replica_runs", "1 while a replica of --reads-replica answers, and fetches and applies what its primary writes.", "server", "replica")
	b.state = b.family("salon_projection_state", "1 with the state of a version of a projection: well, behind, filling, waiting, stuck, absent, building, paused or away.", "projection", "serves", "state")
	b.behind = b.family("salon_projection_behind_seconds", "How long the oldest record that a version has not applied has been waiting, whichever process has the partition, or none.", "projection")
	b.parked = b.family("salon_projection_parked_keys", "Keys that wait because one of their events could not be applied.", "projection")
	b.lookups = b.family("salon_lookups_behind_seconds", "How long the first event that is not in the look-up index has waited; 0 when there is none.")
	b.seals = b.family("salon_seals_behind_seconds", "How long the first event that is not sealed has waited; 0 when there is none.")
	b.erasures = b.family("salon_erasures_owed", "People whom the ledger calls erased, and whose keys the event store has.")
	b.unmirrored = b.family("salon_kafka_under_replicated_partitions", "Partitions with a replica that is out of step, or away.")
	b.free = b.family("salon_kafka_disk_free_bytes", "Free on the file system of a broker's log.", "broker", "folder")
	b.size = b.family("salon_kafka_disk_size_bytes", "Size of that file system.", "broker", "folder")
	b.front = b.family("salon_front_up", "1 while an address of --watch-front answers with less than 500.", "url")
	b.frontTook = b.family("salon_front_seconds", "How long the last call of it took.", "url")
	b.expires = b.family("salon_front_certificate_expires_timestamp_seconds", "When the first of its certificates ends.", "url")
	return b
}

// System notes how the system is.
func (m *Metrics) System(s System) {
	b, out := m.system, sheet{}
	for server, up := range s.Servers {
		out.add(b.server, one(up), server)
	}
	for server, replicas := range s.Replicas {
		// Of two with one name, the one that is worse counts: a name stands here once.
		behind, runs, follow := map[string]time.Duration{}, map[string]bool{}, 0
		for _, r := range replicas {
			if r.Behind != nil {
				behind[r.Name] = max(behind[r.Name], *r.Behind)
			}
			if r.Runs != nil {
				before, twice := runs[r.Name]
				runs[r.Name] = *r.Runs && (before || !twice)
			}
			if r.Runs == nil || *r.Runs {
				follow++
			}
		}
		out.add(b.replicas, float64(follow), server)
		for name, age := range behind {
			out.add(b.replica, age.Seconds(), server, name)
		}
		for name, does := range runs {
			out.add(b.runs, one(does), server, name)
		}
	}
	for _, p := range s.Projections {
		serves := "no"
		if p.Serves {
			serves = "yes"
		}
		out.add(b.state, 1, p.Version, serves, p.State)
		out.add(b.behind, p.Behind.Seconds(), p.Version)
		out.add(b.parked, float64(p.Parked), p.Version)
	}
	for family, waits := range map[*prometheus.Desc]*time.Duration{b.lookups: s.Lookups, b.seals: s.Seals} {
		if waits != nil {
			out.add(family, waits.Seconds())
		}
	}
	for family, n := range map[*prometheus.Desc]*int{b.erasures: s.Erasures, b.unmirrored: s.Unmirrored} {
		if n != nil {
			out.add(family, float64(*n))
		}
	}
	for _, d := range s.Disks {
		of := []string{strconv.Itoa(d.Broker), d.Folder}
		out.add(b.free, float64(d.Free), of...)
		out.add(b.size, float64(d.Size), of...)
	}
	for _, f := range s.Fronts {
		out.add(b.front, one(f.Up), f.URL)
		out.add(b.frontTook, f.Took.Seconds(), f.URL)
		if !f.Expires.IsZero() {
			out.add(b.expires, float64(f.Expires.Unix()), f.URL)
		}
	}
	b.show(out)
}
