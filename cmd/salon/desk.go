package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/reactors/notify"
)

// whichSystem is a running salon up, by its data folder, or real servers.
type whichSystem struct {
	config.Servers `embed:""`

	Data   string `help:"Data folder of a running salon up: without --reads, its process is asked." type:"path" default:"${data}"`
	Output string `help:"table or json." default:"table" enum:"table,json" short:"o"`
}

// operations are what operators ask on the command line: of the servers, or of the process that has them. Each call is
// recorded before it is answered.
type operations interface {
	List(ctx context.Context) (admin.Overview, error)
	Parked(ctx context.Context, name string) ([]engine.Parked, error)
	Retry(ctx context.Context, name, key string) error
	RetryByCause(ctx context.Context, name, cause string) (int, error)
	ParkedNotifications(ctx context.Context, most int) ([]notify.Parked, error)
	RetryNotifications(ctx context.Context, cause string) (int, error)
}

// serverDesk is operations on the servers that this process has open.
type serverDesk struct {
	admin.Desk

	record  admin.Record
	waiting notify.Parking
}

// deskOf is the desk of who sits at a terminal of this machine.
func (n *node) deskOf(account string) serverDesk {
	record := n.recordFor(commandLine(account))
	return serverDesk{admin.NewDesk(n.projections(), record), record, notify.Parking{DB: n.reads.Writer()}}
}

func (d serverDesk) note(ctx context.Context, operation, about string) error {
	if err := d.record(ctx, operation, about); err != nil {
		return fmt.Errorf("%w: %w", admin.ErrNotRecorded, err)
	}
	return nil
}

// ParkedNotifications lists up to most that wait, the oldest first.
func (d serverDesk) ParkedNotifications(ctx context.Context, most int) ([]notify.Parked, error) {
	if err := d.note(ctx, "list-parked-notifications", ""); err != nil {
		return nil, err
	}
	return d.waiting.List(ctx, most)
}

// RetryNotifications asks for all that wait for a cause; "" is all of them.
func (d serverDesk) RetryNotifications(ctx context.Context, cause string) (int, error) {
	if err := d.note(ctx, "retry-notifications", cause); err != nil {
		return 0, err
	}
	return d.waiting.Retry(ctx, cause)
}

// needs are the servers that a call asks beside the reads database, unless it can do without, and the event store, where it is
// recorded.
type needs struct{ kafka, redis, noReads bool }

// ask lets work ask the process that owns the data folder or, when servers are named, the servers.
func (c *whichSystem) ask(ctx context.Context, also needs, work func(context.Context, operations) error) (err error) {
	if err := c.ReadFiles(); err != nil {
		return usage(err)
	}
	if c.Reads == "" {
		return work(ctx, socketDesk{socketClient(socketPath(c.Data)), socketPath(c.Data)})
	}
	return withServers(ctx, c.Servers, also, func(n *node) error { return work(ctx, n.deskOf(machineUser())) })
}

// withServers lets work use the reads database, the event store and what else it needs, open for as long as it takes.
func withServers(ctx context.Context, s config.Servers, also needs, work func(*node) error) (err error) {
	if err := s.Need(true, also.kafka, !also.noReads, also.redis); err != nil {
		return usage(err)
	}
	n := &node{servers: s}
	if also.redis {
		if n.redis, err = newRedis(s.Redis); err != nil {
			return usage(err)
		}
		defer n.redis.Close()
	}
	if s.Reads != "" {
		if n.reads, err = reads.Open(ctx, s.Reads); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.reads.Close()) }()
	}
	if n.store, err = openEvents(ctx, s.Events, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	return work(n)
}

// socketRoutes answer operators' verbs for other processes, as the owner of the data folder.
func (n *node) socketRoutes(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, body any, err error) {
		status := http.StatusOK
		if err != nil {
			status, body = http.StatusServiceUnavailable, map[string]string{"why": err.Error()}
			var refused *rebuild.RefusedError
			if errors.Is(err, admin.ErrUnknown) || errors.Is(err, rebuild.ErrUnknown) {
				status = http.StatusNotFound
			} else if errors.As(err, &refused) {
				status, body = http.StatusConflict, refused
			} else if option := new(rebuild.OptionError); errors.As(err, &option) {
				status, body = http.StatusBadRequest, option
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = writeJSON(w, body) // who asked has gone
	}
	n.doctorRoute(mux, answer)
	n.runRoutes(mux, answer)
	n.historyRoutes(mux, answer)
	n.pastRoutes(mux)
	n.personRoutes(mux, answer)
	desk := func(r *http.Request) serverDesk { return n.deskOf(askedBy(r.URL.Query())) }
	mux.HandleFunc("GET /preview", func(w http.ResponseWriter, r *http.Request) {
		var q rebuild.PreviewRequest
		if err := json.Unmarshal([]byte(r.URL.Query().Get("request")), &q); err != nil {
			answer(w, nil, err)
			return
		}
		out, err := n.preview(r.Context(), q, askedBy(r.URL.Query()))
		answer(w, out, err)
	})
	mux.HandleFunc("GET /projections", func(w http.ResponseWriter, r *http.Request) {
		all, err := desk(r).List(r.Context())
		answer(w, all, err)
	})
	mux.HandleFunc("GET /parked", func(w http.ResponseWriter, r *http.Request) {
		parked, err := desk(r).Parked(r.Context(), r.URL.Query().Get("name"))
		answer(w, parked, err)
	})
	mux.HandleFunc("POST /retry", func(w http.ResponseWriter, r *http.Request) {
		q, asked := r.URL.Query(), 1
		var err error
		if key := q.Get("key"); key != "" {
			err = desk(r).Retry(r.Context(), q.Get("name"), key)
		} else {
			asked, err = desk(r).RetryByCause(r.Context(), q.Get("name"), q.Get("cause"))
		}
		answer(w, admin.Asked{Asked: asked}, err)
	})
	mux.HandleFunc("GET /notifications/parked", func(w http.ResponseWriter, r *http.Request) {
		most, err := strconv.Atoi(r.URL.Query().Get("most"))
		var waiting []notify.Parked
		if err == nil {
			waiting, err = desk(r).ParkedNotifications(r.Context(), most)
		}
		answer(w, waiting, err)
	})
	mux.HandleFunc("POST /notifications/retry", func(w http.ResponseWriter, r *http.Request) {
		asked, err := desk(r).RetryNotifications(r.Context(), r.URL.Query().Get("cause"))
		answer(w, admin.Asked{Asked: asked}, err)
	})
}

// askedBy is the account whose process asks, as it says itself: whoever can reach the socket is the account that owns the
// folder, or root.
func askedBy(q url.Values) string {
	if name := q.Get("by"); plainName(name) {
		return name
	}
	return "unknown"
}

func socketClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

// socketDesk asks the process that owns a data folder.
type socketDesk struct {
	client *http.Client
	socket string
}

func (d socketDesk) send(ctx context.Context, method, path string, q url.Values) (*http.Response, error) {
	q.Set("by", machineUser())
	r, err := http.NewRequestWithContext(ctx, method, "http://salon"+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	res, err := d.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no salon up runs on this data folder (nothing answers at %s): start it, or name servers with --events, --kafka, --reads and --redis", d.socket)
	}
	return res, nil
}

func (d socketDesk) call(ctx context.Context, method, path string, q url.Values, into any) error {
	res, err := d.send(ctx, method, path, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the process's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		var option rebuild.OptionError
		if res.StatusCode == http.StatusBadRequest && json.Unmarshal(b, &option) == nil && option.Option != "" {
			return &option
		}
		var problem rebuild.RefusedError
		_ = json.NewDecoder(bytes.NewReader(b)).Decode(&problem)
		switch res.StatusCode {
		case http.StatusNotFound:
			return notThere(problem.Why)
		case http.StatusConflict:
			return &problem
		}
		return errors.New(problem.Why)
	}
	return json.Unmarshal(b, into)
}

func (d socketDesk) List(ctx context.Context) (all admin.Overview, err error) {
	return all, d.call(ctx, http.MethodGet, "/projections", url.Values{}, &all)
}

func (d socketDesk) Parked(ctx context.Context, name string) (parked []engine.Parked, err error) {
	return parked, d.call(ctx, http.MethodGet, "/parked", url.Values{"name": {name}}, &parked)
}

func (d socketDesk) Retry(ctx context.Context, name, key string) error {
	return d.call(ctx, http.MethodPost, "/retry", url.Values{"name": {name}, "key": {key}}, new(admin.Asked))
}

func (d socketDesk) RetryByCause(ctx context.Context, name, cause string) (int, error) {
	var a admin.Asked
	err := d.call(ctx, http.MethodPost, "/retry", url.Values{"name": {name}, "cause": {cause}}, &a)
	return a.Asked, err
}

func (d socketDesk) ParkedNotifications(ctx context.Context, most int) (waiting []notify.Parked, err error) {
	return waiting, d.call(ctx, http.MethodGet, "/notifications/parked", url.Values{"most": {strconv.Itoa(most)}}, &waiting)
}

func (d socketDesk) RetryNotifications(ctx context.Context, cause string) (int, error) {
	var a admin.Asked
	err := d.call(ctx, http.MethodPost, "/notifications/retry", url.Values{"cause": {cause}}, &a)
	return a.Asked, err
}
