package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// pastAsked is what is asked about the past on the command line: of the event store, or of the process that has it open.
// Each call is recorded before it is answered.
type pastAsked interface {
	State(ctx context.Context, stream, at string) (audit.State, error)
	Diff(ctx context.Context, stream, from, to string, limit int) (audit.Diff, error)
	Rows(ctx context.Context, projection, name, at string, limit int) (audit.Rows, error)
	RowsDiff(ctx context.Context, projection, name, from, to string, limit int) (audit.Diff, error)
	Events(ctx context.Context, q audit.Query) (audit.EventPage, error)
	Event(ctx context.Context, which string) (audit.StoredEvent, error)
	Tree(ctx context.Context, commandID string) (audit.Tree, error)
}

// whichPast is a running salon up, by its data folder, or an event store.
type whichPast struct {
	config.Servers `embed:""`

	config.MasterKeys    `embed:""`
	config.ErasureLedger `embed:""`

	Data   string `help:"Data folder of a running salon up: without --events, its process is asked." type:"path" default:"${data}"`
	Output string `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

// ask lets work ask the process that owns the data folder or, when --events is given, the event store. The reads database
// is only asked which versions serve, when it is named.
func (c *whichPast) ask(ctx context.Context, work func(pastAsked) error) (err error) {
	defer func() {
		if errors.Is(err, domain.Refusal{Code: "request.invalid"}) {
			err = usage(err)
		}
	}()
	if err := c.ReadFiles(); err != nil {
		return usage(err)
	}
	if c.Events == "" {
		if c.Erasures != "" {
			return usage(errLedgerOfUp)
		}
		return work(socketPast{socketDesk{socketClient(socketPath(c.Data)), socketPath(c.Data)}})
	}
	if err := c.Need(true, false, c.Reads != "", false); err != nil {
		return usage(err)
	}
	n := &node{servers: c.Servers, erasures: audit.Erasures{Path: c.Erasures}}
	if c.MasterKeyFile != "" {
		if n.masters, err = masters(c.MasterKeys); err != nil {
			return err
		}
	}
	if c.Reads != "" {
		if n.reads, err = reads.Open(ctx, c.Reads); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.reads.Close()) }()
	}
	if n.store, err = openEvents(ctx, c.Events, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	desk, err := n.pastDesk(machineUser())
	if err != nil {
		return err
	}
	return work(desk)
}

// past is what this process can say about the past. Without texts, personal ones stay sealed.
func (n *node) past(texts audit.Texts) *audit.Past {
	p := &audit.Past{Store: n.store, Codec: codec(), Projections: engine.AllVersions(allProjections()), Texts: texts}
	if n.reads != nil {
		p.Serves = func(ctx context.Context, projection string) (int, bool, error) {
			return engine.ActiveVersion(ctx, n.reads.Reader(), projection)
		}
	}
	return p
}

// texts opens personal ones, but for those of people who are in the ledger of erasures; nil without a master key.
func (n *node) texts() (audit.Texts, error) {
	if len(n.masters) == 0 {
		return nil, nil //nolint:nilnil // what is sealed is shown as that
	}
	keys, err := n.keys()
	if err != nil || n.erasures.Path == "" {
		return keys, err
	}
	return n.erasures.Over(keys)
}

// pastDesk is the desk of who sits at a terminal of this machine.
func (n *node) pastDesk(account string) (audit.Desk, error) {
	texts, err := n.texts()
	if err != nil {
		return audit.Desk{}, err
	}
	return audit.NewDesk(n.past(texts), n.recordFor(commandLine(account))), nil
}

// pastRoutes answer the verbs about the past for other processes, as the owner of the data folder.
func (n *node) pastRoutes(mux *http.ServeMux) {
	answers := func(path string, ask func(ctx context.Context, d audit.Desk, q url.Values) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			d, err := n.pastDesk(askedBy(q))
			var body any
			if err == nil {
				body, err = ask(r.Context(), d, q)
			}
			status := http.StatusOK
			if err != nil {
				p := problem.From(err)
				status, body = p.Status, refusedPast{Code: p.Code, Why: err.Error()}
				if refusal := (domain.Refusal{}); errors.As(err, &refusal) {
					body = refusedPast{refusal.Code, refusal.Detail, true}
				}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = writeJSON(w, body) // who asked has gone
		})
	}
	answers("/past/state", func(ctx context.Context, d audit.Desk, q url.Values) (any, error) {
		return d.State(ctx, q.Get("stream"), q.Get("at"))
	})
	answers("/past/diff", func(ctx context.Context, d audit.Desk, q url.Values) (any, error) {
		return d.Diff(ctx, q.Get("stream"), q.Get("from"), q.Get("to"), number(q, "limit"))
	})
	answers("/past/rows", func(ctx context.Context, d audit.Desk, q url.Values) (any, error) {
		return d.Rows(ctx, q.Get("projection"), q.Get("name"), q.Get("at"), number(q, "limit"))
	})
	answers("/past/rows/diff", func(ctx context.Context, d audit.Desk, q url.Values) (any, error) {
		return d.RowsDiff(ctx, q.Get("projection"), q.Get("name"), q.Get("from"), q.Get("to"), number(q, "limit"))
	})
	answers("/past/events", func(ctx context.Context, d audit.Desk, q url.Values) (any, error) {
		var asked audit.Query
		if err := json.Unmarshal([]byte(q.Get("query")), &asked); err != nil {
			return nil, err
		}
		return d.Events(ctx, asked)
	})
	answers("/past/event", func(ctx context.Context, d audit.Desk, q url.Values) (any, error) {
		return d.Event(ctx, q.Get("which"))
	})
	answers("/past/tree", func(ctx context.Context, d audit.Desk, q url.Values) (any, error) {
		return d.Tree(ctx, q.Get("command"))
	})
}

// refusedPast is an error on its way over the socket.
type refusedPast struct {
	Code    string `json:"code"`
	Why     string `json:"why"`
	Refusal bool   `json:"refusal"`
}

// number is a parameter that this binary wrote itself.
func number(q url.Values, name string) int {
	n, _ := strconv.Atoi(q.Get(name))
	return n
}

// socketPast asks the process that owns a data folder.
type socketPast struct{ socketDesk }

func (d socketPast) call(ctx context.Context, path string, q url.Values, into any) error {
	res, err := d.send(ctx, http.MethodGet, path, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the process's answer: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return json.Unmarshal(b, into)
	}
	var refused refusedPast
	if err := json.Unmarshal(b, &refused); err != nil {
		return fmt.Errorf("the process answered %d", res.StatusCode)
	}
	if refused.Refusal {
		return domain.Refusal{Code: refused.Code, Detail: refused.Why}
	}
	return errors.New(refused.Why)
}

func (d socketPast) State(ctx context.Context, stream, at string) (s audit.State, err error) {
	return s, d.call(ctx, "/past/state", url.Values{"stream": {stream}, "at": {at}}, &s)
}

func (d socketPast) Diff(ctx context.Context, stream, from, to string, limit int) (out audit.Diff, err error) {
	return out, d.call(ctx, "/past/diff", url.Values{"stream": {stream}, "from": {from}, "to": {to}, "limit": {strconv.Itoa(limit)}}, &out)
}

func (d socketPast) Rows(ctx context.Context, projection, name, at string, limit int) (out audit.Rows, err error) {
	return out, d.call(ctx, "/past/rows", url.Values{"projection": {projection}, "name": {name}, "at": {at}, "limit": {strconv.Itoa(limit)}}, &out)
}

func (d socketPast) RowsDiff(ctx context.Context, projection, name, from, to string, limit int) (out audit.Diff, err error) {
	return out, d.call(ctx, "/past/rows/diff", url.Values{"projection": {projection}, "name": {name}, "from": {from}, "to": {to}, "limit": {strconv.Itoa(limit)}}, &out)
}

func (d socketPast) Events(ctx context.Context, q audit.Query) (out audit.EventPage, err error) {
	b, err := json.Marshal(q)
	if err != nil {
		return out, err
	}
	return out, d.call(ctx, "/past/events", url.Values{"query": {string(b)}}, &out)
}

func (d socketPast) Event(ctx context.Context, which string) (out audit.StoredEvent, err error) {
	return out, d.call(ctx, "/past/event", url.Values{"which": {which}}, &out)
}

func (d socketPast) Tree(ctx context.Context, commandID string) (out audit.Tree, err error) {
	return out, d.call(ctx, "/past/tree", url.Values{"command": {commandID}}, &out)
}
