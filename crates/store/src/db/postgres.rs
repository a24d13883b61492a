//! PostgreSQL: a pool of connections with cached statements.

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, NoTls};

use super::value::{Row, Value};
use crate::StoreError;

const CONNECTIONS: usize = 16;
const WAIT: std::time::Duration = std::time::Duration::from_secs(10);

pub struct Postgres {
    pool: Pool,
}

pub struct Lease {
    client: Option<Object>,
    in_transaction: bool,
}

impl Postgres {
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let mut config: Config = url.parse()?;
        config.application_name("bastide");
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
            .max_size(CONNECTIONS)
            .wait_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Pool(error.to_string()))?;
        Ok(Self { pool })
    }

    pub async fn lease(&self) -> Result<Lease, StoreError> {
        let client = self.pool.get().await.map_err(|error| StoreError::Pool(describe(&error)))?;
        Ok(Lease { client: Some(client), in_transaction: false })
    }
}

/// The pool's own text hides the reason.
fn describe(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", describe(source)))
}

impl Lease {
    fn client(&self) -> Result<&Object, StoreError> {
        self.client.as_ref().ok_or(StoreError::Cancelled)
    }

    pub async fn all(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await.map_err(StoreError::from_postgres)?;
        let rows = client.query(&statement, &refs(params)).await.map_err(StoreError::from_postgres)?;
        rows.iter().map(read_row).collect()
    }

    pub async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await.map_err(StoreError::from_postgres)?;
        client.execute(&statement, &refs(params)).await.map_err(StoreError::from_postgres)
    }

    pub async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client()?.batch_execute(sql).await.map_err(StoreError::from_postgres)
    }

    /// Begins a transaction that is the only writing one, on all servers together: the same
    /// semantics as SQLite's single writer.
    pub async fn begin(&mut self, lock: i64) -> Result<(), StoreError> {
        self.in_transaction = true;
        self.batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({lock})")).await
    }

    pub async fn commit(&mut self) -> Result<(), StoreError> {
        self.batch("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A connection inside a transaction is closed rather than reused: the server rolls back.
        if let Some(client) = self.client.take().filter(|_| self.in_transaction) {
            drop(Object::take(client));
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
