//! What lists and searches know of a repository, read from the files of its main branch.

use bastide_core::limits::MAX_CARD_BYTES;
use bastide_core::{Oid, RepoKind};
use bastide_inspect::gguf::Facts;
use bastide_inspect::metadata::{Derived, words};
use bastide_inspect::{card, metadata, readme, transformers};
use bastide_store::permit::Repo;
use bastide_store::repos::MetadataRow;
use serde_json::{Map, Value, json};

use crate::access::{Access, Write};
use crate::trees::{ItemKind, TreeItem};
use crate::{Hub, Problem};

/// Longest `config.json` that is read, and longest `tokenizer_config.json`.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
const MAX_TOKENIZER_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// Facts are named as information about a repository shows them.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    derived: Derived,
    card: Option<Map<String, Value>>,
    facts: Map<String, Value>,
    parameters: Option<u64>,
}

impl Metadata {
    fn add(&mut self, key: &str, fact: Option<Value>) {
        self.facts.extend(fact.map(|fact| (key.to_owned(), fact)));
    }

    pub(crate) fn row(&self) -> MetadataRow {
        let Self { derived, card, facts, parameters } = self;
        MetadataRow {
            tags: json!(derived.tags).to_string(),
            pipeline_tag: derived.pipeline_tag.clone(),
            library: derived.library.clone(),
            sdk: derived.sdk.clone(),
            card: card.as_ref().map(|card| json!(card).to_string()),
            facts: json!(facts).to_string(),
            parameters: *parameters,
        }
    }

    /// What the repository is found by. Besides tags and the words of its name: its `pipeline`,
    /// each `app` that runs it, each repository that it links (`link`) or was made from (`base`),
    /// and whether it links any (`linked`).
    pub(crate) fn terms(&self, repo: &Repo) -> Vec<(&'static str, String)> {
        let mut terms: Vec<_> = self.derived.tags.iter().map(|tag| ("tag", tag.clone())).collect();
        terms.extend(name_words(&repo.path.key()).map(|word| ("name", word.to_owned())));
        // Counts how many there are of a kind, for the plan of a search.
        terms.push(("kind", repo.path.kind.as_str().to_owned()));
        terms.extend(self.derived.pipeline_tag.iter().map(|pipeline| ("pipeline", pipeline.clone())));
        terms.extend(self.derived.apps.iter().map(|app| ("app", (*app).to_owned())));
        let bases = self.derived.base_models.iter().flat_map(|base| &base.ids);
        terms.extend(bases.map(|id| ("base", id.to_ascii_lowercase())));
        for (key, kind) in [("models", "model"), ("datasets", "dataset")] {
            let linked = self.card.iter().flat_map(|data| words(data, key));
            terms.extend(linked.map(|id| ("link", format!("{kind}:{}", id.to_ascii_lowercase()))));
        }
        if terms.iter().any(|(kind, _)| *kind == "link") {
            terms.push(("linked", "any".to_owned()));
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
        let mut found = Metadata { derived, card, ..Metadata::default() };
        match kind {
            RepoKind::Model => self.add_model_facts(access, &files, config.as_ref(), &mut found).await?,
            RepoKind::Dataset => {
                found.add("description", readme::description(text).map(Value::from));
                found.add("citation", readme::citation(text).map(Value::from));
            }
            RepoKind::Space => {}
        }
        Ok(found)
    }

    async fn add_model_facts(
        &self,
        access: &Access<Write>,
        files: &[TreeItem],
        config: Option<&Value>,
        found: &mut Metadata,
    ) -> Result<(), Problem> {
        let tokenizer =
            self.small_file(access, files, "tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES).await?;
        let tokenizer = tokenizer.and_then(|bytes| transformers::tokenizer_parts(&bytes));
        found.add("mask_token", tokenizer.as_ref().and_then(transformers::mask_token).map(Value::from));
        let mut parts = config.map(transformers::config_parts).unwrap_or_default();
        parts.extend(tokenizer.map(|tokenizer| ("tokenizer_config".to_owned(), tokenizer.into())));
        found.add("config", (config.is_some() || !parts.is_empty()).then(|| parts.into()));
        found.add("transformersInfo", transformers_info(&found.derived));
        found.add("baseModels", base_models(&found.derived));
        if let Some(weights) = self.safetensors(access, files).await {
            let fact = json!({ "parameters": weights.by_type, "total": weights.total });
            found.add("safetensors", Some(fact));
            found.parameters = Some(weights.total);
        }
        if let Some(gguf) = self.gguf(access, files).await {
            found.parameters = found.parameters.or(Some(gguf.total));
            found.add("gguf", Some(gguf_fact(gguf)));
        }
        Ok(())
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
}

/// What lists say of how to load the model: the card's task stands above that of its class.
fn transformers_info(derived: &Derived) -> Option<Value> {
    let mut info = derived.transformers.clone()?;
    if let Some(pipeline) = &derived.pipeline_tag {
        info.insert("pipeline_tag".to_owned(), json!(pipeline));
    }
    Some(info.into())
}

fn base_models(derived: &Derived) -> Option<Value> {
    let base = derived.base_models.as_ref()?;
    let models: Vec<Value> = base.ids.iter().map(|id| json!({ "id": id })).collect();
    Some(json!({ "relation": base.relation, "models": models }))
}

fn gguf_fact(facts: Facts) -> Value {
    let mut fact = Map::from_iter([("total".to_owned(), json!(facts.total))]);
    let texts = [
        ("architecture", facts.architecture),
        ("chat_template", facts.chat_template),
        ("bos_token", facts.bos_token),
        ("eos_token", facts.eos_token),
    ];
    fact.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text?)))));
    fact.extend(facts.context_length.map(|length| ("context_length".to_owned(), json!(length))));
    fact.into()
}
