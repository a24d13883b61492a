//! What can go wrong between us and the database.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
    #[error("database: {0}")]
    Postgres(tokio_postgres::Error),
    #[error("database connections: {0}")]
    Pool(String),
    /// The disk or the quota of the database is full.
    #[error("the database has no space left: free some and try again")]
    Full,
    /// Another writer, or another process, has held the database for too long.
    #[error("the database is busy: try again")]
    Busy,
    /// A unique name or key is taken.
    #[error("already exists")]
    Conflict,
    #[error("column {column} of a row holds {found}, not {wanted}")]
    Column { column: usize, wanted: &'static str, found: &'static str },
    #[error("stored data is wrong: {0}")]
    Corrupt(String),
    #[error("{0}")]
    Schema(String),
    #[error("a database task was cancelled")]
    Cancelled,
}

/// SQLite's codes for what callers act upon.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
        let Some(code) = error.sqlite_error() else { return Self::Sqlite(error) };
        match (code.code, code.extended_code) {
            (ErrorCode::DiskFull, _) => Self::Full,
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Self::Busy,
            (_, SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY) => Self::Conflict,
            _ => Self::Sqlite(error),
        }
    }
}

/// PostgreSQL's codes for the same.
impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        use tokio_postgres::error::SqlState;
        match error.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => Self::Conflict,
            Some(code) if *code == SqlState::DISK_FULL => Self::Full,
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Self::Busy,
            _ => Self::Postgres(error),
        }
    }
}
