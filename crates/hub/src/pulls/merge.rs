//! Merging a pull request: what git makes of both sides is judged like any other commit, and becomes one in a
//! pack of ours; then, in one transaction, the branch moves and the pull request is merged.

use std::collections::HashMap;
use std::time::Duration;

use bastide_core::{DiscussionEventKind, DiscussionStatus, EntryPath, Oid, RefName, Sha256};
use bastide_git::{
    Edit, Edited, GitError, Merge, NewCommit, NewPack, Op, PackWriter, Person, Repo, commits_ahead,
    edit_tree, merge_commits,
};
use bastide_ledger::{Action, Context, NewEvent};
use bastide_store::discussions::{self, Discussion, Merged};
use bastide_store::git::{self, ChangeRow, CommitRow, Makers, Pack};
use bastide_store::refs::{self, Target};
use bastide_store::{Reader, proposals, prune, repos, xet};
use bytes::Bytes;
use serde_json::json;

use super::pull_of;
use crate::access::{Access, Propose, Write};
use crate::authors::{author, co_author};
use crate::discussions::{add_event, comment_text, discussion_event};
use crate::jobs::merged_pulls;
use crate::metadata::Metadata;
use crate::repos::repo_event;
use crate::rules;
use crate::uploads::take_over;
use crate::{Hub, Problem};

/// How long git may take to merge.
const LIMIT: Duration = Duration::from_secs(20);
/// Commits that the message of a merge names.
const NAMED_COMMITS: usize = 100;
/// Longest card that is read.
const MAX_CARD_BYTES: u64 = bastide_core::limits::MAX_REGULAR_FILE_BYTES;

/// How a pull request is to be merged.
#[derive(Debug, Clone, Default)]
pub struct MergeRequest {
    pub comment: Option<String>,
    /// One commit with all changes, in place of a merge of two histories.
    pub squash: bool,
}

/// A pull request that was merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergedPull {
    pub commit: Oid,
}

/// Both sides, as they are when merging begins.
struct Sides {
    pull: Discussion,
    base: RefName,
    ours: Oid,
    theirs: Oid,
}

/// A merge in a pack that is stored.
struct Ready {
    sides: Sides,
    /// The paths that it changes, where others may have locked them.
    touched: Vec<EntryPath>,
    written: Written,
    pack: Pack,
    large: Vec<Sha256>,
    /// Large files in the history that it brings, also those that later commits took away again.
    behind: Vec<Sha256>,
    metadata: Option<Metadata>,
}

/// What a merge consists of, before it is stored.
struct Written {
    commit: Oid,
    tree: Oid,
    parents: Vec<Oid>,
    author: Person,
    message: String,
    changes: Vec<(String, Option<Oid>)>,
}

impl Hub {
    /// Merges an open pull request into its branch.
    pub async fn merge_pull(
        &self,
        context: &Context,
        access: &Access<Write>,
        number: u64,
        request: MergeRequest,
    ) -> Result<MergedPull, Problem> {
        let comment = request.comment.as_deref().filter(|comment| !comment.trim().is_empty());
        let comment = comment.map(comment_text).transpose()?;
        let _turn = self.locks.lock(access.repo_id()).await;
        let mut read = self.db.read().await?;
        let prunings = prune::prunings(&mut read, access).await?;
        let sides = sides(&mut read, access, number).await?;
        drop(read);
        let (edits, files) = self.three_way(access, &sides).await?;
        let large = self.judge_merge(access, &edits, &files).await?;
        let ready = self.store_merge(context, access, sides, (edits, files), (large, request.squash)).await?;
        let published = self.publish_merge(context, access, (&ready, prunings), comment.as_deref()).await;
        self.keep_if(published, &ready.pack).await?;
        Ok(MergedPull { commit: ready.written.commit })
    }

    /// What merging changes in the branch, or why it cannot be done.
    async fn three_way(
        &self,
        access: &Access<Write>,
        sides: &Sides,
    ) -> Result<(Vec<Edit>, HashMap<Oid, Bytes>), Problem> {
        self.materialise(access).await?;
        let (heads, scratch) = ((sides.ours, sides.theirs), self.scratch()?);
        let merged =
            self.objects_blocking(access, move |repo| match merge_commits(repo, heads, &scratch, LIMIT) {
                Err(GitError::TooSlow) => Ok(None),
                merged => merged.map(Some),
            });
        let (number, base) = (sides.pull.num, &sides.base);
        match merged.await? {
            Some(Merge::Clean { edits, files }) => Ok((edits, files)),
            Some(Merge::Contained) => Err(conflict(format!(
                "there is nothing to merge: {base} has every commit of pull request {number}"
            ))),
            Some(Merge::Unrelated) => Err(super::unrelated(&sides.pull)),
            Some(Merge::Conflicts(paths)) => Err(Problem::Conflict {
                message: format!(
                    "pull request {number} has conflicts with {base} in {}: merge {base} into refs/pr/{number}, mend \
                     them there and push",
                    named(&paths)
                ),
                paths,
            }),
            None => Err(conflict(format!(
                "merging pull request {number} takes more than {} s: merge {base} into refs/pr/{number} on your own \
                 machine and push",
                LIMIT.as_secs()
            ))),
        }
    }

    /// The rules for what a branch may hold, for what merging brings to it. Answers the large files among it.
    async fn judge_merge(
        &self,
        access: &Access<Write>,
        edits: &[Edit],
        files: &HashMap<Oid, Bytes>,
    ) -> Result<Vec<Sha256>, Problem> {
        let put = edits.iter().filter_map(|edit| match edit.op {
            Op::Put { oid, mode } if mode.is_file() => Some((edit.path.clone(), oid)),
            _ => None,
        });
        let put: Vec<(EntryPath, Oid)> = put.collect();
        for (path, oid) in &put {
            if let Some(content) = files.get(oid) {
                rules::check_content(path, content)?;
            }
        }
        self.judge_card(access, &put, files).await?;
        let old: Vec<(EntryPath, Oid)> =
            put.into_iter().filter(|(_, oid)| !files.contains_key(oid)).collect();
        let pointers = self.objects_blocking(access, move |repo| {
            let pointers = old.iter().map(|(path, oid)| Ok((path.clone(), repo.pointer(*oid)?)));
            pointers.collect::<Result<Vec<_>, GitError>>()
        });
        let mut large = Vec::new();
        let pointers = pointers.await?;
        let mut read = self.db.read().await?;
        for (path, pointer) in pointers {
            let Some(pointer) = pointer else { continue };
            let known = xet::file_hash(&mut read, access, pointer.sha256).await?;
            if known.is_none_or(|(_, size)| size != pointer.size) {
                return Err(Problem::Unprocessable(format!(
                    "the content of {path} (sha256 {}) is not in this repository: upload it, then merge",
                    pointer.sha256
                )));
            }
            large.push(pointer.sha256);
        }
        Ok(large)
    }

    /// Both sides may have a good card and together a bad one.
    async fn judge_card(
        &self,
        access: &Access<Write>,
        put: &[(EntryPath, Oid)],
        files: &HashMap<Oid, Bytes>,
    ) -> Result<(), Problem> {
        let Some((_, oid)) = put.iter().find(|(path, _)| path.as_str() == "README.md") else { return Ok(()) };
        let oid = *oid;
        let content = match files.get(&oid) {
            Some(content) => content.clone(),
            None => match self.objects(access, move |repo| repo.blob(oid, MAX_CARD_BYTES)).await {
                // What is longer is no card that anybody reads.
                Err(Problem::TooLarge(_)) => return Ok(()),
                content => content?,
            },
        };
        Ok(rules::check_card(access.repo().path.kind, &content)?)
    }

    /// Writes the objects of a merge and stores them.
    async fn store_merge(
        &self,
        context: &Context,
        access: &Access<Write>,
        sides: Sides,
        (edits, files): (Vec<Edit>, HashMap<Oid, Bytes>),
        (large, squash): (Vec<Sha256>, bool),
    ) -> Result<Ready, Problem> {
        let touched = edits.iter().map(|edit| edit.path.clone()).collect();
        let repo = self.materialise(access).await?;
        let (author, now, scratch) = (author(context), context.now(), self.scratch()?);
        let (ours, theirs) = (sides.ours, sides.theirs);
        let ahead =
            self.objects_blocking(access, move |repo| commits_ahead(repo, ours, theirs, NAMED_COMMITS));
        let commits = ahead.await?;
        let behind = if squash { Vec::new() } else { self.files_ahead(access, Some(ours), theirs).await? };
        let makers = if squash {
            git::makers(&mut self.db.read().await?, access, &commits).await?
        } else {
            HashMap::new()
        };
        let work = {
            let repo = repo.clone();
            move || {
                let makers = squash.then_some(&makers);
                let message = message(&repo, &sides, &commits, makers)?;
                let plan = Plan { edits, files, author, now, message, squash };
                let written = plan.write(&repo, &sides, &scratch)?;
                Ok::<_, Problem>((sides, written))
            }
        };
        let (sides, (written, new)) = tokio::task::spawn_blocking(work).await??;
        let pack = self.store_pack(&repo, &new).await?;
        crate::crash::point("pull.stored");
        let metadata = if sides.base == RefName::main() {
            let read = self.read_metadata(access, written.commit).await;
            Some(self.keep_if(read, &pack).await?)
        } else {
            None
        };
        Ok(Ready { sides, touched, written, pack, large, behind, metadata })
    }

    /// The transaction of a merge.
    async fn publish_merge(
        &self,
        context: &Context,
        access: &Access<Write>,
        (ready, prunings): (&Ready, i64),
        comment: Option<&str>,
    ) -> Result<(), Problem> {
        let Ready { sides, written, .. } = ready;
        let (now, number) = (context.now(), sides.pull.num);
        let mut tx = self.write_to(context, access).await?;
        let mut found = self::sides(&mut tx, access, number).await?;
        if (found.ours, found.theirs) != (sides.ours, sides.theirs) {
            return Err(Problem::Stale);
        }
        let touched = ready.touched.iter().map(EntryPath::as_str);
        self.refuse_locked(&mut tx, context, access, touched).await?;
        let target = Some(Target::commit(written.commit));
        if !refs::swap(&mut tx, access, &sides.base, Some(sides.ours), target, now).await? {
            return Err(Problem::Stale);
        }
        // Both sides are here still. What else the merge does not bring was found in packs that are others now.
        if prune::prunings(&mut tx, access).await? != prunings {
            return Err(Problem::Stale);
        }
        for sha256 in &ready.large {
            if !xet::touch_file(&mut tx, access, *sha256, now).await? {
                return Err(Problem::Invalid(format!("the content {sha256} was collected: upload it again")));
            }
        }
        for files in [&ready.large, &ready.behind] {
            take_over(&mut tx, access, files.iter().copied()).await?;
        }
        proposals::release_commits(&mut tx, access, number).await?;
        let move_of_base = (Some(sides.ours), written.commit);
        merged_pulls::enqueue(&mut tx, context, access, &sides.base, move_of_base).await?;
        self.add_pack(&mut tx, access, &ready.pack, now).await?;
        self.quota_in(&mut tx, access, 0).await?;
        add_rows(&mut tx, context, access, written).await?;
        repos::touch(&mut tx, access, now).await?;
        if let Some(metadata) = &ready.metadata {
            self.store_metadata(&mut tx, access, metadata).await?;
        }
        let merged = Merged { base_commit: Some(sides.ours), merge_commit: written.commit };
        discussions::set_merged(&mut tx, access, &found.pull, merged, now).await?;
        found.pull.status = DiscussionStatus::Merged;
        let proposer = access.lower::<Propose>();
        if let Some(comment) = comment {
            let event = self.say(&mut tx, context, &proposer, found.pull.id, comment).await?;
            let said = discussion_event(context, Action::CommentCreate, &proposer, &found.pull);
            tx.record(said.fact("event", event.to_string()));
        }
        let (kind, data) = (DiscussionEventKind::StatusChange, json!({ "status": "merged" }));
        add_event(&mut tx, context, access, &found.pull, kind, &data).await?;
        tx.record(commit_event(context, access, ready));
        let event = discussion_event(context, Action::PullMerge, access, &found.pull)
            .fact("base", sides.base.as_str())
            .fact("before", sides.ours.to_string())
            .fact("head", sides.theirs.to_string())
            .fact("commit", written.commit.to_string())
            .fact("squash", written.parents.len() == 1);
        crate::crash::point("pull.before");
        tx.commit(event).await?;
        crate::crash::point("pull.after");
        Ok(())
    }
}

fn commit_event(context: &Context, access: &Access<Write>, ready: &Ready) -> NewEvent {
    repo_event(context, Action::CommitCreate, access.repo_id(), &access.repo().path)
        .fact("commit", ready.written.commit.to_string())
        .fact("parent", ready.sides.ours.to_string())
        .fact("ref", ready.sides.base.as_str())
        .fact("pull_request", ready.sides.pull.num)
        .fact("paths", ready.written.changes.len() as u64)
}

async fn add_rows(
    tx: &mut bastide_store::WriteTx,
    context: &Context,
    access: &Access<Write>,
    written: &Written,
) -> Result<(), Problem> {
    let row = CommitRow {
        id: written.commit,
        tree: written.tree,
        parents: &written.parents,
        time: context.now(),
        author: &written.author.name,
        author_id: context.user_id(),
        pusher_id: None,
        title: written.message.lines().next().unwrap_or_default(),
        message: &written.message,
    };
    let changes: Vec<ChangeRow<'_>> =
        written.changes.iter().map(|(path, object)| ChangeRow { path, object: *object }).collect();
    Ok(git::add_commit(tx, access, &row, &changes).await?)
}

/// Where both sides stand, if the pull request can be merged at all.
async fn sides(read: &mut Reader, access: &Access<Write>, number: u64) -> Result<Sides, Problem> {
    let (pull, details) = pull_of(read, access, number).await?;
    match pull.status {
        DiscussionStatus::Open => {}
        DiscussionStatus::Draft => {
            return Err(conflict(format!(
                "pull request {number} is a draft: publish it before it is merged"
            )));
        }
        DiscussionStatus::Closed => {
            return Err(conflict(format!("pull request {number} is closed: reopen it before it is merged")));
        }
        DiscussionStatus::Merged => {
            return Err(conflict(format!("pull request {number} is merged already")));
        }
    }
    let name = RefName::pull_request(number);
    let theirs = refs::get(read, access, &name).await?;
    let theirs = theirs.ok_or_else(|| Problem::RevisionNotFound(name.to_string()))?.commit;
    let ours = refs::get(read, access, &details.base).await?;
    let ours = ours.ok_or_else(|| {
        conflict(format!(
            "the branch of pull request {number}, {}, is gone: make it again, or close the pull request",
            details.base
        ))
    })?;
    Ok(Sides { pull, base: details.base, ours: ours.commit, theirs })
}

fn conflict(message: String) -> Problem {
    Problem::Conflict { message, paths: Vec::new() }
}

/// The first of some paths, and how many more there are.
fn named(paths: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = paths.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A merge that is to be written.
struct Plan {
    edits: Vec<Edit>,
    files: HashMap<Oid, Bytes>,
    author: Person,
    now: bastide_core::Timestamp,
    message: String,
    squash: bool,
}

impl Plan {
    fn write(
        self,
        repo: &Repo,
        sides: &Sides,
        scratch: &std::path::Path,
    ) -> Result<(Written, NewPack), Problem> {
        let Self { edits, files, author, now, message, squash } = self;
        let mut pack = PackWriter::new(scratch)?;
        for content in files.values() {
            pack.blob(content)?;
        }
        let base = repo.commit(sides.ours)?.tree;
        let Edited { tree, changes } = edit_tree(repo, Some(base), &edits, &mut pack)?;
        if squash && tree == base {
            return Err(conflict(format!(
                "there is nothing to merge: {} has all that pull request {} changes",
                sides.base, sides.pull.num
            )));
        }
        let parents = if squash { vec![sides.ours] } else { vec![sides.ours, sides.theirs] };
        let commit = NewCommit { tree, parents: &parents, author: &author, time: now, message: &message };
        let commit = pack.commit(&commit)?;
        let mut brought = Vec::with_capacity(changes.len());
        let head = repo.commit(sides.theirs)?.tree;
        for change in changes {
            // What stands there in the pull request was brought by a commit of it.
            let theirs = if squash { None } else { repo.find(head, &change.path.parse()?)? };
            if change.new.is_none() || theirs.map(|entry| entry.oid) != change.new {
                brought.push((change.path, change.new));
            }
        }
        let written = Written { commit, tree, parents, author, message, changes: brought };
        Ok((written, pack.finish(scratch)?))
    }
}

/// What the commit is called: the title of the pull request, what was in it, and, with `makers`, whose it was: its own
/// commits are not kept then.
fn message(
    repo: &Repo,
    sides: &Sides,
    commits: &[Oid],
    makers: Option<&HashMap<Oid, Makers>>,
) -> Result<String, GitError> {
    let mut text = format!("{} (#{})\n", sides.pull.title, sides.pull.num);
    let mut authors: Vec<Person> = Vec::new();
    for (at, id) in commits.iter().rev().enumerate() {
        let commit = repo.commit(*id)?;
        text.push_str(if at == 0 { "\n" } else { "" });
        text.push_str(&format!("- {} ({id})\n", commit.title()));
        let author = makers.and_then(|makers| co_author(&commit.author, makers.get(id)));
        authors.extend(author.filter(|author| !authors.contains(author)));
    }
    for (at, Person { name, email }) in authors.iter().enumerate() {
        text.push_str(if at == 0 { "\n" } else { "" });
        text.push_str(&format!("Co-authored-by: {name} <{email}>\n"));
    }
    Ok(text)
}
