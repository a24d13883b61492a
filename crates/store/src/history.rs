//! Who changed what, from the rows of commits and of the paths that they changed.

use bastide_core::{Oid, Timestamp};

use crate::db::{Reader, Row, Value};
use crate::permit::{Access, Includes, See};
use crate::{StoreError, values};

/// Paths that one statement asks for.
const BATCH: usize = 100;
/// Commits that are looked at for one path at first. More than one is rare.
pub const MOST_BRINGERS: usize = 20;

/// How far a commit is from the beginning; `None` when it is not one of the repository's.
pub async fn generation<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commit: Oid,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT generation FROM git_commit WHERE repo_id = $1 AND commit_id = $2";
    read.one(sql, values![access.repo_id(), commit]).await?.map(|row| row.get(0)).transpose()
}

/// How many commits are no further from the beginning than this.
pub async fn commits_up_to<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    generation: i64,
) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM git_commit WHERE repo_id = $1 AND generation <= $2";
    read.one(sql, values![access.repo_id(), generation]).await?.map_or(Ok(0), |row| row.get(0))
}

/// Commits above one generation and up to another with their parents, the latest first.
pub async fn lineage<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    above: i64,
    up_to: i64,
) -> Result<Vec<(Oid, Vec<Oid>)>, StoreError> {
    let sql = "SELECT commit_id, parents FROM git_commit WHERE repo_id = $1 AND generation > $2 \
        AND generation <= $3 ORDER BY generation DESC";
    let rows = read.scan(sql, values![access.repo_id(), above, up_to]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, parents(row, 1)?))).collect()
}

fn parents(row: &Row, column: usize) -> Result<Vec<Oid>, StoreError> {
    let bytes: Vec<u8> = row.get(column)?;
    let parent = |id| Oid::from_slice(id).map_err(|_| StoreError::Corrupt("a commit's parents".into()));
    bytes.chunks(20).map(parent).collect()
}

/// A commit that changed a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    pub commit: Oid,
    pub generation: i64,
    /// What it left there.
    pub object: Option<Oid>,
    /// Has it several parents? Then it is compared with the first.
    pub is_merge: bool,
}

const CHANGE: &str = "SELECT c.commit_id, c.generation, c.object_id, length(m.parents) FROM git_change c \
    JOIN git_commit m ON m.repo_id = c.repo_id AND m.commit_id = c.commit_id WHERE c.repo_id = $1 AND c.path = $2";
const BEFORE: &str = "(c.generation < $3 OR (c.generation = $3 AND c.commit_id < $4))";
const LATEST: &str = "ORDER BY c.generation DESC, c.commit_id DESC";

fn path_change(row: &Row) -> Result<PathChange, StoreError> {
    let parents: i64 = row.get(3)?;
    Ok(PathChange {
        commit: row.get(0)?,
        generation: row.get(1)?,
        object: row.get(2)?,
        is_merge: parents > 20,
    })
}

/// Where a list of changes goes on: after this generation and commit.
pub type Place = (i64, Oid);

/// Commits that changed a path, the latest first, from a place on.
pub async fn changes_of_path<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    path: &str,
    before: Place,
    limit: u64,
) -> Result<Vec<PathChange>, StoreError> {
    let sql = format!("{CHANGE} AND {BEFORE} {LATEST} LIMIT $5");
    let rows = read.all(&sql, values![access.repo_id(), path, before.0, before.1, limit]).await?;
    rows.iter().map(path_change).collect()
}

/// Commits that brought an object to a path, the latest first, from a place on.
pub async fn bringers_of<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    (path, object): (&str, Oid),
    before: Place,
    limit: u64,
) -> Result<Vec<PathChange>, StoreError> {
    let sql = format!("{CHANGE} AND {BEFORE} AND c.object_id = $5 {LATEST} LIMIT $6");
    let rows = read.all(&sql, values![access.repo_id(), path, before.0, before.1, object, limit]).await?;
    rows.iter().map(path_change).collect()
}

/// A commit that brought what was asked for to its path.
#[derive(Debug, Clone)]
pub struct Bringer {
    pub path: String,
    pub change: PathChange,
}

/// For each of many paths and objects the latest commits up to a generation that brought the one
/// to the other: `MOST_BRINGERS` of each, the latest first.
pub async fn bringers<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    up_to: i64,
    wanted: &[(&str, Oid)],
) -> Result<Vec<Bringer>, StoreError> {
    let mut found = Vec::new();
    for batch in wanted.chunks(BATCH) {
        let pairs = batch.iter().flat_map(|(path, object)| [Value::from(*path), Value::from(*object)]);
        let fixed = [access.repo_id().into(), up_to.into()];
        let params: Vec<Value> = fixed.into_iter().chain(pairs).collect();
        for row in read.all(&bringers_sql(batch.len()), &params).await? {
            found.push(Bringer { change: path_change(&row)?, path: row.get(4)? });
        }
    }
    Ok(found)
}

/// Each pair is an alternative of its own, so that each is looked up by the key.
fn bringers_sql(pairs: usize) -> String {
    let pair = |n: usize| format!("(repo_id = $1 AND path = ${} AND object_id = ${})", 3 + 2 * n, 4 + 2 * n);
    let pairs: Vec<String> = (0..pairs).map(pair).collect();
    format!(
        "SELECT f.commit_id, f.generation, f.object_id, length(m.parents), f.path FROM \
         (SELECT path, generation, commit_id, object_id, \
            ROW_NUMBER() OVER (PARTITION BY path ORDER BY generation DESC, commit_id DESC) AS place \
          FROM git_change WHERE generation <= $2 AND ({})) f \
         JOIN git_commit m ON m.repo_id = $1 AND m.commit_id = f.commit_id \
         WHERE f.place <= {MOST_BRINGERS} ORDER BY f.path, f.generation DESC, f.commit_id DESC",
        pairs.join(" OR ")
    )
}

/// The title and time of a commit.
#[derive(Debug, Clone)]
pub struct Headline {
    pub commit: Oid,
    pub title: String,
    pub time: Timestamp,
}

pub async fn headlines<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commits: &[Oid],
) -> Result<Vec<Headline>, StoreError> {
    let mut found = Vec::new();
    for batch in commits.chunks(BATCH) {
        let places: Vec<String> = (2..batch.len() + 2).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT commit_id, title, time FROM git_commit WHERE repo_id = $1 AND commit_id IN ({})",
            places.join(", ")
        );
        let ids = batch.iter().map(|id| Value::from(*id));
        let params: Vec<Value> = std::iter::once(access.repo_id().into()).chain(ids).collect();
        for row in read.all(&sql, &params).await? {
            found.push(Headline { commit: row.get(0)?, title: row.get(1)?, time: row.get(2)? });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bastide_core::RepoId;

    use super::*;
    use crate::Db;

    /// A repository may have millions of changes: none is looked at that is not of the path.
    #[tokio::test]
    async fn each_of_many_paths_is_looked_up_by_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("test.db")).await.unwrap();
        let object = Oid::from_slice(&[1; 20]).unwrap();
        for pairs in [1, 2, BATCH] {
            let wanted = (0..pairs).flat_map(|n| [Value::from(format!("p{n}")), Value::from(object)]);
            let params: Vec<Value> =
                [RepoId::from_i64(1).into(), Value::from(9_i64)].into_iter().chain(wanted).collect();
            let sql = format!("EXPLAIN QUERY PLAN {}", bringers_sql(pairs));
            let rows = db.read().await.unwrap().all(&sql, &params).await.unwrap();
            let steps: Vec<String> = rows.iter().map(|row| row.get(3).unwrap()).collect();
            let key = |step: &&String| {
                step.starts_with(
                    "SEARCH git_change USING INDEX sqlite_autoindex_git_change_1 (repo_id=? AND path=?",
                )
            };
            assert_eq!(steps.iter().filter(key).count(), pairs, "{steps:?}");
            let others =
                |step: &&String| step.contains("SCAN git_change") || step.contains("git_change_by_pointer");
            assert_eq!(steps.iter().find(others), None, "{steps:?}");
        }
    }
}
