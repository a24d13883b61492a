//! Merges a repository's small packs into one.

use bastide_core::{RepoId, Timestamp};
use bastide_git::merge_packs;
use bastide_ledger::{Action, Context, NewEvent, context};
use bastide_store::jobs::NewJob;
use bastide_store::{git, proposals};

use crate::access::{Access, Level, Write};
use crate::{Hub, Problem};

pub(crate) const KIND: &str = "merge-packs";

/// A pack this many times larger than all smaller ones together is left alone, so that each
/// object is rewritten only a few times in its life.
const GEOMETRIC: u64 = 4;

pub(crate) fn new<L: Level>(access: &Access<L>, now: Timestamp) -> NewJob<'static> {
    let key = access.repo_id().to_string();
    NewJob { kind: KIND, payload: key.clone(), key, run_at: now }
}

impl Hub {
    pub(crate) async fn merge_packs(&self, repo: &str) -> Result<(), Problem> {
        let context = context::system("merge-packs", &self.clock);
        let id: RepoId = repo.parse().map_err(|_| Problem::internal("a bad repository id in a job"))?;
        let access = match self.access(&context).repo_by_id::<Write>(id).await {
            // Deleted in the meantime: nothing to merge.
            Err(Problem::RepoNotFound { .. }) => return Ok(()),
            other => other?,
        };
        let mut packs = git::packs(&mut self.db.read().await?, &access).await?;
        let names = choose(&mut packs);
        if names.len() < 2 {
            return Ok(());
        }
        let scratch = self.scratch()?;
        let merged = {
            let names = names.clone();
            let merge = move |repo: &bastide_git::Repo| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                merge_packs(repo, &names, &scratch)
            };
            // All packs have to be here, whole.
            self.materialise(&access).await?;
            self.objects_blocking(&access, merge).await?
        };
        let local = self.git.repo(id)?;
        let pack = self.store_pack(&local, &merged).await?;
        // It may hold what is pruned meanwhile.
        let unpublished = self.unpublished(id, &pack);
        crate::crash::point("merge.stored");
        let gone: Vec<String> = names.iter().filter(|name| **name != pack.name).cloned().collect();
        let swapped = self.swap_packs(&context, &access, &gone, &pack).await;
        self.keep_if(swapped, &pack).await?;
        unpublished.publish();
        Ok(local.remove_packs(&gone)?)
    }

    /// The transaction of a merge.
    async fn swap_packs(
        &self,
        context: &Context,
        access: &Access<Write>,
        gone: &[String],
        pack: &git::Pack,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        let before = git::packed_bytes(&mut tx, access).await?;
        if !git::remove_packs(&mut tx, access, gone).await? {
            // Another server was faster, and its merge may have led to the very same pack.
            return Err(Problem::Stale);
        }
        git::add_pack(&mut tx, access, pack, context.now()).await?;
        let after = git::packed_bytes(&mut tx, access).await?;
        proposals::repacked(&mut tx, access, (before, after)).await?;
        let event = NewEvent::new(context, Action::PacksMerge)
            .subject("repo", Some(access.repo_id().as_i64()), &access.repo().path.to_string())
            .fact("packs", gone.len() as u64)
            .fact("objects", pack.objects);
        crate::crash::point("merge.before");
        Ok(tx.commit(event).await?)
    }
}

/// All packs but those that are much larger than the rest.
fn choose(packs: &mut [git::Pack]) -> Vec<String> {
    packs.sort_by_key(|pack| pack.bytes);
    let mut chosen = Vec::new();
    let mut sum = 0;
    for pack in packs.iter() {
        if chosen.len() >= 2 && pack.bytes > GEOMETRIC * sum {
            break;
        }
        sum += pack.bytes;
        chosen.push(pack.name.clone());
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_pack_is_left_alone() {
        let pack = |name: &str, bytes| git::Pack {
            name: name.to_owned(),
            pack_key: String::new(),
            index_key: String::new(),
            objects: 1,
            bytes,
        };
        let mut packs = vec![pack("big", 1_000_000), pack("a", 100), pack("b", 300), pack("c", 120)];
        assert_eq!(choose(&mut packs), ["a", "c", "b"]);
    }
}
