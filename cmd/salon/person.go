package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/config"
)

type personCmd struct {
	Export personExportCmd `cmd:"" help:"Hand out all that is kept of a person, a line of JSON for each event."`
	Erase  personEraseCmd  `cmd:"" help:"Delete a person's key: all their texts are gone, everywhere, within a minute."`
}

type personExportCmd struct {
	Person string `arg:"" help:"ROLE/SUB: customer/kim, groomer/bomnal."`
	To     string `help:"File to write, which must not be there yet; - is the terminal." default:"-" placeholder:"FILE"`

	config.ErasureLedger `embed:""`
	whichPerson          `embed:""`
}

func (c *personExportCmd) Help() string {
	return "Every event that the person gave or that is about them, with their own texts opened: their bookings and what became of\n" +
		"them, their rooms (what the other side said stays sealed), their inbox and read marks. The whole event store is read.\n\n" +
		"  salon person export customer/kim --to kim.jsonl"
}

type personEraseCmd struct {
	Person  string `arg:"" help:"ROLE/SUB: customer/kim, groomer/bomnal."`
	Confirm string `help:"The same once more: there is no way back." placeholder:"ROLE/SUB"`

	config.ErasureLedger `embed:""`
	whichPerson          `embed:""`
}

func (c *personEraseCmd) Help() string {
	return "Names of dogs, addresses, phone numbers, notes, reasons, messages and images of a person are kept under a key of their own.\n" +
		"This deletes the key. Answers, rebuilds, exports and the past show those texts as erased from then on, on every node within a\n" +
		"minute, and nobody can open them in Kafka, in a read model or in a file. What happened, and when, stays, and every seal\n" +
		"still verifies.\n\n" +
		"Backups of the event store have the key. The ledger of erasures (--erasures; beside the data folder of salon up) is to be in\n" +
		"none of them: nodes apply it before they serve, so a restored backup loses the key again.\n\n" +
		"  salon person erase customer/kim --confirm customer/kim"
}

var errLedgerOfUp = errors.New("--erasures is for --events: the ledger of a salon up is the one that it was started with")

// whichPerson is where a person's events and key are.
type whichPerson struct {
	whichEvents       `embed:""`
	config.MasterKeys `embed:""`
}

// personOf reads ROLE/SUB.
func personOf(text string) (domain.Actor, error) {
	role, sub, _ := strings.Cut(text, "/")
	if !slices.Contains([]string{"customer", "groomer", "admin", "analyst"}, role) || !plainName(sub) {
		return domain.Actor{}, usage(fmt.Errorf("%q is nobody: give ROLE/SUB, as customer/kim or groomer/bomnal", text))
	}
	return domain.Actor{ID: sub, Role: domain.Role(role)}, nil
}

// open lets work use an event store, and the master keys when they are given.
func (c *whichPerson) open(ctx context.Context, events string, ledger audit.Erasures, work func(*node) error) (err error) {
	n := &node{erasures: ledger}
	if c.MasterKeyFile != "" {
		if n.masters, err = masters(c.MasterKeys); err != nil {
			return err
		}
	}
	if n.store, err = openEvents(ctx, events, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	return work(n)
}

func (c *whichPerson) socket() socketDesk {
	return socketDesk{socketClient(socketPath(c.Data)), socketPath(c.Data)}
}

func (c *personExportCmd) Run(ctx context.Context, t *terminal) (err error) {
	who, err := personOf(c.Person)
	if err != nil {
		return err
	}
	s, ask, err := c.servers()
	if err != nil {
		return err
	}
	switch {
	case ask && c.Erasures != "":
		return usage(errLedgerOfUp)
	case !ask && c.MasterKeyFile == "":
		return usage(errors.New("--master-key-file is missing: without it a person's texts cannot be opened"))
	}
	out, done := t.out, func(bool) error { return nil }
	if c.To != "-" {
		if out, done, err = wholeFile(c.To); err != nil {
			return usage(fmt.Errorf("--to: %w", err))
		}
	}
	if ask {
		err = c.socket().export(ctx, who, out)
	} else {
		err = c.open(ctx, s.Events, audit.Erasures{Path: c.Erasures}, func(n *node) error { return n.exportPerson(ctx, machineUser(), who, out) })
	}
	return errors.Join(err, done(err == nil))
}

// wholeFile makes a file that is there under its name when it is whole, and never over another: half of what is kept of a
// person would look like all of it.
func wholeFile(path string) (to io.Writer, done func(whole bool) error, err error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, nil, &fs.PathError{Op: "make", Path: path, Err: fs.ErrExist}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*") // for its owner alone
	if err != nil {
		return nil, nil, err
	}
	return f, func(whole bool) (err error) {
		if whole {
			if err = f.Sync(); err == nil {
				err = os.Link(f.Name(), path) // unlike Rename, never over a file that came meanwhile
			}
		}
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}, nil
}

func (c *personEraseCmd) Run(ctx context.Context, t *terminal) error {
	who, err := personOf(c.Person)
	if err != nil {
		return err
	}
	if c.Confirm != c.Person {
		return usage(fmt.Errorf("nothing was erased. There is no way back: say it once more with --confirm %s", c.Person))
	}
	s, ask, err := c.servers()
	if err != nil {
		return err
	}
	var had bool
	if ask {
		if c.Erasures != "" {
			return usage(errLedgerOfUp)
		}
		var answer struct{ Had bool }
		err = c.socket().call(ctx, http.MethodPost, "/person/erase", url.Values{"role": {string(who.Role)}, "sub": {who.ID}}, &answer)
		had = answer.Had
	} else {
		if c.Erasures == "" {
			return usage(errors.New("--erasures is missing: without the ledger, a restored backup would bring the person back"))
		}
		err = c.open(ctx, s.Events, audit.Erasures{Path: c.Erasures}, func(n *node) (err error) {
			had, err = n.erasePerson(ctx, machineUser(), who)
			return err
		})
	}
	if err != nil {
		return err
	}
	if !had {
		fmt.Fprintf(t.out, "%s has no key: nothing of theirs was sealed, or they were erased before.\n", c.Person)
		return nil
	}
	fmt.Fprintf(t.out, "%s is erased. Nodes that have the key in memory forget it within a minute.\n", c.Person)
	return nil
}

// exportPerson writes a person's events, and notes who has asked before it does.
func (n *node) exportPerson(ctx context.Context, account string, who domain.Actor, to io.Writer) error {
	texts, err := n.texts()
	if err != nil {
		return err
	}
	if err := n.recordFor(commandLine(account))(ctx, "export-person", string(who.Role)+"/"+who.ID); err != nil {
		return err
	}
	out := bufio.NewWriter(to)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	if err := n.past(texts).Mentions(ctx, who, func(m audit.Mention) error { return lines.Encode(m) }); err != nil {
		return err
	}
	return out.Flush()
}

// erasePerson erases a person, and notes who has asked before it does.
func (n *node) erasePerson(ctx context.Context, account string, who domain.Actor) (had bool, err error) {
	if err := n.recordFor(commandLine(account))(ctx, "erase-person", string(who.Role)+"/"+who.ID); err != nil {
		return false, err
	}
	return audit.Erase(ctx, n.store, n.erasures, who.Subject(), commandLine(account).ID)
}

// personRoutes answer the verbs about persons for other processes, as the owner of the data folder.
func (n *node) personRoutes(mux *http.ServeMux, answer func(w http.ResponseWriter, body any, err error)) {
	who := func(q url.Values) domain.Actor {
		return domain.Actor{ID: q.Get("sub"), Role: domain.Role(q.Get("role"))}
	}
	mux.HandleFunc("POST /person/erase", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		had, err := n.erasePerson(r.Context(), askedBy(q), who(q))
		answer(w, map[string]bool{"had": had}, err)
	})
	mux.HandleFunc("GET /person/export", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Trailer", exportFailed)
		if err := n.exportPerson(r.Context(), askedBy(q), who(q), w); err != nil {
			w.Header().Set(exportFailed, err.Error())
		}
	})
}

// exportFailed is the trailer that says why an export ends too early.
const exportFailed = "Salon-Export-Failed"

func (d socketDesk) export(ctx context.Context, who domain.Actor, to io.Writer) error {
	res, err := d.send(ctx, http.MethodGet, "/person/export", url.Values{"role": {string(who.Role)}, "sub": {who.ID}})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(to, res.Body); err != nil {
		return fmt.Errorf("read the process's answer: %w", err)
	}
	if why := res.Trailer.Get(exportFailed); why != "" {
		return errors.New(why)
	}
	return nil
}

// erasuresOf is the ledger of a data folder: beside it, so that who restores the folder keeps the ledger.
func erasuresOf(c config.ErasureLedger, folder string) audit.Erasures {
	if c.Erasures != "" {
		return audit.Erasures{Path: c.Erasures}
	}
	return audit.Erasures{Path: strings.TrimRight(folder, "/") + ".erasures"}
}
