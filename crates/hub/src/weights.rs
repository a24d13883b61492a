//! What a model's weight files say of themselves, read from their headers alone. A file that
//! cannot be read keeps no commit out; what would be counted wrong is not said at all.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bastide_core::Sha256;
use bastide_core::limits::MAX_REGULAR_FILE_BYTES;
use bastide_git::Pointer;
use bastide_inspect::gguf::{self, Facts, GgufError};
use bastide_inspect::safetensors::{self, Parameters};
use bastide_store::xet;
use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::access::{Access, Write};
use crate::trees::{ItemKind, TreeItem};
use crate::{Hub, Problem};

/// Weight files of one model whose headers are read.
const MAX_WEIGHT_FILES: usize = 200;
/// Bytes of headers that one commit reads. The branch waits meanwhile; what was read once is
/// remembered, so that a larger model is counted by one of its next commits.
const MAX_HEADERS_BYTES: u64 = 64 * 1024 * 1024;
/// Files whose header is remembered; of GGUF it has texts.
const REMEMBERED: usize = 10_000;
const REMEMBERED_GGUF: usize = 500;
/// Longest index of weight files that is read.
const MAX_INDEX_BYTES: u64 = 10 * 1024 * 1024;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_model.safetensors";

/// The content that was read: its hash and size.
type Content = (Sha256, u64);

/// What the headers of large files said, by their content; `None` where one cannot be read.
pub(crate) struct Remembered {
    parameters: Cache<Content, Option<Arc<Parameters>>>,
    gguf: Cache<Content, Option<Arc<Facts>>>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { parameters: Cache::new(REMEMBERED), gguf: Cache::new(REMEMBERED_GGUF) }
    }
}

impl Hub {
    /// The content of a large file that this repository holds. What another one's file says is
    /// not told to those who know its hash.
    async fn held_content(
        &self,
        access: &Access<Write>,
        file: &TreeItem,
    ) -> Result<Option<Content>, Problem> {
        let ItemKind::Large { pointer, .. } = &file.kind else { return Ok(None) };
        let held = xet::file_hash(&mut self.db.read().await?, access, pointer.sha256).await?;
        held.map(|_| Some((pointer.sha256, pointer.size)))
            .ok_or_else(|| Problem::entry("the content of this file is not here"))
    }

    /// The parameters of a model in safetensors files.
    pub(crate) async fn safetensors(&self, access: &Access<Write>, files: &[TreeItem]) -> Option<Parameters> {
        let counted = self.count_parameters(access, files).await;
        counted.inspect_err(|problem| tracing::debug!(?problem, "safetensors are not counted")).ok()?
    }

    async fn count_parameters(
        &self,
        access: &Access<Write>,
        files: &[TreeItem],
    ) -> Result<Option<Parameters>, Problem> {
        let names = self.weight_names(access, files).await?;
        let weights: Vec<_> = files.iter().filter(|file| names.contains(&file.path)).collect();
        if weights.len() != names.len() {
            return Err(Problem::Invalid("a weight file of the index is missing".into()));
        }
        if weights.len() > MAX_WEIGHT_FILES {
            return Err(Problem::Invalid(format!("more than {MAX_WEIGHT_FILES} weight files")));
        }
        let mut sum: Option<Parameters> = None;
        let mut budget = MAX_HEADERS_BYTES;
        for file in weights {
            let read = self.parameters_of(access, file, &mut budget);
            let found = self.remember(access, file, &self.remembered.parameters, read).await?;
            sum.get_or_insert_with(Parameters::default).add(&found);
        }
        Ok(sum)
    }

    /// The files that are the model: where it is whole, consolidated copies and variants lie
    /// beside it and must not be counted again.
    async fn weight_names(
        &self,
        access: &Access<Write>,
        files: &[TreeItem],
    ) -> Result<BTreeSet<String>, Problem> {
        let find = |name: &str| files.iter().find(|file| file.path == name);
        if find(WHOLE).is_some() {
            return Ok(BTreeSet::from([WHOLE.to_owned()]));
        }
        if let Some(index) = find(INDEX) {
            if index.size() > MAX_INDEX_BYTES {
                return Err(Problem::Invalid("the index of weight files is too long".into()));
            }
            let index = self.item_range(access, index, 0..index.size()).await?;
            let shards = safetensors::shards(&index);
            return shards.ok_or_else(|| Problem::Invalid("the index of weight files is not valid".into()));
        }
        if find(ADAPTER).is_some() {
            return Ok(BTreeSet::from([ADAPTER.to_owned()]));
        }
        let names = files.iter().map(|file| &file.path);
        Ok(names.filter(|path| path.ends_with(".safetensors") && !path.contains('/')).cloned().collect())
    }

    /// What the header of a file says, which is read when nobody remembers it.
    async fn remember<T>(
        &self,
        access: &Access<Write>,
        file: &TreeItem,
        cache: &Cache<Content, Option<Arc<T>>>,
        read: impl Future<Output = Result<T, Problem>>,
    ) -> Result<Arc<T>, Problem> {
        let content = self.held_content(access, file).await?;
        if let Some(known) = content.and_then(|content| cache.get(&content)) {
            return known.ok_or_else(|| unreadable(file));
        }
        let read = read.await.map(Arc::new);
        if let Some(content) = content {
            match &read {
                Ok(found) => cache.insert(content, Some(Arc::clone(found))),
                Err(Problem::Invalid(_)) => cache.insert(content, None),
                Err(_) => {}
            }
        }
        read
    }

    async fn parameters_of(
        &self,
        access: &Access<Write>,
        file: &TreeItem,
        budget: &mut u64,
    ) -> Result<Parameters, Problem> {
        let size = file.size();
        let bad = |error: safetensors::HeaderError| Problem::Invalid(format!("{}: {error}", file.path));
        let first = self.item_range(access, file, 0..size.min(8)).await?;
        let end = safetensors::header_end(first.as_ref().try_into().unwrap_or_default()).map_err(bad)?;
        spend(budget, end)?;
        let header = self.item_range(access, file, 8..end.min(size)).await?;
        let counted = tokio::task::spawn_blocking(move || safetensors::parameters(&header, size));
        counted.await?.map_err(bad)
    }

    /// What the first GGUF model of a repository says of itself. The others are the same model
    /// in other precisions.
    pub(crate) async fn gguf(&self, access: &Access<Write>, files: &[TreeItem]) -> Option<Facts> {
        let models = || files.iter().map(|file| file.path.as_str()).filter(|path| is_gguf_model(path));
        let first = models().find(|path| !path.contains('/')).or_else(|| models().next())?;
        let read = self.gguf_parts(access, files, first).await;
        read.inspect_err(|problem| tracing::debug!(first, ?problem, "a GGUF file without a readable header"))
            .ok()
    }

    async fn gguf_parts(
        &self,
        access: &Access<Write>,
        files: &[TreeItem],
        first: &str,
    ) -> Result<Facts, Problem> {
        let parts = gguf::parts(first, u32::try_from(MAX_WEIGHT_FILES).unwrap_or_default());
        let parts = parts.ok_or_else(|| Problem::Invalid("the model has too many parts".into()))?;
        let mut whole: Option<Facts> = None;
        let mut budget = MAX_HEADERS_BYTES;
        for part in &parts {
            let file = files.iter().find(|file| file.path == *part);
            let file = file.ok_or_else(|| Problem::Invalid(format!("the part {part} is missing")))?;
            let read = self.gguf_facts(access, file, &mut budget);
            let facts = self.remember(access, file, &self.remembered.gguf, read).await?;
            match &mut whole {
                None => whole = Some(facts.as_ref().clone()),
                Some(whole) => whole.total = whole.total.saturating_add(facts.total),
            }
        }
        whole.ok_or_else(|| Problem::Invalid("the model has no parts".into()))
    }

    /// Reads a header in growing steps: only the file itself says how long it is.
    async fn gguf_facts(
        &self,
        access: &Access<Write>,
        file: &TreeItem,
        budget: &mut u64,
    ) -> Result<Facts, Problem> {
        let most = file.size().min(gguf::MAX_HEADER_BYTES);
        let (mut bytes, mut end) = (Vec::new(), gguf::FIRST_BYTES.min(most));
        loop {
            spend(budget, end - bytes.len() as u64)?;
            bytes.extend_from_slice(&self.item_range(access, file, bytes.len() as u64..end).await?);
            match gguf::read(&bytes, file.size()) {
                Err(GgufError::Incomplete) if end < most => end = (end * 2).min(most),
                read => return read.map_err(|error| Problem::Invalid(format!("{}: {error}", file.path))),
            }
        }
    }

    async fn item_range(
        &self,
        access: &Access<Write>,
        file: &TreeItem,
        range: Range<u64>,
    ) -> Result<Bytes, Problem> {
        match &file.kind {
            ItemKind::Large { pointer: Pointer { sha256, .. }, .. } => {
                self.large_range(&access.lower(), *sha256, range).await
            }
            ItemKind::File { size } if *size <= MAX_REGULAR_FILE_BYTES => {
                let (oid, limit) = (file.oid, *size);
                let whole = self.objects(access, move |repo| repo.blob(oid, limit)).await?;
                let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end.min(limit)).ok());
                let part = part.filter(|(start, end)| start <= end && *end <= whole.len());
                part.map(|(start, end)| whole.slice(start..end)).ok_or(Problem::Range { size: limit })
            }
            ItemKind::File { .. } => Err(Problem::TooLarge(format!("{} is too long for git", file.path))),
            ItemKind::Folder => Err(Problem::entry("it is a folder")),
        }
    }
}

/// Takes the bytes of a header from what one commit reads.
fn spend(budget: &mut u64, bytes: u64) -> Result<(), Problem> {
    let left = budget.checked_sub(bytes);
    *budget = left.ok_or_else(|| Problem::TooLarge("more headers than one commit reads".into()))?;
    Ok(())
}

fn unreadable(file: &TreeItem) -> Problem {
    Problem::Invalid(format!("{}: its header could not be read before", file.path))
}

/// Projectors and importance matrices lie beside models, in the same format.
fn is_gguf_model(path: &str) -> bool {
    path.ends_with(".gguf") && !path.contains("mmproj") && !path.contains("imatrix")
}
