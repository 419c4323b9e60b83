package main

import (
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/internal/auth"
)

type tokenCmd struct {
	Sub         string        `help:"Who the token is for; a groomer's is its groomer ID." required:""`
	Role        string        `help:"customer, groomer, admin or analyst." required:"" enum:"customer,groomer,admin,analyst"`
	TTL         time.Duration `name:"ttl" help:"How long it is valid." default:"1h"`
	AuthKeyFile string        `help:"The local key. Without it, the one in the data folder." type:"path" placeholder:"FILE"`
	Data        string        `help:"Data folder of salon up." type:"path" default:"${data}"`
}

func (c *tokenCmd) Run(t *terminal) error {
	token, err := mint(keyFile(c.AuthKeyFile, c.Data), c.Sub, c.Role, c.TTL)
	if err != nil {
		return err
	}
	fmt.Fprintln(t.out, token)
	return nil
}

func mint(keyFile, sub, role string, ttl time.Duration) (string, error) {
	key, err := auth.LoadKeyFile(keyFile)
	if err != nil {
		return "", fmt.Errorf("%w (salon up makes one in its data folder; or give --auth-key-file)", err)
	}
	return key.Mint(sub, role, ttl)
}
