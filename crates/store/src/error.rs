//! What can go wrong between us and the database.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("database: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("database connections: {0}")]
    Pool(String),
    /// The disk or the quota of the database is full.
    #[error("the database has no space left: free some and try again")]
    Full,
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

impl StoreError {
    /// SQLite's and PostgreSQL's codes for what callers act upon.
    pub(crate) fn from_sqlite(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error() {
            Some(code) if code.code == ErrorCode::DiskFull => Self::Full,
            Some(code)
                if matches!(
                    code.extended_code,
                    rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                ) =>
            {
                Self::Conflict
            }
            _ => Self::Sqlite(error),
        }
    }

    pub(crate) fn from_postgres(error: tokio_postgres::Error) -> Self {
        use tokio_postgres::error::SqlState;
        match error.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => Self::Conflict,
            Some(code) if *code == SqlState::DISK_FULL => Self::Full,
            _ => Self::Postgres(error),
        }
    }
}
