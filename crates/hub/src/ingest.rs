//! Plain bytes into the large-file store: chunked, hashed twice and packed into xorbs as they
//! stream in. Memory is a few chunks, whatever the size of the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;

use bastide_blobs::Staged;
use bastide_core::{Sha256, XetHash, id::RowId};
use bastide_ledger::{Action, Context};
use bastide_xet::chunk::Chunker;
use bastide_xet::file::{Term, push_term};
use bastide_xet::hash::{FileHasher, chunk_hash, is_dedup_eligible};
use bastide_xet::xorb::{Builder, HEADER_BYTES};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::Digest;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::repos::repo_event;
use crate::uploads::{Uploader, forget_xorbs};
use crate::{Hub, Problem};

/// Parts of a body that the worker is given at once.
const QUEUE: usize = 8;
/// Workers that are on a thread at the same time, of the 512 that a runtime has. Each waits there for threads of the store.
pub(crate) const CONCURRENT_WORKERS: usize = 64;
/// Chunks of earlier uploads that are remembered while a file comes in.
const MAX_KNOWN_CHUNKS: usize = 200_000;
/// Xorbs with a chunk that are looked at for one that is whole.
const OFFERS: u32 = 4;
const WRITE_BUFFER: usize = 256 * 1024;

/// What came in.
#[derive(Debug)]
pub(crate) struct Ingested {
    pub sha256: Sha256,
    pub hash: XetHash,
    pub size: u64,
    pub terms: Vec<Term>,
    pub first_chunk: Option<(XetHash, XetHash)>,
    /// Xorbs that this body brought to the repository.
    pub made: Vec<RowId>,
}

impl Hub {
    /// Takes a body of exactly `size` bytes into the repository's store.
    pub(crate) async fn ingest<S, E>(
        &self,
        context: &Context,
        access: &Uploader,
        size: u64,
        body: S,
    ) -> Result<Ingested, Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let mut work = Work::begin(Worker::new(self, context, access));
        let mut received = 0u64;
        // What comes while the worker works is its next piece.
        let mut body = body.ready_chunks(QUEUE);
        while let Some(parts) = body.next().await {
            let cut = |_| Problem::Invalid("the request ended before its body did".into());
            let parts = parts.into_iter().collect::<Result<Vec<Bytes>, E>>().map_err(cut)?;
            received = parts.iter().fold(received, |sum, part| sum + part.len() as u64);
            if received > size {
                return Err(Problem::Invalid(format!(
                    "the body has more than the {size} bytes that were named"
                )));
            }
            work.take(parts).await?;
        }
        if received != size {
            return Err(Problem::Invalid(format!("the body has {received} bytes, not {size}")));
        }
        work.finish().await
    }
}

/// The worker, on a thread only while it has something to do: threads are few, and those who send slowly are many.
struct Work {
    turns: Arc<Semaphore>,
    worker: JoinHandle<Result<Box<Worker>, Problem>>,
}

impl Work {
    fn begin(worker: Worker) -> Self {
        let turns = Arc::clone(&worker.hub.ingest_turns);
        Self { turns, worker: tokio::spawn(async move { Ok(Box::new(worker)) }) }
    }

    /// Gives the worker more, as soon as it has done what it had.
    async fn take(&mut self, parts: Vec<Bytes>) -> Result<(), Problem> {
        let mut worker = (&mut self.worker).await??;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(Problem::internal)?;
        self.worker = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            worker.within_quota(|worker| parts.iter().try_for_each(|part| worker.take(part)))?;
            Ok(worker)
        });
        Ok(())
    }

    async fn finish(self) -> Result<Ingested, Problem> {
        let mut worker = self.worker.await??;
        let turn = self.turns.acquire_owned().await.map_err(Problem::internal)?;
        let finish = move || {
            let _turn = turn;
            worker.within_quota(Worker::finish)
        };
        tokio::task::spawn_blocking(finish).await?
    }
}

impl Hub {
    /// Takes back xorbs of an upload for which there was no room.
    async fn forget_made(&self, context: &Context, access: &Uploader, made: &[RowId]) -> Result<(), Problem> {
        if made.is_empty() {
            return Ok(());
        }
        let mut tx = self.write_by(context, access).await?;
        let unused = forget_xorbs(&mut tx, access, made).await?;
        let event = repo_event(context, Action::UploadRefuse, access.repo_id(), &access.repo().path);
        tx.commit(event.fact("xorbs", made.len() as u64)).await?;
        self.delete_blobs(&unused).await
    }
}

/// Works on blocking threads; reaches the store through the runtime's handle.
struct Worker {
    hub: Hub,
    context: Context,
    access: Uploader,
    runtime: Handle,
    chunker: Chunker,
    sha256: sha2::Sha256,
    hasher: FileHasher,
    size: u64,
    terms: Vec<Term>,
    open: Option<OpenXorb>,
    known: HashMap<XetHash, (XetHash, u32)>,
    first: Option<XetHash>,
    made: Vec<RowId>,
}

struct OpenXorb {
    builder: Builder,
    staged: Staged,
    file: BufWriter<File>,
    stored: u64,
    numbers: HashMap<XetHash, u32>,
}

/// Stands for "the xorb being written" in terms until its hash is known.
const UNFINISHED: XetHash = XetHash::from_bytes([0; 32]);

impl Worker {
    fn new(hub: &Hub, context: &Context, access: &Uploader) -> Self {
        Self {
            hub: hub.clone(),
            context: context.clone(),
            access: access.clone(),
            runtime: Handle::current(),
            chunker: Chunker::default(),
            sha256: sha2::Sha256::new(),
            hasher: FileHasher::default(),
            size: 0,
            terms: Vec::new(),
            open: None,
            known: HashMap::new(),
            first: None,
            made: Vec::new(),
        }
    }

    fn within_quota<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        match work(self) {
            Err(refused @ Problem::Quota(_)) => {
                self.take_back()?;
                Err(refused)
            }
            done => done,
        }
    }

    /// Where there is no room for the rest, what came of the body must not take any.
    fn take_back(&mut self) -> Result<(), Problem> {
        let made = std::mem::take(&mut self.made);
        let (hub, context, access) = (self.hub.clone(), self.context.clone(), self.access.clone());
        self.runtime.block_on(async move { hub.forget_made(&context, &access, &made).await })
    }

    fn take(&mut self, part: &Bytes) -> Result<(), Problem> {
        self.sha256.update(part);
        self.size += part.len() as u64;
        self.chunker.push(part);
        while let Some(chunk) = self.chunker.next_chunk() {
            self.chunk(chunk)?;
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: Bytes) -> Result<(), Problem> {
        let hash = chunk_hash(&chunk);
        let len = u32::try_from(chunk.len()).map_err(Problem::internal)?;
        self.hasher.push(hash, len.into());
        let is_first = self.first.is_none();
        self.first.get_or_insert(hash);
        if (is_first || is_dedup_eligible(&hash)) && !self.known.contains_key(&hash) {
            self.learn(hash)?;
        }
        if let Some((xorb, number)) = self.known.get(&hash) {
            push_term(&mut self.terms, *xorb, *number, len);
            return Ok(());
        }
        if let Some(number) = self.open.as_ref().and_then(|open| open.numbers.get(&hash).copied()) {
            push_term(&mut self.terms, UNFINISHED, number, len);
            return Ok(());
        }
        self.store(chunk, len)
    }

    /// Looks whether this repository has the chunk, and remembers what lies around it.
    fn learn(&mut self, chunk: XetHash) -> Result<(), Problem> {
        let (hub, access) = (self.hub.clone(), self.access.reader());
        let found = self.runtime.block_on(async move {
            match hub.offered(&access, chunk, OFFERS).await?.first() {
                Some(row) => hub.xorb_index(&row.index_key).await.map(Some),
                None => Ok(None),
            }
        })?;
        let Some(index) = found else { return Ok(()) };
        if self.known.len() + index.chunks.len() > MAX_KNOWN_CHUNKS {
            self.known.clear();
        }
        for (number, chunk) in (0..).zip(&index.chunks) {
            self.known.entry(chunk.hash).or_insert((index.hash, number));
        }
        Ok(())
    }

    fn store(&mut self, chunk: Bytes, len: u32) -> Result<(), Problem> {
        if self.open.as_ref().is_some_and(|open| open.builder.is_full()) {
            self.end_xorb()?;
        }
        if self.open.is_none() {
            self.open = Some(self.begin_xorb()?);
        }
        let Some(open) = self.open.as_mut() else { return Err(Problem::internal("no xorb is open")) };
        let (hash, number, encoded) = open.builder.push(chunk);
        let io = bastide_blobs::BlobError::from;
        open.file.write_all(&encoded.header).and_then(|()| open.file.write_all(&encoded.data)).map_err(io)?;
        open.stored += (HEADER_BYTES + encoded.data.len()) as u64;
        open.numbers.insert(hash, number);
        push_term(&mut self.terms, UNFINISHED, number, len);
        Ok(())
    }

    fn begin_xorb(&self) -> Result<OpenXorb, Problem> {
        let hub = self.hub.clone();
        let staged = self.runtime.block_on(async move { hub.blobs.stage().await })?;
        let file = BufWriter::with_capacity(WRITE_BUFFER, staged.writer()?);
        Ok(OpenXorb { builder: Builder::default(), staged, file, stored: 0, numbers: HashMap::new() })
    }

    fn end_xorb(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let OpenXorb { builder, mut staged, file, stored, .. } = open;
        file.into_inner().map_err(|error| bastide_blobs::BlobError::from(error.into_error()))?;
        staged.written(stored);
        let index = builder.finish();
        for term in self.terms.iter_mut().filter(|term| term.xorb == UNFINISHED) {
            term.xorb = index.hash;
        }
        let (hub, context, access) = (self.hub.clone(), self.context.clone(), self.access.clone());
        let made = self
            .runtime
            .block_on(async move { hub.add_xorb(&context, &access, index, staged, stored).await })?;
        self.made.extend(made);
        Ok(())
    }

    fn finish(&mut self) -> Result<Ingested, Problem> {
        if let Some(chunk) = self.chunker.finish() {
            self.chunk(chunk)?;
        }
        self.end_xorb()?;
        let first_chunk = self.terms.first().map(|term| term.xorb).zip(self.first);
        Ok(Ingested {
            sha256: Sha256::from_bytes(self.sha256.finalize_reset().into()),
            hash: std::mem::take(&mut self.hasher).finish(),
            size: self.size,
            terms: std::mem::take(&mut self.terms),
            first_chunk,
            made: std::mem::take(&mut self.made),
        })
    }
}
