//! Small facts about the hub itself, by name.

use crate::db::{Reader, WriteTx};
use crate::{StoreError, values};

pub async fn get(read: &mut Reader, key: &str) -> Result<Option<String>, StoreError> {
    let row = read.one("SELECT value FROM setting WHERE key = $1", values![key]).await?;
    row.map(|row| row.get(0)).transpose()
}

pub async fn set(tx: &mut WriteTx, key: &str, value: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO setting (key, value) VALUES ($1, $2) \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    tx.execute(sql, values![key, value]).await?;
    Ok(())
}
