//! The formats and the arithmetic of the Xet protocol (1.1.0): chunks, xorbs, shards, files and
//! how to put them together again. Pure: no I/O, no database, no notion of who may do what.
//!
//! Stock clients check nothing when they download, so what is accepted here is all the integrity
//! that there is: every parser is strict, bounded before it allocates, and never panics.

pub mod chunk;
pub mod file;
pub mod hash;
pub mod plan;
pub mod shard;
pub mod xorb;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XetError {
    #[error("the xorb is not valid: {0}")]
    Xorb(&'static str),
    #[error("the xorb's content does not have the hash that it was sent under")]
    XorbHash,
    #[error("the shard is not valid: {0}")]
    Shard(&'static str),
    /// A xorb that is not there, one that the caller has no right to, and a wrong proof are the
    /// same answer: it must not tell them apart.
    #[error("the shard refers to chunks that were not uploaded to this repository")]
    UnknownChunks,
    #[error("the file's chunks do not have the hash that it was registered under")]
    FileHash,
    #[error("the range lies outside of the {0} bytes")]
    Range(u64),
    #[error("stored data is damaged: {0}")]
    Damaged(&'static str),
    #[error("cannot read: {0}")]
    Read(String),
}
