//! Downloads: what stands at a path of a commit, its headers' facts, and its bytes.

use std::ops::Range;

use bastide_core::{EntryPath, Oid, Sha256, XetHash};
use bastide_git::Pointer;
use bytes::Bytes;

use crate::access::{Access, Includes, Read, See};
use crate::large::LargeStream;
use crate::{Hub, Problem};

/// The file that a gated repository shows to those who may only see it.
pub const CARD: &str = "README.md";
/// Largest file that git itself holds and that is served from it.
const MAX_GIT_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// A file of a commit, as `HEAD` describes it.
#[derive(Debug, Clone)]
pub struct FileFacts {
    pub commit: Oid,
    pub path: EntryPath,
    pub oid: Oid,
    pub size: u64,
    pub large: Option<LargeFacts>,
}

#[derive(Debug, Clone, Copy)]
pub struct LargeFacts {
    pub sha256: Sha256,
    pub xet_hash: XetHash,
}

impl FileFacts {
    /// What stays the same as long as the content does: the blob's id, or the SHA-256.
    pub fn etag(&self) -> String {
        self.large.map_or_else(|| self.oid.to_string(), |large| large.sha256.to_string())
    }
}

/// The bytes of an answer.
pub enum Content {
    Whole(Bytes),
    Large(LargeStream),
}

impl Hub {
    /// What stands at a path. `raw` looks at git alone: a large file is its pointer there.
    pub async fn file_facts(
        &self,
        access: &Access<Read>,
        commit: Oid,
        path: Option<EntryPath>,
        raw: bool,
    ) -> Result<FileFacts, Problem> {
        let (facts, pointer) = self.git_facts(access, commit, path).await?;
        match pointer.filter(|_| !raw) {
            None => Ok(facts),
            Some(pointer) => self.large_facts(access, facts, pointer).await,
        }
    }

    /// The card at the root of a commit with its bytes. It is for everybody who may see the
    /// repository; `None` where it is a large file, which is not.
    pub async fn card_file(
        &self,
        access: &Access<See>,
        commit: Oid,
    ) -> Result<Option<(FileFacts, Bytes)>, Problem> {
        let path = CARD.parse().map(Some)?;
        let (facts, pointer) = self.git_facts(access, commit, path).await?;
        if pointer.is_some() {
            return Ok(None);
        }
        let oid = facts.oid;
        let bytes = self.objects(access, move |repo| repo.blob(oid, MAX_GIT_FILE_BYTES)).await?;
        Ok(Some((facts, bytes)))
    }

    /// What git says of a path, and the pointer that stands there, if it is one.
    async fn git_facts<L: Includes<See>>(
        &self,
        access: &Access<L>,
        commit: Oid,
        path: Option<EntryPath>,
    ) -> Result<(FileFacts, Option<Pointer>), Problem> {
        let missing = || Problem::EntryNotFound { message: "Entry not found".into(), commit: Some(commit) };
        let path = path.ok_or_else(missing)?;
        let wanted = path.clone();
        let found = self.objects(access, move |repo| {
            let entry = repo.find(repo.commit(commit)?.tree, &wanted)?;
            let Some(entry) = entry.filter(|entry| !entry.is_tree()) else { return Ok(None) };
            Ok(Some((entry.oid, repo.blob_size(entry.oid)?, repo.pointer(entry.oid)?)))
        });
        let (oid, size, pointer) = found.await?.ok_or_else(missing)?;
        Ok((FileFacts { commit, path, oid, size, large: None }, pointer))
    }

    async fn large_facts(
        &self,
        access: &Access<Read>,
        facts: FileFacts,
        pointer: Pointer,
    ) -> Result<FileFacts, Problem> {
        let mut read = self.db.read().await?;
        let found = bastide_store::xet::file_hash(&mut read, access, pointer.sha256).await?;
        // Never the pointer's text in the place of the content: whoever asked would take it for that.
        drop(read);
        let Some((xet_hash, size)) = found else {
            let (path, sha256) = (&facts.path, pointer.sha256);
            let message = match self.deleted_at(access, sha256).await? {
                Some(at) => format!(
                    "the content of {path} (SHA-256 {sha256}) was deleted from this repository for good, at {at}: \
                     whoever has it can upload it again"
                ),
                None => {
                    format!("the content of {path} (SHA-256 {sha256}) is not in this repository any more")
                }
            };
            return Err(Problem::EntryNotFound { message, commit: Some(facts.commit) });
        };
        Ok(FileFacts { size, large: Some(LargeFacts { sha256: pointer.sha256, xet_hash }), ..facts })
    }

    /// The bytes `range` of a file. The caller has recorded the delivery.
    pub async fn open_content(
        &self,
        access: &Access<Read>,
        facts: &FileFacts,
        range: Range<u64>,
    ) -> Result<Content, Problem> {
        if let Some(large) = facts.large {
            return Ok(Content::Large(self.large_stream(access, large.sha256, range).await?));
        }
        let oid = facts.oid;
        let whole = self.objects(access, move |repo| repo.blob(oid, MAX_GIT_FILE_BYTES)).await?;
        Ok(Content::Whole(slice(&whole, range)))
    }
}

/// A part of bytes, as far as it is there.
pub fn slice(whole: &Bytes, range: Range<u64>) -> Bytes {
    let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(whole.len());
    let end = usize::try_from(range.end).unwrap_or(usize::MAX).clamp(start, whole.len());
    whole.slice(start..end)
}
