//! From a card and the names of files to what lists and searches know of a repository.

use bastide_core::RepoKind;
use serde_json::{Map, Value};

use crate::card::texts;
use crate::transformers;

/// What was found out about a repository.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Derived {
    pub tags: Vec<String>,
    pub pipeline_tag: Option<String>,
    pub library: Option<String>,
    pub sdk: Option<String>,
    pub base_models: Option<BaseModels>,
    /// How the transformers library loads it.
    pub transformers: Option<Map<String, Value>>,
    /// Programs that can run the model.
    pub apps: Vec<&'static str>,
}

/// The models that one was made from, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModels {
    pub relation: &'static str,
    pub ids: Vec<String>,
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
    let mut found = match kind {
        RepoKind::Model => model(card, files, config),
        RepoKind::Dataset => Derived::default(),
        RepoKind::Space => Derived { sdk: word(card, "sdk"), ..Derived::default() },
    };
    let mut tags = Tags::default();
    match kind {
        RepoKind::Model => model_tags(&mut tags, &found, card, files, config),
        RepoKind::Dataset => {
            tags.prefixed("language", texts(card, "language"));
            for (field, prefix) in DATASET_FIELDS {
                tags.prefixed(prefix, texts(card, field));
            }
        }
        RepoKind::Space => tags.extend(found.sdk.as_deref()),
    }
    tags.extend(texts(card, "tags"));
    tags.prefixed("license", texts(card, "license"));
    tags.prefixed("arxiv", papers(text));
    tags.extend(["region:us"]);
    found.tags = tags.0;
    if kind == RepoKind::Model {
        found.apps = apps(&found);
    }
    found
}

fn model(card: &Map<String, Value>, files: &[&str], config: Option<&Value>) -> Derived {
    let library = library(card, files, config);
    let loaded = matches!(library.as_deref(), Some("transformers" | "sentence-transformers"));
    let transformers = config.filter(|_| loaded).and_then(transformers::info);
    let inferred = || {
        let by_library = library.as_deref().and_then(pipeline_of_library);
        let by_class = transformers.as_ref().and_then(|info| info.get("pipeline_tag")?.as_str());
        by_library.or(by_class).map(ToOwned::to_owned)
    };
    let pipeline_tag = word(card, "pipeline_tag").or_else(inferred);
    let base_models = base_models(card, library.as_deref(), files, config);
    Derived { pipeline_tag, library, base_models, transformers, ..Derived::default() }
}

fn model_tags(
    tags: &mut Tags,
    found: &Derived,
    card: &Map<String, Value>,
    files: &[&str],
    config: Option<&Value>,
) {
    tags.extend(found.library.as_deref());
    tags.extend(file_formats(files));
    tags.extend(config.and_then(|config| config.get("model_type")).and_then(Value::as_str));
    tags.extend(found.pipeline_tag.as_deref());
    tags.extend(card.get("model-index").filter(|index| index.is_array()).map(|_| "model-index"));
    tags.extend(config.and_then(|config| config.get("auto_map")).map(|_| "custom_code"));
    tags.extend(texts(card, "language"));
    tags.prefixed("dataset", texts(card, "datasets"));
    if let Some(BaseModels { relation, ids }) = &found.base_models {
        tags.prefixed("base_model", ids.iter().map(String::as_str));
        tags.prefixed(&format!("base_model:{relation}"), ids.iter().map(String::as_str));
    }
}

/// A text that can stand in a list and be looked for: one line, neither empty nor endless.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TAG_BYTES && !text.chars().any(char::is_control)
}

/// A field of the card that is one word.
fn word(card: &Map<String, Value>, key: &str) -> Option<String> {
    card.get(key).and_then(Value::as_str).filter(|text| is_word(text)).map(ToOwned::to_owned)
}

/// The words of a field that may be one text or a list of texts.
pub fn words<'a>(card: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a str> {
    texts(card, key).into_iter().filter(|text| is_word(text)).take(MAX_TAGS)
}

#[derive(Default)]
struct Tags(Vec<String>);

impl Tags {
    fn extend<'a>(&mut self, tags: impl IntoIterator<Item = &'a str>) {
        tags.into_iter().for_each(|tag| self.push(tag.to_owned()));
    }

    fn prefixed<'a>(&mut self, prefix: &str, values: impl IntoIterator<Item = &'a str>) {
        let values = values.into_iter().filter(|value| !value.is_empty());
        values.for_each(|value| self.push(format!("{prefix}:{value}")));
    }

    fn push(&mut self, tag: String) {
        if is_word(&tag) && self.0.len() < MAX_TAGS && !self.0.contains(&tag) {
            self.0.push(tag);
        }
    }
}

fn base_models(
    card: &Map<String, Value>,
    library: Option<&str>,
    files: &[&str],
    config: Option<&Value>,
) -> Option<BaseModels> {
    let ids: Vec<String> = words(card, "base_model").map(ToOwned::to_owned).collect();
    if ids.is_empty() {
        return None;
    }
    let said = card.get("base_model_relation").and_then(Value::as_str);
    let said = ["adapter", "merge", "quantized", "finetune"].into_iter().find(|known| said == Some(*known));
    let quantized = files.iter().any(|file| file.ends_with(".gguf"))
        || library == Some("mlx")
        || config.is_some_and(|config| config.get("quantization_config").is_some());
    let inferred = match () {
        () if library == Some("peft") || files.contains(&"adapter_config.json") => "adapter",
        () if ids.len() > 1 => "merge",
        () if quantized => "quantized",
        () => "finetune",
    };
    Some(BaseModels { relation: said.unwrap_or(inferred), ids })
}

fn library(card: &Map<String, Value>, files: &[&str], config: Option<&Value>) -> Option<String> {
    if let Some(name) = word(card, "library_name") {
        return Some(name);
    }
    const FILES: &[(&str, &str)] = &[
        ("config_setfit.json", "setfit"),
        ("modules.json", "sentence-transformers"),
        ("config_sentence_transformers.json", "sentence-transformers"),
        ("model_index.json", "diffusers"),
        ("adapter_config.json", "peft"),
        ("open_clip_config.json", "open_clip"),
    ];
    let by_file = FILES.iter().find(|(file, _)| files.contains(file)).map(|(_, library)| *library);
    let has = |key: &str| config.is_some_and(|config| config.get(key).is_some());
    let by_config = || match () {
        () if has("pretrained_cfg") => Some("timm"),
        () if has("architectures") || has("model_type") => Some("transformers"),
        () => None,
    };
    by_file.or_else(by_config).map(ToOwned::to_owned)
}

/// The task of libraries that have one.
fn pipeline_of_library(library: &str) -> Option<&'static str> {
    Some(match library {
        "sentence-transformers" => "sentence-similarity",
        "setfit" => "text-classification",
        "timm" => "image-classification",
        "spacy" | "flair" | "stanza" | "span-marker" => "token-classification",
        "open_clip" => "zero-shot-image-classification",
        _ => return None,
    })
}

/// Programs that run what is in this format, by the names that clients filter with.
fn apps(found: &Derived) -> Vec<&'static str> {
    const GGUF: &[&str] = &[
        "llama.cpp",
        "node-llama-cpp",
        "lmstudio",
        "localai",
        "jan",
        "ollama",
        "backyard",
        "sanctum",
        "jellybox",
        "msty",
        "recursechat",
        "docker-model-runner",
        "lemonade",
    ];
    const SERVERS: &[&str] = &["vllm", "sglang", "tgi"];
    const MLX: &[&str] = &["mlx-lm", "lmstudio"];
    const PICTURES: &[&str] = &["drawthings", "diffusionbee", "joyfusion", "invoke"];
    let tagged = |tag: &str| found.tags.iter().any(|found| found == tag);
    let pipeline = found.pipeline_tag.as_deref();
    let talks = matches!(pipeline, Some("text-generation" | "image-text-to-text"));
    let mut apps = Vec::new();
    for (run, fits) in [
        (GGUF, tagged("gguf")),
        (SERVERS, talks && tagged("transformers") && tagged("safetensors")),
        (MLX, tagged("mlx")),
        (PICTURES, tagged("diffusers") && pipeline == Some("text-to-image")),
    ] {
        apps.extend(run.iter().filter(|_| fits));
    }
    apps
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
    ["arxiv.org/abs/", "arxiv.org/pdf/", "huggingface.co/papers/", "hf.co/papers/"].into_iter().flat_map(
        move |link| text.match_indices(link).filter_map(move |(at, _)| paper(text, at + link.len())),
    )
}

fn paper(text: &str, at: usize) -> Option<&str> {
    let rest = text.get(at..)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let id = rest.get(..end)?.trim_end_matches('.');
    let (year, number) = id.split_once('.')?;
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    (year.len() == 4 && digits && (4..=5).contains(&number.len())).then_some(id)
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
                "base_model:finetune:ann/base",
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
