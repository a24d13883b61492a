//! Taking a commit back: a new commit that puts its first parent's files in place of its own, where
//! they still stand. It is made and judged as any other commit.

use std::collections::BTreeMap;

use bastide_core::limits::{MAX_COMMIT_BYTES, MAX_COMMIT_OPERATIONS, MAX_REGULAR_FILE_BYTES};
use bastide_core::{EntryPath, Oid, RefName};
use bastide_git::{FileSide, GitError, Mode, Repo};
use bastide_ledger::Context;
use bastide_store::{prune, refs};

use crate::access::{Access, Includes, See, Write};
use crate::commits::{CommitBuilder, CommitHeader, Committed, Operation};
use crate::uploads::Uploader;
use crate::{Hub, Problem};

/// Paths that a refusal names.
const NAMED: usize = 5;

/// What is to be taken back, and what the new commit says.
#[derive(Debug, Clone)]
pub struct RevertRequest {
    pub commit: Oid,
    pub branch: RefName,
    pub title: Option<String>,
    pub message: Option<String>,
}

/// What takes a commit back.
#[derive(Debug)]
enum Undo {
    /// What is to stand at each path; nothing, where it is to go.
    Steps(Vec<(String, Option<FileSide>)>),
    Conflicts(Vec<String>),
    /// The branch does not come from the commit.
    Elsewhere,
    TooMany,
}

impl Hub {
    /// Takes a commit of a branch back by a commit on that branch.
    pub async fn revert(
        &self,
        context: &Context,
        access: &Access<Write>,
        request: &RevertRequest,
    ) -> Result<Committed, Problem> {
        let mut builder = self.begin_commit()?;
        let header = self.undo(access, request, &mut builder).await?;
        self.commit(context, access, &request.branch, &header, builder).await
    }

    /// The same as a pull request to that branch; answers the commit and the number.
    pub async fn propose_revert(
        &self,
        context: &Context,
        by: &Uploader,
        request: &RevertRequest,
    ) -> Result<(Oid, u64), Problem> {
        let mut builder = self.begin_commit_by(context, by).await?;
        let header = self.undo(&by.reader(), request, &mut builder).await?;
        let opened = self.open_pull(context, by, request.branch.short(), &header, builder).await?;
        Ok((opened.commit, opened.number))
    }

    /// Fills a commit with what takes another one back.
    async fn undo<L: Includes<See>>(
        &self,
        access: &Access<L>,
        request: &RevertRequest,
        builder: &mut CommitBuilder,
    ) -> Result<CommitHeader, Problem> {
        let (commit, branch) = (request.commit, &request.branch);
        let mut read = self.db.read().await?;
        builder.builds_upon(prune::prunings(&mut read, access).await?);
        let head = refs::get(&mut read, access, branch).await?;
        drop(read);
        let head = head.ok_or_else(|| Problem::RevisionNotFound(branch.short().to_owned()))?.commit;
        let steps = match self.objects_blocking(access, move |repo| undo(repo, head, commit)).await? {
            Undo::Steps(steps) => steps,
            Undo::Conflicts(paths) => return Err(conflict(branch, paths)),
            Undo::Elsewhere => {
                return Err(Problem::Unprocessable(format!(
                    "{} has no commit {commit}: there is nothing to take back",
                    branch.short()
                )));
            }
            Undo::TooMany => {
                return Err(Problem::Unprocessable(format!(
                    "the commit has changed more than {MAX_COMMIT_OPERATIONS} files: take it back with git"
                )));
            }
        };
        if steps.is_empty() {
            let message = format!("nothing of the commit is left in {}", branch.short());
            return Err(Problem::Conflict { message, paths: Vec::new() });
        }
        self.fill(access, steps, builder).await?;
        self.revert_header(access, request, head).await
    }

    /// Contents go through the same door as those of any commit.
    async fn fill<L: Includes<See>>(
        &self,
        access: &Access<L>,
        steps: Vec<(String, Option<FileSide>)>,
        builder: &mut CommitBuilder,
    ) -> Result<(), Problem> {
        let mut left = MAX_COMMIT_BYTES;
        for (path, old) in steps {
            let path: EntryPath = path.parse()?;
            match old {
                None => builder.add(Operation::Delete { path }).await?,
                Some(old) if old.mode == Mode::File => {
                    let content =
                        self.objects(access, move |repo| repo.blob(old.oid, MAX_REGULAR_FILE_BYTES));
                    let content = content.await?;
                    let less = left.checked_sub(content.len() as u64);
                    left = less.ok_or_else(|| {
                        Problem::Unprocessable(format!(
                            "what the commit has changed is more than {MAX_COMMIT_BYTES} bytes: take it back with git"
                        ))
                    })?;
                    builder.add(Operation::Put { path, content }).await?;
                }
                Some(old) => builder.restore(path, old.oid, old.mode)?,
            }
        }
        Ok(())
    }

    async fn revert_header<L: Includes<See>>(
        &self,
        access: &Access<L>,
        request: &RevertRequest,
        head: Oid,
    ) -> Result<CommitHeader, Problem> {
        let reverted = self.read_commit(access, request.commit).await?;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let title = given(&request.title).unwrap_or_else(|| {
            let title: String = reverted.title().chars().filter(|c| !c.is_control()).take(200).collect();
            format!("Revert \"{title}\"")
        });
        let says = format!("This reverts commit {}.", request.commit);
        let description =
            given(&request.message).map_or_else(|| says.clone(), |text| format!("{text}\n\n{says}"));
        // What was looked at is this head: a branch that has moved on is looked at anew.
        Ok(CommitHeader { title, description, parent: Some(head.to_string()) })
    }
}

fn conflict(branch: &RefName, paths: Vec<String>) -> Problem {
    let mut named = paths.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        named.push_str(&format!(" and {} more", paths.len() - NAMED));
    }
    let message = format!("{} has changed since, in {named}: take the commit back with git", branch.short());
    Problem::Conflict { message, paths }
}

/// Compares, path by path, what the commit did with what stands there now.
fn undo(repo: &Repo, head: Oid, commit: Oid) -> Result<Undo, GitError> {
    if !repo.is_ancestor(commit, head)? {
        return Ok(Undo::Elsewhere);
    }
    let reverted = repo.commit(commit)?;
    let parent = reverted.parents.first().map(|parent| repo.commit(*parent)).transpose()?;
    let old = parent.map(|parent| parent.tree);
    let changed = bastide_git::changed_paths(repo, old, Some(reverted.tree), MAX_COMMIT_OPERATIONS)?;
    if !changed.complete || changed.files.len() > MAX_COMMIT_OPERATIONS {
        return Ok(Undo::TooMany);
    }
    let mut paths: BTreeMap<String, (Option<FileSide>, Option<FileSide>)> = BTreeMap::new();
    for file in changed.files {
        let sides = paths.entry(file.path().to_owned()).or_default();
        sides.0 = file.old.or_else(|| sides.0.take());
        sides.1 = file.new.or_else(|| sides.1.take());
    }
    let tree = repo.commit(head)?.tree;
    let (mut steps, mut conflicts) = (Vec::new(), Vec::new());
    for (path, (old, new)) in paths {
        let now = match path.parse::<EntryPath>() {
            Ok(parsed) => repo.find(tree, &parsed)?.map(|entry| (entry.oid, entry.mode)),
            Err(_) => None,
        };
        let is = |side: &Option<FileSide>| side.as_ref().map(|side| (side.oid, side.mode)) == now;
        if is(&new) {
            steps.push((path, old));
        } else if !is(&old) {
            conflicts.push(path);
        }
    }
    // Removals first: they make room.
    steps.sort_by_key(|(_, old)| old.is_some());
    Ok(if conflicts.is_empty() { Undo::Steps(steps) } else { Undo::Conflicts(conflicts) })
}
