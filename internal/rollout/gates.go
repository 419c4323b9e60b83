package rollout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// numbers are what a node has counted since it started.
type numbers struct {
	answers, failed float64
	seconds         float64  // that all answers took
	stopped         []string // partitions of projections, by their labels
}

// Nodes are asked directly, whatever proxy the shell has.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}

// usual asks all nodes. One that does not answer has no say in it.
func (r *Rollout) usual(ctx context.Context) (u Usual) {
	var all numbers
	for _, n := range r.cfg.Nodes {
		at, err := r.numbers(ctx, n)
		if err != nil {
			continue
		}
		all.answers, all.seconds = all.answers+at.answers, all.seconds+at.seconds
		u.Stopped = append(u.Stopped, at.stopped...)
	}
	if all.answers > 0 {
		u.Mean = time.Duration(all.seconds / all.answers * float64(time.Second))
	}
	return u
}

// ready waits until a node says that it is, or has ended.
func (r *Rollout) ready(ctx context.Context, node string) error {
	limit, cancel := context.WithTimeout(ctx, r.cfg.Ready)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last := errors.New("it was not asked"); ; {
		err := r.isReady(limit, node)
		if ended := errors.Is(err, ErrEnded); err == nil || ended && r.s.Run.Phase != Reverting { // there, whatever starts it again may help
			return err
		}
		if limit.Err() == nil { // else it says no more than that the time is over
			last = err
		}
		select {
		case <-limit.Done():
			return errors.Join(fmt.Errorf("is not ready after %v: %w", r.cfg.Ready, last), ctx.Err())
		case <-tick.C:
		}
	}
}

func (r *Rollout) isReady(ctx context.Context, node string) error {
	if _, err := r.get(ctx, node, "/readyz"); err != nil {
		return err
	}
	at, err := r.numbers(ctx, node)
	if err != nil {
		return err
	}
	for _, p := range at.stopped {
		if r.s.Run.Phase != Reverting && !slices.Contains(r.s.Run.Usual.Stopped, p) {
			return fmt.Errorf("a projection stands still that did not before: %s", p)
		}
	}
	return nil
}

// settled counts what nodes answer for a while.
func (r *Rollout) settled(ctx context.Context, lasts time.Duration, nodes ...string) error {
	clear(r.addresses)
	before := map[string]numbers{}
	for _, n := range nodes {
		if len(nodes) == 1 {
			continue // it has just begun: all that it ever answered counts
		}
		at, err := r.numbers(ctx, n)
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		before[n] = at
	}
	end := time.NewTimer(lasts)
	defer end.Stop()
	tick := time.NewTicker(min(time.Second, lasts/2+1))
	defer tick.Stop()
	for over := false; ; {
		var all numbers
		for _, n := range nodes {
			if err := r.isReady(ctx, n); err != nil && over { // for a moment anybody may be away
				return fmt.Errorf("%s: %w", n, err)
			}
			at, err := r.numbers(ctx, n)
			if err != nil {
				continue // the last look needs it to be ready
			}
			answers, failed := at.answers-before[n].answers, at.failed-before[n].failed
			if failed >= 3 && failed > r.cfg.MaxErrors*answers {
				return fmt.Errorf("%s failed %.0f of %.0f requests", n, failed, answers)
			}
			all.answers, all.seconds = all.answers+answers, all.seconds+at.seconds-before[n].seconds
		}
		if over {
			r.compare(ctx, all)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			over = true
			clear(r.addresses)
		case <-tick.C:
		}
	}
}

// compare tells of answers that take much longer than usual.
func (r *Rollout) compare(ctx context.Context, all numbers) {
	if r.s.Run.Phase != Watching || all.answers < 100 || r.s.Run.Usual.Mean == 0 {
		return
	}
	mean := time.Duration(all.seconds / all.answers * float64(time.Second))
	if mean > 2*r.s.Run.Usual.Mean && mean > r.s.Run.Usual.Mean+20*time.Millisecond {
		r.tell(ctx, "latency", "%s answers in %v on average; before it was %v", r.s.Run.To, mean.Round(time.Millisecond), r.s.Run.Usual.Mean.Round(time.Millisecond))
	}
}

// get asks a node. Where that is, the driver is asked once for each gate, and when the node does not answer there: a call of it may
// cost more than the answer, but a container has another address after each start, and another one may have got the old one.
func (r *Rollout) get(ctx context.Context, node, path string) (string, error) {
	address, known := r.addresses[node]
	if !known {
		var err error
		dir := ""
		if v := r.s.Nodes[node]; v != "" {
			dir = r.f.release(v)
		}
		if address, err = r.cfg.Driver.Address(ctx, node, dir); err != nil {
			return "", err
		}
		r.addresses[node] = address
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address+path, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(q)
	if err != nil {
		delete(r.addresses, node)
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", res.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

func (r *Rollout) numbers(ctx context.Context, node string) (numbers, error) {
	page, err := r.get(ctx, node, "/metrics")
	if err != nil {
		return numbers{}, err
	}
	return parse(page)
}

// parse reads of a page of metrics what is looked at here.
func parse(page string) (n numbers, err error) {
	lines := bufio.NewScanner(strings.NewReader(page))
	for lines.Scan() {
		name, labels, value, ok := sample(lines.Text())
		if !ok {
			continue
		}
		switch name {
		case "salon_http_request_seconds_count":
			n.answers += value
			if strings.Contains(labels, `status="5`) && !strings.Contains(labels, `status="503"`) {
				n.failed += value
			}
		case "salon_http_request_seconds_sum":
			n.seconds += value
		case "salon_projection_partition_stopped":
			if value == 1 {
				n.stopped = append(n.stopped, labels)
			}
		}
	}
	return n, lines.Err()
}

func sample(line string) (name, labels string, value float64, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if !strings.HasPrefix(line, "salon_") || i < 0 {
		return "", "", 0, false
	}
	value, err := strconv.ParseFloat(line[i+1:], 64)
	name, labels, _ = strings.Cut(strings.TrimSuffix(line[:i], "}"), "{")
	return name, labels, value, err == nil
}
