package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// AppendUntilKilled is the child of Kills. It tells each command before it appends and after it was acknowledged.
func AppendUntilKilled(ctx context.Context, s eventstore.Store, out io.Writer) error {
	failed := make(chan error)
	for w := range 16 {
		go func() {
			for {
				a := request(fmt.Sprintf("stream-%d", w), eventstore.AnyRevision, "x", "y")
				_, err := fmt.Fprintf(out, "asked %s %s\n", a.Command.ID, a.Stream)
				if err == nil {
					var done eventstore.Appended
					done, err = s.Append(ctx, a)
					if err == nil {
						_, err = fmt.Fprintf(out, "done %s %s %d\n", a.Command.ID, a.Stream, done.Position)
					}
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// asked is what a child told of one command.
type asked struct {
	id       uuid.UUID
	stream   string
	position uint64 // 0 when it was not acknowledged
}

// Kills ends a child that does AppendUntilKilled with kill -9, at any moment and many times. After each, what it was
// told is there, once and where it was told; what it was not told is settled by the same command; nothing is torn.
func Kills(t *testing.T, rounds int, child func() *exec.Cmd, open func() eventstore.Store) {
	t.Helper()
	KillsFor(t, Features{Dense: true}, rounds, child, open)
}

// KillsFor is Kills for a store that is not dense, or whose time ascends within streams.
func KillsFor(t *testing.T, f Features, rounds int, child func() *exec.Cmd, open func() eventstore.Store) {
	t.Helper()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice
	t.Logf("seed %d", seed)
	commands := map[uuid.UUID]asked{}
	for round := range rounds {
		if err := killOne(child(), 1+random.IntN(300), time.Duration(random.IntN(5000))*time.Microsecond, commands); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		s := open()
		if err := survived(t.Context(), f, s, commands); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := s.(io.Closer).Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d commands", rounds, len(commands))
}

// killOne lets a child live until so many of its commands were acknowledged, and a moment longer.
func killOne(c *exec.Cmd, acknowledged int, longer time.Duration, commands map[uuid.UUID]asked) error {
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	// What it wrote until it felt the kill is read to the end.
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var what, id, stream string
		var position uint64
		if n, _ := fmt.Sscan(lines.Text(), &what, &id, &stream, &position); n < 3 || what == "done" && n < 4 {
			continue // cut by the kill
		}
		parsed, err := uuid.Parse(id)
		if err != nil {
			return err
		}
		commands[parsed] = asked{parsed, stream, position}
		if what == "done" {
			if acknowledged--; acknowledged == 0 {
				time.AfterFunc(longer, func() { _ = c.Process.Kill() })
			}
		}
	}
	if err := c.Wait(); err == nil || c.ProcessState.ExitCode() >= 0 {
		return fmt.Errorf("the child ended by itself: %w", err)
	}
	return nil
}

// survived holds the store to what was told, and settles the rest.
func survived(ctx context.Context, f Features, s eventstore.Store, commands map[uuid.UUID]asked) error {
	for id, c := range commands {
		found, ok, err := s.Command(ctx, id)
		switch {
		case err != nil:
			return err
		case c.position != 0 && !ok:
			return errors.New("an acknowledged command is gone")
		case c.position != 0 && found.Position != c.position:
			return fmt.Errorf("a command stands at %d, acknowledged was %d", found.Position, c.position)
		case !ok:
			a := request(c.stream, eventstore.AnyRevision)
			a.Command.ID = id
			var before *eventstore.DuplicateError
			if done, err := s.Append(ctx, fill(a, "x", "y")); err == nil {
				c.position = done.Position
			} else if errors.As(err, &before) { // a server was still at it
				c.position = before.Command.Position
			} else {
				return err
			}
		default:
			c.position = found.Position
		}
		commands[id] = c
	}
	events, order := 0, order{dense: f.Dense, byStream: f.TimeByStream}
	for _, err := range order.watch(s.ReadAll(ctx, 0, eventstore.Filter{})) {
		if err != nil {
			return err
		}
		events++
	}
	return same("events, two of each command", 2*len(commands), events)
}
