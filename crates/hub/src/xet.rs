//! The Xet store of a repository: receiving xorbs and shards, reconstruction, deduplication.

use std::collections::HashMap;
use std::ops::Range;

use bastide_blobs::{BlobKey, Class, Staged};
use bastide_core::limits::{MAX_STORED_XORB_BYTES, SIGNED_LINK_SECONDS};
use bastide_core::{RepoId, Sha256, XetHash, id::RowId};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::xet::{self, NewFile, NewXorb, Received};
use bastide_store::{WriteTx, jobs};
use bastide_xet::XetError;
use bastide_xet::file::{CheckedFile, Cut, FileCheck, MAX_SHARD_CHUNKS, encode_terms};
use bastide_xet::hash::is_dedup_eligible;
use bastide_xet::plan::Fetch;
use bastide_xet::shard::{self, ShardFile};
use bastide_xet::xorb::{XorbIndex, validate};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::Digest;

use crate::access::{Access, Read};
use crate::large::{OpenXorb, xorbs_of_terms};
use crate::links::{ShownLink, Signature};
use crate::repos::repo_event;
use crate::uploads::{Right, Uploader, damaged};
use crate::{Hub, Origin, Problem};

/// A client's own footer may follow the chunks; it is cut off, but it has to fit.
const FOOTER_ROOM: usize = 1024 * 1024;
/// Xorbs that are validated at the same time: each takes a core.
pub(crate) const CONCURRENT_VALIDATIONS: usize = 4;
/// Xorbs in one answer about a chunk, and how long a client may use it.
const DEDUP_XORBS: u32 = 8;
const DEDUP_SECONDS: i64 = 24 * 3600;
const FETCH_PURPOSE: &str = "xet-fetch";
/// Files whose content is hashed at the same time; of one repository it is one.
pub(crate) const CONCURRENT_HASHES: usize = 4;
/// Bytes that a shard may ask us to hash in any case, and more for each byte that its xorbs take:
/// honest files repeat themselves, but not without end.
const FREE_HASH_BYTES: u64 = 32 * 1024 * 1024 * 1024;
const HASH_BYTES_PER_STORED: u64 = 256;
/// Indexes that are in memory while a file is checked, and chunks that are checked in one go.
const OPEN_XORBS: usize = 64;
const CHECKED_AT_ONCE: i64 = 8192;
/// Parts after which a long computation lets others run.
const YIELD_EVERY: u64 = 16;

/// A part of a xorb, and who may have it.
pub struct Fetched {
    pub body: bastide_blobs::RangeBody,
    /// Bytes of the whole xorb.
    pub total: u64,
    pub context: Context,
    pub access: Access<Read>,
}

/// What checking a shard has taken so far.
struct ShardWork {
    /// What is left of `MAX_SHARD_CHUNKS`.
    budget: u64,
    /// The xorbs that its files are made of, with their stored bytes.
    xorbs: HashMap<XetHash, u64>,
}

impl ShardWork {
    /// A few stored bytes, repeated, would take hours to hash.
    fn refuse_repetition(&self, total: u64) -> Result<(), Problem> {
        let stored = self.xorbs.values().copied().fold(0, u64::saturating_add);
        if total > FREE_HASH_BYTES.saturating_add(stored.saturating_mul(HASH_BYTES_PER_STORED)) {
            return Err(Problem::Invalid(format!(
                "the files of this shard have {total} bytes but repeat the same {stored} stored bytes: checking them \
                 would take too long; send them with LFS, without Xet"
            )));
        }
        Ok(())
    }
}

/// What is known of a file's content once it has been checked.
pub(crate) struct CheckedContent {
    pub sha256: Sha256,
    /// The first chunk, by which others look for the file, and its xorb.
    pub first_chunk: Option<(XetHash, XetHash)>,
    /// The file is known, but what it was made of is lost.
    pub replace: bool,
    pub is_new: bool,
}

impl Hub {
    /// Receives a xorb: all of its bytes, whether another repository has it or not. Says whether
    /// it is new to this repository.
    pub async fn receive_xorb<S, E>(
        &self,
        context: &Context,
        access: &Uploader,
        hash: XetHash,
        body: S,
    ) -> Result<bool, Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        self.upload_room(context, access, 0).await?;
        let staged = self.stage_body(body, MAX_STORED_XORB_BYTES + FOOTER_ROOM).await?;
        let _turn = self.validations.acquire().await.map_err(Problem::internal)?;
        let path = staged.path().to_owned();
        let checked = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(path).map_err(bastide_blobs::BlobError::from)?;
            Ok::<_, Problem>(validate(std::io::BufReader::with_capacity(1 << 20, file), &hash)?)
        });
        let (index, stored) = checked.await??;
        let new = self.add_xorb(context, access, index, staged, stored).await?.is_some();
        // What of the repository is in no commit is nothing that a proposer is told of.
        Ok(new || access.right() == Right::Propose)
    }

    /// Copies a body into a temporary file, up to a limit.
    pub(crate) async fn stage_body<S, E>(&self, mut body: S, limit: usize) -> Result<Staged, Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let mut staged = self.blobs.stage().await?;
        while let Some(part) = body.next().await {
            let part = part.map_err(|_| Problem::Invalid("the request ended before its body did".into()))?;
            if staged.len() + part.len() as u64 > limit as u64 {
                return Err(Problem::TooLarge(format!("the request has more than {limit} bytes")));
            }
            staged.write(&part).await?;
        }
        Ok(staged)
    }

    /// Stores a xorb that was validated or made here, and entitles the repository to it. Answers its
    /// row when the xorb is new to the repository.
    pub(crate) async fn add_xorb(
        &self,
        context: &Context,
        access: &Uploader,
        index: XorbIndex,
        mut staged: Staged,
        stored: u64,
    ) -> Result<Option<RowId>, Problem> {
        let replaces = self.bad_copy(access, index.hash).await?;
        if replaces.is_some() && access.right() == Right::Propose {
            return Err(damaged());
        }
        staged.truncate(stored)?;
        let name = index.hash.to_string();
        let key = BlobKey::fresh(Class::Xorb, &name)?;
        let index_key = BlobKey::fresh(Class::XorbIndex, &name)?;
        self.blobs.store(staged, &key).await?;
        self.blobs.put(&index_key, index.encode().into()).await?;
        crate::crash::point("xorb.stored");
        let eligible: Vec<XetHash> =
            index.chunks.iter().map(|chunk| chunk.hash).filter(is_dedup_eligible).collect();
        let new = NewXorb {
            hash: index.hash,
            blob_key: &key.to_string(),
            index_key: &index_key.to_string(),
            stored_bytes: stored,
            raw_bytes: index.raw_bytes().into(),
            chunks: index.chunk_count(),
            eligible: &eligible,
            replaces: replaces.as_deref(),
        };
        let keys = [key.to_string(), index_key.to_string()];
        match self.receive(context, access, &new).await {
            // Who has no room cannot fill the disk by trying.
            Err(problem @ Problem::Quota(_)) => {
                self.delete_blobs(&keys).await?;
                Err(problem)
            }
            received => self.received(received?, &keys).await,
        }
    }

    async fn received(&self, received: Received, keys: &[String]) -> Result<Option<RowId>, Problem> {
        match received {
            Received::New(id) => return Ok(Some(id)),
            // The repository had it: one copy is enough.
            Received::Known => self.delete_blobs(keys).await?,
            Received::Replaced { unused } => self.delete_blobs(&unused).await?,
        }
        Ok(None)
    }

    /// The transaction of a xorb.
    async fn receive(
        &self,
        context: &Context,
        access: &Uploader,
        new: &NewXorb<'_>,
    ) -> Result<Received, Problem> {
        let mut tx = self.write_by(context, access).await?;
        let received = self.put_xorb(&mut tx, context, access, new).await?;
        if received != Received::Known {
            self.upload_quota_in(&mut tx, access, 0).await?;
        }
        if received != Received::Known {
            // Others may have stored the same bytes; whether they have is looked at later, by a job,
            // so that nothing about this answer tells.
            jobs::enqueue(&mut tx, context.now(), crate::jobs::share_xorbs::job(context.now())).await?;
        }
        let event = repo_event(context, Action::XorbReceive, access.repo_id(), &access.repo().path)
            .fact("xorb", new.hash.to_string())
            .fact("bytes", new.stored_bytes)
            .fact("replaced", matches!(received, Received::Replaced { .. }));
        crate::crash::point("xorb.before");
        tx.commit(event).await?;
        Ok(received)
    }

    /// The blob of this repository's copy of a xorb, when the copy is lost or its bytes are wrong.
    async fn bad_copy(&self, access: &Uploader, hash: XetHash) -> Result<Option<String>, Problem> {
        let known = xet::xorb_of(&mut self.db.read().await?, &access.permit(), hash).await?;
        let Some(known) = known else { return Ok(None) };
        let good = self.is_here(&known).await? && self.is_as_written(&known).await?;
        Ok((!good).then_some(known.blob_key))
    }

    /// Do the stored bytes of a xorb still hash to its name?
    async fn is_as_written(&self, xorb: &xet::Xorb) -> Result<bool, Problem> {
        let reader = self.blobs.open(&xorb.blob_key.parse()?).await?;
        let index = self.xorb_index(&xorb.index_key).await?;
        let (hash, runtime) = (xorb.hash, tokio::runtime::Handle::current());
        let stored = StoredBytes { reader, at: 0, runtime };
        let found = tokio::task::spawn_blocking(move || {
            validate(std::io::BufReader::with_capacity(bastide_blobs::READ_BYTES, stored), &hash)
        });
        match found.await? {
            Ok((found, _)) => Ok(found == *index),
            // The store failed: nothing is known of the bytes.
            Err(error @ bastide_xet::XetError::Read(_)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// Registers the files of a shard: every claim is checked, and every byte hashed, before a
    /// commit can point at them. Says whether any file is new here.
    pub async fn register_shard(
        &self,
        context: &Context,
        access: &Uploader,
        bytes: &[u8],
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<bool, Problem> {
        self.upload_room(context, access, 0).await?;
        let files = shard::parse(bytes)?;
        let mut work = ShardWork { budget: MAX_SHARD_CHUNKS, xorbs: HashMap::new() };
        let mut checked = Vec::new();
        for file in &files {
            checked.push((self.check_shard_file(access, file, &mut work).await?, file.sha256));
        }
        let total = checked.iter().map(|(file, _)| file.size).fold(0, u64::saturating_add);
        work.refuse_repetition(total)?;
        progress(0, total);
        let mut done = 0;
        let mut any_new = false;
        for (file, claimed) in checked {
            let size = file.size;
            any_new |=
                self.register_file(context, access, file, claimed, |at| progress(done + at, total)).await?;
            done += size;
            progress(done, total);
        }
        Ok(any_new)
    }

    /// Checks a file against the xorbs that it names and this repository may use.
    async fn check_shard_file(
        &self,
        access: &Uploader,
        file: &ShardFile,
        work: &mut ShardWork,
    ) -> Result<CheckedFile, Problem> {
        let reader = access.reader();
        let mut check = FileCheck::new(file)?;
        let mut open: HashMap<XetHash, OpenXorb> = HashMap::new();
        let mut until_yield = CHECKED_AT_ONCE;
        for segment in &file.segments {
            if !open.contains_key(&segment.xorb) {
                let xorb = self.open_here(&reader, segment.xorb).await?.ok_or(XetError::UnknownChunks)?;
                work.xorbs.insert(segment.xorb, xorb.index.stored_bytes().into());
                if open.len() >= OPEN_XORBS {
                    open.clear();
                }
                open.insert(segment.xorb, xorb);
            }
            let Some(xorb) = open.get(&segment.xorb) else { continue };
            check.segment(segment, &xorb.index, &mut work.budget)?;
            until_yield -= i64::from(segment.chunks.end - segment.chunks.start);
            if until_yield < 0 {
                until_yield = CHECKED_AT_ONCE;
                tokio::task::yield_now().await;
            }
        }
        Ok(check.finish()?)
    }

    async fn register_file(
        &self,
        context: &Context,
        access: &Uploader,
        file: CheckedFile,
        claimed: Option<Sha256>,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<bool, Problem> {
        let checked = self.check_content(access, &file, claimed, progress).await?;
        let mut tx = self.write_by(context, access).await?;
        self.add_file(&mut tx, context, access, (&file, &checked)).await?;
        let event = file_event(context, access, &file, checked.sha256);
        crate::crash::point("shard.before");
        tx.commit(event).await?;
        Ok(checked.is_new)
    }

    /// Finds out the SHA-256 of a file, from its bytes or because they have been hashed before, and
    /// compares it with the one that is claimed.
    pub(crate) async fn check_content(
        &self,
        access: &Uploader,
        file: &CheckedFile,
        claimed: Option<Sha256>,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<CheckedContent, Problem> {
        let reader = access.reader();
        let known = xet::file_by_hash(&mut self.db.read().await?, &reader, file.hash).await?;
        let is_new = known.is_none();
        let replace = self.is_broken(&reader, known.as_ref()).await?;
        let sha256 = match known.and_then(|known| known.sha256).filter(|_| !replace) {
            // The same chunks have been hashed before, and are all here.
            Some(sha256) => sha256,
            None => self.hash_content(&reader, file, progress).await?,
        };
        if claimed.is_some_and(|claimed| claimed != sha256) {
            return Err(Problem::Invalid(
                "the SHA-256 that is named is not that of the file's content".into(),
            ));
        }
        let first_chunk = match file.terms.first() {
            None => None,
            Some(term) => {
                let xorb = self.open_xorb(&reader, term.xorb).await?;
                let chunk = xorb.and_then(|xorb| Some(xorb.index.chunks(&term.chunks)?.first()?.hash));
                chunk.map(|chunk| (term.xorb, chunk))
            }
        };
        Ok(CheckedContent { sha256, first_chunk, replace, is_new })
    }

    /// Is a file known whose xorbs are lost or damaged?
    pub(crate) async fn is_broken(
        &self,
        access: &Access<Read>,
        known: Option<&xet::File>,
    ) -> Result<bool, Problem> {
        match known {
            None => Ok(false),
            Some(known) => Ok(!self.is_whole(access, &known.terms).await?),
        }
    }

    /// Registers a file whose content was hashed, in a transaction that the caller ends.
    pub(crate) async fn add_file(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Uploader,
        (file, checked): (&CheckedFile, &CheckedContent),
    ) -> Result<(), Problem> {
        let xorbs = xorbs_of_terms(&file.terms);
        let terms = encode_terms(&file.terms);
        let new = NewFile {
            hash: file.hash,
            sha256: Some(checked.sha256),
            size: file.size,
            terms: &terms,
            xorbs: &xorbs,
            first_chunk: checked.first_chunk,
            replace: checked.replace,
        };
        if !self.put_file(tx, context, access, (&new, checked.is_new)).await? {
            return Err(bastide_xet::XetError::UnknownChunks.into());
        }
        Ok(())
    }

    /// Reads a file once and hashes it.
    async fn hash_content(
        &self,
        access: &Access<Read>,
        file: &CheckedFile,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<Sha256, Problem> {
        let _turn = self.hash_turns.lock(access.repo_id()).await;
        let _slot = self.hashing.acquire().await.map_err(Problem::internal)?;
        let whole = Cut { terms: file.terms.clone(), start: 0 };
        let mut stream = self.stream_terms(access, whole, 0..file.size).await?;
        let mut hasher = sha2::Sha256::new();
        let (mut parts, mut at) = (0, 0);
        while let Some(part) = stream.next().await {
            let part = part?;
            hasher.update(&part);
            at += part.len() as u64;
            parts += 1;
            if parts % YIELD_EVERY == 0 {
                progress(at);
                tokio::task::yield_now().await;
            }
        }
        if at != file.size {
            return Err(Problem::internal("a file's content has another length than its terms"));
        }
        Ok(Sha256::from_bytes(hasher.finalize().into()))
    }

    pub(crate) fn fetch_url(
        &self,
        context: &Context,
        access: &Access<Read>,
        xorb: &XetHash,
        fetch: &Fetch,
    ) -> String {
        let repo = access.repo();
        let range = format!("{}-{}", fetch.bytes.start, fetch.bytes.end);
        let parts: [&[u8]; 3] = [&repo.id.as_i64().to_be_bytes(), xorb.as_bytes(), range.as_bytes()];
        let signature = self.sign(context, FETCH_PURPOSE, &parts, SIGNED_LINK_SECONDS);
        format!("{}/fetch/{xorb}/{range}?{}", self.cas_url(context, repo.id, repo.epoch), signature.query())
    }

    /// The bytes behind a fetch link: the range that was signed, no other.
    pub async fn fetch_xorb(
        &self,
        repo: RepoId,
        xorb: XetHash,
        range: Range<u64>,
        signature: &Signature,
        origin: Origin,
    ) -> Result<Fetched, Problem> {
        let text = format!("{}-{}", range.start, range.end.saturating_sub(1));
        let id = repo.as_i64().to_be_bytes();
        let parts: [&[u8]; 3] = [&id, xorb.as_bytes(), text.as_bytes()];
        let link = ShownLink { purpose: FETCH_PURPOSE, parts: &parts, signature };
        let context = self.check_link(&link, origin).await?;
        let refused = |_| Problem::Forbidden("this link is not valid any more: ask for a new one".into());
        let access = self.access(&context).repo_by_id::<Read>(repo).await.map_err(refused)?;
        let row = xet::xorb_of(&mut self.db.read().await?, &access, xorb).await?;
        let row = row.ok_or_else(|| Problem::Forbidden("this link is not valid any more".into()))?;
        let reader = self.blobs.open(&row.blob_key.parse()?).await?;
        let total = reader.len();
        if range.start >= range.end || range.end > total {
            return Err(Problem::Range { size: total });
        }
        let body = bastide_blobs::RangeBody::new(reader, range.start, range.end);
        Ok(Fetched { body, total, context, access })
    }

    /// Xorbs with a chunk that somebody may build on: here, whole, and safe from collection long
    /// enough for an upload to end.
    pub(crate) async fn offered(
        &self,
        access: &Access<Read>,
        chunk: XetHash,
        limit: u32,
    ) -> Result<Vec<xet::Xorb>, Problem> {
        let fresh = self.clock.now().plus_seconds(-self.config.gc_grace_seconds.max(0) / 2);
        let rows = xet::xorbs_with_chunk(&mut self.db.read().await?, access, chunk, fresh, limit).await?;
        let mut here = Vec::with_capacity(rows.len());
        for row in rows {
            if self.is_here(&row).await? {
                here.push(row);
            }
        }
        Ok(here)
    }

    /// Which xorbs of this repository hold a chunk, in the form that clients deduplicate with.
    pub async fn find_chunk(
        &self,
        access: &Access<Read>,
        chunk: XetHash,
    ) -> Result<Option<Vec<u8>>, Problem> {
        let mut indexes = Vec::new();
        for row in self.offered(access, chunk, DEDUP_XORBS).await? {
            indexes.push(self.xorb_index(&row.index_key).await?);
        }
        if indexes.is_empty() {
            return Ok(None);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(Problem::internal)?;
        let now = self.clock.now();
        let second = |at: bastide_core::Timestamp| u64::try_from(at.as_seconds()).unwrap_or(0);
        let borrowed: Vec<&XorbIndex> = indexes.iter().map(|index| &**index).collect();
        Ok(Some(shard::dedup_answer(&borrowed, &key, second(now), second(now.plus_seconds(DEDUP_SECONDS)))))
    }
}

pub(crate) fn file_event(
    context: &Context,
    access: &Uploader,
    file: &CheckedFile,
    sha256: Sha256,
) -> NewEvent {
    repo_event(context, Action::FileRegister, access.repo_id(), &access.repo().path)
        .fact("sha256", sha256.to_string())
        .fact("xet_hash", file.hash.to_string())
        .fact("bytes", file.size)
}

/// A blob, read in order from a blocking thread.
struct StoredBytes {
    reader: bastide_blobs::BlobReader,
    at: u64,
    runtime: tokio::runtime::Handle,
}

impl std::io::Read for StoredBytes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.reader.len() - self.at).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let bytes =
            self.runtime.block_on(self.reader.read_at(self.at, len)).map_err(std::io::Error::other)?;
        if let Some(buffer) = buffer.get_mut(..len) {
            buffer.copy_from_slice(&bytes);
        }
        self.at += len as u64;
        Ok(len)
    }
}
