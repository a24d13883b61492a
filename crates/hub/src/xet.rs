//! The Xet store of a repository: receiving xorbs and shards, reconstruction, deduplication.

use std::ops::Range;

use bastide_blobs::{BlobKey, Class, Staged};
use bastide_core::limits::{MAX_STORED_XORB_BYTES, SIGNED_LINK_SECONDS};
use bastide_core::{RepoId, Sha256, XetHash};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::xet::{self, NewFile, NewXorb, Received};
use bastide_xet::file::{CheckedFile, MAX_SHARD_CHUNKS, check, encode_terms};
use bastide_xet::hash::is_dedup_eligible;
use bastide_xet::plan::{self, Fetch, WireTerm};
use bastide_xet::shard::{self, ShardFile};
use bastide_xet::xorb::{XorbIndex, validate};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::Digest;

use crate::access::{Access, Read, Write};
use crate::large::OpenXorb;
use crate::links::{ShownLink, Signature};
use crate::reads::Delivery;
use crate::{Hub, Origin, Problem};

/// A client's own footer may follow the chunks; it is cut off, but it has to fit.
const FOOTER_ROOM: usize = 1024 * 1024;
/// Xorbs that are validated at the same time: each takes a core.
pub(crate) const CONCURRENT_VALIDATIONS: usize = 4;
/// Xorbs in one answer about a chunk, and how long a client may use it.
const DEDUP_XORBS: u32 = 8;
const DEDUP_SECONDS: i64 = 24 * 3600;
const FETCH_PURPOSE: &str = "xet-fetch";
/// Parts after which a long computation lets others run.
const YIELD_EVERY: u64 = 16;

/// A part of a file's reconstruction: which bytes of a xorb, and where to get them.
pub struct SignedFetch {
    pub fetch: Fetch,
    pub url: String,
}

/// A part of a xorb, and who may have it.
pub struct Fetched {
    pub body: bastide_blobs::RangeBody,
    /// Bytes of the whole xorb.
    pub total: u64,
    pub context: Context,
    pub access: Access<Read>,
}

pub struct Reconstruction {
    pub offset_into_first_range: u64,
    pub terms: Vec<WireTerm>,
    pub fetches: Vec<(XetHash, Vec<SignedFetch>)>,
}

impl Hub {
    /// Receives a xorb: all of its bytes, whether another repository has it or not. Says whether
    /// it is new to this repository.
    pub async fn receive_xorb<S, E>(
        &self,
        context: &Context,
        access: &Access<Write>,
        hash: XetHash,
        body: S,
    ) -> Result<bool, Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let staged = self.stage_body(body, MAX_STORED_XORB_BYTES + FOOTER_ROOM).await?;
        let _turn = self.validations.acquire().await.map_err(Problem::internal)?;
        let path = staged.path().to_owned();
        let checked = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(path).map_err(bastide_blobs::BlobError::from)?;
            Ok::<_, Problem>(validate(std::io::BufReader::with_capacity(1 << 20, file), &hash)?)
        });
        let (index, stored) = checked.await??;
        let before = xet::xorb_of(&mut self.db.read().await?, &access.lower::<Read>(), hash).await?;
        self.add_xorb(context, access, index, staged, stored).await?;
        Ok(before.is_none())
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

    /// Stores a xorb that was validated or made here, and entitles the repository to it.
    pub(crate) async fn add_xorb(
        &self,
        context: &Context,
        access: &Access<Write>,
        index: XorbIndex,
        mut staged: Staged,
        stored: u64,
    ) -> Result<(), Problem> {
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
        };
        let mut tx = self.write_to(context, access).await?;
        let received = xet::receive_xorb(&mut tx, access, &new, context.now()).await?;
        let event = NewEvent::new(context, Action::XorbReceive)
            .subject("repo", Some(access.repo_id().as_i64()), &access.repo().path.to_string())
            .fact("xorb", name)
            .fact("bytes", stored);
        crate::crash::point("xorb.before");
        tx.commit(event).await?;
        if received == Received::Known {
            // Somebody had sent the same before: one copy is enough.
            self.blobs.delete(&key).await?;
            self.blobs.delete(&index_key).await?;
        }
        Ok(())
    }

    /// Registers the files of a shard: every claim is checked, and every byte hashed, before a
    /// commit can point at them. Says whether any file is new here.
    pub async fn register_shard(
        &self,
        context: &Context,
        access: &Access<Write>,
        bytes: &[u8],
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<bool, Problem> {
        let files = shard::parse(bytes)?;
        let mut budget = MAX_SHARD_CHUNKS;
        let mut checked = Vec::new();
        for file in &files {
            let xorbs = self.xorbs_of(access, file).await?;
            let found = |hash: &XetHash| {
                let at = xorbs.binary_search_by_key(hash, |(hash, _)| *hash).ok()?;
                xorbs.get(at).map(|(_, xorb)| &*xorb.index)
            };
            checked.push((check(file, &mut budget, found)?, file.sha256));
        }
        let total = checked.iter().map(|(file, _)| file.size).sum();
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

    /// The xorbs that a file names and this repository may use, by hash.
    async fn xorbs_of(
        &self,
        access: &Access<Write>,
        file: &ShardFile,
    ) -> Result<Vec<(XetHash, OpenXorb)>, Problem> {
        let mut hashes: Vec<XetHash> = file.segments.iter().map(|segment| segment.xorb).collect();
        hashes.sort();
        hashes.dedup();
        let access = access.lower::<Read>();
        let mut xorbs = Vec::new();
        for hash in hashes {
            if let Some(xorb) = self.open_xorb(&access, hash).await? {
                xorbs.push((hash, xorb));
            }
        }
        Ok(xorbs)
    }

    pub(crate) async fn register_file(
        &self,
        context: &Context,
        access: &Access<Write>,
        file: CheckedFile,
        claimed: Option<Sha256>,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<bool, Problem> {
        let reader = access.lower::<Read>();
        let known = xet::file_by_hash(&mut self.db.read().await?, &reader, file.hash).await?;
        let is_new = known.is_none();
        let sha256 = match known.and_then(|known| known.sha256) {
            // The same chunks have been hashed before.
            Some(sha256) => sha256,
            None => self.hash_content(&reader, &file, progress).await?,
        };
        if claimed.is_some_and(|claimed| claimed != sha256) {
            return Err(Problem::Invalid(
                "the SHA-256 that the shard names is not that of the file's content".into(),
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
        self.add_file(context, access, &file, sha256, first_chunk).await?;
        Ok(is_new)
    }

    pub(crate) async fn add_file(
        &self,
        context: &Context,
        access: &Access<Write>,
        file: &CheckedFile,
        sha256: Sha256,
        first_chunk: Option<(XetHash, XetHash)>,
    ) -> Result<(), Problem> {
        let mut xorbs: Vec<XetHash> = file.terms.iter().map(|term| term.xorb).collect();
        xorbs.sort();
        xorbs.dedup();
        let terms = encode_terms(&file.terms);
        let new = NewFile {
            hash: file.hash,
            sha256: Some(sha256),
            size: file.size,
            terms: &terms,
            xorbs: &xorbs,
            first_chunk,
        };
        let mut tx = self.write_to(context, access).await?;
        if !xet::add_file(&mut tx, access, &new, context.now()).await? {
            return Err(bastide_xet::XetError::UnknownChunks.into());
        }
        let event = NewEvent::new(context, Action::FileRegister)
            .subject("repo", Some(access.repo_id().as_i64()), &access.repo().path.to_string())
            .fact("sha256", sha256.to_string())
            .fact("xet_hash", file.hash.to_string())
            .fact("bytes", file.size);
        crate::crash::point("shard.before");
        Ok(tx.commit(event).await?)
    }

    /// Reads a file once and hashes it.
    async fn hash_content(
        &self,
        access: &Access<Read>,
        file: &CheckedFile,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<Sha256, Problem> {
        let row = xet::File {
            id: bastide_core::id::RowId::from_i64(0),
            hash: file.hash,
            sha256: None,
            size: file.size,
            terms: encode_terms(&file.terms),
        };
        let open = self.open_file(access, row).await?;
        let mut stream = self.stream_file(open, 0..file.size)?;
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

    /// How to put a file, or a range of it, together. Counts as its delivery.
    pub async fn reconstruction(
        &self,
        context: &Context,
        access: &Access<Read>,
        hash: XetHash,
        range: Option<Range<u64>>,
    ) -> Result<Reconstruction, Problem> {
        let file = xet::file_by_hash(&mut self.db.read().await?, access, hash).await?;
        let file = file.ok_or_else(|| Problem::NotFound("there is no such file".into()))?;
        let size = file.size;
        let open = self.open_file(access, file).await?;
        let plan = plan::plan(&open.terms, range.clone(), |hash| open.index(hash))?;
        let wanted = range.map_or(size, |range| range.end.min(size) - range.start);
        let delivery =
            Delivery { via: "xet", commit: None, path: None, object: hash.to_string(), bytes: wanted };
        self.record_read(context, access, delivery)?;
        let fetches = plan.fetches.into_iter().map(|(xorb, fetches)| {
            let signed = fetches
                .into_iter()
                .map(|fetch| SignedFetch { url: self.fetch_url(context, access, &xorb, &fetch), fetch });
            (xorb, signed.collect())
        });
        Ok(Reconstruction {
            offset_into_first_range: plan.offset_into_first_range,
            terms: plan.terms,
            fetches: fetches.collect(),
        })
    }

    fn fetch_url(&self, context: &Context, access: &Access<Read>, xorb: &XetHash, fetch: &Fetch) -> String {
        let repo = access.repo();
        let range = format!("{}-{}", fetch.bytes.start, fetch.bytes.end);
        let parts: [&[u8]; 3] = [&repo.id.as_i64().to_be_bytes(), xorb.as_bytes(), range.as_bytes()];
        let signature = self.sign(context, FETCH_PURPOSE, &parts, SIGNED_LINK_SECONDS);
        format!("{}/fetch/{xorb}/{range}?{}", self.cas_url(repo.id, repo.epoch), signature.query())
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

    /// Which xorbs of this repository hold a chunk, in the form that clients deduplicate with.
    pub async fn find_chunk(
        &self,
        access: &Access<Read>,
        chunk: XetHash,
    ) -> Result<Option<Vec<u8>>, Problem> {
        let rows = xet::xorbs_with_chunk(&mut self.db.read().await?, access, chunk, DEDUP_XORBS).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut indexes = Vec::with_capacity(rows.len());
        for row in rows {
            indexes.push(self.xorb_index(&row.index_key).await?);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(Problem::internal)?;
        let now = self.clock.now();
        let second = |at: bastide_core::Timestamp| u64::try_from(at.as_seconds()).unwrap_or(0);
        let borrowed: Vec<&XorbIndex> = indexes.iter().map(|index| &**index).collect();
        Ok(Some(shard::dedup_answer(&borrowed, &key, second(now), second(now.plus_seconds(DEDUP_SECONDS)))))
    }
}
