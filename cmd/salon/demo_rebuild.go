package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// rebuild builds the version of reservations that is not there beside the one that serves, has it proved, answers the
// customer from it and goes back. A system on which both are there already is left as it is.
func (s *stage) rebuild(analyst, customer *client, path string) {
	const projections = "/v1/admin/projections"
	if s.err != nil {
		return
	}
	if a, err := analyst.call(s.ctx, http.MethodGet, projections, "", nil); err == nil && a.status == http.StatusNotFound {
		fmt.Fprintln(s.out, "    (the role admin is not at this address: its steps are left out)")
		return
	}
	var all admin.Overview
	s.step("an analyst looks at the projections", analyst, http.MethodGet, projections, nil, 200, &all)
	absent := ""
	for _, p := range all.Items {
		if p.Name == "reservations" && p.State == admin.Absent {
			absent = fmt.Sprintf("reservations_v%d", p.Version)
		}
	}
	if s.err != nil {
		return
	}
	if absent == "" {
		fmt.Fprintln(s.out, "    (both versions of reservations are there already: neither is rebuilt)")
		return
	}
	of := projections + "/" + absent
	s.run("builds another version from all history, while the one that serves goes on", analyst, of, rebuild.Rebuild, nil)
	s.run("has the two compared, row by row", analyst, of, rebuild.Verify, nil)
	s.run("answers reads from it", analyst, of, rebuild.Switch, nil)
	s.step("she reads her visit from it: what she wrote is in it", customer, http.MethodGet, path, nil, 200, nil)
	s.run("goes back", analyst, projections+"/reservations", rebuild.Rollback, nil)
	s.run("and takes it away again", analyst, of, rebuild.Drop, map[string]any{"confirm": absent})
}

// run asks for a run and follows it to its end.
func (s *stage) run(what string, who *client, of string, kind rebuild.Kind, options map[string]any) {
	if options == nil {
		options = map[string]any{}
	}
	var r rebuild.Run
	s.step(what, who, http.MethodPost, of+"/"+string(kind), options, http.StatusAccepted, &r)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for s.err == nil && !r.Ended() {
		select {
		case <-s.ctx.Done():
			s.err = s.ctx.Err()
			return
		case <-tick.C:
		}
		var a answer
		if a, s.err = who.call(s.ctx, http.MethodGet, of+"/runs/"+r.ID, "", nil); s.err == nil {
			s.err = a.decode(&r)
		}
	}
	switch {
	case s.err != nil:
	case r.State != rebuild.Done:
		s.err = fmt.Errorf("step %d, %s: the %s was %s: %s", s.n, what, kind, r.State, r.Detail)
	case r.Report != nil && !r.Report.Equal():
		s.err = fmt.Errorf("step %d, %s: %d rows differ", s.n, what, r.Report.Differ)
	default:
		fmt.Fprintf(s.out, "    done in %v, %d rows\n", r.EndedAt.Sub(r.AskedAt).Round(time.Millisecond), r.Rows)
	}
}
