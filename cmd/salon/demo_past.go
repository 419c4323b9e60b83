package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/audit"
)

// whoMoved lets an admin find out who moved a visit, and what was there before, when all that the admin knows is that it stood
// elsewhere at a time.
func (s *stage) whoMoved(admin *client, reservation, by string, before, after time.Time) {
	if s.err != nil {
		return
	}
	if a, err := admin.call(s.ctx, http.MethodGet, "/v1/admin/events?limit=1", "", nil); err == nil && a.status == http.StatusNotFound {
		fmt.Fprintln(s.out, "    (the role admin is not at this address: its steps are left out)")
		return
	}
	rows := "/v1/admin/rows/reservations/" + reservation
	at := func(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339Nano)) }
	var d audit.Diff
	s.step("who moved 콩이's appointment? An admin compares the two moments", admin, http.MethodGet, rows+"/diff?from="+at(before)+"&to="+at(after), nil, 200, &d)
	if s.err != nil {
		return
	}
	var moved *audit.Change
	for i, c := range d.Changes {
		if strings.HasSuffix(c.Field, "/start_at") {
			moved = &d.Changes[i]
		}
	}
	switch {
	case moved == nil || moved.Before == nil || moved.After == nil:
		s.err = fmt.Errorf("step %d: the difference does not tell that the visit was moved", s.n)
		return
	case moved.Actor.ID != by:
		s.err = fmt.Errorf("step %d: it says that %s moved the visit, and it was %s", s.n, moved.Actor.ID, by)
		return
	}
	fmt.Fprintf(s.out, "    %s:%s did, at %s, by %s: from %v to %v\n",
		moved.Actor.Role, moved.Actor.ID, moved.At.Format(time.TimeOnly), moved.Command.Name, *moved.Before, *moved.After)
	s.step("the row as it was, with the event that made it so", admin, http.MethodGet, rows+"?at="+at(before), nil, 200, nil)
	s.step("what that command came of, and what came of it", admin, http.MethodGet, "/v1/admin/commands/"+moved.Command.ID.String()+"/tree", nil, 200, nil)
}
