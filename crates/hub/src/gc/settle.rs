//! What was proposed and has come into a branch or a tag in another way than by a merge here (a push that merges,
//! a branch that was made from a pull request, the history behind a merge) is the owner's from then on.

use std::collections::HashSet;

use bastide_core::{Oid, RefName, Sha256};
use bastide_ledger::{Action, Context};
use bastide_store::{collect, proposals, refs};

use super::{STEPS, Walk};
use crate::access::{Access, Admin};
use crate::repos::repo_event;
use crate::{Hub, Problem};

/// A charge that is to go.
enum Settled {
    File(Sha256),
    Pull(u64),
}

impl Hub {
    /// False when a ref has moved since the walk.
    pub(super) async fn settle_proposals(
        &self,
        context: &Context,
        access: &Access<Admin>,
        walk: &Walk,
    ) -> Result<bool, Problem> {
        let settled = self.settled(access).await?;
        for batch in settled.chunks(STEPS) {
            let mut tx = self.write_to(context, access).await?;
            if collect::ref_moves(&mut tx, access).await? != Some(walk.ref_moves) {
                return Ok(false);
            }
            for one in batch {
                match one {
                    Settled::File(sha256) => proposals::release_file(&mut tx, access, *sha256).await?,
                    Settled::Pull(number) => proposals::release_commits(&mut tx, access, *number).await?,
                }
            }
            let event = repo_event(context, Action::GcCollect, access.repo_id(), &access.repo().path);
            tx.commit(event.fact("settled", batch.len() as u64)).await?;
        }
        Ok(true)
    }

    /// What is charged to proposers and is in a branch or a tag.
    async fn settled(&self, access: &Access<Admin>) -> Result<Vec<Settled>, Problem> {
        let mut read = self.db.read().await?;
        if !proposals::any(&mut read, access).await? {
            return Ok(Vec::new());
        }
        let files = proposals::charged_files(&mut read, access).await?;
        let pulls = proposals::charged_pulls(&mut read, access).await?;
        let all = refs::list(&mut read, access).await?;
        drop(read);
        let own = all.iter().filter(|found| found.name.is_branch() || found.name.is_tag());
        let roots: Vec<Oid> = own.map(|found| found.target).collect();
        let reached = self.objects_blocking(access, move |repo| Ok(repo.reach(&roots))).await?;
        let contents: HashSet<Sha256> = reached.pointers.iter().map(|pointer| pointer.sha256).collect();
        let is_in = |(number, left): &(u64, Option<Oid>)| {
            let name = RefName::pull_request(*number);
            let head = || all.iter().find(|found| found.name == name).map(|found| found.commit);
            left.or_else(head).is_some_and(|head| reached.commits.contains(&head))
        };
        let files = files.into_iter().filter(|sha256| contents.contains(sha256)).map(Settled::File);
        let pulls = pulls.into_iter().filter(is_in).map(|(number, _)| Settled::Pull(number));
        Ok(files.chain(pulls).collect())
    }
}
