// Package readapi is the read side over HTTP, one file per screen.
//
// It answers from the read models alone and knows neither the event store nor the decisions: what a screen needs is a
// column or a function of a projection. What every screen promises:
//
//   - A read that carries the Consistency-Token of a write is never older than that write (G8): the token is checked
//     and the rows are read in one snapshot of one database. Where that cannot be had in time the caller is told, with
//     how far behind and why (see [Consistency]).
//   - Without a token a read answers from whatever is whole.
//   - Nobody sees what is not theirs: another's reservation is unknown, not forbidden.
//   - Personal texts are opened for the answer and nowhere else; an erased one is null, and says so.
//   - Every answer has an ETag, and If-None-Match is honoured.
//   - Whatever stands in a query or a header is answered 4xx with a stable code, never 5xx.
package readapi
