package seal_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

// Many sealers at once make one chain.
func TestSealersDoEachOtherNoHarm(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		k := key(t)
		d.use(t, func(s store) {
			var all sync.WaitGroup
			for round := range 4 {
				write(t, s, round*40, round*40+40)
				for range 3 {
					all.Go(func() {
						if _, err := sealer(s, k).Seal(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
			}
			all.Wait()
			sealAll(t, sealer(s, k))
			if r := verify(t, s, seal.Options{}, k.Public); r.Finding != nil || r.Unsealed != 0 {
				t.Errorf("%+v: %v", r, r.Finding)
			}
		})
	})
}

// On EventStoreDB, too, where positions have holes and commands are claims.
func TestEventStoreDBIsSealed(t *testing.T) {
	t.Parallel()
	s, k := newEventStoreDB(t), key(t)
	known, err := seal.Known(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	var sealers sync.WaitGroup
	for round := range 3 {
		write(t, s, round*30, round*30+30)
		for range 2 {
			sealers.Go(func() {
				of := sealer(s, k)
				of.Dense = false
				if _, err := of.Seal(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	sealers.Wait()
	of := sealer(s, k)
	of.Dense = false
	sealAll(t, of)
	events := all(t, s)
	r, err := seal.Verify(t.Context(), s, seal.Options{Known: known})
	if err != nil || r.Finding != nil || r.Unsealed != 0 || r.Events != uint64(len(events)) || r.Commands < 90 {
		t.Errorf("%+v, %v: %v", r, r.Finding, err)
	}
	p, err := seal.Prove(t.Context(), s, events[20].Position)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if proven, err := seal.Check(b, known); err != nil || proven.Event.ID != events[20].ID {
		t.Errorf("proven is %s: %v", proven.Event.ID, err)
	}
}

// What is damaged is not vouched for.
func TestDamageIsNotSealed(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		k := key(t)
		d.use(t, func(s store) { write(t, s, 0, 10) })
		d.hand(t).flip("data", 3)
		d.seen(t, func(s store) {
			if _, err := sealer(s, k).Seal(t.Context()); !errors.Is(err, eventstore.ErrDamaged) {
				t.Errorf("want ErrDamaged, got: %v", err)
			}
		})
	})
}

// The file elsewhere gets what it lacks, whoever made it and however the last line was cut off, and notices a store that is
// not the one it knows.
func TestHeadsGoElsewhere(t *testing.T) {
	t.Parallel()
	k, path := key(t), filepath.Join(t.TempDir(), "seals.jsonl")
	fresh := func() *seal.HeadFile { return &seal.HeadFile{Path: path} }
	heads := func() map[uint64]string {
		t.Helper()
		notes, err := seal.ReadHeads(path)
		if err != nil {
			t.Fatal(err)
		}
		return notes
	}
	var end uint64
	d := newSQLite(t)
	d.use(t, func(s store) {
		write(t, s, 0, 30)
		sealAll(t, sealer(s, k)) // by another sealer, who has no such file
		if sealAll(t, sealer(s, k, fresh())); len(heads()) != 3 {
			t.Errorf("%d heads, want 3", len(heads()))
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b[:len(b)-20], 0o600); err != nil {
			t.Fatal(err)
		}
		sealAll(t, sealer(s, k, fresh()))
		again, err := os.ReadFile(path)
		if err != nil || string(again) != string(b) {
			t.Errorf("after a cut-off line: %v\n%s", err, cmp.Diff(string(b), string(again)))
		}
	})
	// Sealers with files of their own each get every head, whoever made it.
	other := filepath.Join(t.TempDir(), "other.jsonl")
	d.use(t, func(s store) {
		one, two := sealer(s, k, fresh()), sealer(s, k, &seal.HeadFile{Path: other})
		var both sync.WaitGroup
		for round := range 6 {
			write(t, s, 100+round*30, 100+round*30+30)
			for _, of := range []*seal.Sealer{one, two, one} {
				both.Go(func() {
					if _, err := of.Seal(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		both.Wait()
		sealAll(t, one)
		sealAll(t, two)
		theirs, err := seal.ReadHeads(other)
		if diff := cmp.Diff(heads(), theirs); err != nil || diff != "" || len(theirs) < 8 {
			t.Errorf("%d heads, %v (-one +other):\n%s", len(theirs), err, diff)
		}
		last := len(theirs)
		for block := 1; block <= last; block++ {
			if theirs[uint64(block)] == "" { //nolint:gosec // a test's
				t.Errorf("head %d is missing", block)
			}
		}
		end = uint64(last) //nolint:gosec // a test's
	})
	d.hand(t).do("DELETE FROM seals WHERE block = ?", end)
	d.use(t, func(s store) {
		if _, err := sealer(s, k, fresh()).Seal(t.Context()); !errors.Is(err, seal.ErrElsewhere) {
			t.Errorf("the last seal is gone: want ErrElsewhere, got: %v", err)
		}
		sealAll(t, sealer(s, k)) // again, at another time: another text
		if _, err := sealer(s, k, fresh()).Seal(t.Context()); !errors.Is(err, seal.ErrElsewhere) {
			t.Errorf("the last seal is another: want ErrElsewhere, got: %v", err)
		}
		if r := verify(t, s, seal.Options{Elsewhere: heads()}, k.Public); r.Finding == nil || r.Finding.What != seal.SealChanged || r.Finding.Block != end {
			t.Errorf("%+v", r.Finding)
		}
		if r := verify(t, s, seal.Options{}, k.Public); r.Finding != nil {
			t.Errorf("by the store alone: %v", r.Finding)
		}
	})
}

// An erased request hash leaves every seal valid; any other change does not (see the tamperings).
func TestErasureLeavesSealsValid(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		k := key(t)
		d.use(t, func(s store) { write(t, s, 0, 20); sealAll(t, sealer(s, k)) })
		h := d.hand(t)
		hash := h.bytes("SELECT request_hash FROM commands"+ofEvent, 10)
		h.do("UPDATE commands SET request_hash = ?"+ofEvent, eventstore.ErasedRequestHash(hash), 10)
		d.use(t, func(s store) {
			if r := verify(t, s, seal.Options{}, k.Public); r.Finding != nil || r.Commands < 20 {
				t.Errorf("%+v: %v", r, r.Finding)
			}
		})
	})
}

// An event as a line comes back in every byte, whatever its bytes are.
func TestEventLinesKeepEveryByte(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	d.use(t, func(s store) {
		write(t, s, 0, 3)
		of := all(t, s)[0]
		rapid.Check(t, func(t *rapid.T) {
			want := of
			want.Stream = rapid.StringN(1, 40, -1).Filter(func(s string) bool { return s == strings.ToValidUTF8(s, "") }).Draw(t, "stream")
			bytes := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.SampledFrom([][]byte{
				[]byte(`{"a" : 1.0,"a":"\u00e9é<&>\u2028"}`), []byte(" {}"), []byte("{\n}"), []byte("{}"), []byte("null"), []byte(`{"a":"` + "\xff" + `"}`), {},
			}))
			want.Metadata, want.Data = bytes.Draw(t, "metadata"), bytes.Draw(t, "data")
			line := seal.AppendEvent(nil, want)
			if n := strings.Count(string(line), "\n"); n != 1 || !json.Valid(line) {
				t.Fatalf("not a line: %q", line)
			}
			got, err := seal.ParseEvent(line)
			if err != nil || eventstore.ContentHash(got) != eventstore.ContentHash(want) || got.Position != want.Position || got.Hash != want.Hash {
				t.Errorf("%v: %s", err, cmp.Diff(want, got))
			}
		})
	})
}

func TestProofs(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		k, other := key(t), key(t)
		d.use(t, func(s store) {
			write(t, s, 0, 30)
			sealAll(t, sealer(s, k))
			write(t, s, 30, 33)
			known, err := seal.Known(k.Public)
			if err != nil {
				t.Fatal(err)
			}
			strangers, err := seal.Known(other.Public)
			if err != nil {
				t.Fatal(err)
			}
			last, err := s.LastSeal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range all(t, s) {
				p, err := seal.Prove(t.Context(), s, e.Position)
				if e.Position > last.Through {
					if !errors.Is(err, seal.ErrNotSealed) {
						t.Errorf("position %d: want ErrNotSealed, got: %v", e.Position, err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				b, err := json.Marshal(p)
				if err != nil {
					t.Fatal(err)
				}
				proven, err := seal.Check(b, known)
				if err != nil || proven.Event.ID != e.ID {
					t.Errorf("position %d: proven is %s, %v", e.Position, proven.Event.ID, err)
				}
				if _, err := seal.Check(b, strangers); !errors.Is(err, seal.ErrUnproven) {
					t.Errorf("with another key: %v", err)
				}
				// Whatever else is changed in it, it proves nothing.
				for _, change := range []func(*seal.Proof){
					func(p *seal.Proof) { p.Index++ },
					func(p *seal.Proof) { p.Of++ },
					func(p *seal.Proof) { p.Path = append(p.Path, seal.Hash{}) },
					func(p *seal.Proof) { p.Path = p.Path[:len(p.Path)-1] },
					func(p *seal.Proof) { p.Path = append([]seal.Hash{{1}}, p.Path[1:]...) },
					func(p *seal.Proof) { p.Event = strings.Replace(p.Event, `"n": `, `"n": 1`, 1) },
					func(p *seal.Proof) { p.Seal = strings.Replace(p.Seal, `"from":`, `"from":1`, 1) },
				} {
					changed := p
					if change(&changed); len(p.Path) == 0 {
						continue
					}
					b, err := json.Marshal(changed)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := seal.Check(b, known); !errors.Is(err, seal.ErrUnproven) {
						t.Errorf("position %d, changed: %v", e.Position, err)
					}
				}
			}
		})
	})
}
