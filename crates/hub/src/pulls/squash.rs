//! Squashing a pull request: all that it changes becomes one commit upon the one where it left its base, so that
//! it can be merged as before.

use bastide_core::{Oid, RefName};
use bastide_git::{GitError, NewCommit, PackWriter, diff_trees, merge_bases};
use bastide_ledger::{Action, Context};
use bastide_store::git::{self, ChangeRow, CommitRow, Pack};
use bastide_store::refs::{self, Target};

use super::{PullCommit, SHARE_LIMIT as LIMIT, note_commit, unrelated};
use crate::access::{Access, Write};
use crate::authors::author;
use crate::discussions::discussion_event;
use crate::uploads::Uploader;
use crate::{Hub, Problem};

/// The one commit, in a pack that is stored.
struct Squashed {
    commit: Oid,
    tree: Oid,
    parents: Vec<Oid>,
    changes: Vec<(String, Option<Oid>)>,
    message: String,
}

impl Hub {
    /// Makes one commit of a pull request that is open or a draft. The caller holds the repository's turn.
    pub(crate) async fn squash_pull(
        &self,
        context: &Context,
        access: &Access<Write>,
        number: u64,
        message: Option<String>,
    ) -> Result<Oid, Problem> {
        let by = Uploader::Writer(access.clone());
        let name = RefName::pull_request(number);
        let mut read = self.db.read().await?;
        let pull = self.pull_for_commits(&mut read, context, &by, number).await?;
        let head = refs::get(&mut read, access, &name).await?;
        let head = head.ok_or_else(|| Problem::RevisionNotFound(name.to_string()))?.commit;
        let base = match &pull.pull_request {
            Some(details) => refs::get(&mut read, access, &details.base).await?.map(|base| base.commit),
            None => None,
        };
        drop(read);
        let message = message.unwrap_or_else(|| format!("{}\n", pull.title));
        let written = self.write_squashed(context, access, (head, base), message).await?;
        let (squashed, pack) = written.ok_or_else(|| unrelated(&pull))?;
        let published = async {
            let mut tx = self.write_to(context, access).await?;
            let pull = self.pull_for_commits(&mut tx, context, &by, number).await?;
            let (now, target) = (context.now(), Some(Target::commit(squashed.commit)));
            if !refs::swap_pull_request(&mut tx, access, number, Some(head), target, now).await? {
                return Err(Problem::Stale);
            }
            self.add_pack(&mut tx, access, &pack, now).await?;
            add_rows(&mut tx, context, access, &squashed).await?;
            let title = squashed.message.lines().next().unwrap_or_default();
            let commit = PullCommit { id: squashed.commit, title };
            note_commit(&mut tx, context, access, &pull, commit).await?;
            let event = discussion_event(context, Action::HistorySquash, access, &pull)
                .fact("ref", name.as_str())
                .fact("commit", squashed.commit.to_string())
                .fact("before", head.to_string());
            Ok(tx.commit(event).await?)
        };
        self.keep_if(published.await, &pack).await.map(|()| squashed.commit)
    }

    async fn write_squashed(
        &self,
        context: &Context,
        access: &Access<Write>,
        (head, base): (Oid, Option<Oid>),
        message: String,
    ) -> Result<Option<(Squashed, Pack)>, Problem> {
        let repo = self.materialise(access).await?;
        let (scratch, author, time) = (self.scratch()?, author(context), context.now());
        let beside = repo.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bases = base.map(|base| merge_bases(&beside, base, head, LIMIT)).transpose()?;
            if bases.as_ref().is_some_and(Vec::is_empty) {
                return Ok(None);
            }
            let bases = bases.unwrap_or_default();
            let parents: Vec<Oid> = bases.first().copied().into_iter().collect();
            let old = parents.first().map(|parent| beside.commit(*parent)).transpose()?.map(|old| old.tree);
            let tree = beside.commit(head)?.tree;
            let mut pack = PackWriter::new(&scratch)?;
            let commit = NewCommit { tree, parents: &parents, author: &author, time, message: &message };
            let commit = pack.commit(&commit)?;
            let changes = diff_trees(&beside, old, Some(tree))?;
            let changes = changes.into_iter().map(|change| (change.path, change.new)).collect();
            let squashed = Squashed { commit, tree, parents, changes, message };
            Ok::<_, GitError>(Some((squashed, pack.finish(&scratch)?)))
        });
        let Some((squashed, new)) = written.await?? else { return Ok(None) };
        let pack = self.store_pack(&repo, &new).await?;
        Ok(Some((squashed, pack)))
    }
}

async fn add_rows(
    tx: &mut bastide_store::WriteTx,
    context: &Context,
    access: &Access<Write>,
    squashed: &Squashed,
) -> Result<(), Problem> {
    let row = CommitRow {
        id: squashed.commit,
        tree: squashed.tree,
        parents: &squashed.parents,
        time: context.now(),
        author: &author(context).name,
        author_id: context.user_id(),
        pusher_id: None,
        title: squashed.message.lines().next().unwrap_or_default(),
        message: &squashed.message,
    };
    let changes: Vec<ChangeRow<'_>> =
        squashed.changes.iter().map(|(path, object)| ChangeRow { path, object: *object }).collect();
    Ok(git::add_commit(tx, access, &row, &changes).await?)
}
