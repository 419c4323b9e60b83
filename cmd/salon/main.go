// Command salon is the whole of DangDang Salon in one binary: every role, on one laptop or on many machines.
//
// `salon up` runs everything in one process with nothing installed. `salon serve ROLE…` runs chosen roles against
// real servers. The other verbs prepare, look at and measure a system. Exit codes: 0 done, 1 a check failed or the
// work did, 2 the call was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // groomers live in zones; a bare container has no zone files

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
)

// Set by the build: -ldflags "-X main.version=… -X main.commit=…".
var (
	version = "dev"
	commit  = ""
)

type cli struct {
	Up            upCmd            `cmd:"" help:"Run everything in one process, with nothing installed."`
	Serve         serveCmd         `cmd:"" help:"Run chosen roles against real servers."`
	Demo          demoCmd          `cmd:"" help:"Book, chat, move and cancel against a running system, showing each step."`
	Chat          chatCmd          `cmd:"" help:"Talk in a room, from a terminal or a script."`
	Migrate       migrateCmd       `cmd:"" help:"Bring the databases' schemas up to date, or show or undo that."`
	Rollout       rolloutCmd       `cmd:"" help:"Replace a system's nodes by another release's, one by one, without an interruption; take it back when that goes badly."`
	Topics        topicsCmd        `cmd:"" help:"Make or check the Kafka topics."`
	Keys          keysCmd          `cmd:"" help:"Make the keys that nodes on real servers share; change the master key."`
	Person        personCmd        `cmd:"" help:"Hand out all that is kept of a person, or erase them."`
	Token         tokenCmd         `cmd:"" help:"Mint a token with the local key."`
	Doctor        doctorCmd        `cmd:"" help:"Check every part of a system; exit 1 when one is not well."`
	Load          loadCmd          `cmd:"" help:"Use a running system as people do while you break parts of it, and tell what failed, was lost or doubled."`
	Healthcheck   healthcheckCmd   `cmd:"" help:"Ask a running process whether it can serve; exit 1 when not. For containers."`
	Projections   projectionsCmd   `cmd:"" help:"Look at projections: lag, parked keys, versions; have parked keys tried again; rebuild, verify and switch versions."`
	Notifications notificationsCmd `cmd:"" help:"Look at notifications that the webhook did not take; have them sent again."`
	Events        eventsCmd        `cmd:"" help:"Look events up, and what caused what; seal, verify, prove, export and import the history."`
	State         stateCmd         `cmd:"" help:"What a stream, or a read model's rows, were at a moment: salon state groomer-kim --at 2026-11-24T14:03:00+09:00."`
	Diff          diffCmd          `cmd:"" help:"What changed between two moments, by which event, command and person."`
	Config        configCmd        `cmd:"" help:"Show every setting of salon serve, where it came from, and with roles what is wrong with it."`
	OpenAPI       openAPICmd       `cmd:"" name:"openapi" help:"Print the OpenAPI 3.1 document."`
	AsyncAPI      asyncAPICmd      `cmd:"" name:"asyncapi" help:"Print the AsyncAPI 3 document of the live socket."`
	Bench         benchCmd         `cmd:"" help:"Measure this system on this machine."`

	Settings string           `help:"Directory with one file for each setting, named as the flag or its variable: what neither flags nor the environment give is read there." type:"path" placeholder:"DIR"`
	Version  kong.VersionFlag `help:"Print the version." short:"V" env:"-"`
}

// usageError is a call that was wrong: exit code 2.
type usageError struct{ error }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)                             // a second signal ends the process as it would any other
	redis.SetLogger(redisLog{slog.New(slog.DiscardHandler)}) // by itself it prints to the terminal; a node sets its own log
	allowGarbage(usualGarbage)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type exit int

// run is main without the process: it returns the exit code. Tests call it as it is.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(exit) // kong leaves through Exit after --help and --version
			if !ok {
				panic(p)
			}
			code = int(e)
		}
	}()
	var c cli
	var from sources
	parser, err := kong.New(&c,
		kong.Name("salon"),
		kong.Description("DangDang Salon (댕댕살롱): a dog-grooming marketplace as an event-sourced system.\n\n"+
			"Start with:  salon up --demo\n\nEvery flag can also be set as SALON_NAME (--kafka: SALON_KAFKA), or as a file NAME in the directory --settings."),
		kong.DefaultEnvars("SALON"),
		kong.Bind(&from),
		kong.Resolvers(&from),
		kong.Vars{"version": versionLine(), "data": defaultData()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "salon:", err)
		return 2
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "salon: %v\nTry: salon --help\n", err)
		return 2
	}
	k.BindTo(ctx, (*context.Context)(nil))
	switch err := k.Run(&terminal{stdout, stderr}); {
	case err == nil:
		return 0
	case errors.As(err, new(usageError)):
		fmt.Fprintln(stderr, "salon:", err)
		return 2
	default:
		fmt.Fprintln(stderr, "salon:", err)
		return 1
	}
}

// terminal is where a verb writes: answers to out, everything else to err.
type terminal struct{ out, err io.Writer }

func versionLine() string {
	if commit == "" {
		return version
	}
	return version + " (" + commit + ")"
}
