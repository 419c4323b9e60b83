package main

import (
	"os"
	"path/filepath"
)

// The files of a data folder.
const (
	authKeyName   = "auth.key"   // signs the tokens that `salon token` mints
	masterKeyName = "master.key" // wraps every person's key: without it, personal fields are gone
	socketName    = "salon.sock" // where verbs reach the running process
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

func keyFile(given, data string) string {
	if given != "" {
		return given
	}
	return filepath.Join(data, authKeyName)
}
