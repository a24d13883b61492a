//! One small face over SQLite and PostgreSQL: the same SQL text, the same semantics.
//!
//! Reading and writing are different types. A `WriteTx` is the only one of its kind at any
//! moment, on both engines and over all servers of one database, so code in it sees no races;
//! it ends well in one way only, `commit(event)`. Statements can be run by this crate alone.

mod postgres;
mod sqlite;
mod value;

use std::path::Path;

pub use value::{FromValue, Row, Value};

use crate::StoreError;
use bastide_ledger::NewEvent;

/// Key of the advisory lock that makes write transactions follow each other.
const WRITER_LOCK: i64 = 0x6261_7374_6964_6501;
/// How long a writer waits for its turn among those of this server.
const WRITER_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

pub struct Db(Engine);

enum Engine {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// Rows of one statement, where many go in one: few texts, so that each is planned once.
const BATCH_ROWS: usize = 100;

/// Rows in batches: how many there are, of how many columns, and their values.
fn batches(rows: Vec<Vec<Value>>, most: usize) -> impl Iterator<Item = (usize, usize, Vec<Value>)> {
    let whole = rows.len() / most * most;
    let columns = rows.first().map_or(0, Vec::len);
    let mut rows = rows.into_iter();
    let mut done = 0;
    std::iter::from_fn(move || {
        let count = if done < whole { most } else { 1 };
        done += count;
        let params: Vec<Value> = rows.by_ref().take(count).flatten().collect();
        (!params.is_empty()).then_some((count, columns, params))
    })
}

/// `VALUES ($1, $2), ($3, $4)`.
fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    format!("VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(", "))
}

/// Reads; each statement sees what was committed when it began.
pub struct Reader(Option<Connection>);

enum Connection {
    Sqlite(sqlite::Lease),
    Postgres(postgres::Lease),
}

/// The one writing transaction. Dropped without `commit`, it never happened.
pub struct WriteTx {
    reader: Reader,
    events: Vec<NewEvent>,
}

impl Db {
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let db = Self(Engine::Sqlite(sqlite::Sqlite::open(path)?));
        crate::migrate::run(&db).await?;
        Ok(db)
    }

    pub async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let db = Self(Engine::Postgres(postgres::Postgres::open(url)?));
        crate::migrate::run(&db).await?;
        Ok(db)
    }

    pub(crate) const fn is_sqlite(&self) -> bool {
        matches!(self.0, Engine::Sqlite(_))
    }

    pub async fn read(&self) -> Result<Reader, StoreError> {
        let connection = match &self.0 {
            Engine::Sqlite(engine) => Connection::Sqlite(engine.reader().await?),
            Engine::Postgres(engine) => Connection::Postgres(engine.reader().await?),
        };
        Ok(Reader(Some(connection)))
    }

    /// For `hub::writes` alone, which looks at the caller's rights once more.
    pub async fn write(&self) -> Result<WriteTx, StoreError> {
        self.begin().await
    }

    pub(crate) async fn begin(&self) -> Result<WriteTx, StoreError> {
        let connection = match &self.0 {
            Engine::Sqlite(engine) => Connection::Sqlite(engine.writer().await?),
            Engine::Postgres(engine) => Connection::Postgres(engine.writer().await?),
        };
        Ok(WriteTx { reader: Reader(Some(connection)), events: Vec::new() })
    }
}

impl Reader {
    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.0.as_mut().ok_or(StoreError::Cancelled)
    }

    pub(crate) const fn is_sqlite(&self) -> bool {
        matches!(self.0, Some(Connection::Sqlite(_)))
    }

    /// All rows of a statement that touches few of them.
    pub(crate) async fn all(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        match self.connection()? {
            Connection::Sqlite(lease) => lease.all(sql, params),
            Connection::Postgres(lease) => lease.all(sql, params).await,
        }
    }

    /// The first row, if there is one.
    pub(crate) async fn one(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.all(sql, params).await?.into_iter().next())
    }

    /// All rows of a statement that may walk over many: off the calling thread on SQLite.
    pub(crate) async fn scan(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        match self.0.take().ok_or(StoreError::Cancelled)? {
            Connection::Sqlite(lease) => {
                let (sql, params) = (sql.to_owned(), params.to_vec());
                let (lease, rows) = lease.on_blocking_pool(move |lease| lease.all(&sql, &params)).await?;
                self.0 = Some(Connection::Sqlite(lease));
                Ok(rows)
            }
            Connection::Postgres(mut lease) => {
                let rows = lease.all(sql, params).await;
                self.0 = Some(Connection::Postgres(lease));
                rows
            }
        }
    }
}

impl std::ops::Deref for WriteTx {
    type Target = Reader;
    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl std::ops::DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

impl WriteTx {
    pub(crate) async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        match self.connection()? {
            Connection::Sqlite(lease) => lease.execute(sql, params),
            Connection::Postgres(lease) => lease.execute(sql, params).await,
        }
    }

    /// Inserts many rows, some at a time: `head` comes before the rows, `tail` after them.
    pub(crate) async fn insert_rows(
        &mut self,
        (head, tail): (&str, &str),
        rows: Vec<Vec<Value>>,
    ) -> Result<(), StoreError> {
        let Some(columns) = rows.first().map(Vec::len) else { return Ok(()) };
        match self.reader.0.take().ok_or(StoreError::Cancelled)? {
            Connection::Sqlite(lease) => {
                // One by one, which costs next to nothing: SQLite keeps a journal of its own for statements of many
                // rows.
                let sql = format!("{head} {} {tail}", places(1, columns));
                let work = move |lease: &mut sqlite::Lease| lease.execute_each(&sql, &rows);
                let (lease, ()) = lease.on_blocking_pool(work).await?;
                self.reader.0 = Some(Connection::Sqlite(lease));
            }
            Connection::Postgres(mut lease) => {
                for (count, columns, params) in batches(rows, BATCH_ROWS) {
                    let sql = format!("{head} {} {tail}", places(count, columns));
                    lease.execute(&sql, &params).await?;
                }
                self.reader.0 = Some(Connection::Postgres(lease));
            }
        }
        Ok(())
    }

    /// Several statements without parameters: migrations.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        match self.connection()? {
            Connection::Sqlite(lease) => lease.batch(sql),
            Connection::Postgres(lease) => lease.batch(sql).await,
        }
    }

    /// Notes one more event of this transaction, besides the one that commits it.
    pub fn record(&mut self, event: NewEvent) {
        self.events.push(event);
    }

    /// Writes the events to the ledger and makes everything durable. The only way to end well.
    pub async fn commit(mut self, event: NewEvent) -> Result<(), StoreError> {
        self.events.push(event);
        for event in std::mem::take(&mut self.events) {
            crate::ledger::append(&mut self, event).await?;
        }
        self.commit_upkeep().await
    }

    /// Ends a transaction that changed nothing but our own bookkeeping (jobs, journal batches,
    /// checkpoints). Not visible outside this crate, so that law 2 has no door.
    pub(crate) async fn commit_upkeep(mut self) -> Result<(), StoreError> {
        match self.reader.0.take().ok_or(StoreError::Cancelled)? {
            Connection::Sqlite(lease) => {
                lease.on_blocking_pool(|lease| lease.batch("COMMIT")).await?;
                Ok(())
            }
            Connection::Postgres(mut lease) => lease.commit().await,
        }
    }
}
