//! Collections: rows of their own, and their items in `items`.

pub mod items;

use bastide_core::{CollectionId, Name, NamespaceId, RepoId, Timestamp, Visibility};

use crate::db::{Reader, Row, Value, WriteTx};
use crate::gate::parse;
use crate::likes::bind;
use crate::permit::{Access, Collection, Includes, Namespace, Read, Write};
use crate::{StoreError, values};

/// A collection as lists and its own page show it.
#[derive(Debug, Clone)]
pub struct CollectionRow {
    pub id: CollectionId,
    pub title: String,
    pub description: String,
    pub visibility: Visibility,
    pub theme: String,
    pub position: i64,
    pub updated_at: Timestamp,
    pub owner_id: NamespaceId,
    pub owner: Name,
    pub owner_full_name: String,
    pub owner_is_organization: bool,
}

const COLUMNS: &str = "c.id, c.title, c.description, c.visibility, c.theme, c.position, c.updated_at, \
    n.id, n.name, n.full_name, n.kind FROM collection c JOIN namespace n ON n.id = c.owner_id";

fn collection_row(row: &Row) -> Result<CollectionRow, StoreError> {
    Ok(CollectionRow {
        id: row.get(0)?,
        title: row.get(1)?,
        description: row.get(2)?,
        visibility: parse(row, 3)?,
        theme: row.get(4)?,
        position: row.get(5)?,
        updated_at: row.get(6)?,
        owner_id: row.get(7)?,
        owner: parse(row, 8)?,
        owner_full_name: row.get(9)?,
        owner_is_organization: row.get::<String>(10)? == "org",
    })
}

/// The condition on a collection `c` that a reader may see it; `viewer` is where its id is bound.
pub(crate) fn visible(viewer: Option<&str>) -> String {
    let Some(viewer) = viewer else { return "c.visibility = 'public'".to_owned() };
    format!(
        "(c.visibility <> 'private' OR c.owner_id = {viewer} OR EXISTS (SELECT 1 FROM member m \
         WHERE m.org_id = c.owner_id AND m.user_id = {viewer} AND m.role <> 'no_access'))"
    )
}

pub async fn row_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L, Collection>,
) -> Result<Option<CollectionRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} WHERE c.id = $1");
    read.one(&sql, values![access.collection().id]).await?.map(|row| collection_row(&row)).transpose()
}

/// How many of the owner's collections that a reader may see stand before this one.
pub async fn place_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L, Collection>,
    position: i64,
    viewer: Option<NamespaceId>,
) -> Result<u64, StoreError> {
    let collection = access.collection();
    let mut params = vec![collection.owner_id.into(), Value::Int(position), collection.id.into()];
    let viewer = viewer.map(|viewer| bind(&mut params, viewer));
    let sql = format!(
        "SELECT COUNT(*) FROM collection c WHERE c.owner_id = $1 AND c.position <= $2 \
         AND (c.position < $2 OR c.id < $3) AND {}",
        visible(viewer.as_deref())
    );
    let row = read.one(&sql, &params).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

pub struct NewCollection<'a> {
    pub id: CollectionId,
    pub title: &'a str,
    pub description: &'a str,
    pub visibility: Visibility,
    pub theme: &'a str,
    pub now: Timestamp,
}

fn words(title: &str, description: &str) -> String {
    format!("{title}\n{description}").to_lowercase()
}

/// Adds a collection after all that its owner has.
pub async fn add(
    tx: &mut WriteTx,
    owner: &Access<Write, Namespace>,
    new: &NewCollection<'_>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO collection (id, owner_id, title, description, words, visibility, theme, position, \
        created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, \
        (SELECT COALESCE(MAX(c.position) + 1, 0) FROM collection c WHERE c.owner_id = $2), $8, $8)";
    let params = values![
        new.id,
        owner.namespace().id,
        new.title,
        new.description,
        words(new.title, new.description),
        new.visibility.as_str(),
        new.theme,
        new.now
    ];
    tx.execute(sql, params).await?;
    Ok(())
}

/// The owner's collection with a title: who may make collections there may know which there are.
pub async fn with_title(
    read: &mut Reader,
    owner: &Access<Write, Namespace>,
    title: &str,
) -> Result<Option<CollectionId>, StoreError> {
    titled(read, owner.namespace().id, title).await
}

/// The collection with a title that has the same owner as this one.
pub async fn beside(
    read: &mut Reader,
    access: &Access<Write, Collection>,
    title: &str,
) -> Result<Option<CollectionId>, StoreError> {
    titled(read, access.collection().owner_id, title).await
}

async fn titled(
    read: &mut Reader,
    owner: NamespaceId,
    title: &str,
) -> Result<Option<CollectionId>, StoreError> {
    let sql = "SELECT id FROM collection WHERE owner_id = $1 AND title = $2";
    read.one(sql, values![owner, title]).await?.map(|row| row.get(0)).transpose()
}

pub async fn count_of(read: &mut Reader, owner: &Access<Write, Namespace>) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM collection WHERE owner_id = $1";
    let row = read.one(sql, values![owner.namespace().id]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// What a collection is to be.
#[derive(Debug, Clone)]
pub struct Metadata {
    pub title: String,
    pub description: String,
    pub visibility: Visibility,
    pub theme: String,
}

pub async fn set(
    tx: &mut WriteTx,
    access: &Access<Write, Collection>,
    new: &Metadata,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE collection SET title = $1, description = $2, words = $3, visibility = $4, theme = $5, \
        updated_at = $6 WHERE id = $7";
    let params = values![
        &new.title,
        &new.description,
        words(&new.title, &new.description),
        new.visibility.as_str(),
        &new.theme,
        now,
        access.collection().id
    ];
    tx.execute(sql, params).await?;
    Ok(())
}

/// Puts a collection at a place among its owner's others, counted from 0; beyond them is the end.
pub async fn move_to(
    tx: &mut WriteTx,
    access: &Access<Write, Collection>,
    place: u64,
) -> Result<(), StoreError> {
    let (id, owner) = (access.collection().id, access.collection().owner_id);
    let sql = "SELECT position FROM collection WHERE owner_id = $1 AND id <> $2 ORDER BY position, id";
    let rows = tx.all(sql, values![owner, id]).await?;
    let others: Vec<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let position = position_at(&others, place);
    let sql = "UPDATE collection SET position = position + 1 WHERE owner_id = $1 AND position >= $2";
    tx.execute(sql, values![owner, position]).await?;
    tx.execute("UPDATE collection SET position = $1 WHERE id = $2", values![position, id]).await?;
    Ok(())
}

/// The position that comes to stand at a place, once those from it on have moved by one.
fn position_at(others: &[i64], place: u64) -> i64 {
    let at = usize::try_from(place).ok().and_then(|place| others.get(place));
    at.copied().unwrap_or_else(|| others.last().map_or(0, |last| last + 1))
}

pub async fn remove(tx: &mut WriteTx, access: &Access<Write, Collection>) -> Result<(), StoreError> {
    tx.execute("DELETE FROM collection WHERE id = $1", values![access.collection().id]).await?;
    Ok(())
}

pub async fn touch(
    tx: &mut WriteTx,
    access: &Access<Write, Collection>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE collection SET updated_at = $1 WHERE id = $2";
    tx.execute(sql, values![now, access.collection().id]).await?;
    Ok(())
}

/// Which collections are looked for: those of any of these owners, with any of these items.
#[derive(Debug, Clone, Default)]
pub struct CollectionQuery {
    pub viewer: Option<NamespaceId>,
    /// Lower-case names.
    pub owners: Vec<String>,
    pub repos: Option<Vec<RepoId>>,
    /// Lower-case text that the title or the description contains.
    pub text: Option<String>,
    pub after: Option<(Timestamp, CollectionId)>,
    pub limit: u32,
}

/// What was changed last comes first.
pub async fn find(read: &mut Reader, query: &CollectionQuery) -> Result<Vec<CollectionRow>, StoreError> {
    let mut params = vec![query.limit.into()];
    let viewer = query.viewer.map(|viewer| bind(&mut params, viewer));
    let mut conditions = vec![visible(viewer.as_deref())];
    if !query.owners.is_empty() {
        let owners: Vec<String> = query.owners.iter().map(|owner| bind(&mut params, owner)).collect();
        let owners = owners.join(", ");
        conditions
            .push(format!("c.owner_id IN (SELECT o.id FROM namespace o WHERE o.name_key IN ({owners}))"));
    }
    if let Some(repos) = &query.repos {
        let repos: Vec<String> = repos.iter().map(|repo| bind(&mut params, *repo)).collect();
        let repos = if repos.is_empty() { "NULL".to_owned() } else { repos.join(", ") };
        let with = format!("SELECT i.collection_id FROM collection_item i WHERE i.repo_id IN ({repos})");
        conditions.push(format!("c.id IN ({with})"));
    }
    if let Some(text) = &query.text {
        let pattern = bind(&mut params, crate::lists::like(text));
        conditions.push(format!("c.words LIKE {pattern} ESCAPE '\\'"));
    }
    if let Some((at, id)) = query.after {
        let (at, id) = (bind(&mut params, at), bind(&mut params, id));
        conditions.push(format!("c.updated_at <= {at} AND (c.updated_at < {at} OR c.id < {id})"));
    }
    let conditions = conditions.join(" AND ");
    let sql = format!("SELECT {COLUMNS} WHERE {conditions} ORDER BY c.updated_at DESC, c.id DESC LIMIT $1");
    read.scan(&sql, &params).await?.iter().map(collection_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_to_positions_also_where_numbers_are_left_out() {
        let others = [0, 4, 5];
        let found: Vec<i64> =
            [0, 1, 2, 3, u64::MAX].iter().map(|place| position_at(&others, *place)).collect();
        assert_eq!(found, [0, 4, 5, 6, 6]);
        assert_eq!(position_at(&[], 7), 0);
    }
}
