//! What files of a push name: content that this very repository has, and cards that can be read.

use std::collections::{HashMap, HashSet};

use bastide_core::limits::MAX_REGULAR_FILE_BYTES;
use bastide_core::{EntryPath, Oid, RepoKind, Sha256};
use bastide_git::{GitError, Mode, Pointer, Repo};
use bastide_store::xet;

use super::{Judged, Tip};
use crate::push::{Pusher, Wish};
use crate::rules::{self, Fault};
use crate::{Hub, Problem};

impl Hub {
    /// Every pointer names content that this very repository has.
    pub(super) async fn check_pushed_pointers(
        &self,
        pusher: &Pusher,
        pointers: Vec<(Oid, EntryPath, Pointer)>,
        faults: &mut HashMap<Oid, Vec<Fault>>,
    ) -> Result<(), Problem> {
        let contents: HashSet<Sha256> = pointers.iter().map(|(_, _, pointer)| pointer.sha256).collect();
        let contents: Vec<Sha256> = contents.into_iter().collect();
        let sizes = xet::file_sizes(&mut self.db.read().await?, &pusher.permit(), &contents).await?;
        for (commit, path, Pointer { sha256, size }) in pointers {
            if let Err(fault) = rules::check_large(&path, sha256, Some(size), sizes.get(&sha256).copied()) {
                faults.entry(commit).or_default().push(fault);
            }
        }
        Ok(())
    }

    /// The card of every branch and pull request that is to be somewhere new. Older commits may have had another.
    pub(super) async fn check_cards(
        &self,
        pusher: &Pusher,
        repo: &Repo,
        wishes: &[Wish],
        judged: &Judged,
    ) -> Result<Vec<Option<Fault>>, Problem> {
        let kind = pusher.by.repo().path.kind;
        // Commits of the repository as well: as long as only a tag led to them, nobody asked for their card.
        let commit = |(wish, tip): (&Wish, &Option<Tip>)| {
            let (name, commit) = (wish.open()?.0, tip.as_ref()?.commit);
            let seen = judged.commits.contains_key(&commit) || judged.known.contains(&commit);
            (!name.is_tag() && seen).then_some(commit)
        };
        let commits: Vec<Option<Oid>> = wishes.iter().zip(&judged.tips).map(commit).collect();
        let repo = repo.clone();
        let check = move || {
            let mut found: HashMap<Oid, Option<Fault>> = HashMap::new();
            let check = |commit: Option<Oid>| {
                let Some(commit) = commit else { return Ok(None) };
                if let Some(fault) = found.get(&commit) {
                    return Ok(fault.clone());
                }
                let fault = card_fault(&repo, kind, repo.commit(commit)?.tree)?.map(Fault::brief);
                found.insert(commit, fault.clone());
                Ok(fault)
            };
            commits.into_iter().map(check).collect::<Result<Vec<_>, GitError>>()
        };
        Ok(tokio::task::spawn_blocking(check).await??)
    }
}

pub(crate) fn card_fault(repo: &Repo, kind: RepoKind, tree: Oid) -> Result<Option<Fault>, GitError> {
    let Some(entry) = repo.tree(tree)?.find("README.md").cloned() else { return Ok(None) };
    let is_file = matches!(entry.mode, Mode::File | Mode::Executable);
    // A larger one is no regular file: that is a fault of its own.
    if !is_file || repo.blob_size(entry.oid)? > MAX_REGULAR_FILE_BYTES {
        return Ok(None);
    }
    let readme = repo.blob(entry.oid, MAX_REGULAR_FILE_BYTES)?;
    Ok(rules::check_card(kind, &readme).err())
}
