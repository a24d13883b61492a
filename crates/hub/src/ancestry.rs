//! Which commits another one comes from, read from the rows as far down as somebody asks.

use std::collections::HashSet;

use bastide_core::Oid;
use bastide_store::{Reader, history};

use crate::Problem;
use crate::access::{Access, Includes, See};

/// Generations that are read at a time.
const BLOCK: i64 = 4096;

/// The ancestors of one commit, itself included.
pub(crate) struct Ancestry {
    /// That of the commit itself.
    pub generation: i64,
    /// With one commit in each generation, all of them are ancestors.
    is_line: bool,
    reached: HashSet<Oid>,
    /// The highest generation whose commits have not handed on to their parents.
    next: i64,
}

impl Ancestry {
    pub async fn of<L: Includes<See>>(
        read: &mut Reader,
        access: &Access<L>,
        commit: Oid,
    ) -> Result<Self, Problem> {
        let generation = history::generation(read, access, commit).await?;
        let generation = generation.ok_or_else(|| Problem::RevisionNotFound(commit.to_string()))?;
        let commits = history::commits_up_to(read, access, generation).await?;
        let is_line = i64::try_from(commits).is_ok_and(|commits| commits == generation + 1);
        Ok(Self { generation, is_line, reached: HashSet::from([commit]), next: generation })
    }

    /// Is a commit of this generation among the ancestors?
    pub async fn has<L: Includes<See>>(
        &mut self,
        read: &mut Reader,
        access: &Access<L>,
        commit: Oid,
        generation: i64,
    ) -> Result<bool, Problem> {
        if generation > self.generation {
            return Ok(false);
        }
        while !self.is_line && self.next > generation {
            let above = self.next - BLOCK;
            for (id, parents) in history::lineage(read, access, above, self.next).await? {
                if self.reached.contains(&id) {
                    self.reached.extend(parents);
                }
            }
            self.next = above;
        }
        Ok(self.is_line || self.reached.contains(&commit))
    }
}
