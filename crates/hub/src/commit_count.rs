//! How long a history is: read off the rows where it is a chain, walked where it has merges.

use bastide_core::Oid;
use bastide_store::git;

use crate::access::{Access, Includes, See};
use crate::{Hub, Problem};

/// Commits that are walked; of more nobody is told how many there are.
const MAX_WALKED: u64 = 20_000;

impl Hub {
    /// How many commits lead to `start`, itself among them; `None` when that cannot be known at once.
    pub async fn count_commits<L: Includes<See>>(
        &self,
        access: &Access<L>,
        start: Oid,
    ) -> Result<Option<u64>, Problem> {
        let chain = git::chain_length(&mut self.db.read().await?, access, start).await?;
        if chain.is_some() {
            return Ok(chain);
        }
        let walked = self.objects_blocking(access, move |repo| {
            let mut count = 0;
            repo.walk_history(start, |_| {
                count += 1;
                count <= MAX_WALKED
            })?;
            Ok(count)
        });
        Ok(Some(walked.await?).filter(|count| *count <= MAX_WALKED))
    }
}
