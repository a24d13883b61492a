//! Where a pull request begins: at a branch, or at a commit that the branch has.

use bastide_core::{Oid, RefName};
use bastide_git::GitError;
use bastide_store::discussions::Discussion;
use bastide_store::refs;

use super::{SHARE_LIMIT, base_branch, pull_of};
use crate::access::{Access, Includes, Propose, Read, See};
use crate::diffs::Compared;
use crate::{Hub, Problem};

impl Hub {
    /// The branch that a pull request is for, and the commit that its first one builds upon: where the branch
    /// stands, or the commit of its history that the caller has seen.
    pub(super) async fn pull_base(
        &self,
        access: &Access<Propose>,
        revision: &str,
        parent: Option<&str>,
    ) -> Result<(RefName, Oid), Problem> {
        let base = base_branch(revision)?;
        let head = refs::get(&mut self.db.read().await?, access, &base).await?;
        let head = head.ok_or_else(|| Problem::RevisionNotFound(revision.to_owned()))?.commit;
        let Some(parent) = parent else { return Ok((base, head)) };
        let parent = self.resolve_commit_id(access, parent).await?;
        match parent {
            Some(parent) if parent == head || self.is_before(access, parent, head).await? => {
                Ok((base, parent))
            }
            _ => Err(Problem::Invalid(format!(
                "parentCommit has to be a commit of {base}: that is what the pull request is to be merged into"
            ))),
        }
    }

    /// What a pull request changes, as a patch: from where it left its branch, or the branch's stand before it was
    /// merged. Without a commit that both have, all in which it differs from the branch. `None` when its commits
    /// are gone, or its branch is.
    pub async fn pull_patch(
        &self,
        access: &Access<Read>,
        pull: &Discussion,
    ) -> Result<Option<(Compared, Vec<u8>)>, Problem> {
        let Some(details) = &pull.pull_request else { return Ok(None) };
        let base = details.base_commit.map_or_else(|| details.base.to_string(), |base| base.to_string());
        let own = RefName::pull_request(pull.num);
        let compared = match self.compared(access, &format!("{base}...{own}")).await {
            Err(Problem::Unprocessable(_)) => self.compared(access, &format!("{base}..{own}")).await,
            compared => compared,
        };
        match compared {
            Ok(compared) => Ok(Some((compared, self.patch(access, compared).await?))),
            Err(Problem::RevisionNotFound(_)) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// The same by the number of a pull request, which has to be one that still has a patch.
    pub async fn numbered_pull_patch(
        &self,
        access: &Access<Read>,
        number: u64,
    ) -> Result<(Compared, Vec<u8>), Problem> {
        let (pull, _) = pull_of(&mut self.db.read().await?, access, number).await?;
        let patch = self.pull_patch(access, &pull).await?;
        patch.ok_or_else(|| Problem::RevisionNotFound(format!("refs/pr/{number}")))
    }

    /// Is a commit of this repository one that another comes from?
    async fn is_before(&self, access: &Access<Propose>, old: Oid, new: Oid) -> Result<bool, Problem> {
        if !bastide_store::git::has_commit(&mut self.db.read().await?, access, old).await? {
            return Ok(false);
        }
        self.materialise(access).await?;
        let bases =
            self.objects_blocking(access, move |repo| bastide_git::merge_bases(repo, old, new, SHARE_LIMIT));
        Ok(bases.await?.contains(&old))
    }

    /// Is there a commit that a pull request's base has, and one of `starts`, which its newest comes from, as well?
    /// What takes too long to find out, or has no base any more, is let through: merging looks again.
    pub(crate) async fn shares_base<L: Includes<See>>(
        &self,
        access: &Access<L>,
        pull: &Discussion,
        starts: Vec<Oid>,
    ) -> Result<bool, Problem> {
        let Some(details) = &pull.pull_request else { return Ok(true) };
        let base = refs::get(&mut self.db.read().await?, access, &details.base).await?;
        let Some(base) = base.map(|base| base.commit) else { return Ok(true) };
        self.materialise(access).await?;
        self.objects_blocking(access, move |repo| {
            match bastide_git::shares_commit(repo, base, &starts, SHARE_LIMIT) {
                Err(GitError::TooSlow) => Ok(true),
                shares => shares,
            }
        })
        .await
    }
}
