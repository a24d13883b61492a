//! Git LFS: the batch call, and uploads and downloads behind signed links. Everything ends up in
//! the same store as Xet uploads.

use bastide_core::limits::{MAX_FILE_BYTES, SIGNED_LINK_SECONDS, UPLOAD_LINK_SECONDS};
use bastide_core::{RepoId, Sha256, id::RowId};
use bastide_ledger::Context;
use bastide_store::lfs::{self, Part, Upload};
use bastide_store::xet;
use bastide_xet::file::{CheckedFile, decode_terms, encode_terms};
use bastide_xet::hash::FileHasher;
use bytes::Bytes;
use futures_util::Stream;

use crate::access::{Access, Read, Write};
use crate::ingest::Ingested;
use crate::large::{LargeStream, xorbs_of_terms};
use crate::links::{ShownLink, Signature};
use crate::reads::Delivery;
use crate::repos::repo_event;
use crate::storage::Room;
use crate::uploads::{Right, Uploader, forget_xorbs};
use crate::xet::{CheckedContent, file_event};
use crate::{Hub, Origin, Problem};
use bastide_ledger::Action;

/// Parts of one upload, and of all uploads that one call begins: each is a link in the answer.
const MAX_PARTS: u64 = 10_000;
/// Uploads in parts that a repository may have under way.
pub const MAX_OPEN_UPLOADS: u64 = 5000;
/// Smallest part that is offered.
const MIN_PART_BYTES: u64 = 64 * 1024 * 1024;

/// How old the last use of a file may be before telling a client that it is here counts as another:
/// most such answers then write nothing.
const TOUCH_SECONDS: i64 = 3600;

/// What a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    Upload(Right),
    Part { upload: RowId, number: u64 },
    Complete { upload: RowId },
    Verify(Right),
    Download,
}

impl LinkKind {
    const fn purpose(self) -> &'static str {
        match self {
            Self::Upload(Right::Write) => "lfs-upload",
            Self::Upload(Right::Propose) => "lfs-upload-proposed",
            Self::Part { .. } => "lfs-part",
            Self::Complete { .. } => "lfs-complete",
            Self::Verify(Right::Write) => "lfs-verify",
            Self::Verify(Right::Propose) => "lfs-verify-proposed",
            Self::Download => "lfs-download",
        }
    }

    /// The last word of its address.
    const fn verb(self) -> &'static str {
        match self {
            Self::Upload(_) => "upload",
            Self::Part { .. } => "part",
            Self::Complete { .. } => "complete",
            Self::Verify(_) => "verify",
            Self::Download => "download",
        }
    }

    const fn right(self) -> Right {
        match self {
            Self::Upload(right) | Self::Verify(right) => right,
            Self::Part { .. } | Self::Complete { .. } | Self::Download => Right::Write,
        }
    }

    const fn seconds(self) -> i64 {
        match self {
            Self::Download => SIGNED_LINK_SECONDS,
            _ => UPLOAD_LINK_SECONDS,
        }
    }

    fn numbers(self) -> [i64; 2] {
        match self {
            Self::Part { upload, number } => [upload.as_i64(), i64::try_from(number).unwrap_or(-1)],
            Self::Complete { upload } => [upload.as_i64(), 0],
            Self::Upload(_) | Self::Verify(_) | Self::Download => [0, 0],
        }
    }
}

/// An object, as clients name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LfsObject {
    pub oid: Sha256,
    pub size: u64,
}

/// How an object is to be uploaded.
#[derive(Debug)]
pub enum UploadPlan {
    /// It is in this repository already.
    Present,
    /// There is no room for it: why.
    Refused(String),
    Basic {
        href: String,
        verify: String,
    },
    Multipart {
        parts: Vec<String>,
        part_bytes: u64,
        complete: String,
        verify: String,
    },
}

impl Hub {
    fn lfs_link<L: crate::access::Level>(
        &self,
        context: &Context,
        access: &Access<L>,
        object: LfsObject,
        kind: LinkKind,
    ) -> String {
        let repo = access.repo();
        let [one, two] = kind.numbers();
        let signature = self.sign(
            context,
            kind.purpose(),
            &link_parts(repo.id, object, kind).iter().map(Vec::as_slice).collect::<Vec<_>>(),
            kind.seconds(),
        );
        let verb = kind.verb();
        let right = if kind.right() == Right::Propose { "&r=propose" } else { "" };
        format!(
            "{}/lfs/{}/{verb}/{}?size={}&u={one}&n={two}{right}&{}",
            self.url(context),
            repo.id,
            object.oid,
            object.size,
            signature.query()
        )
    }

    /// The caller behind a link, and the permit that it still has.
    pub async fn check_lfs_link<L: crate::access::Level>(
        &self,
        repo: RepoId,
        object: LfsObject,
        kind: LinkKind,
        signature: &Signature,
        origin: Origin,
    ) -> Result<(Context, Access<L>), Problem> {
        let context = self.context_of_link(repo, object, kind, signature, origin).await?;
        let access = self.access(&context).repo_by_id(repo).await.map_err(not_any_more)?;
        Ok((context, access))
    }

    /// The caller behind a link to upload by, if it may still bring content by the right of the link.
    pub async fn check_upload_link(
        &self,
        repo: RepoId,
        object: LfsObject,
        kind: LinkKind,
        signature: &Signature,
        origin: Origin,
    ) -> Result<(Context, Uploader), Problem> {
        let context = self.context_of_link(repo, object, kind, signature, origin).await?;
        let uploader = self.uploader_by_id(&context, repo, kind.right()).await.map_err(not_any_more)?;
        Ok((context, uploader))
    }

    async fn context_of_link(
        &self,
        repo: RepoId,
        object: LfsObject,
        kind: LinkKind,
        signature: &Signature,
        origin: Origin,
    ) -> Result<Context, Problem> {
        let parts = link_parts(repo, object, kind);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let link = ShownLink { purpose: kind.purpose(), parts: &parts, signature };
        self.check_link(&link, origin).await
    }

    /// How each of these objects is to be uploaded. In parts by writers only: an upload under way takes room
    /// that others may need.
    pub async fn plan_uploads(
        &self,
        context: &Context,
        by: &Uploader,
        objects: &[LfsObject],
        multipart: bool,
    ) -> Result<Vec<UploadPlan>, Problem> {
        if objects.iter().any(|object| object.size > MAX_FILE_BYTES) {
            return Err(Problem::Unprocessable(format!("a file has at most {MAX_FILE_BYTES} bytes")));
        }
        // The more there is to upload, the larger the parts, so that the answer stays small.
        let total = objects.iter().map(|object| object.size).fold(0, u64::saturating_add);
        let least = self.config.lfs_multipart_bytes.clamp(1, MIN_PART_BYTES);
        let part_bytes = total.div_ceil(MAX_PARTS).max(least);
        // Ids of one moment follow each other: a thousand drawn by lot would meet.
        let mut ids = (RowId::new(context.now()).as_i64()..).map(RowId::from_i64);
        let mut room = self.room_by(&mut self.db.read().await?, by).await?;
        let mut plans = Vec::with_capacity(objects.len());
        let (mut begun, mut here, mut missing) = (Vec::new(), Vec::new(), 0u64);
        let (permit, right) = (by.permit(), by.right());
        for object in objects.iter().copied() {
            // Only what this repository holds is "already there": a hash alone is no right to bytes.
            let present = self.find_present(by, object).await?;
            let verify = self.lfs_link(context, &permit, object, LinkKind::Verify(right));
            if present.is_none() {
                missing = missing.saturating_add(object.size);
            }
            plans.push(if let Some(known) = present {
                here.push(known);
                UploadPlan::Present
            } else if let Err(refused) = take_room(&mut room, object.size) {
                UploadPlan::Refused(refused)
            } else if let (true, Uploader::Writer(access)) =
                (multipart && object.size > self.config.lfs_multipart_bytes, by)
            {
                let id = ids.next().unwrap_or_else(|| RowId::new(context.now()));
                let upload = Upload { id, oid: object.oid, size: object.size, part_bytes };
                let plan = self.part_links(context, access, &upload, verify);
                begun.push(upload);
                plan
            } else {
                let href = self.lfs_link(context, &permit, object, LinkKind::Upload(right));
                UploadPlan::Basic { href, verify }
            });
        }
        self.upload_room(context, by, missing).await?;
        if let Uploader::Writer(access) = by {
            self.touch_present(context, access, &here).await?;
            self.begin_uploads(context, access, &begun).await?;
        }
        Ok(plans)
    }

    /// A file of this repository that is the object, whole. What is on its way out is there for writers
    /// only, who keep it by asking.
    async fn find_present(&self, by: &Uploader, object: LfsObject) -> Result<Option<xet::File>, Problem> {
        let reader = by.reader();
        let known = xet::file_by_sha256(&mut self.db.read().await?, &reader, object.oid).await?;
        let known = known.filter(|known| known.size == object.size);
        let known = known.filter(|known| !known.unused || by.right() == Right::Write);
        let Some(known) = known else { return Ok(None) };
        let whole = self.is_whole(&reader, &known.terms).await?;
        Ok(whole.then_some(known))
    }

    /// A client is told that these are here: they stay for long enough to be committed.
    async fn touch_present(
        &self,
        context: &Context,
        access: &Access<Write>,
        here: &[xet::File],
    ) -> Result<(), Problem> {
        let fresh = context.now().plus_seconds(-TOUCH_SECONDS);
        let stale = here.iter().filter(|file| file.unused || file.touched_at < fresh);
        let stale: Vec<Sha256> = stale.filter_map(|file| file.sha256).collect();
        if stale.is_empty() {
            return Ok(());
        }
        let mut tx = self.write_to(context, access).await?;
        for sha256 in &stale {
            if !xet::touch_file(&mut tx, access, *sha256, context.now()).await? {
                // Collected a moment ago: asked again, it is to be uploaded.
                return Err(Problem::Busy { seconds: 1 });
            }
        }
        let event = repo_event(context, Action::FileTouch, access.repo_id(), &access.repo().path)
            .fact("files", stale.len() as u64);
        Ok(tx.commit(event).await?)
    }

    fn part_links(
        &self,
        context: &Context,
        access: &Access<Write>,
        upload: &Upload,
        verify: String,
    ) -> UploadPlan {
        let (object, id) = (LfsObject { oid: upload.oid, size: upload.size }, upload.id);
        let count = upload.size.div_ceil(upload.part_bytes);
        let part = |number| self.lfs_link(context, access, object, LinkKind::Part { upload: id, number });
        UploadPlan::Multipart {
            parts: (1..=count).map(part).collect(),
            part_bytes: upload.part_bytes,
            complete: self.lfs_link(context, access, object, LinkKind::Complete { upload: id }),
            verify,
        }
    }

    async fn begin_uploads(
        &self,
        context: &Context,
        access: &Access<Write>,
        uploads: &[Upload],
    ) -> Result<(), Problem> {
        if uploads.is_empty() {
            return Ok(());
        }
        let expires = context.now().plus_seconds(UPLOAD_LINK_SECONDS);
        let mut tx = self.write_to(context, access).await?;
        let open = lfs::count_open(&mut tx, access, context.now()).await?;
        if open + uploads.len() as u64 > MAX_OPEN_UPLOADS {
            return Err(Problem::Unprocessable(format!(
                "this repository has {open} uploads in parts under way and may have {MAX_OPEN_UPLOADS}: complete \
                 them, or wait for them to end after {UPLOAD_LINK_SECONDS} s"
            )));
        }
        for upload in uploads {
            lfs::begin(&mut tx, access, upload, context.now(), expires).await?;
        }
        let oids: Vec<String> = uploads.iter().map(|upload| upload.oid.to_string()).collect();
        let bytes = uploads.iter().map(|upload| upload.size).fold(0, u64::saturating_add);
        let event = repo_event(context, Action::UploadBegin, access.repo_id(), &access.repo().path)
            .fact("sha256", oids.join(","))
            .fact("bytes", bytes);
        Ok(tx.commit(event).await?)
    }

    /// Takes a whole object.
    pub async fn receive_object<S, E>(
        &self,
        context: &Context,
        access: &Uploader,
        object: LfsObject,
        body: S,
    ) -> Result<(), Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        self.upload_room(context, access, object.size).await?;
        let ingested = self.ingest(context, access, object.size, body).await?;
        if ingested.sha256 != object.oid {
            self.refuse(context, access, object, &ingested).await?;
            return Err(wrong_hash(object.oid, ingested.sha256));
        }
        let reader = access.reader();
        let known = xet::file_by_hash(&mut self.db.read().await?, &reader, ingested.hash).await?;
        let checked = CheckedContent {
            sha256: object.oid,
            first_chunk: ingested.first_chunk,
            replace: self.is_broken(&reader, known.as_ref()).await?,
            is_new: known.is_none(),
        };
        let file = CheckedFile { hash: ingested.hash, size: ingested.size, terms: ingested.terms };
        let mut tx = self.write_by(context, access).await?;
        self.add_file(&mut tx, context, access, (&file, &checked)).await?;
        let event = file_event(context, access, &file, object.oid);
        crate::crash::point("shard.before");
        Ok(tx.commit(event).await?)
    }

    /// Takes back what a body with the wrong content has brought.
    async fn refuse(
        &self,
        context: &Context,
        access: &Uploader,
        object: LfsObject,
        ingested: &Ingested,
    ) -> Result<(), Problem> {
        if ingested.made.is_empty() {
            return Ok(());
        }
        let mut tx = self.write_by(context, access).await?;
        let unused = forget_xorbs(&mut tx, access, &ingested.made).await?;
        let event = repo_event(context, Action::UploadRefuse, access.repo_id(), &access.repo().path)
            .fact("sha256", object.oid.to_string())
            .fact("found", ingested.sha256.to_string());
        tx.commit(event).await?;
        self.delete_blobs(&unused).await
    }

    /// Takes one part; answers its tag.
    pub async fn receive_part<S, E>(
        &self,
        context: &Context,
        access: &Access<Write>,
        upload: RowId,
        number: u64,
        body: S,
    ) -> Result<String, Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let found = lfs::upload(&mut self.db.read().await?, access, upload, context.now()).await?;
        let found = found.ok_or_else(ended)?;
        let size =
            part_size(&found, number).ok_or_else(|| Problem::Invalid("there is no such part".into()))?;
        let ingested = self.ingest(context, &Uploader::Writer(access.clone()), size, body).await?;
        let etag = ingested.sha256.to_string();
        let terms = encode_terms(&ingested.terms);
        let part = Part { number, size, etag: etag.clone(), terms };
        let xorbs = xorbs_of_terms(&ingested.terms);
        let mut tx = self.write_to(context, access).await?;
        if !lfs::add_part(&mut tx, access, upload, &part, (&xorbs, context.now())).await? {
            return Err(ended());
        }
        let event = repo_event(context, Action::UploadPart, access.repo_id(), &access.repo().path)
            .fact("sha256", found.oid.to_string())
            .fact("part", number);
        crate::crash::point("lfs.part");
        tx.commit(event).await?;
        Ok(etag)
    }

    /// Puts the parts of an upload together, when all are there and their content is right. Asked
    /// again after that, it says so again.
    pub async fn complete_upload(
        &self,
        context: &Context,
        access: &Access<Write>,
        (upload, object): (RowId, LfsObject),
        tags: &[(u64, String)],
    ) -> Result<(), Problem> {
        let by = Uploader::Writer(access.clone());
        let mut read = self.db.read().await?;
        let found = lfs::upload(&mut read, access, upload, context.now()).await?;
        let parts = lfs::parts(&mut read, access, upload).await?;
        drop(read);
        let Some(found) = found.filter(|found| (found.oid, found.size) == (object.oid, object.size)) else {
            let known = self.find_present(&by, object).await?.ok_or_else(ended)?;
            return self.touch_present(context, access, &[known]).await;
        };
        check_parts(&found, &parts, tags)?;
        let file = self.join_parts(access, &parts).await?;
        let checked = self.check_content(&by, &file, Some(found.oid), |_| {}).await?;
        let mut tx = self.write_to(context, access).await?;
        self.add_file(&mut tx, context, &by, (&file, &checked)).await?;
        lfs::end(&mut tx, access, upload).await?;
        tx.record(file_event(context, &by, &file, found.oid));
        let event = repo_event(context, Action::UploadComplete, access.repo_id(), &access.repo().path)
            .fact("sha256", found.oid.to_string());
        crate::crash::point("lfs.complete");
        Ok(tx.commit(event).await?)
    }

    async fn join_parts(&self, access: &Access<Write>, parts: &[Part]) -> Result<CheckedFile, Problem> {
        let reader = access.lower::<Read>();
        let mut hasher = FileHasher::default();
        let mut terms = Vec::new();
        for part in parts {
            for term in decode_terms(&part.terms)? {
                let xorb = self.open_xorb(&reader, term.xorb).await?;
                let xorb =
                    xorb.ok_or_else(|| Problem::Invalid("a part was removed: upload it again".into()))?;
                let raw = xorb.index.raw_range(&term.chunks);
                let mut before =
                    raw.ok_or_else(|| Problem::internal("a part's term is outside of its xorb"))?.start;
                for chunk in xorb.index.chunks(&term.chunks).unwrap_or_default() {
                    hasher.push(chunk.hash, u64::from(chunk.raw_end) - before);
                    before = chunk.raw_end.into();
                }
                terms.push(term);
            }
        }
        let size = parts.iter().map(|part| part.size).sum();
        Ok(CheckedFile { hash: hasher.finish(), size, terms })
    }

    /// Is an object here, whole?
    pub async fn verify_object(&self, access: &Access<Read>, object: LfsObject) -> Result<(), Problem> {
        match xet::file_hash(&mut self.db.read().await?, access, object.oid).await? {
            Some((_, size)) if size == object.size => Ok(()),
            Some((_, size)) => {
                Err(Problem::Invalid(format!("the object has {size} bytes, not {}", object.size)))
            }
            None => Err(Problem::NotFound("the object is not here".into())),
        }
    }

    /// A link to an object's bytes; `None` when this repository does not hold it.
    pub async fn download_link(
        &self,
        context: &Context,
        access: &Access<Read>,
        oid: Sha256,
    ) -> Result<Option<(u64, String)>, Problem> {
        let found = xet::file_hash(&mut self.db.read().await?, access, oid).await?;
        Ok(found.map(|(_, size)| {
            (size, self.lfs_link(context, access, LfsObject { oid, size }, LinkKind::Download))
        }))
    }

    /// An object's bytes. Counts as its delivery.
    pub async fn download_object(
        &self,
        context: &Context,
        access: &Access<Read>,
        object: LfsObject,
        range: std::ops::Range<u64>,
    ) -> Result<LargeStream, Problem> {
        let delivery = Delivery {
            via: "lfs",
            commit: None,
            path: None,
            object: object.oid.to_string(),
            bytes: range.end.saturating_sub(range.start),
        };
        self.record_read(context, access, delivery)?;
        self.large_stream(access, object.oid, range).await
    }
}

/// Why there is no room for so many bytes, or a little less room.
fn take_room(room: &mut Option<Room>, bytes: u64) -> Result<(), String> {
    let Some(room) = room else { return Ok(()) };
    room.refuse(bytes).map_err(|problem| problem.to_string())?;
    room.take(bytes);
    Ok(())
}

fn wrong_hash(wanted: Sha256, found: Sha256) -> Problem {
    Problem::Invalid(format!("the content has the SHA-256 {found}, not {wanted}: nothing was stored"))
}

fn not_any_more(_: Problem) -> Problem {
    Problem::Forbidden("this link is not valid any more: ask for a new one".into())
}

fn ended() -> Problem {
    Problem::NotFound("there is no such upload, or it has ended: begin it again".into())
}

fn check_parts(upload: &Upload, parts: &[Part], tags: &[(u64, String)]) -> Result<(), Problem> {
    let count = upload.size.div_ceil(upload.part_bytes);
    let named = |part: &Part| {
        tags.iter().any(|(number, tag)| *number == part.number && tag.trim_matches('"') == part.etag)
    };
    if parts.len() as u64 == count && tags.len() as u64 == count && parts.iter().all(named) {
        return Ok(());
    }
    Err(Problem::Invalid(format!("the upload has {count} parts: not all are here as they were named")))
}

fn part_size(upload: &Upload, number: u64) -> Option<u64> {
    let start = number.checked_sub(1)?.checked_mul(upload.part_bytes)?;
    (start < upload.size).then(|| upload.part_bytes.min(upload.size - start))
}

fn link_parts(repo: RepoId, object: LfsObject, kind: LinkKind) -> Vec<Vec<u8>> {
    let [one, two] = kind.numbers();
    vec![
        repo.as_i64().to_be_bytes().to_vec(),
        object.oid.as_bytes().to_vec(),
        object.size.to_be_bytes().to_vec(),
        one.to_be_bytes().to_vec(),
        two.to_be_bytes().to_vec(),
    ]
}
