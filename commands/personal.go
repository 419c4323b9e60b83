package commands

import (
	"context"
	"fmt"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// DogRequest is one dog of a hold or a reservation.
type DogRequest struct {
	Name     string   `json:"name" minLength:"1" maxLength:"50"`
	Size     string   `json:"size" enum:"small,medium,large"`
	Services []string `json:"services" minItems:"1" maxItems:"8" nullable:"false" enum:"bath,trim,full_clip,scissor_cut,nails,skin,teeth,ears"`
}

// BookedDog is one dog of an answer.
type BookedDog struct {
	Name     *string  `json:"name"`
	Size     string   `json:"size"`
	Services []string `json:"services" nullable:"false"`
}

// sealing seals several texts under one person's key and remembers the first failure.
type sealing struct {
	ctx     context.Context
	keys    *sealed.Keys
	subject string
	err     error
}

func (x *Executor) sealing(ctx context.Context, by domain.Actor) *sealing {
	return &sealing{ctx: ctx, keys: x.keys, subject: by.Subject()}
}

func (s *sealing) text(plain string) domain.Sealed {
	if s.err != nil {
		return domain.Sealed{}
	}
	var out domain.Sealed
	out, s.err = s.keys.Seal(s.ctx, s.subject, plain)
	return out
}

func (s *sealing) dogs(requested []DogRequest) []groomer.Dog {
	dogs := make([]groomer.Dog, len(requested))
	for i, d := range requested {
		dogs[i] = groomer.Dog{Name: s.text(d.Name), Size: d.Size, Services: d.Services}
	}
	return dogs
}

// opening opens several texts for an answer. A text that was never given, or whose person had it erased, is null; the
// erased ones are listed.
type opening struct {
	ctx    context.Context
	keys   *sealed.Keys
	erased []string
	err    error
}

func (o *opening) text(s domain.Sealed, field string) *string {
	if o.err != nil || s.IsZero() {
		return nil
	}
	plain, erased, err := o.keys.Open(o.ctx, s)
	switch {
	case err != nil:
		o.err = fmt.Errorf("%s: %w", field, err)
		return nil
	case erased:
		o.erased = append(o.erased, field)
		return nil
	}
	return &plain
}

func (o *opening) dogs(booked []groomer.Dog) []BookedDog {
	dogs := make([]BookedDog, len(booked))
	for i, d := range booked {
		dogs[i] = BookedDog{Name: o.text(d.Name, fmt.Sprintf("dogs[%d].name", i)), Size: d.Size, Services: d.Services}
	}
	return dogs
}
