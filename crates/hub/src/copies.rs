//! Copies of large files from one repository to another: rights are copied, bytes stay where they are.
//! Whoever asks may read the one and write the other; it counts as a delivery of the content.

use std::collections::BTreeMap;

use bastide_core::{RepoId, Sha256, XetHash};
use bastide_ledger::{Action, Context};
use bastide_store::{WriteTx, gate, xet};

use crate::access::{Access, Read, Write};
use crate::reads::Delivery;
use crate::repos::repo_event;
use crate::{Hub, Problem};

/// Files of one call.
pub const MAX_COPIES: usize = 500;
/// Repositories that are tried for content that a commit copies without saying from where.
const MAX_HOLDERS: u32 = 16;

/// A file that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct WantedCopy {
    pub sha256: Sha256,
    /// What the caller knows of it: has to be right when it is given.
    pub xet_hash: Option<XetHash>,
}

/// A file that was not copied, and why.
#[derive(Debug, Clone)]
pub struct FailedCopy {
    pub sha256: Sha256,
    pub error: String,
}

impl Hub {
    /// Gives a repository large files of another. Those that are not there are named; the others are
    /// copied, all in one transaction.
    pub async fn copy_large_files(
        &self,
        context: &Context,
        from: &Access<Read>,
        to: &Access<Write>,
        wanted: &[WantedCopy],
    ) -> Result<Vec<FailedCopy>, Problem> {
        if wanted.len() > MAX_COPIES {
            return Err(Problem::Unprocessable(format!("at most {MAX_COPIES} files in one call")));
        }
        let (known, failed) = self.find_copies(from, wanted).await?;
        if known.is_empty() {
            return Ok(failed);
        }
        let bytes = known.values().copied().fold(0, u64::saturating_add);
        let object = format!("{} files", known.len());
        self.record_read(context, from, Delivery { via: "copy", commit: None, path: None, object, bytes })?;
        let mut tx = self.write_to(context, to).await?;
        self.renew(&mut tx, context, from).await?;
        copy_all(&mut tx, context, from, to, &known).await?;
        self.quota_in(&mut tx, to, 0).await?;
        let list = known.keys().map(Sha256::to_string).collect::<Vec<_>>().join(",");
        let facts = |action, access: RepoId, path: &bastide_core::RepoPath| {
            repo_event(context, action, access, path).fact("sha256", list.as_str()).fact("bytes", bytes)
        };
        let (source, target) = (from.repo(), to.repo());
        tx.record(
            facts(Action::FilesCopyOut, source.id, &source.path)
                .fact("target", target.path.to_string())
                .fact("target_id", target.id.as_i64()),
        );
        let event = facts(Action::FilesCopyIn, target.id, &target.path)
            .fact("source", source.path.to_string())
            .fact("source_id", source.id.as_i64());
        tx.commit(event).await?;
        Ok(failed)
    }

    /// Which of the files are there, each once, with their sizes.
    async fn find_copies(
        &self,
        from: &Access<Read>,
        wanted: &[WantedCopy],
    ) -> Result<(BTreeMap<Sha256, u64>, Vec<FailedCopy>), Problem> {
        let (mut known, mut failed) = (BTreeMap::new(), Vec::new());
        let mut read = self.db.read().await?;
        for WantedCopy { sha256, xet_hash } in wanted.iter().copied() {
            match xet::file_hash(&mut read, from, sha256).await? {
                Some((hash, size)) if xet_hash.is_none_or(|wanted| wanted == hash) => {
                    known.insert(sha256, size);
                }
                // A hash that is not the file's is answered like a file that is not there.
                _ => failed.push(FailedCopy {
                    sha256,
                    error: format!("{} has no such file", from.repo().path.id()),
                }),
            }
        }
        Ok((known, failed))
    }

    /// Brings content to a repository that a commit points at without having uploaded it: from
    /// wherever its author may read it. What is not found so is left to the commit to refuse.
    pub(crate) async fn bring_copies(
        &self,
        context: &Context,
        to: &Access<Write>,
        wanted: &[Sha256],
    ) -> Result<(), Problem> {
        let mut sources: BTreeMap<RepoId, (Access<Read>, Vec<WantedCopy>)> = BTreeMap::new();
        for sha256 in wanted.iter().copied() {
            if xet::file_hash(&mut self.db.read().await?, to, sha256).await?.is_some() {
                continue;
            }
            let Some(from) = self.readable_holder(context, sha256).await? else { continue };
            let (_, files) = sources.entry(from.repo_id()).or_insert_with(|| (from, Vec::new()));
            files.push(WantedCopy { sha256, xet_hash: None });
        }
        for (from, files) in sources.into_values() {
            for files in files.chunks(MAX_COPIES) {
                self.copy_large_files(context, &from, to, files).await?;
            }
        }
        Ok(())
    }

    /// A repository that has this content, and that the caller may read.
    async fn readable_holder(
        &self,
        context: &Context,
        sha256: Sha256,
    ) -> Result<Option<Access<Read>>, Problem> {
        let user = context.user_id();
        let holders = gate::repos_with_content(&mut self.db.read().await?, sha256, user, MAX_HOLDERS).await?;
        for id in holders {
            if let Ok(access) = self.access(context).repo_by_id::<Read>(id).await {
                return Ok(Some(access));
            }
        }
        Ok(None)
    }
}

async fn copy_all(
    tx: &mut WriteTx,
    context: &Context,
    from: &Access<Read>,
    to: &Access<Write>,
    files: &BTreeMap<Sha256, u64>,
) -> Result<(), Problem> {
    for sha256 in files.keys() {
        if !xet::copy_file(tx, from, to, *sha256, context.now()).await? {
            // Collected a moment ago.
            return Err(Problem::Busy { seconds: 1 });
        }
    }
    Ok(())
}
