//! What git is made of, as rows: packs, commits and the paths that each commit changed.

use std::collections::{HashMap, HashSet};

use bastide_core::{NamespaceId, Oid, RepoId, Timestamp};

use crate::db::{Reader, Row, Value, WriteTx};
use crate::permit::{Access, Includes, Propose, See, Write};
use crate::{StoreError, storage, values};

#[derive(Debug, Clone)]
pub struct Pack {
    pub name: String,
    pub pack_key: String,
    pub index_key: String,
    pub objects: u64,
    pub bytes: u64,
}

pub async fn packs<L: Includes<See>>(read: &mut Reader, access: &Access<L>) -> Result<Vec<Pack>, StoreError> {
    let sql = "SELECT name, pack_key, index_key, objects, bytes FROM git_pack WHERE repo_id = $1 ORDER BY created_at, name";
    read.all(sql, values![access.repo_id()]).await?.iter().map(pack).collect()
}

fn pack(row: &Row) -> Result<Pack, StoreError> {
    Ok(Pack {
        name: row.get(0)?,
        pack_key: row.get(1)?,
        index_key: row.get(2)?,
        objects: row.get(3)?,
        bytes: row.get(4)?,
    })
}

pub async fn pack_count<L: Includes<See>>(read: &mut Reader, access: &Access<L>) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM git_pack WHERE repo_id = $1";
    read.one(sql, values![access.repo_id()]).await?.map_or(Ok(0), |row| row.get(0))
}

/// The bytes of all packs together.
pub async fn packed_bytes<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<u64, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM git_pack WHERE repo_id = $1";
    read.one(sql, values![access.repo_id()]).await?.map_or(Ok(0), |row| row.get(0))
}

/// Adds a pack. The same objects packed again are the same pack: that is no error. Says whether it is new.
pub async fn add_pack<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    pack: &Pack,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO git_pack (repo_id, name, pack_key, index_key, objects, bytes, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (repo_id, name) DO NOTHING";
    let params =
        values![access.repo_id(), &pack.name, &pack.pack_key, &pack.index_key, pack.objects, pack.bytes, now];
    let added = tx.execute(sql, params).await? > 0;
    if added {
        storage::add(tx, access.repo_id(), signed(pack.bytes)).await?;
    }
    Ok(added)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Takes packs out that another one replaces. False when one of them is gone already.
pub async fn remove_packs<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    names: &[String],
) -> Result<bool, StoreError> {
    let (mut removed, mut bytes) = (0, 0);
    for name in names {
        let sql = "DELETE FROM git_pack WHERE repo_id = $1 AND name = $2 RETURNING bytes";
        if let Some(row) = tx.one(sql, values![access.repo_id(), name]).await? {
            removed += 1;
            bytes += row.get::<i64>(0)?;
        }
    }
    storage::add(tx, access.repo_id(), -bytes).await?;
    Ok(removed == names.len())
}

/// Every blob that some repository's packs are in: what collection must keep.
pub async fn all_pack_keys(read: &mut Reader) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT pack_key FROM git_pack UNION ALL SELECT index_key FROM git_pack";
    read.scan(sql, &[]).await?.iter().map(|row| row.get(0)).collect()
}

#[derive(Debug, Clone)]
pub struct CommitRow<'a> {
    pub id: Oid,
    pub tree: Oid,
    pub parents: &'a [Oid],
    pub time: Timestamp,
    pub author: &'a str,
    /// The user of this hub who has proved to be the author.
    pub author_id: Option<NamespaceId>,
    /// Who pushed it. None for what this hub has written itself.
    pub pusher_id: Option<NamespaceId>,
    pub title: &'a str,
    pub message: &'a str,
}

/// A path that a commit changed, and what stands there afterwards.
#[derive(Debug, Clone)]
pub struct ChangeRow<'a> {
    pub path: &'a str,
    pub object: Option<Oid>,
}

/// Adds a commit with its changed paths. Its parents are here already. It is part of no branch by that.
pub async fn add_commit<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    commit: &CommitRow<'_>,
    changes: &[ChangeRow<'_>],
) -> Result<(), StoreError> {
    let repo = access.repo_id();
    let generation = next_generation(tx, repo, commit.parents).await?;
    let parents: Vec<u8> = commit.parents.iter().flat_map(|parent| *parent.as_bytes()).collect();
    let sql = "INSERT INTO git_commit (repo_id, commit_id, tree, parents, generation, time, author, author_id, title, \
        message, pusher_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (repo_id, commit_id) DO NOTHING";
    let params = values![
        repo,
        commit.id,
        commit.tree,
        parents,
        generation,
        commit.time,
        commit.author,
        commit.author_id,
        commit.title,
        commit.message,
        commit.pusher_id
    ];
    tx.execute(sql, params).await?;
    for change in changes {
        let sql = "INSERT INTO git_change (repo_id, path, generation, commit_id, object_id) \
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (repo_id, path, generation, commit_id) DO NOTHING";
        tx.execute(sql, values![repo, change.path, generation, commit.id, change.object]).await?;
    }
    Ok(())
}

/// Adds a commit that stands in the place of another: the same but for its tree, its parents, and what
/// it changed.
pub async fn renew_commit<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (old, new): (Oid, Oid),
    (tree, parents): (Oid, &[Oid]),
    changes: &[ChangeRow<'_>],
) -> Result<(), StoreError> {
    let repo = access.repo_id();
    let parents: Vec<u8> = parents.iter().flat_map(|parent| *parent.as_bytes()).collect();
    let sql = "INSERT INTO git_commit (repo_id, commit_id, tree, parents, generation, time, author, author_id, title, \
        message, pusher_id) SELECT repo_id, $3, $4, $5, generation, time, author, author_id, title, message, pusher_id \
        FROM git_commit \
        WHERE repo_id = $1 AND commit_id = $2 \
        ON CONFLICT (repo_id, commit_id) DO UPDATE SET unused_since = NULL";
    tx.execute(sql, values![repo, old, new, tree, parents]).await?;
    let sql = "SELECT generation FROM git_commit WHERE repo_id = $1 AND commit_id = $2";
    let row = tx.one(sql, values![repo, new]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt(format!("the commit {old} has no row")))?;
    let generation: i64 = row.get(0)?;
    for change in changes {
        let sql = "INSERT INTO git_change (repo_id, path, generation, commit_id, object_id) \
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (repo_id, path, generation, commit_id) DO NOTHING";
        tx.execute(sql, values![repo, change.path, generation, new, change.object]).await?;
    }
    Ok(())
}

/// A commit of many, with its place in history.
#[derive(Debug, Clone)]
pub struct NewCommit<'a> {
    pub row: CommitRow<'a>,
    pub generation: i64,
    pub changes: Vec<ChangeRow<'a>>,
    /// Those of its objects that are pointers.
    pub pointers: &'a HashSet<Oid>,
}

/// Changed paths that are given to the database at once.
const CHANGES_AT_ONCE: usize = 8192;

/// Adds many commits with their changed paths. One that is here already stays as it is.
pub async fn add_commits<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    commits: &[NewCommit<'_>],
) -> Result<(), StoreError> {
    let repo = access.repo_id();
    let row = |commit: &NewCommit<'_>| {
        let CommitRow { id, tree, parents, time, author, author_id, pusher_id, title, message } = &commit.row;
        let parents: Vec<u8> = parents.iter().flat_map(|parent| *parent.as_bytes()).collect();
        let generation = commit.generation;
        values![
            repo, *id, *tree, parents, generation, *time, *author, *author_id, *title, *message, *pusher_id
        ]
        .to_vec()
    };
    let head = "INSERT INTO git_commit (repo_id, commit_id, tree, parents, generation, time, author, author_id, title, \
        message, pusher_id)";
    let tail = "ON CONFLICT (repo_id, commit_id) DO NOTHING";
    tx.insert_rows((head, tail), commits.iter().map(row).collect()).await?;
    let row = |(change, commit): &(&ChangeRow<'_>, &NewCommit<'_>)| {
        let may_point = change.object.is_some_and(|object| commit.pointers.contains(&object));
        values![repo, change.path, commit.generation, commit.row.id, change.object, i64::from(may_point)]
            .to_vec()
    };
    let head = "INSERT INTO git_change (repo_id, path, generation, commit_id, object_id, may_point)";
    let tail = "ON CONFLICT (repo_id, path, generation, commit_id) DO NOTHING";
    // In the order of the key, and so many at a time that they are not all in memory twice.
    let of = |commit| move |change| (change, commit);
    let mut changes: Vec<(&ChangeRow<'_>, &NewCommit<'_>)> =
        commits.iter().flat_map(|commit| commit.changes.iter().map(of(commit))).collect();
    changes.sort_unstable_by_key(|(change, commit)| (change.path, commit.generation));
    for part in changes.chunks(CHANGES_AT_ONCE) {
        tx.insert_rows((head, tail), part.iter().map(row).collect()).await?;
    }
    Ok(())
}

/// Those of some commits that are the repository's own, and their place in history.
pub async fn generations<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commits: &[Oid],
) -> Result<HashMap<Oid, i64>, StoreError> {
    const BATCH: usize = 200;
    let mut found = HashMap::new();
    for part in commits.chunks(BATCH) {
        // The last one again and again: one text for every number of ids.
        let ids = part.iter().copied().chain(part.last().copied().into_iter().cycle()).take(BATCH);
        let places: Vec<String> = (2..BATCH + 2).map(|place| format!("${place}")).collect();
        let places = places.join(", ");
        let sql = format!(
            "SELECT commit_id, generation FROM git_commit WHERE repo_id = $1 AND commit_id IN ({places})"
        );
        let params: Vec<Value> =
            std::iter::once(access.repo_id().into()).chain(ids.map(Value::from)).collect();
        for row in read.all(&sql, &params).await? {
            found.insert(row.get(0)?, row.get(1)?);
        }
    }
    Ok(found)
}

/// How many commits lead to this one, itself among them, where none of them is a merge.
pub async fn chain_length<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commit: Oid,
) -> Result<Option<u64>, StoreError> {
    // One parent's id has 20 bytes. A merge beside the chain makes it uncertain, which does no harm.
    let sql = "SELECT c.generation + 1 FROM git_commit c WHERE c.repo_id = $1 AND c.commit_id = $2 \
        AND NOT EXISTS (SELECT 1 FROM git_commit m WHERE m.repo_id = $1 AND m.generation <= c.generation \
        AND length(m.parents) > 20)";
    read.one(sql, values![access.repo_id(), commit]).await?.map(|row| row.get(0)).transpose()
}

async fn next_generation(tx: &mut WriteTx, repo: RepoId, parents: &[Oid]) -> Result<i64, StoreError> {
    let mut generation = 0;
    for parent in parents {
        let sql = "SELECT generation + 1 FROM git_commit WHERE repo_id = $1 AND commit_id = $2";
        let row = tx.one(sql, values![repo, *parent]).await?;
        generation = generation.max(row.map_or(Ok(1), |row| row.get(0))?);
    }
    Ok(generation)
}

/// The paths that a commit has changed and what it has put there, without what it has removed.
pub async fn changes_of<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commit: Oid,
    limit: u64,
) -> Result<Vec<(String, Oid)>, StoreError> {
    let sql = "SELECT c.path, c.object_id FROM git_commit k JOIN git_change c ON c.repo_id = k.repo_id \
        AND c.generation = k.generation AND c.commit_id = k.commit_id \
        WHERE k.repo_id = $1 AND k.commit_id = $2 AND c.object_id IS NOT NULL LIMIT $3";
    let rows = read.scan(sql, values![access.repo_id(), commit, limit]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Those of some pointers that a commit has put somewhere which is none of `besides`. Looks at all that the
/// repository's commits have changed.
pub async fn objects_elsewhere<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    objects: &[Oid],
    besides: &[Oid],
) -> Result<Vec<Oid>, StoreError> {
    let places = |from: usize, count: usize| -> String {
        (from..from + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
    };
    let sql = format!(
        "SELECT DISTINCT object_id FROM git_change WHERE repo_id = $1 AND object_id IN ({}) AND may_point = 1 \
        AND commit_id NOT IN ({})",
        places(2, objects.len()),
        places(2 + objects.len(), besides.len())
    );
    let ids = objects.iter().chain(besides).map(|oid| Value::from(*oid));
    let params: Vec<Value> = std::iter::once(Value::from(access.repo_id())).chain(ids).collect();
    read.scan(&sql, &params).await?.iter().map(|row| row.get(0)).collect()
}

/// Ids that one statement asks for.
const BATCH: usize = 200;

/// A user of this hub, by the name of today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: NamespaceId,
    pub name: String,
}

/// Whom this hub knows of those who made a commit.
#[derive(Debug, Clone, Default)]
pub struct Makers {
    /// Who has proved to be its author.
    pub author: Option<User>,
    pub pusher: Option<User>,
}

/// The hub's users among the makers of commits.
pub async fn makers<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commits: &[Oid],
) -> Result<HashMap<Oid, Makers>, StoreError> {
    let user = |row: &Row, at: usize| -> Result<Option<User>, StoreError> {
        let (id, name): (Option<NamespaceId>, Option<String>) = (row.get(at)?, row.get(at + 1)?);
        Ok(id.zip(name).map(|(id, name)| User { id, name }))
    };
    let mut found = HashMap::new();
    for batch in commits.chunks(BATCH) {
        let sql = format!(
            "SELECT m.commit_id, n.id, n.name, p.id, p.name FROM git_commit m \
             LEFT JOIN namespace n ON n.id = m.author_id LEFT JOIN namespace p ON p.id = m.pusher_id \
             WHERE m.repo_id = $1 AND m.commit_id IN ({})",
            places(2, batch.len())
        );
        let params: Vec<Value> =
            std::iter::once(access.repo_id().into()).chain(batch.iter().map(|id| (*id).into())).collect();
        for row in read.all(&sql, &params).await? {
            found.insert(row.get(0)?, Makers { author: user(&row, 1)?, pusher: user(&row, 3)? });
        }
    }
    Ok(found)
}

/// `count` parameters from `first` on.
fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|place| format!("${place}")).collect();
    places.join(", ")
}

/// Is this commit one of the repository's own? Objects of a pack alone are not.
pub async fn has_commit<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    commit: Oid,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM git_commit WHERE repo_id = $1 AND commit_id = $2";
    Ok(read.one(sql, values![access.repo_id(), commit]).await?.is_some())
}

/// Commits whose id starts with these bytes (`from` up to `to`): at most two, enough to see that
/// a short id is not unique.
pub async fn commits_between<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    from: Oid,
    to: Oid,
) -> Result<Vec<Oid>, StoreError> {
    let sql =
        "SELECT commit_id FROM git_commit WHERE repo_id = $1 AND commit_id >= $2 AND commit_id <= $3 LIMIT 2";
    let rows = read.all(sql, values![access.repo_id(), from, to]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Copies the commits and changes of one repository to another that begins with them.
pub async fn copy_history<L: Includes<See>>(
    tx: &mut WriteTx,
    from: &Access<L>,
    to: &Access<Write>,
) -> Result<(), StoreError> {
    for (table, columns) in [
        (
            "git_commit",
            "commit_id, tree, parents, generation, time, author, author_id, title, message, pusher_id",
        ),
        ("git_change", "path, generation, commit_id, object_id, may_point"),
        ("git_pack", "name, pack_key, index_key, objects, bytes, created_at"),
        ("git_ref", "name, target, commit_id, updated_at"),
    ] {
        let heads = if table == "git_ref" {
            " AND (name LIKE 'refs/heads/%' OR name LIKE 'refs/tags/%')"
        } else {
            ""
        };
        let sql = format!(
            "INSERT INTO {table} (repo_id, {columns}) SELECT $1, {columns} FROM {table} WHERE repo_id = $2{heads}"
        );
        tx.execute(&sql, values![to.repo_id(), from.repo_id()]).await?;
    }
    crate::prune::copy_loss(tx, from.repo_id(), to.repo_id()).await?;
    let sql = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM git_pack WHERE repo_id = $1";
    let bytes = tx.one(sql, values![to.repo_id()]).await?.map_or(Ok(0), |row| row.get(0))?;
    storage::add(tx, to.repo_id(), bytes).await
}
