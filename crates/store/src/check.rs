//! What checking asks: the rows that say one thing twice, so that the two can be compared.

use bastide_core::{Oid, Sha256, Timestamp, XetHash};

use crate::db::{Reader, Row};
use crate::permit::{Access, Includes, Read};
use crate::{StoreError, values};

/// What the engine itself finds wrong with the database. PostgreSQL keeps foreign keys by itself and
/// has tools of its own for the rest.
pub async fn integrity(read: &mut Reader) -> Result<Vec<String>, StoreError> {
    if !read.is_sqlite() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for row in read.scan("PRAGMA integrity_check", &[]).await? {
        let text: String = row.get(0)?;
        if text != "ok" {
            found.push(text);
        }
    }
    for row in read.scan("PRAGMA foreign_key_check", &[]).await? {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        found.push(format!("a row of {table} names a row of {parent} that is not there"));
    }
    Ok(found)
}

/// Where the row of a repository contradicts itself or its owner's.
pub async fn repo_faults<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT r.path_key, r.namespace, n.name, r.likes, \
        (SELECT COUNT(*) FROM repo_like l WHERE l.repo_id = r.id) FROM repo r \
        LEFT JOIN namespace n ON n.id = r.namespace_id WHERE r.id = $1";
    let Some(row) = read.one(sql, values![access.repo_id()]).await? else { return Ok(Vec::new()) };
    let (key, namespace, owner): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let mut faults = Vec::new();
    if key != access.repo().path.key() {
        faults.push(format!("it is looked up as {key}"));
    }
    if owner.as_ref() != Some(&namespace) {
        faults.push(format!("its owner is called {}", owner.unwrap_or_default()));
    }
    let (said, counted): (i64, i64) = (row.get(3)?, row.get(4)?);
    if said != counted {
        faults.push(format!("it says that {said} like it: {counted} do"));
    }
    let (noted, used) = crate::storage::recount(read, access).await?;
    for (what, noted, used) in [
        ("it uses", noted.all, used.all),
        ("proposals use", noted.proposed, used.proposed),
        ("proposers are charged", noted.price, used.price),
    ] {
        if noted != used {
            faults.push(format!("{what} {used} bytes, its row says {noted}"));
        }
    }
    Ok(faults)
}

/// Where the numbers of repositories contradict the repositories.
pub async fn count_faults(read: &mut Reader) -> Result<Vec<String>, StoreError> {
    const COUNTED: &str = "SELECT namespace_id, kind, visibility, COUNT(*) AS repos FROM repo \
        GROUP BY namespace_id, kind, visibility";
    const SAID: &str = "SELECT namespace_id, kind, visibility, repos FROM repo_count WHERE repos <> 0";
    let mut faults = Vec::new();
    for (one, other) in [(COUNTED, SAID), (SAID, COUNTED)] {
        let sql = format!(
            "SELECT n.name, x.kind, x.visibility FROM (SELECT * FROM ({one}) a EXCEPT SELECT * FROM ({other}) b) x \
             JOIN namespace n ON n.id = x.namespace_id"
        );
        for row in read.scan(&sql, &[]).await? {
            let (name, kind, visibility): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            faults
                .push(format!("{name} has another number of {visibility} {kind} repositories than it says"));
        }
    }
    faults.sort_unstable();
    faults.dedup();
    Ok(faults)
}

/// A file as its row has it.
#[derive(Debug, Clone)]
pub struct FileFacts {
    pub hash: XetHash,
    pub sha256: Option<Sha256>,
    pub size: u64,
}

pub async fn files<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<FileFacts>, StoreError> {
    let sql = "SELECT hash, sha256, size FROM xet_file WHERE repo_id = $1 ORDER BY id";
    let facts = |row: &Row| Ok(FileFacts { hash: row.get(0)?, sha256: row.get(1)?, size: row.get(2)? });
    read.scan(sql, values![access.repo_id()]).await?.iter().map(facts).collect()
}

/// The xorbs that a file keeps alive and that its repository may use, in order.
pub async fn xorbs_of_file<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    file: XetHash,
) -> Result<Vec<XetHash>, StoreError> {
    let sql = "SELECT r.hash FROM xet_file t JOIN file_xorb f ON f.file_id = t.id \
        JOIN repo_xorb r ON r.repo_id = t.repo_id AND r.xorb_id = f.xorb_id \
        WHERE t.repo_id = $1 AND t.hash = $2 ORDER BY r.hash";
    let rows = read.all(sql, values![access.repo_id(), file]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Rights of a repository that contradict the xorbs that they are for.
pub async fn bad_rights<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<XetHash>, StoreError> {
    let sql = "SELECT r.hash FROM repo_xorb r LEFT JOIN xorb x ON x.id = r.xorb_id \
        WHERE r.repo_id = $1 AND (x.id IS NULL OR x.hash <> r.hash OR x.state <> 'live')";
    let rows = read.scan(sql, values![access.repo_id()]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// The chunks that a repository is offered, and the index of the xorb that each should be in.
pub async fn offered_chunks<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<(XetHash, String)>, StoreError> {
    let sql = "SELECT d.chunk, x.index_key FROM dedup_chunk d JOIN xorb x ON x.id = d.xorb_id \
        WHERE d.repo_id = $1 ORDER BY d.xorb_id";
    let rows = read.scan(sql, values![access.repo_id()]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// A commit as its row has it.
#[derive(Debug, Clone)]
pub struct CommitFacts {
    pub id: Oid,
    pub tree: Oid,
    pub parents: Vec<Oid>,
    pub generation: i64,
    pub time: Timestamp,
    pub author: String,
    pub title: String,
    pub message: String,
}

/// All commits of a repository, parents before children.
pub async fn commits<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<CommitFacts>, StoreError> {
    let sql = "SELECT commit_id, tree, parents, generation, time, author, title, message \
        FROM git_commit WHERE repo_id = $1 ORDER BY generation, commit_id";
    read.scan(sql, values![access.repo_id()]).await?.iter().map(commit).collect()
}

fn commit(row: &Row) -> Result<CommitFacts, StoreError> {
    let parents: Vec<u8> = row.get(2)?;
    let corrupt = |_| StoreError::Corrupt("the parents of a commit".into());
    Ok(CommitFacts {
        id: row.get(0)?,
        tree: row.get(1)?,
        parents: parents.chunks(20).map(Oid::from_slice).collect::<Result<_, _>>().map_err(corrupt)?,
        generation: row.get(3)?,
        time: row.get(4)?,
        author: row.get(5)?,
        title: row.get(6)?,
        message: row.get(7)?,
    })
}

/// A path that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeFacts {
    pub commit: Oid,
    pub generation: i64,
    pub path: String,
    pub object: Option<Oid>,
}

/// All changed paths of a repository, by commit.
pub async fn changes<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<ChangeFacts>, StoreError> {
    let sql = "SELECT commit_id, generation, path, object_id FROM git_change WHERE repo_id = $1";
    let change = |row: &Row| {
        Ok(ChangeFacts {
            commit: row.get(0)?,
            generation: row.get(1)?,
            path: row.get(2)?,
            object: row.get(3)?,
        })
    };
    read.scan(sql, values![access.repo_id()]).await?.iter().map(change).collect()
}
