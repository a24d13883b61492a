//! Refs and history: branches, tags, lists of commits, squashing.

use bastide_core::limits::MAX_COMMIT_MESSAGE;
use bastide_core::{Oid, RefName, Timestamp};
use bastide_git::{GitError, NewCommit, PackWriter, Tag};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::git::{self, ChangeRow, CommitRow};
use bastide_store::refs::{self, Ref, Target};

use crate::access::{Access, Includes, See, Write};
use crate::commits::author;
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
    pub author: String,
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
        let items = found.iter().map(|(id, commit)| CommitItem {
            id: *id,
            title: commit.title().to_owned(),
            message: body(&commit.message).to_owned(),
            time: commit.time,
            author: commit.author.name.clone(),
        });
        Ok((items.collect(), more))
    }

    pub async fn create_branch(
        &self,
        context: &Context,
        access: &Access<Write>,
        name: &RefName,
        start: Option<&str>,
        overwrite: bool,
    ) -> Result<(), Problem> {
        let start = self.resolve_revision(access, start.unwrap_or("refs/heads/main")).await?;
        let mut tx = self.write_to(context, access).await?;
        let old = refs::get(&mut tx, access, name).await?;
        if old.is_some() && !overwrite {
            return Err(already(name));
        }
        let old = old.map(|old| old.target);
        if !refs::swap(&mut tx, access, name, old, Some(Target::commit(start)), context.now()).await? {
            return Err(Problem::Stale);
        }
        Ok(tx.commit(ref_event(context, Action::BranchCreate, access, name, Some(start))).await?)
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
        let message = message.filter(|message| !message.trim().is_empty());
        if message.as_ref().is_some_and(|message| message.len() > MAX_COMMIT_MESSAGE) {
            return Err(Problem::Invalid(format!("a tag's message has at most {MAX_COMMIT_MESSAGE} bytes")));
        }
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
        if *name == RefName::main() {
            return Err(Problem::Forbidden("Cannot delete refs/heads/main".into()));
        }
        let mut tx = self.write_to(context, access).await?;
        let old = refs::get(&mut tx, access, name).await?;
        let old = old.ok_or_else(|| Problem::RevisionNotFound(name.short().to_owned()))?;
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
        let _turn = self.locks.lock(access.repo_id()).await;
        let head = refs::get(&mut self.db.read().await?, access, name).await?;
        let head = head.ok_or_else(|| Problem::RevisionNotFound(name.short().to_owned()))?.commit;
        let tree = self.read_commit(access, head).await?.tree;
        let message = message.filter(|message| !message.trim().is_empty());
        let message = message.unwrap_or_else(|| format!("Super-squash branch '{}'", name.short()));
        if message.len() > MAX_COMMIT_MESSAGE {
            return Err(Problem::Invalid(format!("a message has at most {MAX_COMMIT_MESSAGE} bytes")));
        }
        let repo = self.materialise(access).await?;
        let (scratch, person, now) = (self.scratch()?, author(context), context.now());
        let written = {
            let (repo, person, message) = (repo.clone(), person.clone(), message.clone());
            tokio::task::spawn_blocking(move || {
                let mut pack = PackWriter::new(&scratch)?;
                let commit = NewCommit { tree, parents: &[], author: &person, time: now, message: &message };
                let commit = pack.commit(&commit)?;
                let all = repo.list(tree, "", true, None, usize::MAX)?;
                Ok::<_, GitError>((commit, pack.finish(&scratch)?, all))
            })
        };
        let (commit, new, all) = written.await??;
        let pack = self.store_pack(&repo, &new).await?;
        let row = CommitRow {
            id: commit,
            tree,
            parents: &[],
            time: now,
            author: &person.name,
            author_id: context.user_id(),
            title: message.lines().next().unwrap_or_default(),
            message: &message,
        };
        let changes: Vec<_> = all
            .iter()
            .map(|walked| ChangeRow { path: &walked.path, object: Some(walked.entry.oid) })
            .collect();
        let published = async {
            let mut tx = self.write_to(context, access).await?;
            let target = Some(Target::commit(commit));
            if !refs::swap(&mut tx, access, name, Some(head), target, now).await? {
                return Err(Problem::Stale);
            }
            self.add_pack(&mut tx, access, &pack, now).await?;
            git::add_commit(&mut tx, access, &row, &changes).await?;
            let event = ref_event(context, Action::HistorySquash, access, name, Some(commit))
                .fact("before", head.to_string());
            Ok(tx.commit(event).await?)
        };
        self.keep_if(published.await, &pack).await.map(|()| commit)
    }
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
