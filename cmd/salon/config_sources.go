package main

import (
	"errors"
	"os"

	"github.com/alecthomas/kong"

	"github.com/dangdangsalon/salon/internal/config"
)

// sources are where settings come from: a flag, else the environment, else a file in the directory --settings, else the
// default. Kong looks at flags, environment and defaults by itself; this is the directory, and the refusal of names that
// are no setting's. A setting that another verb or role has is known, and left alone: all parts of a system may be given the
// same settings.
type sources struct {
	all   []string // the flags of all verbs that are settings
	found map[string]config.Found
}

// settingsOf lists the flags that may also be given as variables, of all verbs.
func settingsOf(n *kong.Node) (all []string) {
	for _, f := range n.Flags {
		if len(f.Envs) > 0 {
			all = append(all, f.Name)
		}
	}
	for _, c := range n.Children {
		all = append(all, settingsOf(c)...)
	}
	return all
}

// BeforeResolve reads the directory, once it is known which.
func (c *cli) BeforeResolve(ctx *kong.Context, s *sources) (err error) {
	s.all = settingsOf(ctx.Model.Node)
	err = config.Unknown(os.Environ(), s.all)
	for _, f := range ctx.Flags() {
		if dir, ok := ctx.FlagValue(f).(string); ok && f.Name == "settings" && dir != "" {
			var wrong error
			s.found, wrong = config.Directory(dir, s.all)
			err = errors.Join(err, wrong)
		}
	}
	return err
}

// Validate is for kong, which asks every resolver; names are checked by BeforeResolve, which knows the directory.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve finds a value in the directory.
func (s *sources) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	if given, is := s.found[f.Name]; is && !inEnvironment(f) {
		return given.Value, nil
	}
	return nil, nil //nolint:nilnil // kong's word for no value
}

func inEnvironment(f *kong.Flag) bool {
	for _, name := range f.Envs {
		if _, is := os.LookupEnv(name); is {
			return true
		}
	}
	return false
}

// of tells where the value of a flag comes from.
func (s *sources) of(ctx *kong.Context, f *kong.Flag) string {
	for _, p := range ctx.Path {
		if p.Flag == f && !p.Resolved {
			return "flag"
		}
	}
	if inEnvironment(f) {
		return "environment"
	}
	if given, is := s.found[f.Name]; is {
		return given.From
	}
	return "default"
}
