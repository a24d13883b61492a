//! What the rows of discussions say twice, for checking: numbers that are kept, and refs of pull requests.

use std::collections::HashMap;

use super::{Summary, summary};
use crate::db::Reader;
use crate::permit::{Access, Includes, Read};
use crate::{StoreError, values};

/// Where what a repository says of its discussions is not what they are.
pub async fn faults<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<String>, StoreError> {
    let mut faults = count_faults(read, access).await?;
    faults.extend(row_faults(read, access).await?);
    faults.extend(ref_faults(read, access).await?);
    faults.extend(charge_faults(read, access).await?);
    Ok(faults)
}

/// What is counted for the commits of a pull request ends with it: nobody could take it back any more.
async fn charge_faults<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT p.number FROM proposal_commit p WHERE p.repo_id = $1 AND NOT EXISTS \
        (SELECT 1 FROM discussion d WHERE d.repo_id = p.repo_id AND d.num = p.number AND d.is_pull_request = 1) \
        ORDER BY p.number";
    let rows = read.scan(sql, values![access.repo_id()]).await?;
    let fault = |num: i64| format!("commits are counted for pull request {num}, which is not there");
    rows.iter().map(|row| row.get(0).map(fault)).collect()
}

async fn count_faults<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT COALESCE(MAX(num), 0), COUNT(CASE WHEN is_pull_request = 0 AND is_open = 1 THEN 1 END), \
        COUNT(CASE WHEN is_pull_request = 0 AND is_open = 0 THEN 1 END), \
        COUNT(CASE WHEN is_pull_request = 1 AND is_open = 1 THEN 1 END), \
        COUNT(CASE WHEN is_pull_request = 1 AND is_open = 0 THEN 1 END) FROM discussion WHERE repo_id = $1";
    let Some(row) = read.scan(sql, values![access.repo_id()]).await?.into_iter().next() else {
        return Ok(Vec::new());
    };
    let said = summary(read, access).await?;
    let found = Summary {
        disabled: said.disabled,
        last_num: said.last_num.max(row.get(0)?),
        open_discussions: row.get(1)?,
        closed_discussions: row.get(2)?,
        open_pulls: row.get(3)?,
        closed_pulls: row.get(4)?,
    };
    let same = said == found;
    Ok(if same {
        Vec::new()
    } else {
        vec![format!("it counts its discussions as {said:?}, they are {found:?}")]
    })
}

async fn row_faults<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT d.num FROM discussion d WHERE d.repo_id = $1 AND ( \
        d.is_open <> CASE WHEN d.status IN ('draft', 'open') THEN 1 ELSE 0 END \
        OR d.events <> (SELECT COALESCE(MAX(e.place), 0) FROM discussion_event e WHERE e.discussion_id = d.id) \
        OR d.comments <> (SELECT COUNT(*) FROM discussion_event e \
            WHERE e.discussion_id = d.id AND e.kind = 'comment' AND e.hidden_at IS NULL) \
        OR EXISTS (SELECT 1 FROM discussion_event e WHERE e.discussion_id = d.id \
            AND e.versions <> (SELECT COUNT(*) FROM comment_version v WHERE v.event_id = e.id))) ORDER BY d.num";
    let rows = read.scan(sql, values![access.repo_id()]).await?;
    let fault = |num: i64| format!("discussion {num} does not say what its events are");
    rows.iter().map(|row| row.get(0).map(fault)).collect()
}

/// A pull request that is open has its ref; a ref of a pull request has one.
async fn ref_faults<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT num, is_open FROM discussion WHERE repo_id = $1 AND is_pull_request = 1";
    let mut pulls: HashMap<String, bool> = HashMap::new();
    for row in read.scan(sql, values![access.repo_id()]).await? {
        pulls.insert(format!("refs/pr/{}", row.get::<i64>(0)?), row.get(1)?);
    }
    let sql = "SELECT name FROM git_ref WHERE repo_id = $1 AND name LIKE 'refs/pr/%'";
    let mut faults = Vec::new();
    for row in read.scan(sql, values![access.repo_id()]).await? {
        let name: String = row.get(0)?;
        if pulls.remove(&name).is_none() {
            faults.push(format!("{name} belongs to no pull request"));
        }
    }
    let lost = pulls.into_iter().filter(|(_, open)| *open).map(|(name, _)| format!("{name} is not there"));
    faults.extend(lost);
    faults.sort_unstable();
    Ok(faults)
}
