package token

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/internal/problem"
)

func entries(n int, from uint64) []Entry {
	var es []Entry
	for i := range n {
		es = append(es, Entry{"salon.booking.v1", fmt.Sprint("g", i), from + uint64(i)})
	}
	return es
}

func TestATokenComesBackAsItWent(t *testing.T) {
	t.Parallel()
	for _, want := range []Token{
		{"life", entries(1, 7)},
		{"삶:1", entries(8, 1<<63)},
		{"life", []Entry{{"t", `customer:a"b,c;d é`, 1}}},
	} {
		s := want.String()
		if strings.ContainsAny(s, `,; "+/=`) {
			t.Errorf("%q is not safe in a header or URL", s)
		}
		got, err := Parse(s)
		if err != nil {
			t.Errorf("parse %q: %v", s, err)
		}
		if diff := cmp.Diff([]Token{want}, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestNoTokenAsksForNothing(t *testing.T) {
	t.Parallel()
	if got, err := Parse(Token{}.String()); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSeveralTokensAreMergedByTheHighestPosition(t *testing.T) {
	t.Parallel()
	a := Token{"life", []Entry{{"b", "k", 5}, {"c", "k", 9}}}
	b := Token{"life", []Entry{{"b", "k", 7}, {"b", "l", 1}}}
	c := Token{"another life", []Entry{{"b", "k", 3}}}
	got, err := Parse(a.String() + " , " + c.String() + "," + b.String() + "," + a.String())
	if err != nil {
		t.Fatal(err)
	}
	want := []Token{{"life", []Entry{{"b", "k", 7}, {"c", "k", 9}, {"b", "l", 1}}}, c}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatIsNoTokenIsRefused(t *testing.T) {
	t.Parallel()
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	other := Token{"another life", entries(1, 1)}
	for name, c := range map[string]struct {
		header string
		status int
	}{
		"not base64":             {"!!!", 400},
		"not JSON":               {raw("hello"), 400},
		"another shape":          {raw(`{"i":"x","e":[{"t":"a","k":"b","p":1}],"x":1}`), 400},
		"something after it":     {raw(`{"i":"x","e":[{"t":"a","k":"b","p":1}]}{}`), 400},
		"no incarnation":         {raw(`{"e":[{"t":"a","k":"b","p":1}]}`), 400},
		"no entries":             {raw(`{"i":"x","e":[]}`), 400},
		"an entry without a key": {raw(`{"i":"x","e":[{"t":"a","p":1}]}`), 400},
		"a negative position":    {raw(`{"i":"x","e":[{"t":"a","k":"b","p":-1}]}`), 400},
		"a fraction":             {raw(`{"i":"x","e":[{"t":"a","k":"b","p":1.5}]}`), 400},
		"nine keys in one":       {Token{"life", entries(9, 1)}.String(), 400},
		"nine keys in two":       {Token{"life", entries(8, 1)}.String() + "," + Token{"life", []Entry{{"c", "x", 1}}}.String(), 400},
		"endless":                {strings.Repeat("A", 10<<10), 400},
		"one bad among good":     {Token{"life", entries(1, 1)}.String() + ",x", 400},
		"nine keys of two lives": {Token{"life", entries(8, 1)}.String() + "," + other.String(), 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(c.header)
			var p *problem.Problem
			if !errors.As(err, &p) || p.Status != c.status {
				t.Errorf("got %v, want a problem of status %d", err, c.status)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Token{"life", entries(2, 3)}.String())
	f.Add(",,")
	f.Fuzz(func(t *testing.T, header string) {
		got, err := Parse(header)
		if err != nil {
			return
		}
		var all []string
		for _, t := range got {
			all = append(all, t.String())
		}
		again, err := Parse(strings.Join(all, ","))
		if err != nil || cmp.Diff(got, again) != "" {
			t.Errorf("%q parses, and does not come back: %v", header, err)
		}
	})
}
