package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/dangdangsalon/salon/internal/config"
)

// configCmd shows what `salon serve` would run with.
type configCmd struct {
	Roles []role `arg:"" optional:"" help:"Also check the settings as salon serve ROLE… does before it starts: exit 2 says what is missing or wrong." enum:"commands,readapi,admin,relay,projector,reactor,live"`

	serveSettings `embed:""`

	Output string `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

// setting is one setting as it is in force.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"` // masked
	From  string `json:"from"`  // flag, environment, default, or the file in the directory of settings
}

func (c *configCmd) Run(ctx *kong.Context, from *sources, t *terminal) error {
	all := []setting{}
	for _, f := range ctx.Flags() {
		if len(f.Envs) == 0 || f.Name == "output" {
			continue
		}
		value := fmt.Sprint(f.Target.Interface())
		if list, is := f.Target.Interface().([]string); is {
			value = strings.Join(list, ",")
		}
		all = append(all, setting{f.Name, config.Masked(f.Name, value), from.of(ctx, f)})
	}
	var wrong error
	if len(c.Roles) > 0 {
		_, wrong = (&serveCmd{Roles: c.Roles, serveSettings: c.serveSettings}).check()
	}
	if c.Output == "json" {
		return errors.Join(writeJSON(t.out, all), wrong)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SETTING\tVALUE\tFROM")
	for _, s := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Value, s.From)
	}
	return errors.Join(w.Flush(), wrong)
}
