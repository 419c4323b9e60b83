package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/internal/telemetry"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
	"github.com/dangdangsalon/salon/projections/stats"
	"github.com/dangdangsalon/salon/readapi"
)

// allProjections is the one line that a new projection adds.
func allProjections() []engine.Projection {
	return []engine.Projection{
		reservations.Projection(), history.Projection(), groomers.Projection(), calendar.Projection(), stats.Projection(), chatrooms.Projection(),
		calendar.View(), chatrooms.View(),
	}
}

// role is one part of the system that a process can run.
type role string

const (
	roleCommands  role = "commands"
	roleReadAPI   role = "readapi"
	roleRelay     role = "relay"
	roleProjector role = "projector"
)

// store is an event store and its end.
type store interface {
	eventstore.Store
	Close() error
}

// node is one process: what it opened, and the roles that run on it.
type node struct {
	servers  config.Servers
	secrets  config.Secrets
	http     config.HTTP
	alone    bool // the only process of the system: the relay needs no election
	tel      *telemetry.Telemetry
	store    store
	reads    *reads.DB
	redis    *redis.Client
	listener net.Listener
}
