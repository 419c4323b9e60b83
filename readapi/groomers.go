package readapi

import (
	"context"
	"net/http"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
)

// Groomer is a salon as everybody sees it.
type Groomer struct {
	GroomerID             string                `json:"groomer_id"`
	Name                  string                `json:"name"`
	Address               string                `json:"address"`
	Areas                 []string              `json:"areas" nullable:"false"`
	Modes                 []groomers.Mode       `json:"modes" nullable:"false"`
	Zone                  string                `json:"zone"`
	Menu                  []groomers.MenuItem   `json:"menu" nullable:"false"`
	Hours                 []groomers.Hours      `json:"hours" nullable:"false"`
	BufferMinutes         int                   `json:"buffer_minutes"`
	MinNoticeMinutes      int                   `json:"min_notice_minutes"`
	HorizonDays           int                   `json:"horizon_days"`
	Booking               string                `json:"booking"`
	RequestExpiresMinutes int                   `json:"request_expires_minutes"`
	Cancellation          []groomers.RefundTier `json:"cancellation" nullable:"false"`
	Revision              uint64                `json:"revision"`
	Parked                bool                  `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

type groomersInput struct {
	ReadHeaders
	Paging
	Area    string `query:"area" maxLength:"180" doc:"The whole area or its first parts" example:"seoul/gangnam-gu"`
	Service string `query:"service" enum:"bath,trim,full_clip,scissor_cut,nails,skin,teeth,ears"`
	Mode    string `query:"mode" enum:"shop,visit"`
}

func (s screens) registerGroomers(api huma.API) {
	huma.Register(api, operation("list-groomers", "/v1/groomers", "Find a groomer"), s.listGroomers)
	huma.Register(api, operation("get-groomer", "/v1/groomers/{groomer_id}", "A groomer's profile, menu and hours"), s.getGroomer)
}

func (s screens) listGroomers(ctx context.Context, in *groomersInput) (*answer[Page[Groomer]], error) {
	var after string
	more, err := decodeCursor(in.Cursor, &after)
	if err != nil {
		return nil, err
	}
	if more && !groomerID.MatchString(after) {
		return nil, badCursor()
	}
	if !utf8.ValidString(in.Area) {
		return nil, problem.Invalid("query.area", "is not UTF-8")
	}
	q := conditions{}
	q.add("listed = 1")
	q.add("groomer_id > ?", after)
	var out answer[Page[Groomer]]
	return &out, s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{groomers.Projection()}},
		func(ctx context.Context, snap Snapshot) error {
			q := q // it may run again
			version, parked := snap.Version("groomers"), snap.Parked("groomers")
			// A term's rows lie together in its primary key: each is one look-up for a salon, or a walk in the order
			// of the answer, as the database likes.
			found := " groomer_id IN (SELECT groomer_id FROM " + groomers.Terms.Def().Name(version) + " WHERE term = ?)"
			if in.Area != "" {
				q.add(found, groomers.AreaTerm(in.Area))
			}
			if in.Service != "" {
				q.add(found, groomers.ServiceTerm(in.Service))
			}
			if in.Mode != "" {
				q.add(found, groomers.ModeTerm(in.Mode))
			}
			rows, err := engine.Query(ctx, snap, groomers.Table, version,
				q.where()+" ORDER BY groomer_id LIMIT ?", append(q.args, in.Limit+1)...)
			if err != nil {
				return err
			}
			out.Body, err = page(rows, in.Limit,
				func(r groomers.Row) (Groomer, error) {
					item := groomerOf(r)
					item.Parked = parked[r.GroomerID]
					out.note(item.Parked)
					return item, nil
				},
				func(r groomers.Row) any { return r.GroomerID })
			return err
		})
}

type groomerInput struct {
	ReadHeaders
	GroomerID string `path:"groomer_id"`
}

func (s screens) getGroomer(ctx context.Context, in *groomerInput) (*tagged[Groomer], error) {
	var out tagged[Groomer]
	return &out, s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{groomers.Projection()}, Keys: []string{in.GroomerID}},
		func(ctx context.Context, snap Snapshot) error {
			row, err := snap.groomer(ctx, in.GroomerID)
			if err != nil {
				return err
			}
			out = tag(groomerOf(row), row.Revision)
			out.Body.Parked = snap.Parked("groomers")[in.GroomerID]
			out.note(out.Body.Parked)
			return nil
		})
}

var groomerID = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// groomer reads one salon; the error is 404 groomer.unknown when there is none. The projection groomers must be in the
// snapshot's scope.
func (s Snapshot) groomer(ctx context.Context, id string) (groomers.Row, error) {
	unknown := problem.New(http.StatusNotFound, "groomer.unknown", "there is no such groomer")
	if !groomerID.MatchString(id) {
		return groomers.Row{}, unknown
	}
	rows, err := engine.Query(ctx, s, groomers.Table, s.Version("groomers"), "WHERE groomer_id = ? AND listed = 1", id)
	if err != nil {
		return groomers.Row{}, err
	}
	if len(rows) == 0 {
		return groomers.Row{}, unknown
	}
	return rows[0], nil
}

// zoneOf is where a salon's days are counted; the default when it is open which salon, or that one is not known.
func (s Snapshot) zoneOf(ctx context.Context, groomerID string) (*time.Location, error) {
	name := defaultZone
	if groomerID != "" {
		row, err := s.groomer(ctx, groomerID)
		switch {
		case err == nil:
			name = row.Zone
		case problem.From(err).Status != http.StatusNotFound:
			return nil, err
		}
	}
	return time.LoadLocation(name)
}

func groomerOf(r groomers.Row) Groomer {
	return Groomer{
		GroomerID:             r.GroomerID,
		Name:                  r.Name,
		Address:               r.Address,
		Areas:                 list(r.Areas),
		Modes:                 list(r.Modes),
		Zone:                  r.Zone,
		Menu:                  list(r.Menu),
		Hours:                 list(r.Hours),
		BufferMinutes:         r.BufferMinutes,
		MinNoticeMinutes:      r.MinNoticeMinutes,
		HorizonDays:           r.HorizonDays,
		Booking:               r.Booking,
		RequestExpiresMinutes: r.RequestExpiresMinutes,
		Cancellation:          list(r.Cancellation),
		Revision:              r.Revision,
	}
}

// list is s as JSON shows it: an empty one is [], never null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
