//! Refs and history: branches, tags, lists of commits, squashing.

use bastide_core::limits::MAX_COMMIT_MESSAGE;
use bastide_core::{Oid, RefName, Timestamp};
use bastide_git::{Commit, GitError, NewCommit, PackWriter, Repo, Tag, Tree};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::git::{self, ChangeRow, CommitRow};
use bastide_store::refs::{self, Ref, Target};
use bastide_store::{WriteTx, repos};

use crate::access::{Access, Includes, See, Write};
use crate::authors::{Author, User, author};
use crate::jobs::merged_pulls;
use crate::push::card_fault;
use crate::ref_rules::{Move, RefRules};
use crate::rules::{check_text, lines};
use crate::{Hub, Problem};

/// Commits of one page, at most.
const MAX_PAGE: usize = 1000;

/// A commit in a list.
#[derive(Debug, Clone)]
pub struct CommitItem {
    pub id: Oid,
    pub title: String,
    pub message: String,
    pub time: Timestamp,
    pub author: Author,
    /// Who pushed it, where it was pushed.
    pub pusher: Option<User>,
}

impl CommitItem {
    pub(crate) fn new(id: Oid, commit: &Commit) -> Self {
        Self {
            id,
            title: commit.title().to_owned(),
            message: body(&commit.message).to_owned(),
            time: commit.time,
            author: Author::unverified(&commit.author),
            pusher: None,
        }
    }
}

/// Where a branch begins.
#[derive(Debug, Clone)]
pub enum BranchStart {
    Revision(String),
    /// At a commit of its own, without files: it shares nothing with the others.
    Empty,
}

impl Hub {
    pub async fn list_refs<L: Includes<See>>(&self, access: &Access<L>) -> Result<Vec<Ref>, Problem> {
        Ok(refs::list(&mut self.db.read().await?, access).await?)
    }

    /// A page of the commits that lead to `start`, and whether there are more.
    pub async fn list_commits<L: Includes<See>>(
        &self,
        access: &Access<L>,
        start: Oid,
        page: usize,
        limit: usize,
    ) -> Result<(Vec<CommitItem>, bool), Problem> {
        let limit = limit.clamp(1, MAX_PAGE);
        let found = self
            .objects_blocking(access, move |repo| repo.history(start, page.saturating_mul(limit), limit + 1));
        let mut found = found.await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut items: Vec<_> = found.iter().map(|(id, commit)| CommitItem::new(*id, commit)).collect();
        self.name_authors(access, &mut items).await?;
        Ok((items, more))
    }

    /// Makes a branch, or moves one with `overwrite`.
    pub async fn create_branch(
        &self,
        context: &Context,
        access: &Access<Write>,
        name: &RefName,
        start: BranchStart,
        overwrite: bool,
    ) -> Result<(), Problem> {
        let _turn = self.locks.lock(access.repo_id()).await;
        let (commit, root) = match start {
            BranchStart::Revision(revision) => {
                let commit = self.resolve_revision(access, &revision).await?;
                self.judge_start(access, commit).await?;
                (commit, None)
            }
            BranchStart::Empty => {
                let root = self.write_root(context, access, None, "initial commit\n".to_owned()).await?;
                (root.commit, Some(root))
            }
        };
        let published = self.publish_branch(context, access, (name, commit), root.as_ref(), overwrite).await;
        match &root {
            Some(root) => self.keep_if(published, &root.pack).await,
            None => published,
        }
    }

    /// A branch takes no card that a push to it could not have: to where only a tag led nobody asked for it.
    async fn judge_start(&self, access: &Access<Write>, commit: Oid) -> Result<(), Problem> {
        let kind = access.repo().path.kind;
        let find = move |repo: &Repo| card_fault(repo, kind, repo.commit(commit)?.tree);
        match self.objects_blocking(access, find).await? {
            Some(fault) => Err(fault.into()),
            None => Ok(()),
        }
    }

    /// The transaction of a branch.
    async fn publish_branch(
        &self,
        context: &Context,
        access: &Access<Write>,
        (name, commit): (&RefName, Oid),
        root: Option<&Root>,
        overwrite: bool,
    ) -> Result<(), Problem> {
        // The main branch decides what the repository is found by.
        let metadata =
            if *name == RefName::main() { Some(self.read_metadata(access, commit).await?) } else { None };
        let to = if root.is_none() { Some(commit) } else { None };
        let replaced =
            if overwrite { self.replaced_by(access, name, to).await? } else { Replaced::default() };
        let mut tx = self.write_to(context, access).await?;
        if root.is_none() {
            still_here(&mut tx, access, commit).await?;
        }
        let lost = place_branch(&mut tx, context, access, (name, commit), overwrite).await?;
        if lost.is_some() && lost != replaced.head {
            return Err(Problem::Stale);
        }
        let paths = replaced.paths.iter().map(String::as_str);
        self.refuse_locked(&mut tx, context, access, paths).await?;
        if let Some(root) = root {
            self.write_root_rows(&mut tx, context, access, root).await?;
        }
        if let Some(metadata) = &metadata {
            self.store_metadata(&mut tx, access, metadata).await?;
        }
        repos::touch(&mut tx, access, context.now()).await?;
        let event = ref_event(context, Action::BranchCreate, access, name, Some(commit))
            .fact("before", lost.map(|lost| lost.to_string()).unwrap_or_default());
        Ok(tx.commit(event).await?)
    }

    /// What a branch loses when it is put at a commit, or at one without files.
    async fn replaced_by(
        &self,
        access: &Access<Write>,
        name: &RefName,
        commit: Option<Oid>,
    ) -> Result<Replaced, Problem> {
        let head = refs::get(&mut self.db.read().await?, access, name).await?.map(|head| head.commit);
        let Some(old) = head else { return Ok(Replaced::default()) };
        let paths = self.objects_blocking(access, move |repo| replaced_paths(repo, old, commit)).await?;
        Ok(Replaced { head, paths })
    }

    pub async fn create_tag(
        &self,
        context: &Context,
        access: &Access<Write>,
        name: &RefName,
        revision: &str,
        message: Option<String>,
    ) -> Result<(), Problem> {
        let commit = self.resolve_revision(access, revision).await?;
        let message = checked_message("a tag's message", message)?;
        // Before anything is stored for it: a tag that is there already is refused in the end anyway.
        if refs::get(&mut self.db.read().await?, access, name).await?.is_some() {
            return Err(already(name));
        }
        let annotated = match message {
            None => None,
            Some(message) => Some(self.write_tag(context, access, name, commit, message).await?),
        };
        let target = annotated.as_ref().map_or(commit, |(tag, _)| *tag);
        let pack = annotated.map(|(_, pack)| pack);
        let published =
            self.publish_tag(context, access, name, Target { target, commit }, pack.as_ref()).await;
        match &pack {
            Some(pack) => self.keep_if(published, pack).await,
            None => published,
        }
    }

    /// The transaction of a tag.
    async fn publish_tag(
        &self,
        context: &Context,
        access: &Access<Write>,
        name: &RefName,
        new: Target,
        pack: Option<&git::Pack>,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        refuse_conflict(&mut tx, access, name).await?;
        still_here(&mut tx, access, new.commit).await?;
        if !refs::swap(&mut tx, access, name, None, Some(new), context.now()).await? {
            return Err(already(name));
        }
        if let Some(pack) = pack {
            self.add_pack(&mut tx, access, pack, context.now()).await?;
        }
        Ok(tx.commit(ref_event(context, Action::TagCreate, access, name, Some(new.commit))).await?)
    }

    async fn write_tag(
        &self,
        context: &Context,
        access: &Access<Write>,
        name: &RefName,
        commit: Oid,
        message: String,
    ) -> Result<(Oid, git::Pack), Problem> {
        let repo = self.materialise(access).await?;
        let (scratch, tagger, time) = (self.scratch()?, author(context), context.now());
        let name = name.short().to_owned();
        let written = tokio::task::spawn_blocking(move || {
            let mut pack = PackWriter::new(&scratch)?;
            let tag =
                pack.tag(&Tag { target: commit, name: &name, tagger: &tagger, time, message: &message })?;
            Ok::<_, GitError>((tag, pack.finish(&scratch)?))
        });
        let (tag, new) = written.await??;
        Ok((tag, self.store_pack(&repo, &new).await?))
    }

    /// Removes a branch or a tag.
    pub async fn delete_ref(
        &self,
        context: &Context,
        access: &Access<Write>,
        name: &RefName,
    ) -> Result<(), Problem> {
        let old = refs::get(&mut self.db.read().await?, access, name).await?;
        let old = old.ok_or_else(|| Problem::RevisionNotFound(name.short().to_owned()))?;
        if name.is_branch() {
            self.refuse_lost(context, access, old.commit).await?;
        }
        let mut tx = self.write_to(context, access).await?;
        RefRules::load(&mut tx, access).await?.check(name, Move::Delete)?;
        if !refs::swap(&mut tx, access, name, Some(old.target), None, context.now()).await? {
            return Err(Problem::Stale);
        }
        let action = if name.is_tag() { Action::TagDelete } else { Action::BranchDelete };
        Ok(tx.commit(ref_event(context, action, access, name, Some(old.commit))).await?)
    }

    /// Makes the history of a branch one commit with the same tree.
    pub async fn squash(
        &self,
        context: &Context,
        access: &Access<Write>,
        name: &RefName,
        message: Option<String>,
    ) -> Result<Oid, Problem> {
        let message = checked_message("a commit's message", message)?;
        let _turn = self.locks.lock(access.repo_id()).await;
        if let Some(number) = name.pull_request_number() {
            return self.squash_pull(context, access, number, message).await;
        }
        let head = refs::get(&mut self.db.read().await?, access, name).await?;
        let head = head.ok_or_else(|| Problem::RevisionNotFound(name.short().to_owned()))?.commit;
        let tree = self.read_commit(access, head).await?.tree;
        let message = message.unwrap_or_else(|| format!("Super-squash branch '{}'", name.short()));
        let root = self.write_root(context, access, Some(tree), message).await?;
        let published = async {
            let mut tx = self.write_to(context, access).await?;
            RefRules::load(&mut tx, access).await?.check(name, Move::Rewrite)?;
            let target = Some(Target::commit(root.commit));
            if !refs::swap(&mut tx, access, name, Some(head), target, context.now()).await? {
                return Err(Problem::Stale);
            }
            self.write_root_rows(&mut tx, context, access, &root).await?;
            repos::touch(&mut tx, access, context.now()).await?;
            let event = ref_event(context, Action::HistorySquash, access, name, Some(root.commit))
                .fact("before", head.to_string());
            Ok(tx.commit(event).await?)
        };
        self.keep_if(published.await, &root.pack).await.map(|()| root.commit)
    }

    /// Writes a commit without parents over a tree of the repository, or over an empty one.
    async fn write_root(
        &self,
        context: &Context,
        access: &Access<Write>,
        tree: Option<Oid>,
        message: String,
    ) -> Result<Root, Problem> {
        let repo = self.materialise(access).await?;
        let (scratch, author, time) = (self.scratch()?, author(context), context.now());
        let written = {
            let (repo, author, message) = (repo.clone(), author.clone(), message.clone());
            tokio::task::spawn_blocking(move || {
                let mut pack = PackWriter::new(&scratch)?;
                let files = match tree {
                    Some(tree) => repo.list(tree, "", true, None, usize::MAX)?,
                    None => Vec::new(),
                };
                let tree = tree.map_or_else(|| pack.tree(Tree::default()), Ok)?;
                let commit = NewCommit { tree, parents: &[], author: &author, time, message: &message };
                let commit = pack.commit(&commit)?;
                Ok::<_, GitError>((commit, tree, pack.finish(&scratch)?, files))
            })
        };
        let (commit, tree, new, files) = written.await??;
        let pack = self.store_pack(&repo, &new).await?;
        let changes = files.into_iter().map(|walked| (walked.path, walked.entry.oid)).collect();
        Ok(Root { commit, tree, pack, changes, author: author.name, message })
    }

    async fn write_root_rows(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Write>,
        root: &Root,
    ) -> Result<(), Problem> {
        let row = CommitRow {
            id: root.commit,
            tree: root.tree,
            parents: &[],
            time: context.now(),
            author: &root.author,
            author_id: context.user_id(),
            pusher_id: None,
            title: root.message.lines().next().unwrap_or_default(),
            message: &root.message,
        };
        let changes: Vec<_> =
            root.changes.iter().map(|(path, object)| ChangeRow { path, object: Some(*object) }).collect();
        self.add_pack(tx, access, &root.pack, context.now()).await?;
        Ok(git::add_commit(tx, access, &row, &changes).await?)
    }
}

/// A commit without parents, in a pack that is stored.
struct Root {
    commit: Oid,
    tree: Oid,
    pack: git::Pack,
    changes: Vec<(String, Oid)>,
    author: String,
    message: String,
}

/// Where a branch stood, and the paths that change with it.
#[derive(Default)]
struct Replaced {
    head: Option<Oid>,
    paths: Vec<String>,
}

/// The paths that differ between a commit and what is put in its place: another, or nothing.
pub(crate) fn replaced_paths(repo: &Repo, old: Oid, new: Option<Oid>) -> Result<Vec<String>, GitError> {
    let new = new.map(|new| repo.commit(new)).transpose()?.map(|new| new.tree);
    let changes = bastide_git::diff_trees(repo, Some(repo.commit(old)?.tree), new)?;
    Ok(changes.into_iter().map(|change| change.path).collect())
}

/// Puts a branch at a commit; says which head it has lost, if it stood elsewhere.
async fn place_branch(
    tx: &mut WriteTx,
    context: &Context,
    access: &Access<Write>,
    (name, commit): (&RefName, Oid),
    overwrite: bool,
) -> Result<Option<Oid>, Problem> {
    let old = refs::get(tx, access, name).await?;
    if old.is_some() && !overwrite {
        return Err(already(name));
    }
    if old.is_none() {
        refuse_conflict(tx, access, name).await?;
    }
    let moves = if old.is_some() { Move::Rewrite } else { Move::Create };
    RefRules::load(tx, access).await?.check(name, moves)?;
    let target = old.as_ref().map(|old| old.target);
    if !refs::swap(tx, access, name, target, Some(Target::commit(commit)), context.now()).await? {
        return Err(Problem::Stale);
    }
    let before = old.map(|old| old.commit);
    merged_pulls::enqueue(tx, context, access, name, (before, commit)).await?;
    Ok(before.filter(|lost| *lost != commit))
}

async fn refuse_conflict(tx: &mut WriteTx, access: &Access<Write>, name: &RefName) -> Result<(), Problem> {
    if !name.is_visible() {
        let name = name.as_str().escape_debug();
        return Err(Problem::Invalid(format!(
            "Invalid reference name: {name} has characters that do not show"
        )));
    }
    match refs::conflicting(tx, access, name).await? {
        Some(other) => {
            Err(Problem::Exists { message: format!("Reference {name} conflicts with {other}"), url: None })
        }
        None => Ok(()),
    }
}

/// What somebody gives as a message, as it is stored; `None` when it says nothing.
fn checked_message(what: &str, message: Option<String>) -> Result<Option<String>, Problem> {
    let Some(message) = message.filter(|message| !message.trim().is_empty()) else { return Ok(None) };
    if message.len() > MAX_COMMIT_MESSAGE {
        return Err(Problem::Invalid(format!("{what} has at most {MAX_COMMIT_MESSAGE} bytes")));
    }
    let message = lines(&message);
    check_text(what, &message)?;
    Ok(Some(message))
}

/// Collection may have taken a commit since it was looked up, and its large files with it.
async fn still_here(
    tx: &mut bastide_store::WriteTx,
    access: &Access<Write>,
    commit: Oid,
) -> Result<(), Problem> {
    let here = git::has_commit(tx, access, commit).await?;
    if here { Ok(()) } else { Err(Problem::RevisionNotFound(commit.to_string())) }
}

/// A message without its first line.
fn body(message: &str) -> &str {
    message.split_once('\n').map_or("", |(_, rest)| rest.trim())
}

fn already(name: &RefName) -> Problem {
    Problem::Exists { message: format!("Reference {name} already exists"), url: None }
}

fn ref_event(
    context: &Context,
    action: Action,
    access: &Access<Write>,
    name: &RefName,
    commit: Option<Oid>,
) -> NewEvent {
    crate::repos::repo_event(context, action, access.repo_id(), &access.repo().path)
        .fact("ref", name.as_str())
        .fact("commit", commit.map(|commit| commit.to_string()).unwrap_or_default())
}
