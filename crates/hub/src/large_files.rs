//! The large files of a repository as a list, and their deletion for good: the content goes at once,
//! and with `rewrite` every branch, tag and pull request is written anew without it.

use std::collections::{BTreeMap, HashMap, HashSet};

use bastide_core::{Oid, RefName, Sha256, Timestamp, XetHash, id::RowId};
use bastide_git::{Change, GitError, PackWriter, Pointer, Renewed, Repo, Rewritten, diff_trees};
use bastide_ledger::{Action, Context};
use bastide_store::git::{self, ChangeRow, Pack};
use bastide_store::large_files::{self, Content};
use bastide_store::refs::{self, Ref, Target};
use bastide_store::{WriteTx, collect, prune, repos};

use crate::access::{Access, Admin, Read, Write};
use crate::metadata::Metadata;
use crate::pulls::rename_commits;
use crate::repos::repo_event;
use crate::{Hub, Problem};

/// Files of one page of the list.
pub const MAX_PAGE: usize = 1000;
/// Files of one deletion.
pub const MAX_DELETIONS: usize = 1000;
/// Refs in which the list looks for where a file stands.
const MAX_REFS: usize = 20;
/// Commits and changed paths that are written anew in one go: they are in memory until they are rows.
pub const MAX_REWRITTEN_COMMITS: u64 = 100_000;
pub const MAX_REWRITTEN_CHANGES: u64 = 1_000_000;

/// A large file of a repository.
#[derive(Debug, Clone)]
pub struct LargeFile {
    pub sha256: Sha256,
    pub xet_hash: XetHash,
    pub size: u64,
    pub received_at: Timestamp,
    /// Where it stands or stood: one place of perhaps several. None for what was never committed.
    pub path: Option<String>,
    /// Where it stands now, if it does.
    pub in_ref: Option<RefName>,
}

/// A page of large files; `next` is where the following one begins.
#[derive(Debug)]
pub struct LargeFilePage {
    pub files: Vec<LargeFile>,
    pub next: Option<RowId>,
}

/// What a deletion did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Deleted {
    pub files: u64,
    pub bytes: u64,
    pub commits: u64,
    pub refs: u64,
}

/// The changed paths of a commit, and what stands at each.
type Changes = BTreeMap<String, Option<Oid>>;

/// What the rows of a rewritten history are to be.
struct NewRows {
    commits: Vec<(Renewed, Changes)>,
    refs: Vec<(Ref, Target)>,
    metadata: Option<Metadata>,
}

/// A history without some files, ready for the transaction.
struct Prepared {
    rows: NewRows,
    pack: Pack,
}

impl Hub {
    /// The large files of a repository, the last that came first.
    pub async fn list_large_files(
        &self,
        access: &Access<Read>,
        after: Option<RowId>,
        limit: usize,
    ) -> Result<LargeFilePage, Problem> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut read = self.db.read().await?;
        let mut found = large_files::list(&mut read, access, after, limit + 1).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut places = Vec::with_capacity(found.len());
        for content in &found {
            let blob = Pointer { sha256: content.sha256, size: content.size }.blob_id()?;
            places.push((blob, large_files::path_of(&mut read, access, blob).await?));
        }
        let heads = heads(refs::list(&mut read, access).await?);
        drop(read);
        let next = found.last().filter(|_| more).map(|content| content.id);
        let look = places.clone();
        let standing = self.objects_blocking(access, move |repo| standing_in(repo, &heads, &look)).await?;
        let files = found.into_iter().zip(places).zip(standing);
        let files = files.map(|((content, (_, path)), in_ref)| {
            let Content { sha256, hash, size, created_at, .. } = content;
            LargeFile { sha256, xet_hash: hash, size, received_at: created_at, path, in_ref }
        });
        Ok(LargeFilePage { files: files.collect(), next })
    }

    /// Deletes content for good. The bytes that nothing else is made of are freed by collection; who
    /// sends the content again has it back.
    pub async fn delete_large_files(
        &self,
        context: &Context,
        access: &Access<Admin>,
        wanted: &[Sha256],
        rewrite: bool,
    ) -> Result<Deleted, Problem> {
        if wanted.len() > MAX_DELETIONS {
            return Err(Problem::Unprocessable(format!("at most {MAX_DELETIONS} files in one call")));
        }
        let _turn = self.locks.lock(access.repo_id()).await;
        let gone: HashSet<Sha256> = wanted.iter().copied().collect();
        let prepared = if rewrite { self.prepare_without(access, gone.clone()).await? } else { None };
        let deleted = self.publish_without(context, access, (&gone, rewrite), prepared.as_ref()).await;
        match &prepared {
            Some(prepared) => self.keep_if(deleted, &prepared.pack).await,
            None => deleted,
        }
    }

    /// Writes the history without some files, when it has any of them.
    async fn prepare_without(
        &self,
        access: &Access<Admin>,
        gone: HashSet<Sha256>,
    ) -> Result<Option<Prepared>, Problem> {
        let mut read = self.db.read().await?;
        let (commits, changes) = large_files::history_size(&mut read, access).await?;
        if commits > MAX_REWRITTEN_COMMITS || changes > MAX_REWRITTEN_CHANGES {
            return Err(Problem::Unprocessable(format!(
                "the history has {commits} commits with {changes} changes: more than can be rewritten. Delete \
                 without rewriting it, or squash its branches first"
            )));
        }
        let listed = refs::list(&mut read, access).await?;
        drop(read);
        let writer = access.lower::<Write>();
        let repo = self.materialise(access).await?;
        let (scratch, roots) = (self.scratch()?, listed.iter().map(|found| found.target).collect::<Vec<_>>());
        let written = {
            let repo = repo.clone();
            tokio::task::spawn_blocking(move || {
                let mut pack = PackWriter::new(&scratch)?;
                let rewritten = repo.rewrite_without(&roots, &gone, &mut pack)?;
                Ok::<_, GitError>((rewritten, pack.finish(&scratch)?))
            })
        };
        let (rewritten, new) = written.await??;
        if rewritten.roots.is_empty() {
            return Ok(None);
        }
        let pack = self.store_pack(&repo, &new).await?;
        let rows = self.prepare_rows(&writer, &repo, listed, rewritten).await;
        let rows = self.keep_if(rows, &pack).await?;
        Ok(Some(Prepared { rows, pack }))
    }

    /// What the rows of a rewritten history are to be. Its objects are here.
    async fn prepare_rows(
        &self,
        access: &Access<Write>,
        repo: &Repo,
        listed: Vec<Ref>,
        rewritten: Rewritten,
    ) -> Result<NewRows, Problem> {
        let Rewritten { commits, roots } = rewritten;
        let work = {
            let repo = repo.clone();
            move || {
                let with_changes = |renewed: Renewed| changes_of(&repo, &renewed).map(|rows| (renewed, rows));
                let commits = commits.into_iter().map(with_changes).collect::<Result<Vec<_>, _>>()?;
                let moved = |found: Ref| {
                    let target = *roots.get(&found.target)?;
                    Some(repo.peel(target).map(|commit| (found, Target { target, commit })))
                };
                let refs = listed.into_iter().filter_map(moved).collect::<Result<Vec<_>, GitError>>()?;
                Ok::<_, GitError>((commits, refs))
            }
        };
        let (commits, refs) = tokio::task::spawn_blocking(work).await??;
        let main = refs.iter().find(|(found, _)| found.name == RefName::main());
        let metadata = match main {
            Some((_, target)) => Some(self.read_metadata(access, target.commit).await?),
            None => None,
        };
        Ok(NewRows { commits, refs, metadata })
    }

    /// The transaction of a deletion.
    async fn publish_without(
        &self,
        context: &Context,
        access: &Access<Admin>,
        (gone, rewrite): (&HashSet<Sha256>, bool),
        prepared: Option<&Prepared>,
    ) -> Result<Deleted, Problem> {
        let mut deleted = Deleted::default();
        let mut tx = self.write_to(context, access).await?;
        if let Some(prepared) = prepared {
            self.write_renewed(&mut tx, context, access, prepared).await?;
            deleted.commits = prepared.rows.commits.len() as u64;
            deleted.refs = prepared.rows.refs.len() as u64;
            prune::hurry(&mut tx, access, context.now()).await?;
            tx.record(rewrite_event(context, access, prepared));
        }
        let mut names: Vec<String> = Vec::new();
        for sha256 in gone {
            if let Some(bytes) = large_files::delete(&mut tx, access, *sha256, context.now()).await? {
                deleted.files += 1;
                deleted.bytes += bytes;
                names.push(sha256.to_string());
            }
        }
        if names.is_empty() && prepared.is_none() {
            return Ok(deleted);
        }
        // Whatever clients remember of what is here is void.
        collect::next_epoch(&mut tx, access).await?;
        names.sort();
        let event = repo_event(context, Action::FilesDelete, access.repo_id(), &access.repo().path)
            .fact("sha256", names.join(","))
            .fact("bytes", deleted.bytes)
            .fact("rewrite_history", rewrite);
        tx.commit(event).await?;
        Ok(deleted)
    }

    async fn write_renewed(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Admin>,
        prepared: &Prepared,
    ) -> Result<(), Problem> {
        let writer = access.lower::<Write>();
        for (found, target) in &prepared.rows.refs {
            if !refs::swap(tx, access, &found.name, Some(found.target), Some(*target), context.now()).await? {
                return Err(Problem::Stale);
            }
        }
        self.add_pack(tx, &writer, &prepared.pack, context.now()).await?;
        for (renewed, rows) in &prepared.rows.commits {
            let rows: Vec<ChangeRow<'_>> =
                rows.iter().map(|(path, object)| ChangeRow { path, object: *object }).collect();
            let Renewed { old, new, tree, parents } = renewed;
            git::renew_commit(tx, access, (*old, *new), (*tree, parents), &rows).await?;
        }
        // What pull requests say of their commits has to lead to something.
        let commits = prepared.rows.commits.iter();
        let renamed: HashMap<Oid, Oid> = commits.map(|(renewed, _)| (renewed.old, renewed.new)).collect();
        rename_commits(tx, &writer, &renamed).await?;
        repos::touch(tx, access, context.now()).await?;
        match &prepared.rows.metadata {
            Some(metadata) => self.store_metadata(tx, &writer, metadata).await,
            None => Ok(()),
        }
    }

    /// When content was deleted here for good, if it was and has not come again.
    pub async fn deleted_at<L: crate::access::Includes<Read>>(
        &self,
        access: &Access<L>,
        sha256: Sha256,
    ) -> Result<Option<Timestamp>, Problem> {
        Ok(large_files::deleted_at(&mut self.db.read().await?, access, sha256).await?)
    }
}

fn rewrite_event(context: &Context, access: &Access<Admin>, prepared: &Prepared) -> bastide_ledger::NewEvent {
    let moves =
        prepared.rows.refs.iter().map(|(old, new)| format!("{} {} {}", old.name, old.commit, new.commit));
    repo_event(context, Action::HistoryRewrite, access.repo_id(), &access.repo().path)
        .fact("refs", moves.collect::<Vec<_>>().join("\n"))
        .fact("commits", prepared.rows.commits.len() as u64)
}

/// The refs whose files are looked at, the main branch first, then branches, then tags.
fn heads(mut all: Vec<Ref>) -> Vec<Ref> {
    all.sort_by_key(|found| (found.name != RefName::main(), !found.name.is_branch(), !found.name.is_tag()));
    all.truncate(MAX_REFS);
    all
}

/// For each file at a path the first ref in which it stands there.
fn standing_in(
    repo: &Repo,
    heads: &[Ref],
    places: &[(Oid, Option<String>)],
) -> Result<Vec<Option<RefName>>, GitError> {
    let trees = heads.iter().map(|head| Ok((&head.name, repo.commit(head.commit)?.tree)));
    let trees = trees.collect::<Result<Vec<_>, GitError>>()?;
    let find = |(blob, path): &(Oid, Option<String>)| {
        let Some(path) = path.as_deref().and_then(|path| path.parse().ok()) else { return Ok(None) };
        for (name, tree) in &trees {
            if repo.find(*tree, &path)?.is_some_and(|entry| entry.oid == *blob) {
                return Ok(Some((*name).clone()));
            }
        }
        Ok(None)
    };
    places.iter().map(find).collect()
}

/// The changed paths of a commit. Of a merge those that differ from every parent: what it brought from
/// one of them was changed there.
fn changes_of(repo: &Repo, renewed: &Renewed) -> Result<Changes, GitError> {
    let mut parents = renewed.parents.iter();
    let tree = |parent: &Oid| repo.commit(*parent).map(|commit| commit.tree);
    let first = parents.next().map(tree).transpose()?;
    let mut rows = rows_of(diff_trees(repo, first, Some(renewed.tree))?);
    for parent in parents {
        let other = rows_of(diff_trees(repo, Some(tree(parent)?), Some(renewed.tree))?);
        rows.retain(|path, object| other.get(path) == Some(object));
    }
    Ok(rows)
}

/// One row for each path, also where a file has become a folder.
fn rows_of(changes: Vec<Change>) -> Changes {
    let mut rows = Changes::new();
    for change in changes {
        let object = rows.entry(change.path).or_default();
        *object = change.new.or(*object);
    }
    rows
}
