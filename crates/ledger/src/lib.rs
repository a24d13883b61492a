//! The book: events, the Merkle tree over them (RFC 6962), signed checkpoints (C2SP
//! tlog-checkpoint) and the offline check of an export. Pure: no SQL, no files, usable by
//! somebody who does not trust the hub.

mod checkpoint;
pub mod context;
mod event;
mod export;
mod tree;

pub use checkpoint::{
    Checkpoint, NoteError, SigningKey, VerifyingKey, read_notes, sign_checkpoint, verify_checkpoint,
    write_note,
};
pub use context::Context;
pub use event::{Action, Event, Fact, NewEvent};
pub use export::{Report, VerifyError, verify_export};
pub use tree::{
    Frontier, Hash, consistency_proof, inclusion_proof, leaf_hash, node_count, node_hash, peaks,
    root_of_peaks, verify_consistency, verify_inclusion,
};
