//! Lists of accounts that stand in some relation to another: members, followers, who likes what.
//!
//! One query for all of them. Nobody is shown who is disabled, and without signing in only those
//! whose names something public tells already.

use bastide_core::{Name, NamespaceId, Timestamp};

use crate::db::{Reader, Row, Value};
use crate::gate::parse;
use crate::permit::{Access, Includes, Namespace, See};
use crate::{StoreError, values};

/// The condition on a namespace `n` that something which everybody may see names it.
pub(crate) const KNOWN: &str = "(EXISTS (SELECT 1 FROM repo_count k WHERE k.namespace_id = n.id \
    AND k.visibility = 'public' AND k.repos > 0) \
    OR EXISTS (SELECT 1 FROM collection k WHERE k.owner_id = n.id AND k.visibility = 'public'))";

/// The condition on a namespace `n` that a reader may come across it.
pub(crate) fn shown(viewer: Option<NamespaceId>) -> String {
    let known = if viewer.is_some() { "" } else { " AND " };
    let rule = if viewer.is_some() { "" } else { KNOWN };
    format!("n.disabled_at IS NULL{known}{rule}")
}

/// An account in a list.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: NamespaceId,
    pub name: Name,
    pub full_name: String,
    pub is_organization: bool,
    /// Whether the reader follows it.
    pub is_followed: bool,
    /// Since when it stands in the list.
    pub since: Timestamp,
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub since: Timestamp,
    pub id: i64,
}

/// What of a list is asked for: who reads, where the last page ended, how many rows.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub viewer: Option<NamespaceId>,
    pub after: Option<Place>,
    pub limit: u32,
}

/// A relation, as a table has it: `who` stands in it to `whom`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relation {
    pub table: &'static str,
    pub who: &'static str,
    pub whom: &'static str,
    /// One more condition on a row `x`.
    pub only: &'static str,
}

const MEMBERS: Relation =
    Relation { table: "member", who: "user_id", whom: "org_id", only: " AND x.role <> 'no_access'" };
const FOLLOWERS: Relation = Relation { table: "follow", who: "follower_id", whom: "followed_id", only: "" };
const FOLLOWED: Relation = Relation { table: "follow", who: "followed_id", whom: "follower_id", only: "" };

pub async fn members<L: Includes<See>>(
    read: &mut Reader,
    org: &Access<L, Namespace>,
    page: Page,
) -> Result<Vec<Person>, StoreError> {
    list(read, MEMBERS, org.namespace().id.as_i64(), page).await
}

pub async fn followers<L: Includes<See>>(
    read: &mut Reader,
    account: &Access<L, Namespace>,
    page: Page,
) -> Result<Vec<Person>, StoreError> {
    list(read, FOLLOWERS, account.namespace().id.as_i64(), page).await
}

/// Whom a user follows.
pub async fn followed<L: Includes<See>>(
    read: &mut Reader,
    account: &Access<L, Namespace>,
    page: Page,
) -> Result<Vec<Person>, StoreError> {
    list(read, FOLLOWED, account.namespace().id.as_i64(), page).await
}

/// Newest first.
pub(crate) async fn list(
    read: &mut Reader,
    relation: Relation,
    whom: i64,
    page: Page,
) -> Result<Vec<Person>, StoreError> {
    let Relation { table, who, whom: of, only } = relation;
    let mut params =
        vec![Value::Int(whom), page.viewer.map_or(0, NamespaceId::as_i64).into(), page.limit.into()];
    let after = page.after.map_or(String::new(), |place| {
        params.extend([place.since.into(), Value::Int(place.id)]);
        format!(" AND x.created_at <= $4 AND (x.created_at < $4 OR x.{who} < $5)")
    });
    let shown = shown(page.viewer);
    let sql = format!(
        "SELECT n.id, n.name, n.full_name, n.kind, x.created_at, \
         EXISTS (SELECT 1 FROM follow f WHERE f.follower_id = $2 AND f.followed_id = n.id) \
         FROM {table} x JOIN namespace n ON n.id = x.{who} WHERE x.{of} = $1{only} AND {shown}{after} \
         ORDER BY x.created_at DESC, x.{who} DESC LIMIT $3"
    );
    read.scan(&sql, &params).await?.iter().map(person).collect()
}

fn person(row: &Row) -> Result<Person, StoreError> {
    Ok(Person {
        id: row.get(0)?,
        name: parse(row, 1)?,
        full_name: row.get(2)?,
        is_organization: row.get::<String>(3)? == "org",
        since: row.get(4)?,
        is_followed: row.get(5)?,
    })
}

/// How many accounts such a list has for a reader.
async fn count(
    read: &mut Reader,
    relation: Relation,
    whom: NamespaceId,
    viewer: Option<NamespaceId>,
) -> Result<u64, StoreError> {
    let Relation { table, who, whom: of, only } = relation;
    let sql = format!(
        "SELECT COUNT(*) FROM {table} x JOIN namespace n ON n.id = x.{who} WHERE x.{of} = $1{only} AND {}",
        shown(viewer)
    );
    let row = read.one(&sql, values![whom]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Members (of an organisation), followers and followed of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circles {
    pub members: u64,
    pub followers: u64,
    pub followed: u64,
}

pub async fn circles<L: Includes<See>>(
    read: &mut Reader,
    account: &Access<L, Namespace>,
    viewer: Option<NamespaceId>,
) -> Result<Circles, StoreError> {
    let id = account.namespace().id;
    Ok(Circles {
        members: count(read, MEMBERS, id, viewer).await?,
        followers: count(read, FOLLOWERS, id, viewer).await?,
        followed: count(read, FOLLOWED, id, viewer).await?,
    })
}
