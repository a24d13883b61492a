//! What a branch has got, and by which commits of its own line: told from the histories alone, as stock git walks
//! them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{Read, Seek};
use std::time::Duration;

use bastide_core::Oid;

use crate::process::git;
use crate::three_way::{failed, run};
use crate::{GitError, Repo};

/// What git may say: a commit may name many parents.
const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

/// Commits by their parents.
type Parents = HashMap<Oid, Vec<Oid>>;

/// The commits that `after` has and `before` has not, and for each of them the commit that brought it: the first on
/// the line of first parents that leads to `after` from which it can be reached. Up to `most` of them, the newest
/// first; it ends after `limit`.
pub fn brought(
    repo: &Repo,
    (before, after): (Option<Oid>, Oid),
    most: usize,
    limit: Duration,
) -> Result<HashMap<Oid, Oid>, GitError> {
    let parents = ahead(repo, (before, after), most, limit)?;
    let mut line = Vec::new();
    let mut at = Some(after);
    while let Some((commit, above)) = at.and_then(|at| parents.get_key_value(&at)) {
        line.push(*commit);
        at = above.first().copied();
    }
    let mut brought = HashMap::with_capacity(parents.len());
    for commit in line.into_iter().rev() {
        let mut open = vec![commit];
        while let Some(at) = open.pop() {
            let (Some(above), Entry::Vacant(place)) = (parents.get(&at), brought.entry(at)) else { continue };
            place.insert(commit);
            open.extend(above);
        }
    }
    Ok(brought)
}

fn ahead(
    repo: &Repo,
    (before, after): (Option<Oid>, Oid),
    most: usize,
    limit: Duration,
) -> Result<Parents, GitError> {
    let mut answer = tempfile::tempfile()?;
    let mut command = git(repo.folder());
    command
        .args(["rev-list", "--parents", &format!("--max-count={most}"), &after.to_string()])
        .args(before.map(|before| format!("^{before}")))
        .stdout(answer.try_clone()?);
    let (code, errors) = run(command, limit)?;
    if code != Some(0) {
        return Err(failed(&errors));
    }
    let mut text = String::new();
    answer.rewind()?;
    answer.take(MAX_OUTPUT).read_to_string(&mut text)?;
    let ids = |line: &str| line.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<Oid>>();
    let commits =
        text.lines().map(ids).filter_map(|ids| ids.split_first().map(|(id, rest)| (*id, rest.to_vec())));
    Ok(commits.collect())
}
