package main

import (
	"context"
	"os"
	"os/user"
	"strconv"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/projections/admin"
)

// recordFor notes one caller's calls in the store, each before it is answered.
func (n *node) recordFor(by domain.Actor) admin.Record {
	return func(ctx context.Context, operation, about string) error {
		return commands.RecordCall(ctx, n.store, by, operation, about)
	}
}

// recordSignedIn does it for who came with a token.
func (n *node) recordSignedIn(by auth.Identity) admin.Record {
	return n.recordFor(domain.Actor{ID: by.Sub, Role: domain.Role(by.Role)})
}

// commandLine is who acts from a terminal: nobody signed in, but the machine knows whose process it is. The role is one
// that no token can have.
func commandLine(name string) domain.Actor {
	return domain.Actor{ID: "cli." + name, Role: domain.System}
}

// machineUser is who runs this process: the account's name, its number where there is no name that a stream may have.
func machineUser() string {
	if u, err := user.Current(); err == nil && plainName(u.Username) {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// plainName tells what a subject may look like, as a token's is held to.
func plainName(s string) bool {
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 120
}
