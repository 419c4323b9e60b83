package main

import (
	"encoding/json"
	"io"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/readapi"
)

//go:generate go run . openapi --out ../../docs/openapi.json

type openAPICmd struct {
	Out string `help:"File to write instead of the terminal." type:"path" placeholder:"FILE"`
}

func (c *openAPICmd) Run(t *terminal) error { return printDocument(t, c.Out, document()) }

// document is the API as the code has it: the operations of every role, registered on a server that serves nobody.
func document() any {
	s := httpserver.New(httpserver.Config{Version: "v1"})
	commands.Register(s.API(), commands.NewExecutor(commands.Config{}))
	readapi.Register(s.API(), readapi.Deps{})
	admin.Register(s.API(), &admin.Projections{}, nil)
	audit.Register(s.API(), &audit.Past{}, nil)
	seal.Register(s.API(), nil, nil)
	return s.API().OpenAPI()
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
