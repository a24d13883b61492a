//! The database: every query, on SQLite and PostgreSQL alike, and the ledger's tables.
//!
//! Functions that read or change a repository or a namespace take a permit (`permit::Access`);
//! functions that change take the `WriteTx`, which ends well only with an event. The one
//! exception is `gate`: the facts from which `hub::access` decides.

pub mod accounts;
pub mod branch_rules;
pub mod check;
pub mod collect;
pub mod collections;
mod counts;
pub mod db;
pub mod discussions;
mod error;
pub mod follows;
pub mod gate;
pub mod git;
pub mod history;
pub mod jobs;
pub mod large_files;
pub mod ledger;
pub mod lfs;
pub mod likes;
pub mod lists;
pub mod locks;
mod migrate;
pub mod people;
pub mod permit;
pub mod profiles;
pub mod proposals;
pub mod prune;
pub mod reads;
pub mod refs;
pub mod related;
pub mod repos;
pub mod search;
pub mod seed;
pub mod settings;
pub mod storage;
pub mod webhooks;
pub mod xet;

pub use db::{Db, Reader, WriteTx};
pub use error::StoreError;
