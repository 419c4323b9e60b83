package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/reactors/notify"
)

type serveCmd struct {
	Roles []role `arg:"" help:"What this process does: commands, readapi, admin, relay, projector, reactor, live." enum:"commands,readapi,admin,relay,projector,reactor,live"`

	serveSettings `embed:""`
}

// serveSettings are what nodes on real servers are told, whatever their roles.
type serveSettings struct {
	Drain time.Duration `help:"How long it goes on serving after it was told to stop, while /readyz says 503: as long as the load balancer takes to look twice. Then requests end, and sockets are sent to another node. A second signal ends it at once." default:"0s"`

	config.Servers       `embed:""`
	config.Replica       `embed:""`
	config.Secrets       `embed:""`
	config.HTTP          `embed:""`
	config.Notify        `embed:""`
	config.Seals         `embed:""`
	config.Observability `embed:""`
}

// checked is what the check of a call found out.
type checked struct {
	webhook                      *notify.Endpoint
	administers, reacts, answers bool // answers: HTTP
}

// check complains about all that is missing or wrong in the call, as a usageError.
func (c *serveCmd) check() (found checked, err error) {
	if err := errors.Join(c.Servers.ReadFiles(), c.Replica.ReadFiles()); err != nil {
		return found, usage(err)
	}
	has := func(r role) bool { return slices.Contains(c.Roles, r) }
	found.administers, found.reacts = has(roleAdmin), has(roleReactor)
	found.answers = has(roleLive) || has(roleCommands) || has(roleReadAPI) || has(roleAdmin)
	screens := has(roleProjector) || has(roleAdmin) || has(roleLive) || has(roleReadAPI)
	found.webhook, err = endpoint(c.Notify, found.reacts)
	errs := []error{err, c.Fronts(), c.Need(true, has(roleProjector) || has(roleRelay) || has(roleAdmin) || has(roleLive) || found.webhook != nil, screens || found.reacts, screens)}
	if (found.answers || found.reacts) && c.MasterKeyFile == "" {
		errs = append(errs, errors.New("--master-key-file is missing: personal fields are sealed under it (salon keys DIR makes one)"))
	}
	if found.answers && c.AuthJWKS == "" && c.AuthIssuer == "" && c.AuthKeyFile == "" {
		errs = append(errs, errors.New("nobody could sign in: give --auth-jwks, --auth-issuer or --auth-key-file (salon keys DIR makes one)"))
	}
	if len(c.AuthKeyAlso) > 0 && c.AuthKeyFile == "" {
		errs = append(errs, errors.New("--auth-key-also goes with --auth-key-file; a key set or an issuer has several keys by itself"))
	}
	if c.Drain < 0 || c.Drain > time.Minute {
		errs = append(errs, fmt.Errorf("--drain: %v is not within 0s and 1m", c.Drain))
	}
	return found, usage(errors.Join(errs...))
}

func (c *serveCmd) Run(ctx context.Context, t *terminal) error {
	call, err := c.check()
	if err != nil {
		return err
	}
	tel, err := telemetryOf(ctx, c.Observability, slog.LevelInfo, t.err)
	if err != nil {
		return usage(err)
	}
	n := &node{servers: c.Servers, replicas: c.Replica, http: c.HTTP, tel: tel, watchFront: c.WatchFront, webhook: call.webhook, drain: c.Drain}
	if call.administers && c.SealKeyFile != "" {
		if n.sealing, err = sealingWith(seal.LoadKey, c.Seals, headsIn{c.Kafka, c.Topics.TopicPrefix}); err != nil {
			return err
		}
	}
	if call.answers || call.reacts { // a reactor's commands are remembered under a key of the system's own
		if n.masters, err = masters(c.MasterKeys); err != nil {
			return err
		}
		n.erasures.Path = c.Erasures
	}
	if call.answers {
		if n.verifier, err = verifier(ctx, c.Secrets); err != nil {
			return err
		}
		if n.listener, err = listen(ctx, c.Listen); err != nil {
			return err
		}
	}
	return errors.Join(n.run(ctx, c.Roles), tel.Close())
}

func verifier(ctx context.Context, s config.Secrets) (*auth.Verifier, error) {
	switch {
	case s.AuthJWKS != "":
		return auth.FromJWKS(s.AuthJWKS, ""), nil
	case s.AuthIssuer != "":
		return auth.FromIssuer(ctx, s.AuthIssuer, "")
	}
	key, err := auth.LoadKeyFile(s.AuthKeyFile)
	if err != nil {
		return nil, err
	}
	var others []*auth.LocalKey
	for _, file := range s.AuthKeyAlso {
		other, err := auth.LoadKeyFile(file)
		if err != nil {
			return nil, err
		}
		others = append(others, other)
	}
	return key.Verifier(others...), nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: choose another address with --listen", err)
	}
	return l, nil
}

// masters reads the master key and the others.
func masters(of config.MasterKeys) (keys [][]byte, err error) {
	for _, file := range append([]string{of.MasterKeyFile}, of.MasterKeyAlso...) {
		key, err := sealed.LoadMaster(file)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}
