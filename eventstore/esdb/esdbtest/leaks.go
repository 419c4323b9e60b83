package esdbtest

import "go.uber.org/goleak"

// Leaks are what the client leaves behind when a connection breaks under it: the connection, which nobody closes any more. Each
// has goroutines that do nothing, and between two tries to connect another; a connection of ours that is still open has more.
func Leaks() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
		goleak.IgnoreTopFunction("google.golang.org/grpc.(*addrConn).resetTransportAndUnlock"),
	}
}
