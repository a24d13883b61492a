//! Lists of discussions: pinned ones first, then the newest.
//!
//! What is counted beforehand is a walk along an index of exactly what is asked for. Searches, authors
//! and other orders look at the newest `LOOKED_AT` of a repository and no further, so that none
//! takes longer than that.

use bastide_core::{Name, RepoId};

use super::{AUTHOR, COLUMNS, Discussion, Summary, discussion};
use crate::db::{Reader, Row, Value};
use crate::permit::{Access, Includes, Read};
use crate::{StoreError, values};

/// How many discussions a search looks at.
pub const LOOKED_AT: u64 = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiscussionOrder {
    #[default]
    Created,
    Updated,
}

#[derive(Debug, Clone, Default)]
pub struct DiscussionQuery {
    /// Pull requests alone, or all but them.
    pub pull_requests: Option<bool>,
    /// Open ones alone (drafts are), or closed ones (merged are).
    pub open: Option<bool>,
    pub author: Option<Name>,
    /// What the title has, in lower case.
    pub search: Option<String>,
    pub order: DiscussionOrder,
    pub offset: u64,
    pub limit: u64,
}

#[derive(Debug, Clone, Default)]
pub struct DiscussionPage {
    pub rows: Vec<Discussion>,
    /// How many there are on all pages.
    pub count: u64,
    /// How many are closed, of those that are asked for in any status.
    pub closed: u64,
}

/// A page of a repository's discussions; `summary` is what `summary` says of it.
pub async fn list<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    query: &DiscussionQuery,
    summary: &Summary,
) -> Result<DiscussionPage, StoreError> {
    if query.author.is_some() || query.search.is_some() || query.order != DiscussionOrder::Created {
        return searched(read, access, query, summary).await;
    }
    let (count, closed) = counted(query, summary);
    if query.offset >= count {
        return Ok(DiscussionPage { rows: Vec::new(), count, closed });
    }
    let (sql, params) = page_sql(access.repo_id(), query);
    let few = query.offset <= FEW_SKIPPED;
    let rows = if few { read.all(&sql, &params).await? } else { read.scan(&sql, &params).await? };
    let rows = rows.iter().map(discussion).collect::<Result<_, _>>()?;
    Ok(DiscussionPage { rows, count, closed })
}

/// So many rows are walked over in place; more on the blocking pool.
const FEW_SKIPPED: u64 = 2000;

/// What is asked for, and what of it is closed, from the counts that are kept.
fn counted(query: &DiscussionQuery, summary: &Summary) -> (u64, u64) {
    let (mut open, mut closed) = (0, 0);
    if query.pull_requests != Some(true) {
        open += summary.open_discussions;
        closed += summary.closed_discussions;
    }
    if query.pull_requests != Some(false) {
        open += summary.open_pulls;
        closed += summary.closed_pulls;
    }
    let count = match query.open {
        Some(true) => open,
        Some(false) => closed,
        None => open + closed,
    };
    (count, closed)
}

/// The page itself is cut out before authors are looked up.
fn page_sql(repo: RepoId, query: &DiscussionQuery) -> (String, Vec<Value>) {
    let mut params = values![repo, query.limit, query.offset].to_vec();
    let mut conditions = "repo_id = $1".to_owned();
    for (column, wanted) in [("is_pull_request", query.pull_requests), ("is_open", query.open)] {
        if let Some(wanted) = wanted {
            params.push(wanted.into());
            conditions.push_str(&format!(" AND {column} = ${}", params.len()));
        }
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT * FROM discussion WHERE {conditions} \
         ORDER BY pinned DESC, num DESC LIMIT $2 OFFSET $3) d {AUTHOR} ORDER BY d.pinned DESC, d.num DESC"
    );
    (sql, params)
}

/// What a search finds of one discussion.
struct Found {
    num: i64,
    is_open: bool,
    pinned: bool,
    updated_at: i64,
}

async fn searched<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    query: &DiscussionQuery,
    summary: &Summary,
) -> Result<DiscussionPage, StoreError> {
    let (sql, params) = search_sql(access.repo_id(), query, summary);
    let mut found: Vec<Found> =
        read.scan(&sql, &params).await?.iter().map(self::found).collect::<Result<_, _>>()?;
    let closed = found.iter().filter(|found| !found.is_open).count() as u64;
    found.retain(|found| query.open.is_none_or(|open| found.is_open == open));
    if query.order == DiscussionOrder::Updated {
        found.sort_by_key(|found| std::cmp::Reverse((found.pinned, found.updated_at, found.num)));
    }
    let clamp = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let page = found.iter().skip(clamp(query.offset)).take(clamp(query.limit)).map(|found| found.num);
    let rows = numbered(read, access, &page.collect::<Vec<_>>()).await?;
    Ok(DiscussionPage { rows, count: found.len() as u64, closed })
}

fn found(row: &Row) -> Result<Found, StoreError> {
    Ok(Found { num: row.get(0)?, is_open: row.get(1)?, pinned: row.get(2)?, updated_at: row.get(3)? })
}

fn search_sql(repo: RepoId, query: &DiscussionQuery, summary: &Summary) -> (String, Vec<Value>) {
    let mut params = values![repo, LOOKED_AT].to_vec();
    let mut conditions = "repo_id = $1".to_owned();
    let mut add = |condition: &str, value: Value| {
        params.push(value);
        conditions.push_str(" AND ");
        conditions.push_str(&condition.replace('?', &format!("${}", params.len())));
    };
    if let Some(author) = &query.author {
        add(
            "author_id = (SELECT n.id FROM namespace n WHERE n.name_key = ? AND n.disabled_at IS NULL)",
            author.key().into(),
        );
    }
    if query.author.is_none() || query.search.is_some() {
        add("num > ?", summary.last_num.saturating_sub(LOOKED_AT).into());
    }
    if let Some(search) = &query.search {
        add("title_key LIKE ? ESCAPE '\\'", crate::lists::like(search).into());
    }
    if let Some(wanted) = query.pull_requests {
        add("is_pull_request = ?", wanted.into());
    }
    let sql = format!(
        "SELECT num, is_open, pinned, updated_at FROM discussion WHERE {conditions} \
         ORDER BY pinned DESC, num DESC LIMIT $2"
    );
    (sql, params)
}

/// Discussions by their numbers, in that order.
async fn numbered<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    nums: &[i64],
) -> Result<Vec<Discussion>, StoreError> {
    if nums.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (2..nums.len() + 2).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT {COLUMNS} FROM discussion d {AUTHOR} WHERE d.repo_id = $1 AND d.num IN ({})",
        places.join(", ")
    );
    let params: Vec<Value> =
        std::iter::once(access.repo_id().into()).chain(nums.iter().map(|num| Value::from(*num))).collect();
    let mut rows = read.all(&sql, &params).await?.iter().map(discussion).collect::<Result<Vec<_>, _>>()?;
    let place = |row: &Discussion| nums.iter().position(|num| u64::try_from(*num) == Ok(row.num));
    rows.sort_by_key(place);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    /// What SQLite does with `discussion` for a statement.
    async fn plan(db: &Db, (sql, params): (String, Vec<Value>)) -> String {
        let rows = db.read().await.unwrap().all(&format!("EXPLAIN QUERY PLAN {sql}"), &params).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get(3).unwrap()).collect();
        steps.into_iter().filter(|step| step.contains(" discussion ")).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn every_list_walks_an_index_of_its_repository() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("test.db")).await.unwrap();
        let repo = RepoId::from_i64(1);
        let plain = DiscussionQuery { limit: 50, ..DiscussionQuery::default() };
        let (pulls, open) = (Some(true), Some(true));
        for (query, index) in [
            (plain.clone(), "discussion_by_pin (repo_id=?)"),
            (DiscussionQuery { open, ..plain.clone() }, "discussion_by_open (repo_id=? AND is_open=?)"),
            (
                DiscussionQuery { pull_requests: pulls, ..plain.clone() },
                "discussion_by_kind (repo_id=? AND is_pull_request=?)",
            ),
            (
                DiscussionQuery { pull_requests: pulls, open, ..plain.clone() },
                "discussion_by_kind_open (repo_id=? AND is_pull_request=? AND is_open=?)",
            ),
        ] {
            assert_eq!(
                plan(&db, page_sql(repo, &query)).await,
                format!("SEARCH discussion USING INDEX {index}")
            );
        }
        let summary = Summary { last_num: 100_000, ..Summary::default() };
        let author = DiscussionQuery { author: Some("ann".parse().unwrap()), ..plain.clone() };
        let found = plan(&db, search_sql(repo, &author, &summary)).await;
        assert_eq!(
            found,
            "SEARCH discussion USING INDEX discussion_by_author_in_repo (repo_id=? AND author_id=?)"
        );
        let search = DiscussionQuery { search: Some("x".into()), ..plain };
        let found = plan(&db, search_sql(repo, &search, &summary)).await;
        assert_eq!(found, "SEARCH discussion USING INDEX discussion_by_num (repo_id=? AND num>?)");
    }
}
