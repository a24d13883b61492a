//! Who likes which repository. `repo.likes` is changed by the same statement's transaction, so it
//! is the number of rows, always.

use bastide_core::{NamespaceId, RepoId, RepoKind, RepoName, RepoPath, Timestamp};

use crate::db::{Reader, Row, Value, WriteTx};
use crate::gate::parse;
use crate::lists::visible;
use crate::people::{self, Page, Person, Relation};
use crate::permit::{Access, Includes, Namespace, Propose, See};
use crate::{StoreError, values};

/// Says whether anything changed.
pub async fn like(
    tx: &mut WriteTx,
    access: &Access<Propose>,
    user: NamespaceId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO repo_like (repo_id, user_id, created_at) VALUES ($1, $2, $3) \
        ON CONFLICT (repo_id, user_id) DO NOTHING";
    let added = tx.execute(sql, values![access.repo_id(), user, now]).await? > 0;
    if added {
        let sql = "UPDATE repo SET likes = likes + 1 WHERE id = $1";
        tx.execute(sql, values![access.repo_id()]).await?;
    }
    Ok(added)
}

/// Says whether anything changed.
pub async fn unlike(
    tx: &mut WriteTx,
    access: &Access<Propose>,
    user: NamespaceId,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM repo_like WHERE repo_id = $1 AND user_id = $2";
    let removed = tx.execute(sql, values![access.repo_id(), user]).await? > 0;
    if removed {
        let sql = "UPDATE repo SET likes = likes - 1 WHERE id = $1";
        tx.execute(sql, values![access.repo_id()]).await?;
    }
    Ok(removed)
}

/// How many repositories somebody likes, hidden ones too: what the limit counts.
pub async fn count_of(read: &mut Reader, user: NamespaceId) -> Result<u64, StoreError> {
    let row = read.one("SELECT COUNT(*) FROM repo_like WHERE user_id = $1", values![user]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

const LIKERS: Relation = Relation { table: "repo_like", who: "user_id", whom: "repo_id", only: "" };

/// Who likes a repository, newest first.
pub async fn likers<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    page: Page,
) -> Result<Vec<Person>, StoreError> {
    people::list(read, LIKERS, access.repo_id().as_i64(), page).await
}

/// A repository that somebody likes.
#[derive(Debug, Clone)]
pub struct Liked {
    pub id: RepoId,
    pub path: RepoPath,
    pub since: Timestamp,
}

/// What of what a user likes a reader may see, newest first.
pub async fn liked_by<L: Includes<See>>(
    read: &mut Reader,
    user: &Access<L, Namespace>,
    page: Page,
) -> Result<Vec<Liked>, StoreError> {
    let mut params = vec![user.namespace().id.into(), page.limit.into()];
    let viewer = page.viewer.map(|viewer| bind(&mut params, viewer));
    let visible = visible(viewer.as_deref());
    let after = page.after.map_or(String::new(), |place| {
        let (since, id) = (bind(&mut params, place.since), bind(&mut params, place.id));
        format!(" AND l.created_at <= {since} AND (l.created_at < {since} OR l.repo_id < {id})")
    });
    let sql = format!(
        "SELECT r.id, r.kind, r.namespace, r.name, l.created_at FROM repo_like l JOIN repo r ON r.id = l.repo_id \
         WHERE l.user_id = $1 AND {visible}{after} ORDER BY l.created_at DESC, l.repo_id DESC LIMIT $2"
    );
    read.scan(&sql, &params).await?.iter().map(liked).collect()
}

fn liked(row: &Row) -> Result<Liked, StoreError> {
    let kind: RepoKind = parse(row, 1)?;
    let path = RepoPath { kind, namespace: parse(row, 2)?, name: parse::<RepoName>(row, 3)? };
    Ok(Liked { id: row.get(0)?, path, since: row.get(4)? })
}

/// How many of the repositories that a user likes a reader may see.
pub async fn visible_count<L: Includes<See>>(
    read: &mut Reader,
    user: &Access<L, Namespace>,
    viewer: Option<NamespaceId>,
) -> Result<u64, StoreError> {
    let mut params = vec![user.namespace().id.into()];
    let viewer = viewer.map(|viewer| bind(&mut params, viewer));
    let sql = format!(
        "SELECT COUNT(*) FROM repo_like l JOIN repo r ON r.id = l.repo_id WHERE l.user_id = $1 AND {}",
        visible(viewer.as_deref())
    );
    let row = read.one(&sql, &params).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Adds a parameter and says where it is bound.
pub(crate) fn bind(params: &mut Vec<Value>, value: impl Into<Value>) -> String {
    params.push(value.into());
    format!("${}", params.len())
}
