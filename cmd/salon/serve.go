package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/sealed"
)

type serveCmd struct {
	Roles []role `arg:"" help:"What this process does: commands, readapi, admin, relay, projector, reactor, live." enum:"commands,readapi,admin,relay,projector,reactor,live"`

	config.Servers       `embed:""`
	config.Secrets       `embed:""`
	config.HTTP          `embed:""`
	config.Notify        `embed:""`
	config.Seals         `embed:""`
	config.Observability `embed:""`
}

func (c *serveCmd) Run(ctx context.Context, t *terminal) error {
	if err := c.ReadFiles(); err != nil {
		return usage(err)
	}
	chats := slices.Contains(c.Roles, roleLive)
	http := chats || slices.Contains(c.Roles, roleCommands) || slices.Contains(c.Roles, roleReadAPI) || slices.Contains(c.Roles, roleAdmin)
	administers := slices.Contains(c.Roles, roleAdmin)
	projects := slices.Contains(c.Roles, roleProjector)
	screens := projects || administers || chats || slices.Contains(c.Roles, roleReadAPI)
	reacts := slices.Contains(c.Roles, roleReactor)
	relays := slices.Contains(c.Roles, roleRelay)
	webhook, err := endpoint(c.Notify, reacts)
	errs := []error{err, c.Need(true, projects || relays || administers || chats || webhook != nil, screens || reacts, screens)}
	if (http || reacts) && c.MasterKeyFile == "" {
		errs = append(errs, errors.New("--master-key-file is missing: personal fields are sealed under it (salon keys DIR makes one)"))
	}
	if http && c.AuthJWKS == "" && c.AuthIssuer == "" && c.AuthKeyFile == "" {
		errs = append(errs, errors.New("nobody could sign in: give --auth-jwks, --auth-issuer or --auth-key-file (salon keys DIR makes one)"))
	}
	if err := errors.Join(errs...); err != nil {
		return usage(err)
	}
	tel, err := telemetryOf(ctx, c.Observability, slog.LevelInfo, t.err)
	if err != nil {
		return usage(err)
	}
	n := &node{servers: c.Servers, http: c.HTTP, tel: tel, webhook: webhook}
	if administers && c.SealKeyFile != "" {
		if n.sealing, err = sealingWith(seal.LoadKey, c.Seals); err != nil {
			return err
		}
	}
	if http || reacts { // a reactor's commands are remembered under a key of the system's own
		if n.masters, err = masters(c.MasterKeys); err != nil {
			return err
		}
		n.erasures.Path = c.Erasures
	}
	if http {
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
	return key.Verifier(), nil
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
