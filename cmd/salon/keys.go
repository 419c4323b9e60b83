package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/embedded"
	"github.com/dangdangsalon/salon/internal/sealed"
)

type keysCmd struct {
	Make   keysMakeCmd   `cmd:"" default:"withargs" help:"Make the keys that nodes on real servers share."`
	Rewrap keysRewrapCmd `cmd:"" help:"Change the master key of real servers: wrap every person's key under the new one."`
	Rotate keysRotateCmd `cmd:"" help:"Change the master key of a data folder."`
}

type keysMakeCmd struct {
	Dir string `arg:"" help:"Folder for auth.key (signs tokens), master.key (wraps every person's key) and seal.key (signs seals of the history). Files that are there are kept." type:"path"`
}

// Run makes what `serve` needs on every node: the same files. Losing master.key loses every personal field.
func (c *keysMakeCmd) Run(t *terminal) error {
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
	if _, err := seal.LoadOrCreateKey(filepath.Join(c.Dir, sealKeyName)); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Give every node --auth-key-file %s and --master-key-file %s, and keep a copy of the second: without it, personal fields are gone.\n"+
		"The admin role seals the history with --seal-key-file %s; keep %[3]s.pub where whoever has the store cannot change it.\n", authKey, masterKey, filepath.Join(c.Dir, sealKeyName))
	return nil
}

type keysRewrapCmd struct {
	whichPerson `embed:""`
}

func (c *keysRewrapCmd) Help() string {
	return "The master key is changed while everything runs, in four steps:\n\n" +
		"  1. salon keys NEWDIR makes another one. Nodes are restarted one by one with it as --master-key-also.\n" +
		"  2. Nodes are restarted one by one with the new one as --master-key-file and the old one as --master-key-also.\n" +
		"  3. salon keys rewrap --master-key-file NEW --master-key-also OLD\n" +
		"  4. Nodes are restarted without the old one, which then only opens backups.\n\n" +
		"No text is sealed anew: a person's key stays what it is. Of a data folder, salon keys rotate does all of it."
}

func (c *keysRewrapCmd) Run(ctx context.Context, t *terminal) error {
	s, ask, err := c.servers()
	if err != nil {
		return err
	}
	if ask {
		return usage(errors.New("--events is missing: salon keys rotate changes the master key of a data folder"))
	}
	if c.MasterKeyFile == "" || len(c.MasterKeyAlso) == 0 {
		return usage(errors.New("give the new master key as --master-key-file, and the old one as --master-key-also"))
	}
	return c.open(ctx, s.Events, audit.Erasures{}, func(n *node) error { return n.rewrap(ctx, t) })
}

// rewrap wraps what is not wrapped under the first master key under it.
func (n *node) rewrap(ctx context.Context, t *terminal) error {
	keys, err := n.keys()
	if err != nil {
		return err
	}
	if err := n.recordFor(commandLine(machineUser()))(ctx, "rewrap-keys", ""); err != nil {
		return err
	}
	var all, done int
	if err := keys.Rewrap(ctx, n.store, func(rewrapped bool) {
		if all++; rewrapped {
			done++
		}
		if all%100_000 == 0 {
			fmt.Fprintf(t.err, "%d keys, %d of them wrapped again\n", all, done)
		}
	}); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%d keys, %d of them wrapped again.\n", all, done)
	return nil
}

type keysRotateCmd struct {
	Data string `help:"Data folder; its salon up has to be stopped." type:"path" default:"${data}"`
}

func (c *keysRotateCmd) Help() string {
	return "Makes another master key, wraps every person's key under it, and puts it in the place of the old one, which is kept:\n" +
		"backups need it. Whatever is killed in between goes on when it is called again, and salon up serves\n" +
		"meanwhile with both."
}

// Run is in steps that each leave a folder that can be opened: the new key beside the old one, all keys under it, then one
// file in the other's place.
func (c *keysRotateCmd) Run(ctx context.Context, t *terminal) (err error) {
	if _, err := os.Stat(filepath.Join(c.Data, masterKeyName)); err != nil {
		return usage(fmt.Errorf("%s is not a data folder: %w", c.Data, err))
	}
	folder, err := embedded.Open(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	current, next := folder.File(masterKeyName), folder.File(nextKeyName)
	if _, err := sealed.LoadOrCreateMaster(next); err != nil {
		return err
	}
	which := whichPerson{MasterKeys: config.MasterKeys{MasterKeyFile: next, MasterKeyAlso: []string{current}}}
	if err := which.open(ctx, "sqlite:"+folder.File(eventsName), audit.Erasures{}, func(n *node) error { return n.rewrap(ctx, t) }); err != nil {
		return err
	}
	old := folder.File("master.until-" + time.Now().UTC().Format("20060102T150405.000000Z") + ".key")
	if err := os.Link(current, old); err != nil {
		return fmt.Errorf("keep the old master key: %w", err)
	}
	if err := os.Rename(next, current); err != nil {
		return fmt.Errorf("put the new master key in place: %w", err)
	}
	fmt.Fprintf(t.out, "The old master key is kept as %s: backups of before now need it.\n", old)
	return folder.Sync()
}

// mastersOf reads the master key of a data folder, made first when there is none, and the one that takes its place.
func mastersOf(folder string) (keys [][]byte, err error) {
	master, err := sealed.LoadOrCreateMaster(filepath.Join(folder, masterKeyName))
	if err != nil {
		return nil, err
	}
	next, err := sealed.LoadMaster(filepath.Join(folder, nextKeyName))
	if errors.Is(err, fs.ErrNotExist) {
		return [][]byte{master}, nil
	}
	return [][]byte{master, next}, err
}
