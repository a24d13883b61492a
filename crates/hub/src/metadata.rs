//! What lists and searches know of a repository, read from the files of its main branch.

use bastide_core::limits::MAX_CARD_BYTES;
use bastide_core::{EntryPath, Oid};
use bastide_git::Pointer;
use bastide_inspect::metadata::Derived;
use bastide_inspect::safetensors::{self, Parameters};
use bastide_inspect::{card, metadata};
use bastide_store::permit::Repo;
use bastide_store::repos::MetadataRow;
use serde_json::{Map, Value, json};

use crate::access::{Access, Write};
use crate::trees::{ItemKind, TreeItem};
use crate::{Hub, Problem};

/// Longest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// Weight files of one model whose headers are read.
const MAX_WEIGHT_FILES: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct Metadata {
    derived: Derived,
    card: Option<Map<String, Value>>,
    facts: Map<String, Value>,
    parameters: Option<u64>,
    used_bytes: u64,
}

impl Metadata {
    pub(crate) fn row(&self) -> MetadataRow {
        let Self { derived, card, facts, parameters, used_bytes } = self;
        MetadataRow {
            tags: json!(derived.tags).to_string(),
            pipeline_tag: derived.pipeline_tag.clone(),
            library: derived.library.clone(),
            sdk: derived.sdk.clone(),
            card: card.as_ref().map(|card| json!(card).to_string()),
            facts: json!(facts).to_string(),
            parameters: *parameters,
            used_bytes: *used_bytes,
        }
    }

    /// What the repository is found by.
    pub(crate) fn terms(&self, repo: &Repo) -> Vec<(&'static str, String)> {
        let mut terms: Vec<_> = self.derived.tags.iter().map(|tag| ("tag", tag.clone())).collect();
        terms.extend(name_words(&repo.path.key()).map(|word| ("name", word.to_owned())));
        // Counts how many there are of a kind, for the plan of a search.
        terms.push(("kind", repo.path.kind.as_str().to_owned()));
        for (key, kind) in [("models", "model"), ("datasets", "dataset")] {
            let linked = self.card.iter().flat_map(|data| card::texts(data, key));
            terms.extend(linked.map(|id| ("link", format!("{kind}:{}", id.to_ascii_lowercase()))));
        }
        terms.sort();
        terms.dedup();
        terms
    }
}

/// The words of a path: what people type to find it.
pub(crate) fn name_words(key: &str) -> impl Iterator<Item = &str> {
    key.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

impl Hub {
    pub(crate) async fn read_metadata(
        &self,
        access: &Access<Write>,
        commit: Oid,
    ) -> Result<Metadata, Problem> {
        let files = self.all_files(access, commit).await?;
        let kind = access.repo().path.kind;
        let readme = self.small_file(access, &files, "README.md", MAX_CARD_BYTES as u64).await?;
        let readme = String::from_utf8_lossy(&readme.unwrap_or_default()).into_owned();
        let config = self.small_file(access, &files, "config.json", MAX_CONFIG_BYTES).await?;
        let config: Option<Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let card = card::read(&readme, kind).data;
        let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let empty = Map::new();
        let text = card::split(&readme).1;
        let derived = metadata::derive(kind, card.as_ref().unwrap_or(&empty), text, &names, config.as_ref());
        let mut facts = Map::new();
        if let Some(config) = &config {
            facts.insert("config".into(), config_facts(config));
            if let Some(auto) = auto_model(config, &derived) {
                facts.insert("transformersInfo".into(), auto);
            }
        }
        let parameters = self.weights(access, &files).await;
        if let Some(found) = &parameters {
            facts.insert("safetensors".into(), json!({ "parameters": found.by_type, "total": found.total }));
        }
        let used_bytes = files.iter().map(TreeItem::size).sum();
        Ok(Metadata { derived, card, facts, parameters: parameters.map(|found| found.total), used_bytes })
    }

    /// A regular file's content, if it is there and not too long.
    async fn small_file(
        &self,
        access: &Access<Write>,
        files: &[TreeItem],
        name: &str,
        limit: u64,
    ) -> Result<Option<bytes::Bytes>, Problem> {
        let found = files.iter().find(|file| file.path == name);
        let Some(TreeItem { oid, kind: ItemKind::File { size }, .. }) = found else { return Ok(None) };
        if *size > limit {
            return Ok(None);
        }
        let oid = *oid;
        self.objects(access, move |repo| repo.blob(oid, limit)).await.map(Some)
    }

    /// Counts the parameters of all weight files; a file that cannot be read counts for none,
    /// because a wrong header must not keep a commit out.
    async fn weights(&self, access: &Access<Write>, files: &[TreeItem]) -> Option<Parameters> {
        let weights = files.iter().filter(|file| is_weights(&file.path)).take(MAX_WEIGHT_FILES);
        let mut sum: Option<Parameters> = None;
        for file in weights {
            match self.weights_of(access, file).await {
                Ok(found) => sum.get_or_insert_with(Parameters::default).add(&found),
                Err(problem) => {
                    tracing::debug!(path = file.path, ?problem, "weights without a readable header")
                }
            }
        }
        sum
    }

    async fn weights_of(&self, access: &Access<Write>, file: &TreeItem) -> Result<Parameters, Problem> {
        let size = file.size();
        let bad = |error: safetensors::HeaderError| Problem::Invalid(error.to_string());
        let first = self.item_range(access, file, 0..8).await?;
        let end = safetensors::header_end(first.as_ref().try_into().unwrap_or_default()).map_err(bad)?;
        let header = self.item_range(access, file, 8..end.min(size)).await?;
        safetensors::parameters(&header, size).map_err(bad)
    }

    async fn item_range(
        &self,
        access: &Access<Write>,
        file: &TreeItem,
        range: std::ops::Range<u64>,
    ) -> Result<bytes::Bytes, Problem> {
        match &file.kind {
            ItemKind::Large { pointer: Pointer { sha256, .. }, .. } => {
                self.large_range(&access.lower(), *sha256, range).await
            }
            ItemKind::File { size } => {
                let (oid, limit) = (file.oid, *size);
                let whole = self.objects(access, move |repo| repo.blob(oid, limit)).await?;
                let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end.min(limit)).ok());
                let part = part.filter(|(start, end)| start <= end && *end <= whole.len());
                part.map(|(start, end)| whole.slice(start..end)).ok_or(Problem::Range { size: limit })
            }
            ItemKind::Folder => Err(Problem::entry("it is a folder")),
        }
    }
}

fn is_weights(path: &str) -> bool {
    path.parse::<EntryPath>().is_ok_and(|path| path.parent().is_none()) && path.ends_with(".safetensors")
}

/// The parts of `config.json` that lists show.
fn config_facts(config: &Value) -> Value {
    let keys = ["architectures", "model_type", "quantization_config", "auto_map"];
    let parts = keys.iter().filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())));
    Value::Object(parts.collect())
}

fn auto_model(config: &Value, derived: &Derived) -> Option<Value> {
    if derived.library.as_deref() != Some("transformers") {
        return None;
    }
    let architecture = config.get("architectures")?.get(0)?.as_str()?;
    let kinds = [
        ("ForCausalLM", "AutoModelForCausalLM"),
        ("ForSequenceClassification", "AutoModelForSequenceClassification"),
        ("ForTokenClassification", "AutoModelForTokenClassification"),
        ("ForQuestionAnswering", "AutoModelForQuestionAnswering"),
        ("ForMaskedLM", "AutoModelForMaskedLM"),
        ("ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
    ];
    let auto =
        kinds.iter().find(|(ending, _)| architecture.ends_with(ending)).map_or("AutoModel", |(_, auto)| auto);
    let mut info = json!({ "auto_model": auto });
    if let (Some(tag), Some(info)) = (&derived.pipeline_tag, info.as_object_mut()) {
        info.insert("pipeline_tag".into(), json!(tag));
    }
    Some(info)
}
