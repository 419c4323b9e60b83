package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/internal/config"
)

type eventsSealCmd struct {
	whichEvents  `embed:""`
	config.Seals `embed:""`
	headsIn      `embed:""`

	Output string `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

// seal makes what seals are missing.
func (h eventsDesk) seal(ctx context.Context) (made seal.Made, err error) {
	if h.sealing == nil {
		return made, errors.New("this process has no key of seals")
	}
	if err := h.note(ctx, "seal-events", ""); err != nil {
		return made, err
	}
	made.Items, err = h.sealing.Seal(ctx)
	return made, err
}

func (c *eventsSealCmd) Run(ctx context.Context, t *terminal) error {
	s, ask, err := c.servers()
	if err != nil {
		return err
	}
	var made seal.Made
	if err := c.check(); err != nil {
		return err
	}
	if ask {
		if c.Kafka != "" {
			return usage(errors.New("--kafka is for a store that is named with --events: a running salon up keeps heads in its --seal-file"))
		}
		err = c.askHistory(ctx, http.MethodPost, "/events/seal", nil, &made)
	} else {
		if c.SealKeyFile == "" {
			return usage(errors.New("--seal-key-file is missing: a seal is signed (salon keys DIR makes a key)"))
		}
		err = c.with(ctx, s, false, func(h eventsDesk) (err error) {
			if h.sealing, err = sealingWith(seal.LoadKey, c.Seals, c.headsIn); err != nil {
				return err
			}
			h.sealing.over(h.store, s.Events, nil)
			made, err = h.seal(ctx)
			return err
		})
	}
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, made)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SEAL\tPOSITIONS\tEVENTS\tCOMMANDS\tROOT OF EVENTS\tAT")
	for _, b := range made.Items {
		fmt.Fprintf(w, "%d\t%d–%d\t%d\t%d\t%x\t%s\n", b.Block, b.Events.From, b.Events.To, b.Events.Count, b.Commands.Count, b.Events.Root[:8], b.At.Format(time.RFC3339))
	}
	return w.Flush()
}

type eventsVerifyCmd struct {
	whichEvents `embed:""`

	From     uint64   `help:"First position. A range is widened to whole seals." placeholder:"POSITION"`
	To       uint64   `help:"Last position." placeholder:"POSITION"`
	File     string   `help:"An export, instead of a store: it is verified offline." type:"path" placeholder:"EXPORT"`
	Key      []string `help:"Public key of seals, or a file that holds one (seal.key.pub). Without any, a running salon up believes its own; of others, signatures are not checked." placeholder:"KEY"`
	SealFile string   `help:"Heads of seals that were kept elsewhere: they must be those of the history." type:"path" placeholder:"FILE"`
	Output   string   `help:"table or json." default:"table" enum:"table,json" short:"o"`

	headsIn `embed:""`
}

// Help teaches the verb.
func (c *eventsVerifyCmd) Help() string {
	return "Each event is held to its content hash, its place in its stream and its position, and each block of events and\n" +
		"commands to its seal, and the seals to each other and to their key. Behind the last seal an event is known by its own\n" +
		"hash alone: whoever can write to the database could have made both, or cut the history back to an earlier seal; with the\n" +
		"key of seals, also sealed it anew. --kafka, or --seal-file, holds it to the heads of the seals that were made before.\n\n" +
		"Exit code 0: as it was stored. 1: it is not, and the first difference is named."
}

// verifyQuery is what a verification is asked for.
type verifyQuery struct {
	From     uint64
	To       uint64
	Keys     []string
	SealFile string
	Heads    headsIn
}

func (q verifyQuery) into(ctx context.Context, o *seal.Options) (err error) {
	o.From, o.To = q.From, q.To
	if len(q.Keys) > 0 {
		if o.Known, err = seal.Known(q.Keys...); err != nil {
			return usage(err)
		}
	}
	switch {
	case q.SealFile != "":
		o.Elsewhere, err = seal.ReadHeads(q.SealFile)
	case q.Heads.Kafka != "":
		o.Elsewhere, err = q.Heads.heads().All(ctx)
	}
	return err
}

func (h eventsDesk) verify(ctx context.Context, q verifyQuery, progress func(position uint64)) (r seal.Report, err error) {
	o := seal.Options{Dense: h.dense(), Progress: progress}
	if len(q.Keys) == 0 && h.sealing != nil {
		q.Keys = []string{h.sealing.Key.Public}
	}
	if err := q.into(ctx, &o); err != nil {
		return r, err
	}
	if err := h.note(ctx, "verify-events", rangeOf(q.From, q.To)); err != nil {
		return r, err
	}
	return seal.Verify(ctx, h.store, o)
}

// rangeOf is a range of positions as a note has it.
func rangeOf(from, to uint64) string {
	if from == 0 && to == 0 {
		return ""
	}
	return strings.TrimSuffix(fmt.Sprintf("%d-%d", max(from, 1), to), "0")
}

func (c *eventsVerifyCmd) Run(ctx context.Context, t *terminal) error {
	defer inBulk()()
	q := verifyQuery{c.From, c.To, c.Key, c.SealFile, c.headsIn}
	if err := c.check(); err != nil {
		return err
	}
	if q.SealFile != "" && q.Heads.Kafka != "" {
		return usage(errors.New("--seal-file and --kafka: verify by one, then by the other"))
	}
	if q.To > 0 && q.From > q.To {
		return usage(errors.New("--from is behind --to"))
	}
	r, err := c.verify(ctx, t, q)
	if err != nil {
		return err
	}
	if whole := c.File == "" && q.From == 0 && q.To == 0; whole && len(c.Key) > 0 && r.Finding == nil && r.Events > 0 && r.Seals == 0 {
		r.Finding = &seal.Finding{What: seal.SealMissing, Why: "there is no seal, though --key says who makes them: nothing was sealed yet, or they were taken away"}
	}
	if c.Output == "json" {
		err = writeJSON(t.out, r)
	} else {
		err = printReportOf(t.out, r, q.SealFile != "" || q.Heads.Kafka != "")
	}
	if r.Finding != nil {
		err = errors.Join(err, r.Finding)
	}
	return err
}

func (c *eventsVerifyCmd) verify(ctx context.Context, t *terminal, q verifyQuery) (r seal.Report, err error) {
	if _, err := seal.Known(q.Keys...); err != nil {
		return r, usage(err)
	}
	p := newProgress(t.err)
	defer p.end()
	if c.File != "" {
		return verifyFile(ctx, c.File, q, p)
	}
	s, ask, err := c.servers()
	if err != nil {
		return r, err
	}
	if ask {
		for i, k := range q.Keys { // a file is read here
			if b, err := os.ReadFile(k); err == nil {
				q.Keys[i] = strings.TrimSpace(string(b))
			}
		}
		return r, c.askHistory(ctx, http.MethodGet, "/events/verify", q, &r)
	}
	err = c.with(ctx, s, true, func(h eventsDesk) error {
		head, err := h.Head(ctx)
		if err == nil {
			r, err = h.verify(ctx, q, p.counter("verify", cmp.Or(q.To, head.Position)))
		}
		return err
	})
	return r, err
}

func verifyFile(ctx context.Context, path string, q verifyQuery, p *progress) (r seal.Report, err error) {
	if q.From > 0 || q.To > 0 {
		return r, usage(errors.New("--file is verified as a whole: without --from and --to"))
	}
	f, err := export.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	o := f.Options()
	if err := q.into(ctx, &o); err != nil {
		return r, err
	}
	o.Progress = p.counter("verify", f.Manifest.Last)
	return f.Verify(ctx, o)
}

func printReportOf(out io.Writer, r seal.Report, elsewhere bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "events\t%d, positions %d to %d\n", r.Events, r.From, r.To)
	switch {
	case r.Seals == 0:
		fmt.Fprintln(w, "seals\tnone: the events are known by their own hashes alone")
	case r.Checked:
		fmt.Fprintf(w, "seals\t%d, the last of %s, signed by %s\n", r.Seals, r.SealedAt.Format(time.RFC3339), strings.Join(r.SignedBy, ", "))
	default:
		fmt.Fprintf(w, "seals\t%d, the last of %s; signatures were NOT checked: give --key\n", r.Seals, r.SealedAt.Format(time.RFC3339))
	}
	if r.Masked > 0 {
		fmt.Fprintf(w, "masked\t%d events: of these, the hash and its place are proven, not what the export says of them\n", r.Masked)
	}
	if elsewhere {
		fmt.Fprintf(w, "heads elsewhere\t%d of the %d seals have theirs, and it is the same\n", r.Compared, r.Seals)
	}
	if r.Seals > 0 {
		fmt.Fprintf(w, "sealed\tthrough position %d, with %d commands\n", r.Sealed, r.Commands)
		fmt.Fprintf(w, "not sealed yet\t%d events\n", r.Unsealed)
	}
	if r.Finding == nil {
		fmt.Fprintln(w, "verdict\teverything is as it was stored")
	} else {
		fmt.Fprintf(w, "verdict\tNOT as it was stored: %s\n", r.Finding.Error())
	}
	return w.Flush()
}

type eventsProveCmd struct {
	whichEvents `embed:""`

	Position string   `arg:"" optional:"" help:"Position of the event."`
	To       string   `help:"File to write; - is the terminal." default:"-" placeholder:"FILE"`
	Check    string   `help:"Check this proof, offline." type:"path" placeholder:"FILE"`
	Key      []string `help:"Public key of seals, or a file that holds one: whose seals are believed." placeholder:"KEY"`
}

func (h eventsDesk) prove(ctx context.Context, position uint64) (p seal.Proof, err error) {
	if err := h.note(ctx, "prove-event", strconv.FormatUint(position, 10)); err != nil {
		return p, err
	}
	return seal.Prove(ctx, h.store, position)
}

func (c *eventsProveCmd) Run(ctx context.Context, t *terminal) error {
	if c.Check != "" {
		return c.check(t)
	}
	position, err := strconv.ParseUint(c.Position, 10, 63)
	if err != nil || position == 0 {
		return usage(errors.New("name the position of an event, from 1 on, or a proof with --check"))
	}
	s, ask, err := c.servers()
	if err != nil {
		return err
	}
	var p seal.Proof
	if ask {
		err = c.askHistory(ctx, http.MethodGet, "/events/prove", position, &p)
	} else {
		err = c.with(ctx, s, true, func(h eventsDesk) (err error) {
			p, err = h.prove(ctx, position)
			return err
		})
	}
	if err != nil {
		return err
	}
	if c.To == "-" {
		return writeJSON(t.out, p)
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err == nil {
		err = os.WriteFile(c.To, append(b, '\n'), 0o600)
	}
	if err == nil {
		_, err = fmt.Fprintf(t.out, "%s proves the event at position %d. Anybody checks it: salon events prove --check %s --key seal.key.pub\n", c.To, position, c.To)
	}
	return err
}

func (c *eventsProveCmd) check(t *terminal) error {
	if len(c.Key) == 0 {
		return usage(errors.New("--key is missing: whose seals are believed (seal.key.pub)"))
	}
	known, err := seal.Known(c.Key...)
	if err != nil {
		return usage(err)
	}
	b, err := os.ReadFile(c.Check)
	if err != nil {
		return err
	}
	p, err := seal.Check(b, known)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "event\t%s, %s\n", p.Event.ID, p.Event.Type)
	fmt.Fprintf(w, "stands at\t%s@%d, recorded %s\n", p.Event.Stream, p.Event.Revision, p.Event.RecordedAt.Format(time.RFC3339Nano))
	fmt.Fprintf(w, "sealed\tin seal %d of %s, signed by %s\n", p.Seal.Block, p.Seal.At.Format(time.RFC3339), p.By)
	fmt.Fprintf(w, "metadata\t%s\n", p.Event.Metadata)
	fmt.Fprintf(w, "data\t%s\n", p.Event.Data)
	return w.Flush()
}
