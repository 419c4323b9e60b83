// Package rollout replaces a system's processes by those of another release, one after the other, and takes that back by
// itself when the new ones do not do well.
//
//	check ─▶ migrating ─▶ replacing, node by node ─▶ watching ─▶ done: the release is the current one
//	  │          │               │                      │
//	  ▼          ▼               ▼                      ▼
//	nothing was touched      reverting, the last node first ─▶ done: the release before is
//
// A node is let go on to the next when it says that it is ready, when none of its partitions is stopped that was not before,
// and when of its answers within [Config.Settle] no more failed than [Config.MaxErrors] allows. When a role is through, the
// smoke test runs; when all are, everything is watched for [Config.Watch], and the smoke test runs once more. A new release
// that is slower than the old one is told of, and stays.
//
// What is to be is written down before it is done: [Config.Dir] has a journal, and a lock which the kernel gives back. Whoever
// was killed in the middle is followed by a call that goes on or takes it back; two calls at once are one and a refusal.
//
// How a release is had, and a process replaced, is the [Driver]'s business. Nothing here knows containers.
package rollout
