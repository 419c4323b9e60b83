package main

// eventsCmd are the verbs on the history.
type eventsCmd struct {
	Seal   eventsSealCmd   `cmd:"" help:"Seal every event that is there now: Merkle roots, chained and signed."`
	Verify eventsVerifyCmd `cmd:"" help:"Hold a store or an export to its hashes and seals; name the first event changed, missing, added or moved."`
	Prove  eventsProveCmd  `cmd:"" help:"Write a small file that proves that an event stands in the sealed history, or check one."`
	Export eventsExportCmd `cmd:"" help:"Write the history, or a part of it, to files that prove themselves."`
	Import eventsImportCmd `cmd:"" help:"Fill an empty store with an exported history."`
}
