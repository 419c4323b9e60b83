package main

import (
	"errors"
	"os"

	"github.com/dangdangsalon/salon/readapi/live"
)

//go:generate go run . asyncapi --out ../../docs/asyncapi.json

type asyncAPICmd struct {
	Out string `help:"File to write instead of the terminal." type:"path" placeholder:"FILE"`
}

func (c *asyncAPICmd) Run(t *terminal) error { return printDocument(t, c.Out, live.AsyncAPI("v1")) }

// printDocument writes a document of the API to the file, or the terminal when none is named.
func printDocument(t *terminal, file string, document any) error {
	if file == "" {
		return writeJSON(t.out, document)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(writeJSON(f, document), f.Close())
}
