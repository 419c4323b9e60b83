package eventstore_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// paid had a price in thousands, then one with a currency, and now both apart.
type paid struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

func (paid) EventType() string { return "test.paid.v3" }

var errNoPrice = errors.New("no price")

func paidSteps() []eventstore.Upcast {
	return []eventstore.Upcast{
		{From: "test.paid.v2", To: "test.paid.v3", Step: func(data []byte) ([]byte, error) {
			var old struct{ Price string }
			if err := json.Unmarshal(data, &old); err != nil {
				return nil, err
			}
			amount, currency, ok := strings.Cut(old.Price, " ")
			if !ok {
				return nil, errNoPrice
			}
			return json.Marshal(map[string]any{"amount": json.Number(amount), "currency": currency})
		}},
		{From: "test.paid.v1", To: "test.paid.v2", Step: func(data []byte) ([]byte, error) {
			var old struct{ Thousands json.Number }
			if err := json.Unmarshal(data, &old); err != nil {
				return nil, err
			}
			return json.Marshal(map[string]string{"price": old.Thousands.String() + "000 KRW"})
		}},
		{From: "test.refunded.v1", To: "test.refunded.v2", Step: func(data []byte) ([]byte, error) { return data, nil }},
	}
}

func paidCodec() *eventstore.Codec {
	return eventstore.NewCodec([]domain.Event{paid{}}).Upcasting(paidSteps()...)
}

func TestWhatWasWrittenLongAgoIsReadAsWhatItIsNow(t *testing.T) {
	t.Parallel()
	want := paid{35000, "KRW"}
	for eventType, data := range map[string]string{
		"test.paid.v1": `{"thousands": 35}`, "test.paid.v2": `{"price": "35000 KRW"}`, "test.paid.v3": `{"amount": 35000, "currency": "KRW"}`,
	} {
		got, err := paidCodec().Decode(eventType, []byte(data))
		if d := cmp.Diff(domain.Event(want), got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", eventType, err, d)
		}
		if newest := paidCodec().Newest(eventType); newest != "test.paid.v3" {
			t.Errorf("%s is read as %s", eventType, newest)
		}
	}
	if _, err := paidCodec().Encode(paid{}); err != nil {
		t.Errorf("today's is written: %v", err)
	}
}

func TestAStepThatCannotBeTakenIsAnErrorWithItsName(t *testing.T) {
	t.Parallel()
	_, err := paidCodec().Decode("test.paid.v2", []byte(`{"price": "much"}`))
	if !errors.Is(err, errNoPrice) || !strings.Contains(err.Error(), "test.paid.v2") {
		t.Errorf("want %v of test.paid.v2, got: %v", errNoPrice, err)
	}
	var unknown *eventstore.UnknownTypeError
	if _, err := paidCodec().Decode("test.refunded.v1", []byte(`{}`)); !errors.As(err, &unknown) || unknown.Type != "test.refunded.v2" {
		t.Errorf("a step to a type that nobody has: want an unknown type, got: %v", err)
	}
	if _, err := paidCodec().Decode("test.paid.v0", []byte(`{}`)); !errors.As(err, &unknown) || unknown.Type != "test.paid.v0" {
		t.Errorf("want an unknown type, got: %v", err)
	}
}

func TestStepsThatLeadNowhereAreRefused(t *testing.T) {
	t.Parallel()
	same := func(data []byte) ([]byte, error) { return data, nil }
	for name, steps := range map[string][]eventstore.Upcast{
		"to itself":             {{"a", "a", same}},
		"a circle":              {{"a", "b", same}, {"b", "c", same}, {"c", "a", same}},
		"into a circle":         {{"x", "a", same}, {"a", "b", same}, {"b", "a", same}},
		"two from one":          {{"a", "b", same}, {"a", "c", same}},
		"from the catalogue's":  {{"test.paid.v3", "b", same}},
		"a circle, far from it": {{"a", "test.paid.v3", same}, {"y", "z", same}, {"z", "y", same}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("taken")
				}
			}()
			eventstore.NewCodec([]domain.Event{paid{}}).Upcasting(steps...)
		})
	}
}
