//! From a card and the names of files to what lists and searches know of a repository.

use bastide_core::RepoKind;
use serde_json::{Map, Value};

use crate::card::texts;

/// What was found out about a repository.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Derived {
    pub tags: Vec<String>,
    pub pipeline_tag: Option<String>,
    pub library: Option<String>,
    pub sdk: Option<String>,
}

/// Tags beyond this many are dropped: lists have to stay small.
const MAX_TAGS: usize = 500;
const MAX_TAG_BYTES: usize = 200;

/// Fields of a data set's card that become `field:value` tags.
const DATASET_FIELDS: &[(&str, &str)] = &[
    ("task_categories", "task_categories"),
    ("task_ids", "task_ids"),
    ("size_categories", "size_categories"),
    ("multilinguality", "multilinguality"),
    ("language_creators", "language_creators"),
    ("annotations_creators", "annotations_creators"),
    ("source_datasets", "source_datasets"),
];

/// `text` is the README without its front matter, for the papers that it links.
pub fn derive(
    kind: RepoKind,
    card: &Map<String, Value>,
    text: &str,
    files: &[&str],
    config: Option<&Value>,
) -> Derived {
    let mut tags = Tags::default();
    let library = library(card, files, config);
    let mut pipeline_tag = None;
    match kind {
        RepoKind::Model => {
            tags.extend(library.as_deref());
            tags.extend(file_formats(files));
            tags.extend(config.and_then(|config| config.get("model_type")).and_then(Value::as_str));
            pipeline_tag = card.get("pipeline_tag").and_then(Value::as_str).map(ToOwned::to_owned);
            tags.extend(pipeline_tag.as_deref());
            tags.extend(texts(card, "language"));
            tags.prefixed("dataset", texts(card, "datasets"));
            tags.prefixed("base_model", texts(card, "base_model"));
        }
        RepoKind::Dataset => {
            tags.prefixed("language", texts(card, "language"));
            for (field, prefix) in DATASET_FIELDS {
                tags.prefixed(prefix, texts(card, field));
            }
        }
        RepoKind::Space => tags.extend(texts(card, "sdk")),
    }
    tags.extend(texts(card, "tags"));
    tags.prefixed("license", texts(card, "license"));
    tags.prefixed("arxiv", papers(text));
    tags.extend(["region:us"]);
    let sdk = card.get("sdk").and_then(Value::as_str).filter(|_| kind == RepoKind::Space);
    Derived { tags: tags.0, pipeline_tag, library, sdk: sdk.map(ToOwned::to_owned) }
}

#[derive(Default)]
struct Tags(Vec<String>);

impl Tags {
    fn extend<'a>(&mut self, tags: impl IntoIterator<Item = &'a str>) {
        tags.into_iter().for_each(|tag| self.push(tag.to_owned()));
    }

    fn prefixed<'a>(&mut self, prefix: &str, values: impl IntoIterator<Item = &'a str>) {
        values.into_iter().for_each(|value| self.push(format!("{prefix}:{value}")));
    }

    fn push(&mut self, tag: String) {
        let fits = !tag.is_empty() && tag.len() <= MAX_TAG_BYTES && self.0.len() < MAX_TAGS;
        if fits && !self.0.contains(&tag) {
            self.0.push(tag);
        }
    }
}

fn library(card: &Map<String, Value>, files: &[&str], config: Option<&Value>) -> Option<String> {
    if let Some(name) = card.get("library_name").and_then(Value::as_str) {
        return Some(name.to_owned());
    }
    let has = |name: &str| files.contains(&name);
    if has("modules.json") || has("config_sentence_transformers.json") {
        return Some("sentence-transformers".to_owned());
    }
    if has("model_index.json") {
        return Some("diffusers".to_owned());
    }
    if has("adapter_config.json") {
        return Some("peft".to_owned());
    }
    let transformers = config
        .is_some_and(|config| config.get("architectures").is_some() || config.get("model_type").is_some());
    transformers.then(|| "transformers".to_owned())
}

fn file_formats<'a>(files: &'a [&'a str]) -> impl Iterator<Item = &'static str> + 'a {
    let ends = |ending: &str| files.iter().any(|file| file.ends_with(ending));
    [
        ("pytorch", ends("pytorch_model.bin") || ends(".pt") || ends(".pth")),
        ("tf", ends("tf_model.h5")),
        ("jax", ends("flax_model.msgpack")),
        ("onnx", ends(".onnx")),
        ("safetensors", ends(".safetensors")),
        ("gguf", ends(".gguf")),
        ("tensorboard", files.iter().any(|file| file.contains("tfevents"))),
    ]
    .into_iter()
    .filter_map(|(tag, found)| found.then_some(tag))
}

/// Numbers of arXiv papers that a text links to.
fn papers(text: &str) -> impl Iterator<Item = &str> {
    ["arxiv.org/abs/", "arxiv.org/pdf/"].into_iter().flat_map(move |link| {
        text.match_indices(link).filter_map(move |(at, _)| paper(text, at + link.len()))
    })
}

fn paper(text: &str, at: usize) -> Option<&str> {
    let rest = text.get(at..)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let id = rest.get(..end)?.trim_end_matches('.');
    let (year, number) = id.split_once('.')?;
    (year.len() == 4 && (4..=5).contains(&number.len())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_model() {
        let card = object(json!({
            "license": "mit", "language": ["en", "no"], "tags": ["vision", "mit"], "datasets": "glue",
            "base_model": "ann/base", "pipeline_tag": "fill-mask",
        }));
        let config = json!({ "architectures": ["BertModel"], "model_type": "bert" });
        let text =
            "see https://arxiv.org/abs/1810.04805 and arxiv.org/pdf/2001.12345v2.pdf, not arxiv.org/abs/x";
        let found = derive(RepoKind::Model, &card, text, &["model.safetensors", "x.onnx"], Some(&config));
        assert_eq!(
            found.tags,
            [
                "transformers",
                "onnx",
                "safetensors",
                "bert",
                "fill-mask",
                "en",
                "no",
                "dataset:glue",
                "base_model:ann/base",
                "vision",
                "mit",
                "license:mit",
                "arxiv:1810.04805",
                "arxiv:2001.12345",
                "region:us"
            ]
        );
        assert_eq!(found.library.as_deref(), Some("transformers"));
        assert_eq!(found.pipeline_tag.as_deref(), Some("fill-mask"));
    }

    #[test]
    fn a_dataset_and_a_space() {
        let card = object(json!({ "language": "en", "task_categories": ["qa"], "size_categories": "n<1K" }));
        let found = derive(RepoKind::Dataset, &card, "", &[], None);
        assert_eq!(found.tags, ["language:en", "task_categories:qa", "size_categories:n<1K", "region:us"]);
        let card = object(json!({ "sdk": "gradio" }));
        assert_eq!(derive(RepoKind::Space, &card, "", &[], None).sdk.as_deref(), Some("gradio"));
    }
}
