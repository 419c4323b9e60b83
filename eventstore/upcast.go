package eventstore

import "fmt"

// Upcast is one step from a type that is written no more to the one that took its place.
type Upcast struct {
	From, To string
	// Step turns stored bytes of From into those of To, purely. What it cannot read it refuses; it never panics.
	Step func(data []byte) (next []byte, err error)
}

// upcasts are the steps of the catalogue. None is needed yet.
func upcasts() []Upcast { return nil }

// Upcasting is the codec that reads the types of these steps, too, as what they lead to. Two steps from one type, a step
// from a type of the catalogue and steps in a circle are programming errors and panic, like a type named twice: no
// reader can hang in them.
func (c *Codec) Upcasting(steps ...Upcast) *Codec {
	out := &Codec{types: c.types, steps: map[string]Upcast{}}
	for _, s := range steps {
		if _, twice := out.steps[s.From]; twice || c.Knows(s.From) {
			panic("eventstore: no single way to read event type " + s.From)
		}
		out.steps[s.From] = s
	}
	for _, s := range steps {
		for range steps {
			s = out.steps[s.To]
		}
		if s.From != "" { // more steps than there are
			panic("eventstore: event type upcast in a circle: " + s.From)
		}
	}
	return out
}

// Newest is the type as which events of a stored type are read.
func (c *Codec) Newest(eventType string) string {
	for {
		s, ok := c.steps[eventType]
		if !ok {
			return eventType
		}
		eventType = s.To
	}
}

func (c *Codec) upcast(eventType string, data []byte) (string, []byte, error) {
	for {
		s, ok := c.steps[eventType]
		if !ok {
			return eventType, data, nil
		}
		next, err := s.Step(data)
		if err != nil {
			return "", nil, fmt.Errorf("upcast %s to %s: %w", eventType, s.To, err)
		}
		eventType, data = s.To, next
	}
}
