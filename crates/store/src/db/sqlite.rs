//! SQLite: readers and one writer, each with a connection of its own.
//!
//! Statements run in place on the calling task: by key they take a few microseconds, less than
//! a hop to another thread. Scans and commits (an fsync) go to the blocking pool.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::WRITER_WAIT;
use super::value::{Row, Value};
use crate::StoreError;

/// Connections that read at the same time; more wait.
const READERS: usize = 16;
/// How long a writer of another process (the command line) may hold us up.
const BUSY: Duration = Duration::from_millis(if cfg!(test) { 700 } else { 10_000 });
const CACHED_STATEMENTS: usize = 256;
/// Negative: KiB of page cache for each connection.
const PAGE_CACHE_KIB: i64 = -16_384;
/// Bytes of the database file that reads go through memory-mapped.
const MMAP_BYTES: i64 = 1 << 30;

pub struct Sqlite {
    readers: Arc<Pool>,
    writer: Arc<Pool>,
}

struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    writable: bool,
}

/// A connection on loan; going back, it loses whatever transaction it was in.
pub struct Lease {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let pool = |size, writable| {
            let permits = Arc::new(Semaphore::new(size));
            Arc::new(Pool { path: path.to_owned(), idle: Mutex::default(), permits, writable })
        };
        let this = Self { readers: pool(READERS, false), writer: pool(1, true) };
        this.writer.give_back(this.writer.connect()?);
        Ok(this)
    }

    pub async fn reader(&self) -> Result<Lease, StoreError> {
        Pool::lease(&self.readers).await
    }

    /// The connection that writes, in a transaction.
    pub async fn writer(&self) -> Result<Lease, StoreError> {
        let lease = tokio::time::timeout(WRITER_WAIT, Pool::lease(&self.writer)).await;
        lease.map_err(|_| StoreError::Busy)??.begin().await
    }
}

impl Pool {
    async fn lease(pool: &Arc<Self>) -> Result<Lease, StoreError> {
        let permit = Arc::clone(&pool.permits).acquire_owned().await.map_err(|_| StoreError::Cancelled)?;
        let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => pool.connect()?,
        };
        Ok(Lease { connection: Some(connection), pool: Arc::clone(pool), _permit: permit })
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
            | if self.writable {
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
            } else {
                OpenFlags::SQLITE_OPEN_READ_ONLY
            };
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        // A plan is for the statement, not for each value bound to it: planning anew at every
        // use costs more than all the rest.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        if self.writable {
            connection.pragma_update(None, "journal_mode", "wal")?;
            // Law 6: an answer of success means that the row is on disk.
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update(None, "foreign_keys", true)?;
        }
        connection.pragma_update(None, "cache_size", PAGE_CACHE_KIB)?;
        connection.pragma_update(None, "mmap_size", MMAP_BYTES)?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

impl Lease {
    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.connection.as_mut().ok_or(StoreError::Cancelled)
    }

    pub fn all(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.connection()?.prepare_cached(&numbered(sql))?;
        let columns = statement.column_count();
        let mut found = statement.query(rusqlite::params_from_iter(params))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(read_row(row, columns)?);
        }
        Ok(rows)
    }

    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        let mut statement = self.connection()?.prepare_cached(&numbered(sql))?;
        Ok(statement.execute(rusqlite::params_from_iter(params))? as u64)
    }

    /// Runs one statement with one row of parameters after the other.
    pub fn execute_each(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let mut statement = self.connection()?.prepare_cached(&numbered(sql))?;
        for row in rows {
            statement.execute(rusqlite::params_from_iter(row))?;
        }
        Ok(())
    }

    pub fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        Ok(self.connection()?.execute_batch(sql)?)
    }

    /// Begins a writing transaction. Waiting for another process (the command line) is done where
    /// it holds up nobody else.
    async fn begin(mut self) -> Result<Self, StoreError> {
        const BEGIN: &str = "BEGIN IMMEDIATE";
        self.connection()?.busy_timeout(Duration::ZERO)?;
        let begun = self.batch(BEGIN);
        self.connection()?.busy_timeout(BUSY)?;
        match begun {
            Err(StoreError::Busy) => Ok(self.on_blocking_pool(|lease| lease.batch(BEGIN)).await?.0),
            done => done.map(|()| self),
        }
    }

    /// Runs `work` on the blocking pool with this connection.
    pub async fn on_blocking_pool<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(Self, T), StoreError> {
        tokio::task::spawn_blocking(move || {
            let result = work(&mut self)?;
            Ok((self, result))
        })
        .await
        .map_err(|_| StoreError::Cancelled)?
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && (connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok())
        {
            self.pool.give_back(connection);
        }
    }
}

/// `$2` counts by first appearance in SQLite and by its number in PostgreSQL; `?2` by number.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn read_row(row: &rusqlite::Row<'_>, columns: usize) -> Result<Row, StoreError> {
    use rusqlite::types::ValueRef;
    let mut values = Vec::with_capacity(columns);
    for column in 0..columns {
        values.push(match row.get_ref(column)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(value) => Value::Int(value),
            ValueRef::Real(value) => Value::Real(value),
            ValueRef::Text(value) => Value::Text(String::from_utf8_lossy(value).into_owned()),
            ValueRef::Blob(value) => Value::Blob(value.to_vec()),
        });
    }
    Ok(Row(values))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// On one thread: whoever blocks it is seen.
    #[tokio::test]
    async fn waiting_for_another_process_holds_up_nobody_and_ends_as_busy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let engine = Sqlite::open(&path).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let begun = Instant::now();
        let (writer, others_went_on) = tokio::join!(engine.writer(), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            begun.elapsed() < BUSY / 2
        });
        assert!(matches!(writer, Err(StoreError::Busy)) && others_went_on);
        // One that waits gets its turn when the other is done.
        let (writer, ()) = tokio::join!(engine.writer(), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            other.execute_batch("COMMIT").unwrap();
        });
        writer.unwrap().batch("CREATE TABLE t (n INTEGER); COMMIT").unwrap();
    }
}
