//! A history that was written anew: what pull requests say of its commits follows, in the same transaction.

use std::collections::HashMap;

use bastide_core::Oid;
use bastide_store::WriteTx;
use bastide_store::discussions::{self, CommitEvent, PullCommits};
use serde_json::Value;

use crate::Problem;
use crate::access::{Access, Write};

/// Rows that one statement reads.
const PAGE: u32 = 500;

/// Gives pull requests and their events the new ids of commits. What names none of them stays.
pub(crate) async fn rename_commits(
    tx: &mut WriteTx,
    access: &Access<Write>,
    renamed: &HashMap<Oid, Oid>,
) -> Result<(), Problem> {
    let mut after = 0;
    loop {
        let page = discussions::pull_commits(tx, access, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.num;
        for pull in page {
            let new = rename_pull(&pull, renamed);
            if new != pull {
                discussions::set_pull_commits(tx, access, &new).await?;
            }
        }
    }
    let mut after = (0, 0);
    loop {
        let page = discussions::commit_events(tx, access, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = (last.num, last.place);
        for event in page {
            if let Some(data) = rename_event(&event.data, renamed)? {
                discussions::set_commit_event(tx, access, &CommitEvent { data, ..event }).await?;
            }
        }
    }
}

fn rename_pull(pull: &PullCommits, renamed: &HashMap<Oid, Oid>) -> PullCommits {
    let new = |id: Option<Oid>| id.map(|id| renamed.get(&id).copied().unwrap_or(id));
    PullCommits {
        num: pull.num,
        base_commit: new(pull.base_commit),
        merge_commit: new(pull.merge_commit),
        base_seen: new(pull.base_seen),
    }
}

/// The data of an event with the new id, if it names a commit that has one.
fn rename_event(data: &str, renamed: &HashMap<Oid, Oid>) -> Result<Option<String>, Problem> {
    let mut data: Value = serde_json::from_str(data).map_err(Problem::internal)?;
    let Some(oid) = data.get_mut("oid") else { return Ok(None) };
    let old: Option<Oid> = oid.as_str().and_then(|text| text.parse().ok());
    let Some(new) = old.and_then(|old| renamed.get(&old)) else { return Ok(None) };
    *oid = Value::from(new.to_string());
    Ok(Some(data.to_string()))
}
