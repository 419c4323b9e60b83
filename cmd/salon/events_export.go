package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/config"
)

type eventsExportCmd struct {
	whichEvents `embed:""`

	To        string   `help:"File to write; FILE.commands, FILE.seals and FILE.manifest.json come beside it. - is the terminal: the events alone." required:"" placeholder:"FILE"`
	Format    string   `help:"jsonl: a line of JSON for each event. parquet: typed columns, for DuckDB, pandas and the like; FILE is then a folder." default:"jsonl" enum:"jsonl,parquet"`
	From      uint64   `name:"from" help:"First position." placeholder:"POSITION"`
	Through   uint64   `name:"through" help:"Last position." placeholder:"POSITION"`
	Stream    string   `help:"Events of this stream alone." placeholder:"STREAM"`
	OfKey     string   `name:"key" help:"Events of this ordering key alone." placeholder:"KEY"`
	EventType []string `name:"type" help:"Events of these types alone." placeholder:"TYPE"`
	Keys      string   `name:"person-keys" help:"File that gets every person's wrapped key, for a move to another store. Throw it away behind the move: it survives an erasure." placeholder:"FILE"`
	Mask      string   `help:"File of rules that say what becomes of personal fields; without it they stay sealed." type:"path" placeholder:"FILE"`
	MaskKey   string   `name:"mask-key-file" help:"File with the key, at least 16 bytes, of the rule hash." type:"path" placeholder:"FILE"`
	Output    string   `help:"table or json, of what was exported." default:"table" enum:"table,json" short:"o"`

	config.MasterKeys    `embed:""`
	config.ErasureLedger `embed:""`
}

// Help teaches the verb.
func (c *eventsExportCmd) Help() string {
	return "An export that was interrupted goes on when the same is asked for again. Nothing is written over. Personal fields\n" +
		"stay sealed. salon events verify --file FILE holds it to its hashes and seals, offline; salon events import FILE fills\n" +
		"an empty store of any kind with it, when nothing was left out.\n\n" +
		"  duckdb -c \"SELECT type, count(*) FROM 'history/*.parquet' GROUP BY type\"    after --format parquet --to history\n\n" +
		"With --mask, what the rules say becomes of each personal field, by event type:\n\n" +
		"  {\"default\": \"keep\",\n" +
		"   \"types\": {\"reservation.requested.v1\": {\"note\": \"drop\", \"phone\": {\"replace\": \"010-0000-0000\"}, \"dogs[].name\": \"hash\"}}}\n\n" +
		"keep (sealed), drop, replace by one text, hash (HMAC-SHA256 under --mask-key-file: who has the same text shows), open (in the\n" +
		"clear). hash and open need the master key; of erased people they give null. That it was so asked is on record. Of an event\n" +
		"that was masked, verify proves its hash and its place alone, and a masked export is not imported."
}

func (h eventsDesk) export(ctx context.Context, o export.Order) (m export.Manifest, err error) {
	o.Kind, _, _ = strings.Cut(h.url, ":")
	o.Dense = h.dense()
	about := strings.Fields(strings.Join(append([]string{rangeOf(o.Asked.From, o.Asked.To), o.Asked.Stream, o.Asked.Key}, o.Asked.Types...), " "))
	if o.Rules != nil {
		rules, err := export.ParseRules(o.Rules)
		if err != nil {
			return m, err
		}
		about = append(about, "masked")
		if rules.Uses(export.Opened) {
			about = append(about, "opened")
		}
		if texts, err := h.texts(); err != nil {
			return m, err
		} else if texts != nil {
			o.Texts = texts
		}
	}
	if err := h.note(ctx, "export-events", strings.Join(about, " ")); err != nil {
		return m, err
	}
	return export.Write(ctx, h.store, o)
}

func (c *eventsExportCmd) Run(ctx context.Context, t *terminal) error {
	defer inBulk()()
	if c.Through > 0 && c.From > c.Through {
		return usage(errors.New("--from is behind --through"))
	}
	s, ask, err := c.servers()
	if err != nil {
		return err
	}
	o := export.Order{Format: c.Format, Asked: export.Asked{From: c.From, To: c.Through, Stream: c.Stream, Key: c.OfKey, Types: c.EventType}}
	if err := c.masking(&o, ask); err != nil {
		return err
	}
	if o.Path, err = absolute(c.To); err != nil {
		return err
	}
	if o.Keys, err = absolute(c.Keys); err != nil {
		return err
	}
	var m export.Manifest
	switch {
	case c.To == "-" && ask:
		return usage(errors.New("--to - is for a store that is named with --events: a running salon up writes files"))
	case c.To == "-" && (c.Format != export.JSONL || c.Mask != ""):
		return usage(errors.New("--to - prints events as they are, a line of JSON each: --format parquet and --mask write files"))
	case c.To == "-":
		return c.with(ctx, s, true, func(h eventsDesk) error { return h.print(ctx, o.Asked, t.out) })
	case ask:
		err = c.askHistory(ctx, http.MethodPost, "/events/export", o, &m)
	default:
		p := newProgress(t.err)
		err = c.with(ctx, s, true, func(h eventsDesk) error {
			n := &node{store: h.store, erasures: audit.Erasures{Path: c.Erasures}}
			if c.MasterKeyFile != "" {
				if n.masters, err = masters(c.MasterKeys); err != nil {
					return err
				}
			}
			h.texts = n.texts
			head, err := h.Head(ctx)
			if err == nil {
				o.Progress = p.counter("export", head.Position)
				m, err = h.export(ctx, o)
			}
			return err
		})
		p.end()
	}
	if errors.Is(err, export.ErrThere) || errors.Is(err, export.ErrRules) {
		return usage(err)
	}
	if err != nil {
		return fmt.Errorf("%w (what was written stays: the same call goes on with it)", err)
	}
	if c.Output == "json" {
		return writeJSON(t.out, m)
	}
	what := "a part of the history"
	if m.Whole {
		what = "the whole history"
	}
	if m.Masked != nil {
		what += fmt.Sprintf(", masked in %d events", m.Masked.Events)
	}
	_, err = fmt.Fprintf(t.out, "%s has %s: %d events, %d commands, %d seals. Next: salon events verify --file %[1]s\n", c.To, what, m.Events, m.Commands, m.Seals)
	return err
}

// masking puts what is asked about personal fields into the order.
func (c *eventsExportCmd) masking(o *export.Order, ask bool) (err error) {
	if ask && (c.MasterKeyFile != "" || c.Erasures != "") {
		return usage(errors.New("--master-key-file and --erasures are for --events: a running salon up has its own"))
	}
	if c.Mask == "" {
		return nil
	}
	if o.Rules, err = os.ReadFile(c.Mask); err != nil {
		return usage(fmt.Errorf("--mask: %w", err))
	}
	if _, err := export.ParseRules(o.Rules); err != nil {
		return usage(err)
	}
	if c.MaskKey == "" {
		return nil
	}
	if o.MaskKey, err = os.ReadFile(c.MaskKey); err != nil {
		return usage(fmt.Errorf("--mask-key-file: %w", err))
	}
	o.MaskKey = bytes.TrimSpace(o.MaskKey)
	return nil
}

// print writes the events' lines.
func (h eventsDesk) print(ctx context.Context, a export.Asked, out io.Writer) error {
	if err := h.note(ctx, "export-events", rangeOf(a.From, a.To)); err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<20)
	through := a.To
	if through == 0 {
		through = math.MaxInt64
	}
	var line []byte
	for r, err := range h.ReadAll(ctx, max(a.From, 1)-1, eventstore.Filter{StreamPrefix: a.Stream, Key: a.Key, Types: a.Types}) {
		if err != nil {
			return err
		}
		if r.Position > through {
			break
		}
		if a.Stream != "" && a.Stream != r.Stream {
			continue
		}
		line = seal.AppendEvent(line[:0], r)
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return w.Flush()
}

type eventsImportCmd struct {
	File string `arg:"" help:"The export." type:"path"`
	Keys string `name:"person-keys" help:"File of persons' keys that the export wrote; the new system needs the same master key." type:"path" placeholder:"FILE"`

	Events     string `help:"Empty event store: postgres://USER@HOST/DB (after salon migrate up), esdb://HOST:PORT or sqlite:FILE." placeholder:"URL"`
	EventsFile string `help:"File that holds --events, for a URL with a password." type:"path" placeholder:"FILE"`
	Data       string `help:"Without --events: data folder of a salon up that has never run." type:"path" default:"${data}"`
}

// Help teaches the verb.
func (c *eventsImportCmd) Help() string {
	return "The store gets the same events in the same order, with their IDs, revisions, times and hashes, the commands, so that\n" +
		"every Idempotency-Key is answered as before, and the seals. It is empty until all of it is there: an import that was\n" +
		"ended in the middle begins again. EventStoreDB gives positions of its own, and keeps the old ones beside; nothing opens it\n" +
		"until all is there, and the same call goes on. Personal fields open with --person-keys and the old system's master key alone.\n" +
		"Read models follow by themselves in a new salon up; on real servers, rebuild them."
}

func (c *eventsImportCmd) Run(ctx context.Context, t *terminal) error {
	defer inBulk()()
	which := whichEvents{Events: c.Events, EventsFile: c.EventsFile, Data: c.Data}
	s, folder, err := which.servers()
	if err != nil {
		return err
	}
	f, err := export.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if folder {
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return fmt.Errorf("make the data folder: %w", err)
		}
		s.Events = "sqlite:" + filepath.Join(c.Data, eventsName)
	}
	if strings.HasPrefix(s.Events, "sqlite:") {
		if err := migrateEvents(ctx, s.Events); err != nil {
			return err
		}
	}
	p := newProgress(t.err)
	err = which.loading(ctx, s, func(h eventsDesk) error {
		if err := h.Loadable(ctx); err != nil {
			return err
		}
		if c.Keys != "" { // first: they may be added again when what follows fails
			if _, err := export.AddKeys(ctx, c.Keys, h); err != nil {
				return err
			}
		}
		if err := export.Import(ctx, f, h, p.counter("import", f.Manifest.Last)); err != nil {
			return err
		}
		return h.note(ctx, "import-events", filepath.Base(c.File)) // not before: the store had to be empty
	})
	p.end()
	if errors.Is(err, eventstore.ErrNotEmpty) || errors.Is(err, export.ErrNotWhole) || errors.Is(err, export.ErrMasked) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "The store has the history: %d events, %d commands, %d seals. Next: salon events verify\n", f.Manifest.Events, f.Manifest.Commands, f.Manifest.Seals)
	return err
}

// counter shows how far a walk through a history is.
func (p *progress) counter(verb string, total uint64) func(position uint64) {
	return func(position uint64) {
		rate := float64(position) / max(time.Since(p.began).Seconds(), 0.001)
		line := fmt.Sprintf("%s: position %d of %d, %.0f events/s", verb, position, total, rate)
		if p.bars != nil {
			p.line.Store(line)
			p.bar.SetTotal(int64(total), false) //nolint:gosec // a position
			p.bar.SetCurrent(int64(position))   //nolint:gosec // a position
			return
		}
		if time.Since(p.said) < 2*time.Second {
			return
		}
		if p.said.IsZero() && time.Since(p.began) < 2*time.Second {
			return // over in a moment
		}
		p.said = time.Now()
		fmt.Fprintln(p.out, line)
	}
}
