// Package export writes a history, or a part of one, to files that prove themselves, and reads them: to verify them
// (audit/seal) and to fill an empty store of any kind.
//
// An export FILE is
//
//	FILE                the events, a line of JSON each (seal.AppendEvent), in the order of the store; or a folder of Parquet files,
//	                    part-00001.parquet and so on, a row each
//	FILE.commands       the commands, a line of JSON each: those of the events in their order, then those without events
//	FILE.seals          the seals of the blocks that lie in it as a whole
//	FILE.manifest.json  what it is, and the SHA-256 of the others
//
// While it is written everything is called FILE….part; the manifest comes last. An export that was interrupted goes on where
// its last whole line ends; of Parquet, whose files have what says where things are at their end, behind its last whole part.
// Nothing is ever written over.
//
// Metadata and data are in either format the bytes that were stored, so both are verified and imported alike. In Parquet they
// are columns of the logical type JSON, and what is no JSON stands in metadata_bytes and data_bytes instead. command_id,
// command, actor_role, actor_id and correlation_id repeat what the metadata says, for queries.
//
// Personal fields stay sealed, unless [Rules] say otherwise, and persons' keys are not in it: they come in a file of their own, when it is asked for.
package export
