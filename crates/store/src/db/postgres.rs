//! PostgreSQL: two pools of connections with cached statements, one for reading and a small one
//! for writing, so that writers who wait for each other take no connection from readers.
//!
//! A connection that was let go of in the middle of a statement or a transaction is never used
//! again: the statement is cancelled, the connection closed, and the server rolls back.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, NoTls};

use super::value::{Row, Value};
use super::{WRITER_LOCK, WRITER_WAIT};
use crate::StoreError;

const READERS: usize = 16;
/// One writes at a time. The other is for the moment in which a cancelled one is being closed.
const WRITERS: usize = 2;
/// How long opening a connection, or waiting for one that reads, may take.
const WAIT: Duration = Duration::from_secs(10);
/// A server that does not answer for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
const CANCEL_WAIT: Duration = Duration::from_secs(5);
/// What every connection is told first. Law 6: an answer of success means that the row is on disk,
/// whatever the server's own settings are. Nobody waits for a lock, or sits on one, for ever.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '60s'; \
    SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";
/// How long a writer waits for those of other servers.
const LOCK_WAIT: &str = if cfg!(test) { "3s" } else { "10s" };

pub struct Postgres {
    readers: Pool,
    writers: Pool,
    /// Writers of this server queue here, and only the first of them at the database.
    turn: Arc<Semaphore>,
}

pub struct Lease {
    client: Option<Object>,
    in_transaction: bool,
    /// A statement is under way. Still true when the lease is dropped: its future was.
    running: bool,
    turn: Option<OwnedSemaphorePermit>,
}

impl Postgres {
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let mut config: Config = url.parse()?;
        config.application_name("bastide");
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(WAIT);
        }
        let (readers, writers) = (pool(config.clone(), READERS)?, pool(config, WRITERS)?);
        Ok(Self { readers, writers, turn: Arc::new(Semaphore::new(1)) })
    }

    pub async fn reader(&self) -> Result<Lease, StoreError> {
        lease(&self.readers, None).await
    }

    /// A connection with a transaction that is the only writing one, on all servers together: the
    /// same semantics as SQLite's single writer.
    pub async fn writer(&self) -> Result<Lease, StoreError> {
        let turn = timeout(WRITER_WAIT, Arc::clone(&self.turn).acquire_owned()).await;
        let turn = turn.map_err(|_| StoreError::Busy)?.map_err(|_| StoreError::Cancelled)?;
        let mut lease = lease(&self.writers, Some(turn)).await?;
        lease.in_transaction = true;
        lease.batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})")).await?;
        Ok(lease)
    }
}

fn pool(config: Config, size: usize) -> Result<Pool, StoreError> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let greet = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move {
            let session = format!("SET lock_timeout = '{LOCK_WAIT}'; {SESSION}");
            client.batch_execute(&session).await.map_err(HookError::Backend)
        })
    });
    Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(size)
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(WAIT))
        .post_create(greet)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Pool(error.to_string()))
}

async fn lease(pool: &Pool, turn: Option<OwnedSemaphorePermit>) -> Result<Lease, StoreError> {
    let client = pool.get().await.map_err(|error| StoreError::Pool(describe(&error)))?;
    Ok(Lease { client: Some(client), in_transaction: false, running: false, turn })
}

/// The pool's own text hides the reason.
fn describe(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", describe(source)))
}

impl Lease {
    pub async fn all(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let client = self.client.as_ref().ok_or(StoreError::Cancelled)?;
        self.running = true;
        let rows = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, &refs(params)).await
        };
        let rows = rows.await;
        self.running = false;
        rows?.iter().map(read_row).collect()
    }

    pub async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        let client = self.client.as_ref().ok_or(StoreError::Cancelled)?;
        self.running = true;
        let changed = async {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, &refs(params)).await
        };
        let changed = changed.await;
        self.running = false;
        Ok(changed?)
    }

    pub async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let client = self.client.as_ref().ok_or(StoreError::Cancelled)?;
        self.running = true;
        let done = client.batch_execute(sql).await;
        self.running = false;
        Ok(done?)
    }

    pub async fn commit(&mut self) -> Result<(), StoreError> {
        self.batch("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        if !self.in_transaction && !self.running {
            return;
        }
        let client = Object::take(client);
        let turn = self.turn.take();
        // A server that waits for a lock does not see that we have gone: it has to be told, and
        // only then is it the next one's turn.
        if self.running
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = timeout(CANCEL_WAIT, client.cancel_token().cancel_query(NoTls)).await;
                drop((client, turn));
            });
        }
    }
}

fn refs(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn read_row(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let values =
        row.columns().iter().enumerate().map(|(index, column)| read_value(row, index, column.type_()));
    values.collect::<Result<_, _>>().map(Row)
}

fn read_value(row: &tokio_postgres::Row, index: usize, ty: &Type) -> Result<Value, StoreError> {
    let value = match *ty {
        Type::INT8 => row.try_get::<_, Option<i64>>(index)?.map(Value::Int),
        Type::INT4 => row.try_get::<_, Option<i32>>(index)?.map(|value| Value::Int(value.into())),
        Type::BOOL => row.try_get::<_, Option<bool>>(index)?.map(|value| Value::Int(value.into())),
        Type::FLOAT8 => row.try_get::<_, Option<f64>>(index)?.map(Value::Real),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index)?.map(Value::Blob),
        _ => row.try_get::<_, Option<String>>(index)?.map(Value::Text),
    };
    Ok(value.unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests;
