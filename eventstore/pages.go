package eventstore

import (
	"context"
	"iter"
)

// Pages yields what next reads, page by page, for the adapters. A page is complete in memory before the first of it is
// yielded, so nothing of the store is held while the caller works; meanwhile the next page is read. next is never
// called twice at once. more is false when the end was found; an error ends the loop.
func Pages[T any](ctx context.Context, next func(ctx context.Context) (page []T, more bool, err error)) iter.Seq2[T, error] {
	type result struct {
		page []T
		more bool
		err  error
	}
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		read := func() (r result) {
			r.page, r.more, r.err = next(ctx)
			return r
		}
		var ahead chan result // of the read under way; nil when there is none
		defer func() {
			cancel()
			if ahead != nil {
				<-ahead // a loop that was left early gives its connection back before it is over
			}
		}()
		first := true
		for r := read(); ; first = false {
			if r.err != nil {
				var none T
				yield(none, r.err)
				return
			}
			for i, e := range r.page {
				// Of the first page only when half of it is done: many loops look at a few events and leave.
				if r.more && ahead == nil && (!first || i >= len(r.page)/2) {
					ahead = make(chan result, 1)
					go func() { ahead <- read() }()
				}
				if !yield(e, nil) {
					return
				}
			}
			switch {
			case !r.more:
				return
			case ahead == nil: // an empty page: a filter took nothing of it
				r = read()
			default:
				r, ahead = <-ahead, nil
			}
		}
	}
}

// PageSizes are the sizes of the pages of one stream or key, up to most: many who ask for one look at an event and leave, and to
// the others a page comes while they work on the one before. Call the function that it answers once for each page.
func PageSizes(most int) (next func() int) {
	size := 8
	return func() int {
		size = min(8*size, most)
		return size
	}
}

// Repeated is the text, or the last one's string when it is the same: in a page names repeat, and what is not allocated
// need not be collected.
func Repeated(last string, text []byte) string {
	if last == string(text) {
		return last
	}
	return string(text)
}

// Piece copies what a driver lends until the next row, both parts in one piece.
func Piece(metadata, data []byte) (ownMetadata, ownData []byte) {
	own := append(append(make([]byte, 0, len(metadata)+len(data)), metadata...), data...)
	return own[:len(metadata):len(metadata)], own[len(metadata):]
}

// Paged yields what next reads, page by page, one after the other: nothing of the store is held while the caller works.
func Paged[T any](next func() (page []T, more bool, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			page, more, err := next()
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range page {
				if !yield(v, nil) {
					return
				}
			}
			if !more {
				return
			}
		}
	}
}
