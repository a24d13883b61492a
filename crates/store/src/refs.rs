//! Refs: the truth about where branches, tags and pull requests stand. Moved by
//! compare-and-swap inside the transaction that also writes the event.

use bastide_core::{Oid, RefName, RepoId, Timestamp};

use crate::db::{Reader, Row, Value, WriteTx};
use crate::discussions::see_base;
use crate::gate::parse;
use crate::permit::{Access, Includes, Propose, See, Write};
use crate::{StoreError, values};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    pub name: RefName,
    /// What the ref names: a commit, or an annotated tag.
    pub target: Oid,
    /// The commit that it comes to.
    pub commit: Oid,
}

const COLUMNS: &str = "SELECT name, target, commit_id FROM git_ref WHERE repo_id = $1";

fn ref_row(row: &Row) -> Result<Ref, StoreError> {
    Ok(Ref { name: parse(row, 0)?, target: row.get(1)?, commit: row.get(2)? })
}

pub async fn get<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    name: &RefName,
) -> Result<Option<Ref>, StoreError> {
    let sql = format!("{COLUMNS} AND name = $2");
    let row = read.one(&sql, values![access.repo_id(), name.as_str()]).await?;
    row.map(|row| ref_row(&row)).transpose()
}

pub async fn list<L: Includes<See>>(read: &mut Reader, access: &Access<L>) -> Result<Vec<Ref>, StoreError> {
    let rows = read.all(&format!("{COLUMNS} ORDER BY name"), values![access.repo_id()]).await?;
    rows.iter().map(ref_row).collect()
}

/// Those of some refs that exist, in no order.
pub async fn named<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    names: &[RefName],
) -> Result<Vec<Ref>, StoreError> {
    let places: Vec<String> = (2..names.len() + 2).map(|place| format!("${place}")).collect();
    let sql = format!("{COLUMNS} AND name IN ({})", places.join(", "));
    let names = names.iter().map(|name| Value::from(name.as_str()));
    let params: Vec<Value> = std::iter::once(Value::from(access.repo_id())).chain(names).collect();
    read.all(&sql, &params).await?.iter().map(ref_row).collect()
}

/// A ref that cannot stand beside `name`, because git would keep one as a file where the other
/// needs a folder: `feat` and `feat/x`.
pub async fn conflicting<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    name: &RefName,
) -> Result<Option<RefName>, StoreError> {
    let below = format!("{name}/");
    let sql = format!("{COLUMNS} AND substr(name, 1, length($2)) = $2 ORDER BY name LIMIT 1");
    if let Some(row) = read.one(&sql, values![access.repo_id(), &below]).await? {
        return Ok(Some(ref_row(&row)?.name));
    }
    let above: Vec<RefName> = name
        .as_str()
        .match_indices('/')
        .filter_map(|(end, _)| name.as_str().get(..end)?.parse().ok())
        .collect();
    if above.is_empty() {
        return Ok(None);
    }
    Ok(named(read, access, &above).await?.pop().map(|found| found.name))
}

/// The pull requests whose newest commit is one of some, by number.
pub async fn pull_requests_at<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commits: &[Oid],
) -> Result<Vec<(u64, Oid)>, StoreError> {
    const BATCH: usize = 200;
    let mut found = Vec::new();
    for part in commits.chunks(BATCH) {
        let places: Vec<String> = (2..part.len() + 2).map(|place| format!("${place}")).collect();
        let sql = format!("{COLUMNS} AND commit_id IN ({})", places.join(", "));
        let ids = part.iter().map(|id| Value::from(*id));
        let params: Vec<Value> = std::iter::once(Value::from(access.repo_id())).chain(ids).collect();
        for row in read.all(&sql, &params).await? {
            let Ref { name, commit, .. } = ref_row(&row)?;
            found.extend(name.pull_request_number().map(|number| (number, commit)));
        }
    }
    Ok(found)
}

/// Where a ref is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub target: Oid,
    pub commit: Oid,
}

impl Target {
    pub const fn commit(commit: Oid) -> Self {
        Self { target: commit, commit }
    }
}

/// Moves a ref from `old` to `new`, where `None` is "does not exist". False when the ref is no
/// longer at `old`: somebody was faster, and nothing has changed.
pub async fn swap<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    name: &RefName,
    old: Option<Oid>,
    new: Option<Target>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    swap_in(tx, access.repo_id(), name, (old, new), now).await
}

/// The same for the ref of a pull request, which who proposes may move: `refs/pr/{num}` and nothing else.
/// False also when there is no such pull request. Who may move which is for the caller to know.
pub async fn swap_pull_request<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    num: u64,
    old: Option<Oid>,
    new: Option<Target>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM discussion WHERE repo_id = $1 AND num = $2 AND is_pull_request = 1";
    if tx.one(sql, values![access.repo_id(), num]).await?.is_none() {
        return Ok(false);
    }
    let moved = swap_in(tx, access.repo_id(), &RefName::pull_request(num), (old, new), now).await?;
    if moved && new.is_some() {
        see_base(tx, access, num).await?;
    }
    Ok(moved)
}

async fn swap_in(
    tx: &mut WriteTx,
    repo: RepoId,
    name: &RefName,
    (old, new): (Option<Oid>, Option<Target>),
    now: Timestamp,
) -> Result<bool, StoreError> {
    let name = name.as_str();
    let changed = match (old, new) {
        (None, None) => 0,
        (None, Some(new)) => {
            let sql = "INSERT INTO git_ref (repo_id, name, target, commit_id, updated_at) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT (repo_id, name) DO NOTHING";
            tx.execute(sql, values![repo, name, new.target, new.commit, now]).await?
        }
        (Some(old), Some(new)) => {
            let sql = "UPDATE git_ref SET target = $1, commit_id = $2, updated_at = $3 \
                WHERE repo_id = $4 AND name = $5 AND target = $6";
            tx.execute(sql, values![new.target, new.commit, now, repo, name, old]).await?
        }
        (Some(old), None) => {
            let sql = "DELETE FROM git_ref WHERE repo_id = $1 AND name = $2 AND target = $3";
            tx.execute(sql, values![repo, name, old]).await?
        }
    };
    if changed > 0 {
        // A walk for collection that began before this is out of date.
        tx.execute("UPDATE repo SET ref_moves = ref_moves + 1 WHERE id = $1", values![repo]).await?;
        if let Some(new) = new {
            take_back(tx, repo, new.commit).await?;
        }
    }
    Ok(changed > 0)
}

/// A ref goes to a commit that collection had found unused: the grace of all that it may bring back
/// begins anew.
async fn take_back(tx: &mut WriteTx, repo: RepoId, commit: Oid) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM git_commit WHERE repo_id = $1 AND commit_id = $2 AND unused_since IS NOT NULL";
    if tx.one(sql, values![repo, commit]).await?.is_none() {
        return Ok(());
    }
    for table in ["git_commit", "xet_file"] {
        let sql =
            format!("UPDATE {table} SET unused_since = NULL WHERE repo_id = $1 AND unused_since IS NOT NULL");
        tx.execute(&sql, values![repo]).await?;
    }
    Ok(())
}
