//! The part of the walk that looks at large files: pointers, files and rights.

use std::collections::HashSet;

use bastide_core::Sha256;
use bastide_git::Pointer;
use bastide_store::{check, large_files, xet};
use bastide_xet::file::{Term, decode_terms};
use bastide_xet::hash::FileHasher;
use bastide_xet::plan;
use bastide_xet::xorb::XorbIndex;
use futures_util::StreamExt;
use sha2::Digest;

use super::Checked;
use crate::access::{Access, Read};
use crate::large::{OpenFile, xorbs_of_terms};
use crate::{Hub, Problem};

impl Hub {
    /// Every pointer that a ref reaches has its content here, with that size, unless somebody has deleted
    /// it for good.
    pub(super) async fn check_pointers(
        &self,
        access: &Access<Read>,
        pointers: HashSet<Pointer>,
    ) -> Result<Vec<String>, Problem> {
        let files = check::files(&mut self.db.read().await?, access).await?;
        let here: HashSet<(Sha256, u64)> =
            files.iter().filter_map(|file| Some((file.sha256?, file.size))).collect();
        let deleted = large_files::all_deleted(&mut self.db.read().await?, access).await?;
        let deleted: HashSet<Sha256> = deleted.into_iter().collect();
        let is_lost = |Pointer { sha256, size }: &Pointer| {
            !here.contains(&(*sha256, *size)) && !deleted.contains(sha256)
        };
        let lost = pointers.into_iter().filter(is_lost);
        Ok(lost
            .map(|Pointer { sha256, size }| {
                format!("a commit points at {sha256} with {size} bytes, which is not here")
            })
            .collect())
    }

    pub(super) async fn check_rights(&self, access: &Access<Read>) -> Result<Vec<String>, Problem> {
        let mut read = self.db.read().await?;
        let bad = check::bad_rights(&mut read, access).await?;
        let mut faults: Vec<String> =
            bad.iter().map(|hash| format!("it has a right to {hash} that leads to another xorb")).collect();
        let chunks = check::offered_chunks(&mut read, access).await?;
        drop(read);
        for (chunk, index_key) in chunks {
            // One without an index was named with its xorb.
            let Ok(index) = self.xorb_index(&index_key).await else { continue };
            if !index.chunks.iter().any(|known| known.hash == chunk) {
                faults.push(format!("it is offered chunk {chunk} of xorb {}, which has no such", index.hash));
            }
        }
        Ok(faults)
    }

    pub(super) async fn check_files(
        &self,
        access: &Access<Read>,
        deep: bool,
        done: &mut Checked,
    ) -> Result<Vec<String>, Problem> {
        let mut faults = Vec::new();
        let files = check::files(&mut self.db.read().await?, access).await?;
        for facts in files {
            done.files += 1;
            match self.check_file(access, &facts, deep).await {
                Ok(None) => {}
                Ok(Some(what)) => faults.push(format!("file {}: {what}", facts.hash)),
                Err(problem) => faults.push(format!("file {}: {}", facts.hash, problem.detail())),
            }
        }
        Ok(faults)
    }

    async fn check_file(
        &self,
        access: &Access<Read>,
        facts: &check::FileFacts,
        deep: bool,
    ) -> Result<Option<String>, Problem> {
        let wrong = |what: &str| Ok(Some(what.to_owned()));
        let mut read = self.db.read().await?;
        // Gone since the list was made.
        let Some(file) = xet::file_by_hash(&mut read, access, facts.hash).await? else { return Ok(None) };
        let kept = check::xorbs_of_file(&mut read, access, facts.hash).await?;
        drop(read);
        let terms = decode_terms(&file.terms)?;
        if kept != xorbs_of_terms(&terms) {
            return wrong("the xorbs that it keeps are not those that it is made of");
        }
        let open = self.open_terms(access, terms).await?;
        if plan::size(&open.terms) != facts.size {
            return wrong("its terms have another length than it");
        }
        plan::pieces(&open.terms, &(0..facts.size), |hash| open.index(hash))?;
        if file_hash(&open.terms, |term| open.index(&term.xorb)) != Some(facts.hash) {
            return wrong("its chunks have another hash than it");
        }
        if !deep {
            return Ok(None);
        }
        let found = self.content_hash(open, facts.size).await?;
        let differs = facts.sha256 != Some(found);
        Ok(differs.then(|| format!("its content has the SHA-256 {found}")))
    }

    async fn content_hash(&self, open: OpenFile, size: u64) -> Result<Sha256, Problem> {
        let mut hasher = sha2::Sha256::new();
        let mut stream = self.stream_file(open, 0..size)?;
        while let Some(part) = stream.next().await {
            hasher.update(&part?);
        }
        Ok(Sha256::from_bytes(hasher.finalize().into()))
    }
}

/// The hash of the file that terms make, from the indexes of their xorbs.
fn file_hash<'a>(
    terms: &[Term],
    index: impl Fn(&Term) -> Option<&'a XorbIndex>,
) -> Option<bastide_core::XetHash> {
    let mut hasher = FileHasher::default();
    for term in terms {
        let xorb = index(term)?;
        let mut before = xorb.raw_range(&term.chunks)?.start;
        for chunk in xorb.chunks(&term.chunks)? {
            hasher.push(chunk.hash, u64::from(chunk.raw_end) - before);
            before = chunk.raw_end.into();
        }
    }
    Some(hasher.finish())
}
