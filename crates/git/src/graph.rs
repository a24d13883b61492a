//! How commits descend from each other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use bastide_core::Oid;

use crate::{GitError, Repo};

/// Commits that are looked at to find where two histories part.
const MAX_WALKED: usize = 200_000;

const ONE: u8 = 1;
const TWO: u8 = 2;
const BOTH: u8 = ONE | TWO;
/// Below a common ancestor that is known.
const STALE: u8 = 4;

impl Repo {
    /// The best common ancestor of two commits, as `git merge-base` finds it: one that no other
    /// common ancestor descends from, the latest of several. `None` when they share nothing.
    pub fn merge_base(&self, one: Oid, two: Oid) -> Result<Option<Oid>, GitError> {
        Ok(self.merge_bases(one, two)?.first().copied())
    }

    /// Does `commit` come from `ancestor`, or is it the same?
    pub fn is_ancestor(&self, ancestor: Oid, commit: Oid) -> Result<bool, GitError> {
        Ok(self.merge_bases(ancestor, commit)?.contains(&ancestor))
    }

    /// All best common ancestors, the latest first.
    pub fn merge_bases(&self, one: Oid, two: Oid) -> Result<Vec<Oid>, GitError> {
        let found = self.common(one, two)?;
        let mut best = Vec::new();
        for candidate in &found {
            // Clocks that were wrong can leave one that comes before another.
            if !self.precedes_another(*candidate, &found)? {
                best.push(*candidate);
            }
        }
        Ok(best)
    }

    fn precedes_another(&self, commit: Oid, found: &[Oid]) -> Result<bool, GitError> {
        for other in found.iter().filter(|other| **other != commit) {
            if self.common(commit, *other)?.contains(&commit) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn common(&self, one: Oid, two: Oid) -> Result<Vec<Oid>, GitError> {
        if one == two {
            return Ok(vec![one]);
        }
        let mut painter = Painter { repo: self, queue: BinaryHeap::new(), seen: HashMap::new(), fresh: 0 };
        painter.paint(one, ONE)?;
        painter.paint(two, TWO)?;
        painter.run()
    }
}

#[derive(Default)]
struct Paint {
    colours: u8,
    queued: bool,
}

/// Carries the two colours down both histories, the latest commits first.
struct Painter<'a> {
    repo: &'a Repo,
    queue: BinaryHeap<(i64, Reverse<usize>, Oid)>,
    seen: HashMap<Oid, Paint>,
    /// Commits in the queue that may still lead to something new.
    fresh: usize,
}

impl Painter<'_> {
    fn paint(&mut self, commit: Oid, colours: u8) -> Result<(), GitError> {
        let order = self.seen.len();
        let paint = self.seen.entry(commit).or_default();
        if paint.colours & colours == colours {
            return Ok(());
        }
        let was_fresh = paint.queued && paint.colours & STALE == 0;
        paint.colours |= colours;
        let is_fresh = paint.colours & STALE == 0;
        let queued = std::mem::replace(&mut paint.queued, true);
        self.fresh = self.fresh + usize::from(is_fresh) - usize::from(was_fresh);
        if !queued {
            let time = self.repo.commit(commit)?.time.as_millis();
            self.queue.push((time, Reverse(order), commit));
        }
        if order > MAX_WALKED {
            return Err(GitError::TooFar("the two histories are too long to find where they part"));
        }
        Ok(())
    }

    fn run(mut self) -> Result<Vec<Oid>, GitError> {
        let mut found = Vec::new();
        while self.fresh > 0 {
            let Some((time, _, commit)) = self.queue.pop() else { break };
            let Some(paint) = self.seen.get_mut(&commit) else { break };
            paint.queued = false;
            let mut colours = paint.colours;
            if colours & STALE == 0 {
                self.fresh -= 1;
            }
            if colours == BOTH {
                if !found.iter().any(|(_, other)| *other == commit) {
                    found.push((time, commit));
                }
                colours |= STALE;
            }
            for parent in &self.repo.commit(commit)?.parents {
                self.paint(*parent, colours)?;
            }
        }
        found.retain(|(_, commit)| self.seen.get(commit).is_some_and(|paint| paint.colours & STALE == 0));
        found.sort_by_key(|(time, _)| Reverse(*time));
        Ok(found.into_iter().map(|(_, commit)| commit).collect())
    }
}
