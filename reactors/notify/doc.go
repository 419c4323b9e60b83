// Package notify tells the world outside what happened: each notification, once, to a signed webhook.
//
//	log ──▶ handler ──▶ who is told? (Directory) ──▶ POST ──▶ notification_sent
//	                                                  └─ in vain ──▶ notification_parked ──▶ again later, or when asked
//
// What a caller relies on:
//
//   - Each (event, receiver, channel) is delivered at least once, and once as far as the channel allows: it is looked up
//     before and noted after, and what may come again (a process that died between the two) comes with the same
//     Salon-Notification-Id, by which the endpoint can tell.
//   - One that cannot be delivered is tried a bounded number of times and then parked, so that the others go on. Parked
//     ones are tried again after growing pauses, then when somebody asks.
//   - A request is signed, see [Sign]. It carries kinds, facts and texts, no personal ones.
//   - What is older than Config.MaxAge is not sent: nobody wants last year's news because a group was set up today.
//
// What it refuses to do: keep an order beyond trying events of a partition one after the other, or change anything of
// the salon's. It knows nothing of prev: a record that the log lost is never told. State is for the projections; this is
// what may be late or repeated.
//
// # watermill-kafka
//
// A handler here returns no error while its partition is ours: a Nack would be resent for ever, unaware of a rebalance,
// and stop the member for good. So it waits by itself, and [claims] tell it when the partition is lost.
package notify
