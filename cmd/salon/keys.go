package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/sealed"
)

type keysCmd struct {
	Dir string `arg:"" help:"Folder for auth.key (signs tokens) and master.key (wraps every person's key). Files that are there are kept." type:"path"`
}

// Run makes what `serve` needs on every node: the same two files. Losing master.key loses every personal field.
func (c *keysCmd) Run(t *terminal) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of the keys: %w", err)
	}
	authKey, masterKey := filepath.Join(c.Dir, authKeyName), filepath.Join(c.Dir, masterKeyName)
	if _, err := auth.LoadOrGenerateKeyFile(authKey); err != nil {
		return err
	}
	if _, err := sealed.LoadOrCreateMaster(masterKey); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Give every node --auth-key-file %s and --master-key-file %s, and keep a copy of the second: without it, personal fields are gone.\n", authKey, masterKey)
	return nil
}
