//! What the page of an account tells: who it is, how much there is of it, and how large that is.

use bastide_core::{NamespaceId, RepoId, RepoKind, RepoName, RepoPath, Timestamp, Visibility};

use crate::db::{Reader, Row, Value};
use crate::gate::parse;
use crate::likes::bind;
use crate::lists::visible;
use crate::people::shown;
use crate::permit::{Access, Includes, Namespace, Read, See};
use crate::{StoreError, values};

/// What everybody who may see an account may know of it: no e-mail.
#[derive(Debug, Clone)]
pub struct Face {
    pub full_name: String,
    pub created_at: Timestamp,
}

pub async fn face<L: Includes<See>>(
    read: &mut Reader,
    account: &Access<L, Namespace>,
) -> Result<Face, StoreError> {
    let sql = "SELECT full_name, created_at FROM namespace WHERE id = $1";
    let row = read.one(sql, values![account.namespace().id]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a namespace without a row".to_owned()))?;
    Ok(Face { full_name: row.get(0)?, created_at: row.get(1)? })
}

/// Repositories of an account that a reader may see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepoCounts {
    pub models: u64,
    pub datasets: u64,
    pub spaces: u64,
}

pub async fn repo_counts<L: Includes<See>>(
    read: &mut Reader,
    account: &Access<L, Namespace>,
    viewer: Option<NamespaceId>,
) -> Result<RepoCounts, StoreError> {
    let mut params = vec![account.namespace().id.into()];
    let viewer = viewer.map(|viewer| bind(&mut params, viewer));
    // The rule for rows of repositories, on the numbers of those rows.
    let sql = format!(
        "SELECT r.kind, r.repos FROM repo_count r WHERE r.namespace_id = $1 AND {}",
        visible(viewer.as_deref())
    );
    let mut counts = RepoCounts::default();
    for row in read.all(&sql, &params).await? {
        let count: u64 = row.get(1)?;
        match parse(&row, 0)? {
            RepoKind::Model => counts.models += count,
            RepoKind::Dataset => counts.datasets += count,
            RepoKind::Space => counts.spaces += count,
        }
    }
    Ok(counts)
}

/// An organisation that a user is in.
#[derive(Debug, Clone)]
pub struct Organization {
    pub id: NamespaceId,
    pub name: bastide_core::Name,
    pub full_name: String,
}

/// The organisations of a user that a reader may come across, by name.
pub async fn organizations<L: Includes<See>>(
    read: &mut Reader,
    user: &Access<L, Namespace>,
    viewer: Option<NamespaceId>,
) -> Result<Vec<Organization>, StoreError> {
    let sql = format!(
        "SELECT n.id, n.name, n.full_name FROM member m JOIN namespace n ON n.id = m.org_id \
         WHERE m.user_id = $1 AND m.role <> 'no_access' AND {} ORDER BY n.name_key",
        shown(viewer)
    );
    let rows = read.all(&sql, values![user.namespace().id]).await?;
    let one = |row: &Row| Ok(Organization { id: row.get(0)?, name: parse(row, 1)?, full_name: row.get(2)? });
    rows.iter().map(one).collect()
}

/// A repository with its size, for those who may read all that an account has.
#[derive(Debug, Clone)]
pub struct Sized {
    pub id: RepoId,
    pub path: RepoPath,
    pub visibility: Visibility,
    pub updated_at: Timestamp,
    pub bytes: i64,
}

/// The largest first; `after` is the size and the id of the last row of the page before.
pub async fn sizes<L: Includes<Read>>(
    read: &mut Reader,
    account: &Access<L, Namespace>,
    after: Option<(i64, i64)>,
    limit: u32,
) -> Result<Vec<Sized>, StoreError> {
    let mut params: Vec<Value> = vec![account.namespace().id.into(), limit.into()];
    let after = after.map_or(String::new(), |(bytes, id)| {
        params.extend([Value::Int(bytes), Value::Int(id)]);
        " AND used_bytes <= $3 AND (used_bytes < $3 OR id < $4)".to_owned()
    });
    let sql = format!(
        "SELECT id, kind, namespace, name, visibility, updated_at, used_bytes FROM repo \
         WHERE namespace_id = $1{after} ORDER BY used_bytes DESC, id DESC LIMIT $2"
    );
    read.scan(&sql, &params).await?.iter().map(sized).collect()
}

fn sized(row: &Row) -> Result<Sized, StoreError> {
    let kind: RepoKind = parse(row, 1)?;
    Ok(Sized {
        id: row.get(0)?,
        path: RepoPath { kind, namespace: parse(row, 2)?, name: parse::<RepoName>(row, 3)? },
        visibility: parse(row, 4)?,
        updated_at: row.get(5)?,
        bytes: row.get(6)?,
    })
}

/// The sizes of all repositories of an account together.
pub async fn total_size<L: Includes<Read>>(
    read: &mut Reader,
    account: &Access<L, Namespace>,
) -> Result<i64, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(used_bytes), 0) AS BIGINT) FROM repo WHERE namespace_id = $1";
    let rows = read.scan(sql, values![account.namespace().id]).await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}
