package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// The files of a data folder.
const (
	authKeyName   = "auth.key"        // signs the tokens that `salon token` mints
	masterKeyName = "master.key"      // wraps every person's key: without it, personal fields are gone
	nextKeyName   = "master.next.key" // takes its place, while people's keys are wrapped again (salon keys rotate)
	socketName    = "salon.sock"      // where verbs reach the running process
	sealKeyName   = "seal.key"        // signs the seals of the history; its public part is in seal.key.pub
	eventsName    = "events.db"
	readsName     = "reads.db"
)

// defaultData is the user's own data folder, as the XDG base directory specification has it.
func defaultData() string {
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "salon")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "salon-data"
	}
	return filepath.Join(home, ".local", "share", "salon")
}

// socketPath is where a data folder's process listens for other verbs: in the folder, or, when its path is longer than
// a socket's may be (108 bytes on Linux), under a name made of it among the temporary files.
func socketPath(data string) string {
	path := filepath.Join(data, socketName)
	if len(path) < 100 {
		return path
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("salon-%x", sha256.Sum256([]byte(path)))[:30]+".sock")
}

func keyFile(given, data string) string {
	if given != "" {
		return given
	}
	return filepath.Join(data, authKeyName)
}
