package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/embedded"
)

type upCmd struct {
	Data string `help:"Data folder: events, read models, the broker's log and the keys." type:"path" default:"${data}"`
	Demo bool   `help:"Seed three salons with a week of bookings, and print tokens to try."`

	config.ErasureLedger `embed:""`
	config.HTTP          `embed:""`
	config.Notify        `embed:""`
	config.Seals         `embed:""`
	config.Observability `embed:""`
}

// embeddedPartitions is fewer than on real servers: one process shares them out to nobody, and fewer partitions make
// larger batches.
const embeddedPartitions = 4

// Run starts everything over the data folder, and takes it down in the order that loses no time at the next start:
// HTTP, relay and projectors, then broker and cache, then the databases.
func (c *upCmd) Run(ctx context.Context, t *terminal) (err error) {
	webhook, err := endpoint(c.Notify, true)
	if err = errors.Join(err, c.Fronts()); err != nil {
		return usage(err)
	}
	// The folder before the port: who calls twice is to hear of the folder's owner, not of a busy port.
	folder, err := embedded.Open(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() // of a start that comes to nothing; the server closes it otherwise
	tel, err := telemetryOf(ctx, c.Observability, slog.LevelWarn, t.err)
	if err != nil {
		return usage(err)
	}
	defer func() { err = errors.Join(err, tel.Close()) }()

	key, err := auth.LoadOrGenerateKeyFile(folder.File(authKeyName))
	if err != nil {
		return err
	}
	masters, err := mastersOf(folder.Path)
	if err != nil {
		return err
	}
	c.SealKeyFile = cmp.Or(c.SealKeyFile, folder.File(sealKeyName))
	sealing, err := sealingWith(seal.LoadOrCreateKey, c.Seals, headsIn{})
	if err != nil {
		return err
	}
	servers, err := embedded.Start(folder.Path)
	if err != nil {
		return err
	}
	defer servers.Close()

	n := &node{
		servers: embeddedServers(folder, servers),
		http:    c.HTTP, tel: tel, watchFront: c.WatchFront, masters: masters, erasures: erasuresOf(c.ErasureLedger, folder.Path), verifier: key.Verifier(), listener: listener, alone: true, webhook: webhook, sealing: sealing,
	}
	if err := n.migrate(ctx); err != nil {
		return err
	}
	socket, err := listenSocket(ctx, socketPath(folder.Path))
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return servers.Run(groupCtx) })
	group.Go(func() error { return n.serveSocket(groupCtx, socket) })
	group.Go(func() error {
		return n.run(groupCtx, []role{roleCommands, roleReadAPI, roleAdmin, roleRelay, roleProjector, roleReactor, roleLive})
	})
	group.Go(func() error {
		url := "http://" + listener.Addr().String()
		if err := awaitReady(groupCtx, url); err != nil {
			return nil //nolint:nilerr // ended before it was ready; whoever ended it says why
		}
		fmt.Fprintf(t.out, "DangDang Salon is open at %s (data in %s). API: %s/docs. Stop with Ctrl-C.\n", url, folder.Path, url)
		if !c.Demo {
			return nil
		}
		return c.demo(groupCtx, t.out, url, func(sub, role string) (string, error) { return key.Mint(sub, role, 24*time.Hour) })
	})
	return group.Wait()
}

// embeddedServers are the addresses of what runs in this process.
func embeddedServers(folder *embedded.Folder, servers *embedded.Servers) config.Servers {
	return config.Servers{
		Events: "sqlite:" + folder.File(eventsName), Reads: "sqlite:" + folder.File(readsName), Redis: servers.RedisURL(),
		Kafka: servers.Brokers()[0], Topics: config.Topics{Partitions: embeddedPartitions, Replication: 1},
	}
}

func (c *upCmd) demo(ctx context.Context, out io.Writer, url string, mint minter) error {
	err := seed(ctx, url, mint, out)
	if err == nil {
		err = printTokens(ctx, url, mint, out)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // stopped in the middle of the demo
	}
	return err
}

// awaitReady waits until a system can serve.
func awaitReady(ctx context.Context, url string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	c := newClient(url, "")
	for {
		if a, err := c.call(ctx, http.MethodGet, "/readyz", "", nil); err == nil && a.status == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// listenSocket is where other verbs reach this process. The folder's lock is ours: a socket that is there is a dead
// process's.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of a process that ended: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for other verbs: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// migrate makes what the data folder lacks; it is the folder of this process, so nobody else could.
func (n *node) migrate(ctx context.Context) error {
	if err := migrate(ctx, n.servers); err != nil {
		return err
	}
	return topicsOf(n.servers).Ensure(ctx)
}
