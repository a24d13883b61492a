//! Cards: the README's front matter, read as YAML with limits, and what is wrong with it.

use bastide_core::RepoKind;
use serde_json::{Map, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

/// Longest front matter that is read.
const MAX_YAML_BYTES: usize = 512 * 1024;

/// License identifiers that cards may use (the public hub's documentation, list of licenses).
const LICENSES: &[&str] = &[
    "apache-2.0",
    "mit",
    "openrail",
    "bigscience-openrail-m",
    "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m",
    "afl-3.0",
    "artistic-2.0",
    "bsl-1.0",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsd-3-clause-clear",
    "c-uda",
    "cc",
    "cc0-1.0",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
    "wtfpl",
    "ecl-2.0",
    "epl-1.0",
    "epl-2.0",
    "etalab-2.0",
    "eupl-1.1",
    "eupl-1.2",
    "agpl-3.0",
    "gfdl",
    "gpl",
    "gpl-2.0",
    "gpl-3.0",
    "lgpl",
    "lgpl-2.1",
    "lgpl-3.0",
    "isc",
    "h-research",
    "intel-research",
    "lppl-1.3c",
    "ms-pl",
    "apple-ascl",
    "apple-amlr",
    "mpl-2.0",
    "odc-by",
    "odbl",
    "openmdw-1.0",
    "openmdw-1.1",
    "openrail++",
    "osl-3.0",
    "postgresql",
    "ofl-1.1",
    "ncsa",
    "unlicense",
    "zlib",
    "pddl",
    "lgpl-lr",
    "deepfloyd-if-license",
    "fair-noncommercial-research-license",
    "llama2",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "llama4",
    "grok2-community",
    "gemma",
    "unknown",
    "other",
];

const SDKS: &[&str] = &["gradio", "streamlit", "docker", "static"];
const COLORS: &[&str] = &["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"];

/// What a README says of its repository, and what is wrong with that.
#[derive(Debug, Default)]
pub struct Card {
    /// The front matter as JSON, if there is one that can be read.
    pub data: Option<Map<String, Value>>,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

/// Splits a README into its front matter and the text.
pub fn split(content: &str) -> (Option<&str>, &str) {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    let Some(rest) = content.strip_prefix("---\n").or_else(|| content.strip_prefix("---\r\n")) else {
        return (None, content);
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return (rest.get(..at), rest.get(at + line.len()..).unwrap_or_default());
        }
        at += line.len();
    }
    (None, content)
}

/// Reads and checks a README.
pub fn read(content: &str, kind: RepoKind) -> Card {
    let (Some(yaml), _) = split(content) else {
        return Card {
            warnings: vec!["empty or missing yaml metadata in repo card".to_owned()],
            ..Card::default()
        };
    };
    if yaml.len() > MAX_YAML_BYTES {
        return failed(format!("the metadata has more than {MAX_YAML_BYTES} bytes"));
    }
    let (data, warnings) = match parse(yaml) {
        Ok((Value::Object(data), warnings)) => (data, warnings),
        Ok((Value::Null, warnings)) => (Map::new(), warnings),
        Ok(_) => return failed("the metadata must be a mapping of names to values".to_owned()),
        Err(error) => return failed(format!("Invalid YAML: {}", first_line(&error.to_string()))),
    };
    let errors = check(&data, kind);
    Card { data: Some(data), errors, warnings }
}

/// Reads YAML, with a warning about what the usual readers take and JSON cannot say: numbers
/// that are not finite (PyYAML writes a loss as `.nan`) become null, and of a name that is given
/// twice the last value counts.
fn parse(yaml: &str) -> Result<(Value, Vec<String>), serde_saphyr::Error> {
    let mut options = serde_saphyr::options! { strict_booleans: true };
    let mut warnings = Vec::new();
    loop {
        let error = match serde_saphyr::from_str_with_options(yaml, options.clone()) {
            Ok(value) => return Ok((value, warnings)),
            Err(error) => error,
        };
        // Each is allowed once: a third reading is the last.
        match error.without_snippet() {
            serde_saphyr::Error::NonFiniteFloat { .. } if warnings.len() < 2 => {
                options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
                warnings.push("numbers that are not finite (.nan, .inf) become null".to_owned());
            }
            serde_saphyr::Error::DuplicateMappingKey { key, .. } if warnings.len() < 2 => {
                options.duplicate_keys = DuplicateKeyPolicy::LastWins;
                let name = key.as_deref().unwrap_or_default();
                warnings.push(format!("\"{name}\" is given more than once: the last value counts"));
            }
            _ => return Err(error),
        }
    }
}

fn failed(error: String) -> Card {
    Card { errors: vec![error], ..Card::default() }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// The values of a field that may be one text or a list of texts.
pub fn texts<'a>(data: &'a Map<String, Value>, key: &str) -> Vec<&'a str> {
    match data.get(key) {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn check(data: &Map<String, Value>, kind: RepoKind) -> Vec<String> {
    let mut errors = Vec::new();
    for key in
        ["license", "language", "tags", "datasets", "metrics", "base_model", "task_categories", "task_ids"]
    {
        text_or_texts(data, key, &mut errors);
    }
    for key in
        ["library_name", "pipeline_tag", "license_name", "license_link", "title", "app_file", "thumbnail"]
    {
        if data.get(key).is_some_and(|value| !value.is_string() && !value.is_null()) {
            errors.push(format!("\"{key}\" must be a string"));
        }
    }
    if texts(data, "license").iter().any(|license| !LICENSES.contains(license)) {
        errors.push(format!("\"license\" must be one of [{}]", LICENSES.join(", ")));
    }
    if data.get("model-index").is_some_and(|value| !value.is_array() && !value.is_null()) {
        errors.push("\"model-index\" must be an array".to_owned());
    }
    if kind == RepoKind::Space {
        check_space(data, &mut errors);
    }
    errors
}

fn check_space(data: &Map<String, Value>, errors: &mut Vec<String>) {
    let mut one_of = |key: &str, allowed: &[&str]| {
        let bad =
            data.get(key).is_some_and(|value| value.as_str().is_none_or(|text| !allowed.contains(&text)));
        if bad {
            errors.push(format!("\"{key}\" must be one of [{}]", allowed.join(", ")));
        }
    };
    one_of("sdk", SDKS);
    one_of("colorFrom", COLORS);
    one_of("colorTo", COLORS);
    let port = data.get("app_port");
    if port.is_some_and(|port| port.as_u64().is_none_or(|port| !(1..=65_535).contains(&port))) {
        errors.push("\"app_port\" must be a number from 1 to 65535".to_owned());
    }
}

fn text_or_texts(data: &Map<String, Value>, key: &str, errors: &mut Vec<String>) {
    let good = match data.get(key) {
        None | Some(Value::Null | Value::String(_)) => true,
        Some(Value::Array(list)) => list.iter().all(Value::is_string),
        Some(_) => false,
    };
    if !good {
        errors.push(format!("\"{key}\" must be a string or an array of strings"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn front_matter_is_found_only_at_the_start() {
        assert_eq!(split("---\na: 1\n---\ntext"), (Some("a: 1\n"), "text"));
        assert_eq!(split("---\r\na: 1\r\n---\r\n"), (Some("a: 1\r\n"), ""));
        assert_eq!(split("text\n---\na: 1\n---\n").0, None);
        assert_eq!(split("---\nnever closed").0, None);
    }

    #[test]
    fn norwegian_and_dates_stay_text() {
        let card =
            read("---\nlanguage: no\nlicense: mit\nwhen: 2024-01-02\nflag: true\n---\n", RepoKind::Model);
        let data = card.data.unwrap();
        assert!(card.errors.is_empty(), "{:?}", card.errors);
        assert_eq!(data["language"], "no");
        assert_eq!(data["when"], "2024-01-02");
        assert_eq!(data["flag"], true);
    }

    #[test]
    fn what_other_readers_take_is_a_warning() {
        let read = |yaml: &str| read(&format!("---\n{yaml}\n---\n"), RepoKind::Model);
        let card = read("loss: .nan\nbest: [.inf, -.inf, 1e999, 0.5]\ncount: 123456789012345678901234567890");
        assert!(card.errors.is_empty(), "{:?}", card.errors);
        let data = card.data.unwrap();
        assert_eq!(data["loss"], Value::Null);
        assert_eq!(data["best"], serde_json::json!([null, null, null, 0.5]));
        assert_eq!(data["count"], 123_456_789_012_345_678_901_234_567_890_f64);
        assert!(card.warnings[0].contains(".nan"), "{:?}", card.warnings);

        let card = read("license: mit\nloss: .nan\nlicense: apache-2.0");
        assert!(card.errors.is_empty(), "{:?}", card.errors);
        assert_eq!(card.data.unwrap()["license"], "apache-2.0");
        assert_eq!(card.warnings.len(), 2, "{:?}", card.warnings);
        assert!(
            card.warnings.iter().any(|warning| warning.starts_with("\"license\" is given more than once"))
        );
        // A text that looks like one stays text, and what is wrong after a warning is still wrong.
        assert_eq!(read("a: nan\nb: \".nan\"").data.unwrap()["b"], ".nan");
        assert!(!read("loss: .nan\nlicense: nonsense").errors.is_empty());
        assert!(!read("loss: .nan\na: [").errors.is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let errors = |yaml: &str, kind| read(&format!("---\n{yaml}\n---\n"), kind).errors;
        assert!(
            errors("license: foo", RepoKind::Model)[0]
                .starts_with("\"license\" must be one of [apache-2.0, ")
        );
        assert!(errors("tags: 3", RepoKind::Model)[0].contains("\"tags\" must be"));
        assert!(errors("sdk: flask", RepoKind::Space)[0].contains("gradio"));
        assert!(errors("app_port: 70000", RepoKind::Space)[0].contains("65535"));
        assert!(errors("a: [", RepoKind::Model)[0].contains("Invalid YAML"));
        assert!(errors("- a", RepoKind::Model)[0].contains("mapping"));
        assert!(errors("license: [mit, apache-2.0]", RepoKind::Model).is_empty());
        let none = read("# A model", RepoKind::Model);
        assert!(none.errors.is_empty() && none.warnings.len() == 1);
    }

    #[test]
    fn bombs_end_as_errors() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (from, to) in ('a'..='h').zip('b'..='i') {
            bomb.push_str(&format!(
                "{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from}]\n"
            ));
        }
        assert!(!read(&format!("---\n{bomb}---\n"), RepoKind::Model).errors.is_empty());
        let deep = format!("---\na: {}\n---\n", "[".repeat(5000));
        assert!(!read(&deep, RepoKind::Model).errors.is_empty());
        let long = format!("---\na: {}\n---\n", "x".repeat(MAX_YAML_BYTES));
        assert!(!read(&long, RepoKind::Model).errors.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(---\n)?\\PC{0,200}(\n---\n)?") {
            let _ = read(&text, RepoKind::Space);
        }
    }
}
