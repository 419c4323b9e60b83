package eventstore

import (
	"context"
	"time"
)

// Server is what the server of a store tells of itself to those who look after it.
type Server struct {
	Version      string    // "PostgreSQL 15.9"
	Now          time.Time // by its clock; zero where it has none but ours
	Bytes        int64     // that the store takes on its disk
	Schema, Want int64     // the last migration that it has, and that this release has
}

// Examined is a store that can be asked for it, beside the contract.
type Examined interface {
	Server(ctx context.Context) (Server, error)
}
