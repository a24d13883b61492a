//! What giving the ref of a pull request up would free: the large files that only its commits have, without what is
//! in git packs.

use std::collections::{HashMap, HashSet};

use bastide_core::{Oid, RefName, Sha256};
use bastide_git::{Repo, commits_ahead};
use bastide_store::{git, proposals, refs};

use super::pull_of;
use crate::access::{Access, Read, Write};
use crate::{Hub, Problem};

/// Commits that are looked at: of the pull request, and of all other refs.
const MAX_COMMITS: usize = 1000;
const MAX_HISTORY: usize = 200_000;
/// Large files that are looked at.
const MAX_FILES: usize = 5000;

/// What would be freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullStorage {
    pub bytes: u64,
    pub files: u64,
    /// False when there was too much to look at: then it is at least this.
    pub complete: bool,
}

/// Objects that the database is asked about in one statement.
const ASKED_AT_ONCE: usize = 1000;

/// Large files by the pointers that stand for them.
type Brought = HashMap<Oid, Sha256>;

impl Hub {
    /// How much is free when the ref is deleted and its commits have been collected.
    pub async fn pull_storage(&self, access: &Access<Write>, number: u64) -> Result<PullStorage, Problem> {
        let reader = access.lower::<Read>();
        let mut read = self.db.read().await?;
        let (_, pull) = pull_of(&mut read, &reader, number).await?;
        let all = refs::list(&mut read, &reader).await?;
        drop(read);
        let name = RefName::pull_request(number);
        let head = all.iter().find(|found| found.name == name).map(|found| found.commit);
        let Some(head) = head.filter(|_| pull.ref_deleted_at.is_none()) else {
            return Ok(PullStorage { complete: true, ..PullStorage::default() });
        };
        let others: Vec<Oid> =
            all.iter().filter(|found| found.name != name).map(|found| found.commit).collect();
        self.materialise(&reader).await?;
        let own = self
            .objects_blocking(&reader, move |repo| repo.only_from(head, &others, (MAX_COMMITS, MAX_HISTORY)));
        let Some(own) = own.await? else { return Ok(PullStorage::default()) };
        let (files, complete) = self.files_of_commits(&reader, &own).await?;
        let objects: Vec<Oid> = files.keys().copied().collect();
        let mut read = self.db.read().await?;
        let mut shared = HashSet::new();
        for batch in objects.chunks(ASKED_AT_ONCE) {
            shared.extend(git::objects_elsewhere(&mut read, &reader, batch, &own).await?);
        }
        let gone: Vec<Sha256> =
            files.into_iter().filter(|(object, _)| !shared.contains(object)).map(|(_, file)| file).collect();
        let bytes = proposals::bytes_of_files_alone(&mut read, access, &gone).await?;
        Ok(PullStorage { bytes, files: gone.len() as u64, complete })
    }

    /// What the commits that `head` has and `base` has not have brought in large files, also where later ones took
    /// it away again: as far as anything here is charged to proposers at all. What is too much is left to collection.
    pub(crate) async fn files_ahead(
        &self,
        access: &Access<Write>,
        base: Option<Oid>,
        head: Oid,
    ) -> Result<Vec<Sha256>, Problem> {
        let reader = access.lower::<Read>();
        let charged = proposals::any(&mut self.db.read().await?, access).await?;
        let Some(base) = base.filter(|_| charged) else { return Ok(Vec::new()) };
        if !git::has_commit(&mut self.db.read().await?, access, base).await? {
            // Collected since it was noted, and pruned: the next collection finds what is the owner's.
            return Ok(Vec::new());
        }
        let ahead = move |repo: &Repo| commits_ahead(repo, base, head, MAX_COMMITS);
        let commits = self.objects_blocking(&reader, ahead).await?;
        let (files, _) = self.files_of_commits(&reader, &commits).await?;
        Ok(files.into_values().collect())
    }

    /// The large files that some commits have brought, and whether these are all.
    async fn files_of_commits(
        &self,
        access: &Access<Read>,
        commits: &[Oid],
    ) -> Result<(Brought, bool), Problem> {
        let mut changed: Vec<Oid> = Vec::new();
        let mut read = self.db.read().await?;
        for commit in commits {
            let found = git::changes_of(&mut read, access, *commit, MAX_FILES as u64 + 1).await?;
            changed.extend(found.into_iter().map(|(_, object)| object));
            if changed.len() > MAX_FILES {
                break;
            }
        }
        drop(read);
        let complete = changed.len() <= MAX_FILES;
        changed.truncate(MAX_FILES);
        let files = self.objects_blocking(access, move |repo| {
            let mut files = Brought::new();
            for object in &changed {
                match repo.pointer(*object) {
                    Ok(Some(pointer)) => drop(files.insert(*object, pointer.sha256)),
                    // A folder is no file, and not large.
                    Ok(None) | Err(bastide_git::GitError::Kind(..)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(files)
        });
        Ok((files.await?, complete))
    }
}
