//! How many repositories of which kind and visibility a namespace has. `repos` calls this in every
//! transaction that changes one of these; `check` compares the numbers with the rows.

use bastide_core::{NamespaceId, RepoId};

use crate::db::WriteTx;
use crate::{StoreError, values};

/// Counts a repository where its row, as it is now, says.
pub(crate) async fn enter(tx: &mut WriteTx, repo: RepoId) -> Result<(), StoreError> {
    shift(tx, repo, 1).await
}

/// Takes a repository out of the numbers, before its row changes or goes.
pub(crate) async fn leave(tx: &mut WriteTx, repo: RepoId) -> Result<(), StoreError> {
    shift(tx, repo, -1).await
}

async fn shift(tx: &mut WriteTx, repo: RepoId, by: i64) -> Result<(), StoreError> {
    let sql = "SELECT namespace_id, kind, visibility FROM repo WHERE id = $1";
    let Some(row) = tx.one(sql, values![repo]).await? else { return Ok(()) };
    let (kind, visibility): (String, String) = (row.get(1)?, row.get(2)?);
    add(tx, row.get(0)?, (&kind, &visibility), by).await
}

pub(crate) async fn add(
    tx: &mut WriteTx,
    namespace: NamespaceId,
    (kind, visibility): (&str, &str),
    by: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO repo_count (namespace_id, kind, visibility, repos) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (namespace_id, kind, visibility) DO UPDATE SET repos = repo_count.repos + excluded.repos";
    tx.execute(sql, values![namespace, kind, visibility, by]).await?;
    Ok(())
}
