package seal

import (
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// Our trees are those of the library, and of RFC 6962.
func TestTreeIsTheLibrarys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var ours tree
		var stored []tlog.Hash
		reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, i := range at {
				out = append(out, stored[i])
			}
			return out, nil
		})
		leaves := rapid.IntRange(0, 300).Draw(t, "leaves")
		for n := range int64(leaves) {
			hash := [32]byte{byte(n), byte(n >> 8)}
			ours.add(hash)
			more, err := tlog.StoredHashes(n, hash[:], reader)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, more...)
		}
		want, err := tlog.TreeHash(int64(leaves), reader)
		if err != nil || Hash(want) != ours.root() {
			t.Errorf("%d leaves: want %x, got %x: %v", leaves, want, ours.root(), err)
		}
	})
}

// What one hand did to a list is named as that.
func TestOutlinesTellWhatWasDone(t *testing.T) {
	t.Parallel()
	outline := func(leaves []int) (b []byte) {
		for _, n := range leaves {
			b = append(b, byte(n), byte(n>>8), 0, 0, 0, 0, 0, 0)
		}
		return b
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		var sealed []int
		for i := range n {
			sealed = append(sealed, i)
		}
		found := append([]int{}, sealed...)
		i := rapid.IntRange(0, n-1).Draw(t, "i")
		j := rapid.IntRange(i, n-1).Draw(t, "j")
		want := rapid.SampledFrom([]string{Changed, Missing, Added, Moved, ""}).Draw(t, "what")
		switch want {
		case Changed:
			found[i] = 1000
		case Missing:
			found = append(found[:i], found[i+1:]...)
		case Added:
			found = append(found[:i], append([]int{1000}, found[i:]...)...)
		case Moved:
			if i == j {
				want = ""
			}
			found[i], found[j] = found[j], found[i]
		}
		at, what, _ := differs(outline(found), outline(sealed))
		if what != want || want != "" && at != i {
			t.Errorf("%s at %d, want %s at %d of %d", what, at, want, i, n)
		}
	})
}
