//! Information about one repository, in the shape of each kind, with `expand`.

use axum::Json;
use axum::extract::State;
use bastide_core::{RepoKind, Visibility};
use bastide_hub::access::See;
use bastide_hub::lists::{Detail, Info, Related};
use bastide_hub::trees::{ItemKind, TreeItem};
use bastide_hub::{Gated, Hub, Problem};
use http::Method;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::extract::{Caller, Query, RepoRoute};
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes.api(Method::GET, "/api/{kind}/{ns}/{name}", info).api(
        Method::GET,
        "/api/{kind}/{ns}/{name}/revision/{*rev}",
        info,
    )
}

const MODEL: &[&str] = &[
    "author",
    "baseModels",
    "cardData",
    "childrenModelCount",
    "config",
    "createdAt",
    "disabled",
    "downloads",
    "downloadsAllTime",
    "evalResults",
    "gated",
    "gguf",
    "inference",
    "inferenceProviderMapping",
    "lastModified",
    "library_name",
    "likes",
    "mask_token",
    "model-index",
    "pipeline_tag",
    "private",
    "resourceGroup",
    "safetensors",
    "sha",
    "siblings",
    "spaces",
    "tags",
    "transformersInfo",
    "trendingScore",
    "usedStorage",
    "widgetData",
];
const DATASET: &[&str] = &[
    "author",
    "cardData",
    "citation",
    "createdAt",
    "description",
    "disabled",
    "downloads",
    "downloadsAllTime",
    "gated",
    "lastModified",
    "likes",
    "mainSize",
    "paperswithcode_id",
    "private",
    "resourceGroup",
    "sha",
    "siblings",
    "tags",
    "trendingScore",
    "usedStorage",
];
const SPACE: &[&str] = &[
    "author",
    "cardData",
    "createdAt",
    "datasets",
    "disabled",
    "lastModified",
    "likes",
    "models",
    "private",
    "region",
    "resourceGroup",
    "runtime",
    "sdk",
    "sha",
    "siblings",
    "subdomain",
    "tags",
    "trendingScore",
    "usedStorage",
];
/// Asked for by some clients and named by no list.
const HIDDEN: &[&str] = &["gitalyUid", "xetEnabled"];
/// Shown only where `expand` asks for them.
const ONLY_EXPANDED: &[&str] =
    &["baseModels", "childrenModelCount", "evalResults", "inference", "inferenceProviderMapping", "region"];

fn expandable(kind: RepoKind) -> &'static [&'static str] {
    match kind {
        RepoKind::Model => MODEL,
        RepoKind::Dataset => DATASET,
        RepoKind::Space => SPACE,
    }
}

/// The fields that `expand` asks for; `None` without it.
pub fn expand(kind: RepoKind, query: &Query) -> Result<Option<Vec<String>>, Problem> {
    let asked: Vec<String> = query.all("expand").map(ToOwned::to_owned).collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let known = expandable(kind);
    if asked.iter().all(|field| known.contains(&field.as_str()) || HIDDEN.contains(&field.as_str())) {
        return Ok(Some(asked));
    }
    Err(Problem::Invalid(format!("\"expand\" must be one of [{}]", known.join(", "))))
}

async fn info(State(hub): State<Hub>, caller: Caller, route: RepoRoute, query: Query) -> Answer<Json<Value>> {
    let expand = expand(route.path.kind, &query)?;
    let access = caller.repo::<See>(&hub, &route.path).await?;
    let revision = route.joined_tail();
    let at = hub.info(&access, Some(revision.as_str()).filter(|text| !text.is_empty())).await?;
    let wants = |name: &str| expand.as_ref().is_none_or(|fields| fields.iter().any(|field| field == name));
    let wants_files = wants("siblings");
    let children = expand.is_some() && wants("childrenModelCount");
    let detail = Detail { spaces: wants("spaces"), children, ..Detail::default() };
    let related = hub.related(&caller.context, &access, detail).await?;
    let files = if wants_files { hub.siblings(&access, at.commit).await? } else { Vec::new() };
    let mut fields = fields(&at.info);
    fields.insert("sha".into(), json!(at.commit));
    add_related(&mut fields, &related);
    if wants_files {
        fields.insert("siblings".into(), siblings(&files, query.flag("blobs")));
    }
    if query.flag("securityStatus") {
        fields.insert("securityRepoStatus".into(), json!({ "scansDone": false, "filesWithIssues": [] }));
    }
    Ok(Json(choose(fields, expand.as_deref())))
}

/// Spaces and descendants of a model.
pub fn add_related(fields: &mut Map<String, Value>, related: &Related) {
    // Models alone have this field.
    if fields.contains_key("modelId") {
        fields.insert("spaces".into(), json!(related.spaces));
        fields.extend(related.children.map(|count| ("childrenModelCount".to_owned(), json!(count))));
    }
}

/// Only what `expand` asks for, and the ids; everything without it. What is asked for and not
/// known is null.
pub fn choose(mut fields: Map<String, Value>, expand: Option<&[String]>) -> Value {
    if let Some(asked) = expand {
        fields.retain(|key, _| key == "id" || key == "_id" || asked.iter().any(|field| field == key));
        for field in asked {
            fields.entry(field.as_str()).or_insert(Value::Null);
        }
    } else {
        let unasked = |key: &str| HIDDEN.contains(&key) || ONLY_EXPANDED.contains(&key);
        fields.retain(|key, _| !unasked(key));
    }
    Value::Object(fields)
}

pub fn siblings(files: &[TreeItem], blobs: bool) -> Value {
    let one = |file: &TreeItem| {
        let mut entry = Map::from_iter([("rfilename".to_owned(), json!(file.path))]);
        if blobs {
            entry.insert("blobId".into(), json!(file.oid));
            match &file.kind {
                ItemKind::File { size } => {
                    entry.insert("size".into(), json!(size));
                }
                ItemKind::Large { pointer, pointer_size, .. } => {
                    entry.insert("size".into(), json!(pointer.size));
                    let lfs = json!({ "size": pointer.size, "sha256": pointer.sha256, "pointerSize": pointer_size });
                    entry.insert("lfs".into(), lfs);
                }
                ItemKind::Folder => {}
            }
        }
        Value::Object(entry)
    };
    files.iter().map(one).collect()
}

pub fn gated(gated: Gated) -> Value {
    match gated {
        Gated::No => json!(false),
        Gated::Auto | Gated::Manual => json!(gated.as_str()),
    }
}

/// A stored text that is JSON.
fn stored(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

/// Every field that does not depend on a revision.
pub fn fields(info: &Info) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("_id", json!(info.id));
    put("id", json!(info.path.id()));
    put("author", json!(info.path.namespace));
    put("private", json!(info.visibility != Visibility::Public));
    put("visibility", json!(info.visibility));
    put("disabled", json!(info.disabled));
    put("gated", gated(info.gated));
    put("createdAt", json!(info.created_at));
    put("lastModified", json!(info.updated_at));
    put("downloads", json!(info.downloads));
    put("downloadsAllTime", json!(info.downloads_all));
    put("likes", json!(info.likes));
    put("trendingScore", json!(info.trending));
    put("usedStorage", json!(info.used_bytes));
    put("tags", stored(Some(&info.tags)));
    put("cardData", stored(info.card.as_deref()));
    put("resourceGroup", Value::Null);
    put("xetEnabled", json!(true));
    if let Value::Object(facts) = stored(Some(&info.facts)) {
        fields.extend(facts);
    }
    match info.path.kind {
        RepoKind::Model => model_fields(info, &mut fields),
        RepoKind::Dataset => dataset_fields(&mut fields),
        RepoKind::Space => space_fields(info, &mut fields),
    }
    fields
}

/// A field of the card.
fn of_card<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    fields.get("cardData")?.get(key)
}

/// The texts of a field of the card that may be one or a list of them.
fn list_of_card(fields: &Map<String, Value>, key: &str) -> Value {
    match of_card(fields, key) {
        Some(Value::String(text)) => json!([text]),
        Some(Value::Array(list)) => list.iter().filter(|item| item.is_string()).cloned().collect(),
        _ => json!([]),
    }
}

fn model_fields(info: &Info, fields: &mut Map<String, Value>) {
    fields.insert("modelId".into(), json!(info.path.id()));
    fields.insert("pipeline_tag".into(), json!(info.pipeline_tag));
    fields.insert("library_name".into(), json!(info.library));
    let index = of_card(fields, "model-index").filter(|index| index.is_array()).cloned();
    fields.insert("model-index".into(), index.unwrap_or(Value::Null));
    if let Some(widget) = of_card(fields, "widget").filter(|widget| widget.is_array()).cloned() {
        fields.insert("widgetData".into(), widget);
    }
    // Nothing is evaluated or served for inference here.
    fields.insert("evalResults".into(), json!([]));
    fields.insert("inference".into(), Value::Null);
    fields.insert("inferenceProviderMapping".into(), json!([]));
}

fn dataset_fields(fields: &mut Map<String, Value>) {
    let paper = of_card(fields, "paperswithcode_id").filter(|id| id.is_string()).cloned();
    fields.extend(paper.map(|paper| ("paperswithcode_id".to_owned(), paper)));
    for key in ["description", "citation", "paperswithcode_id", "mainSize"] {
        fields.entry(key).or_insert(Value::Null);
    }
}

// Running Spaces comes later: until then each says honestly that it has not been built.
fn space_fields(info: &Info, fields: &mut Map<String, Value>) {
    let subdomain =
        format!("{}-{}", info.path.namespace, info.path.name).to_ascii_lowercase().replace(['.', '_'], "-");
    fields.insert("sdk".into(), json!(info.sdk));
    fields.insert("subdomain".into(), json!(subdomain));
    let hardware = json!({ "current": null, "requested": null });
    fields.insert("runtime".into(), json!({ "stage": "STOPPED", "hardware": hardware, "storage": null }));
    // As in the tag of every repository.
    fields.insert("region".into(), json!("us"));
    for key in ["models", "datasets"] {
        let linked = list_of_card(fields, key);
        fields.insert(key.into(), linked);
    }
}
