//! What is in a collection. Items that a reader may not see are left out of every answer here, and
//! places count only those that it sees.

use bastide_core::id::RowId;
use bastide_core::{CollectionId, Name, NamespaceId, RepoKind, RepoName, RepoPath, Timestamp, Visibility};

use super::{position_at, visible};
use crate::db::{Reader, Row, WriteTx};
use crate::gate::parse;
use crate::likes::bind;
use crate::lists;
use crate::permit::{Access, Collection, Gated, Includes, Read, See, Write};
use crate::{StoreError, values};

/// An item, at its place among those that its reader sees.
#[derive(Debug, Clone)]
pub struct ItemRow {
    pub id: RowId,
    pub note: String,
    pub target: ItemRepo,
    position: i64,
}

/// What an item is.
#[derive(Debug, Clone)]
pub enum ItemRepo {
    Repo(Box<RepoItem>),
    Collection(CollectionItem),
}

#[derive(Debug, Clone)]
pub struct RepoItem {
    pub path: RepoPath,
    pub visibility: Visibility,
    pub gated: Gated,
    pub likes: i64,
    pub downloads: i64,
    pub updated_at: Timestamp,
    pub pipeline_tag: Option<String>,
    pub sdk: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CollectionItem {
    pub id: CollectionId,
    pub title: String,
    pub owner: Name,
    pub visibility: Visibility,
    pub theme: String,
    pub updated_at: Timestamp,
}

/// The items that a reader may see, in order, `limit` at most.
pub async fn list<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L, Collection>,
    viewer: Option<NamespaceId>,
    limit: u32,
) -> Result<Vec<ItemRow>, StoreError> {
    let mut params = vec![access.collection().id.into(), limit.into()];
    let viewer = viewer.map(|viewer| bind(&mut params, viewer));
    let (repos, inner) = (lists::visible(viewer.as_deref()), visible(viewer.as_deref()));
    let sql = format!(
        "SELECT i.id, i.position, i.note, r.kind, r.namespace, r.name, r.visibility, r.gated, r.likes, \
         r.downloads, r.updated_at, r.pipeline_tag, r.sdk, c.id, c.title, n.name, c.visibility, c.theme, \
         c.updated_at FROM collection_item i LEFT JOIN repo r ON r.id = i.repo_id \
         LEFT JOIN collection c ON c.id = i.inner_id LEFT JOIN namespace n ON n.id = c.owner_id \
         WHERE i.collection_id = $1 AND (i.repo_id IS NOT NULL AND {repos} OR i.inner_id IS NOT NULL AND {inner}) \
         ORDER BY i.position, i.id LIMIT $2"
    );
    read.all(&sql, &params).await?.iter().map(item).collect()
}

fn item(row: &Row) -> Result<ItemRow, StoreError> {
    let target = match row.get::<Option<String>>(3)? {
        Some(_) => ItemRepo::Repo(Box::new(repo_item(row)?)),
        None => ItemRepo::Collection(CollectionItem {
            id: row.get(13)?,
            title: row.get(14)?,
            owner: parse(row, 15)?,
            visibility: parse(row, 16)?,
            theme: row.get(17)?,
            updated_at: row.get(18)?,
        }),
    };
    Ok(ItemRow { id: row.get(0)?, position: row.get(1)?, note: row.get(2)?, target })
}

fn repo_item(row: &Row) -> Result<RepoItem, StoreError> {
    let kind: RepoKind = parse(row, 3)?;
    let gated: String = row.get(7)?;
    Ok(RepoItem {
        path: RepoPath { kind, namespace: parse(row, 4)?, name: parse::<RepoName>(row, 5)? },
        visibility: parse(row, 6)?,
        gated: Gated::parse(&gated).ok_or_else(|| StoreError::Corrupt(format!("gated: {gated}")))?,
        likes: row.get(8)?,
        downloads: row.get(9)?,
        updated_at: row.get(10)?,
        pipeline_tag: row.get(11)?,
        sdk: row.get(12)?,
    })
}

/// What is to become an item: whoever adds it sees it.
pub enum NewItem<'a> {
    Repo(&'a Access<See>),
    Collection(&'a Access<Read, Collection>),
}

impl NewItem<'_> {
    const fn column(&self) -> &'static str {
        match self {
            Self::Repo(_) => "repo_id",
            Self::Collection(_) => "inner_id",
        }
    }

    fn id(&self) -> i64 {
        match self {
            Self::Repo(access) => access.repo_id().as_i64(),
            Self::Collection(access) => access.collection().id.as_i64(),
        }
    }
}

pub async fn has(
    read: &mut Reader,
    access: &Access<Write, Collection>,
    item: &NewItem<'_>,
) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM collection_item WHERE collection_id = $1 AND {} = $2", item.column());
    Ok(read.one(&sql, values![access.collection().id, item.id()]).await?.is_some())
}

/// How many items there are, hidden ones too: what the limit counts.
pub async fn count(read: &mut Reader, access: &Access<Write, Collection>) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM collection_item WHERE collection_id = $1";
    let row = read.one(sql, values![access.collection().id]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Adds an item after all others.
pub async fn add(
    tx: &mut WriteTx,
    access: &Access<Write, Collection>,
    (id, item): (RowId, &NewItem<'_>),
    note: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO collection_item (id, collection_id, {}, note, position, created_at) VALUES ($1, $2, $3, $4, \
         (SELECT COALESCE(MAX(o.position) + 1, 0) FROM collection_item o WHERE o.collection_id = $2), $5)",
        item.column()
    );
    tx.execute(&sql, values![id, access.collection().id, item.id(), note, now]).await?;
    Ok(())
}

pub async fn set_note(
    tx: &mut WriteTx,
    access: &Access<Write, Collection>,
    id: RowId,
    note: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE collection_item SET note = $1 WHERE id = $2 AND collection_id = $3";
    tx.execute(sql, values![note, id, access.collection().id]).await?;
    Ok(())
}

/// Puts an item at a place among the others that the caller sees, `visible`; beyond them is the
/// end. What is hidden keeps its order.
pub async fn move_to(
    tx: &mut WriteTx,
    access: &Access<Write, Collection>,
    visible: &[ItemRow],
    id: RowId,
    place: u64,
) -> Result<(), StoreError> {
    let collection = access.collection().id;
    let others: Vec<i64> = visible.iter().filter(|item| item.id != id).map(|item| item.position).collect();
    let position = position_at(&others, place);
    let sql =
        "UPDATE collection_item SET position = position + 1 WHERE collection_id = $1 AND position >= $2";
    tx.execute(sql, values![collection, position]).await?;
    let sql = "UPDATE collection_item SET position = $1 WHERE id = $2 AND collection_id = $3";
    tx.execute(sql, values![position, id, collection]).await?;
    Ok(())
}

pub async fn remove(
    tx: &mut WriteTx,
    access: &Access<Write, Collection>,
    id: RowId,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM collection_item WHERE id = $1 AND collection_id = $2";
    tx.execute(sql, values![id, access.collection().id]).await?;
    Ok(())
}
