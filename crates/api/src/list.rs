//! Lists of repositories, with filters, order and pages.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bastide_core::{RepoId, RepoKind};
use bastide_hub::lists::{Detail, ListCursor, ListRequest, ListRow, ListSort};
use bastide_hub::{CursorValue, Hub, Problem};
use http::{Method, Uri, header};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, header_text};
use crate::extract::{Caller, Query};
use crate::info::{add_related, choose, expand, fields, siblings};
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/models", models).add(Method::GET, "/api/datasets", datasets).add(
        Method::GET,
        "/api/spaces",
        spaces,
    )
}

async fn models(hub: State<Hub>, caller: Caller, query: Query, uri: OriginalUri) -> Answer<Response> {
    list(hub.0, caller, query, uri.0, RepoKind::Model).await
}

async fn datasets(hub: State<Hub>, caller: Caller, query: Query, uri: OriginalUri) -> Answer<Response> {
    list(hub.0, caller, query, uri.0, RepoKind::Dataset).await
}

async fn spaces(hub: State<Hub>, caller: Caller, query: Query, uri: OriginalUri) -> Answer<Response> {
    list(hub.0, caller, query, uri.0, RepoKind::Space).await
}

async fn list(hub: Hub, caller: Caller, query: Query, uri: Uri, kind: RepoKind) -> Answer<Response> {
    let expand = expand(kind, &query)?;
    let request = ListRequest { detail: detail(&query, expand.as_deref()), ..request(kind, &query)? };
    let page = hub.list_repos(&caller.context, request).await?;
    let rows: Vec<Value> = page.rows.iter().map(|found| row(found, &query, expand.as_deref())).collect();
    let next = page.next.map(|cursor| next_link(hub.url(&caller.context), &uri, &query, &encode(&cursor)));
    let mut response = Json(rows).into_response();
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

/// The address of the next page: absolute, on our own host.
pub fn next_link(base: &str, uri: &Uri, query: &Query, cursor: &str) -> http::HeaderValue {
    let mut pairs: Vec<(&str, &str)> = query
        .0
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| *key != "cursor")
        .collect();
    pairs.push(("cursor", cursor));
    let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
    header_text(&format!("<{base}{}?{query}>; rel=\"next\"", uri.path()))
}

/// What a row has to tell for the fields that are asked for.
fn detail(query: &Query, expand: Option<&[String]>) -> Detail {
    let asked = |field: &str| expand.is_some_and(|fields| fields.iter().any(|asked| asked == field));
    let full = expand.is_none() && query.flag("full");
    Detail {
        commit: full || asked("sha"),
        files: full || asked("siblings"),
        spaces: asked("spaces"),
        children: asked("childrenModelCount"),
    }
}

fn request(kind: RepoKind, query: &Query) -> Result<ListRequest, Problem> {
    if query.0.iter().any(|(_, value)| value.contains('\0')) {
        return Err(Problem::Invalid("the query has a zero character".into()));
    }
    let mut tags: Vec<String> =
        query.all("filter").flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
    tags.retain(|tag| !tag.is_empty());
    let gated = query.get("gated").map(|_| query.flag("gated"));
    let links = |key, kind: &str| query.all(key).map(move |id| format!("{kind}:{id}")).collect::<Vec<_>>();
    let cursor = query.get("cursor").map(decode).transpose()?;
    let apps = query.all("apps").flat_map(|value| value.split(',')).map(|app| app.trim().to_owned());
    let served = ["inference", "inference_provider"].iter().any(|key| query.all(key).next().is_some());
    Ok(ListRequest {
        kind,
        author: query.get("author").map(ToOwned::to_owned),
        search: query.all("search").filter(|text| !text.is_empty()).map(ToOwned::to_owned).collect(),
        tags,
        links: [links("models", "model"), links("datasets", "dataset")].concat(),
        pipeline: query.get("pipeline_tag").filter(|tag| !tag.is_empty()).map(ToOwned::to_owned),
        apps: apps.filter(|app| !app.is_empty()).collect(),
        linked: query.flag("linked"),
        served,
        gated,
        parameters: parameters(query.get("num_parameters"))?,
        sort: sort(query.get("sort"))?,
        ascending: query.get("direction") == Some("1"),
        limit: query.number("limit")?,
        cursor,
        detail: Detail::default(),
    })
}

fn sort(text: Option<&str>) -> Result<ListSort, Problem> {
    Ok(match text {
        None | Some("trendingScore" | "trending_score") => ListSort::Trending,
        Some("downloads") => ListSort::Downloads,
        Some("likes") => ListSort::Likes,
        Some("createdAt" | "created_at") => ListSort::Created,
        Some("lastModified" | "last_modified") => ListSort::Updated,
        Some(_) => {
            let known = "trendingScore, downloads, likes, createdAt, lastModified";
            return Err(Problem::Invalid(format!("\"sort\" must be one of [{known}]")));
        }
    })
}

/// `min:6B,max:128B`.
fn parameters(text: Option<&str>) -> Result<(Option<i64>, Option<i64>), Problem> {
    let mut found = (None, None);
    for part in text.unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
        let bad = || Problem::Invalid("\"num_parameters\" must be like min:6B,max:128B".into());
        match part.split_once(':').ok_or_else(bad)? {
            ("min", number) => found.0 = Some(scaled(number).ok_or_else(bad)?),
            ("max", number) => found.1 = Some(scaled(number).ok_or_else(bad)?),
            _ => return Err(bad()),
        }
    }
    Ok(found)
}

fn scaled(text: &str) -> Option<i64> {
    let (digits, factor) = match text.chars().last()? {
        'K' | 'k' => (text.trim_end_matches(['K', 'k']), 1e3),
        'M' | 'm' => (text.trim_end_matches(['M', 'm']), 1e6),
        'B' | 'b' => (text.trim_end_matches(['B', 'b']), 1e9),
        'T' | 't' => (text.trim_end_matches(['T', 't']), 1e12),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "a bound that people type")]
    (number.is_finite() && number >= 0.0).then_some((number * factor) as i64)
}

fn encode(cursor: &ListCursor) -> String {
    let value = match &cursor.value {
        CursorValue::Real(value) => format!("r{value}"),
        CursorValue::Int(value) => format!("i{value}"),
        _ => "i0".to_owned(),
    };
    URL_SAFE_NO_PAD.encode(format!("{value}:{}", cursor.id))
}

fn decode(text: &str) -> Result<ListCursor, Problem> {
    let bad = || Problem::Invalid("the cursor is not one of this hub's".into());
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let (value, id) = text.split_once(':').ok_or_else(bad)?;
    let value = match (value.get(..1), value.get(1..)) {
        (Some("i"), Some(number)) => CursorValue::Int(number.parse().map_err(|_| bad())?),
        (Some("r"), Some(number)) => CursorValue::Real(number.parse().map_err(|_| bad())?),
        _ => return Err(bad()),
    };
    let id: RepoId = id.parse().map_err(|_| bad())?;
    Ok(ListCursor { value, id })
}

/// What a row shows when nobody asks for more.
const PLAIN: &[&str] = &[
    "_id",
    "id",
    "modelId",
    "author",
    "likes",
    "private",
    "downloads",
    "tags",
    "pipeline_tag",
    "library_name",
    "createdAt",
    "lastModified",
    "trendingScore",
    "gated",
    "disabled",
    "sdk",
    "subdomain",
];

fn row(found: &ListRow, query: &Query, expand: Option<&[String]>) -> Value {
    let mut all = fields(&found.info);
    all.insert("sha".into(), json!(found.commit));
    all.insert("siblings".into(), siblings(&found.files, false));
    add_related(&mut all, &found.related);
    if expand.is_some() {
        return choose(all, expand);
    }
    let full = query.flag("full");
    let mut kept: Map<String, Value> = Map::new();
    for (key, value) in all {
        let wanted = PLAIN.contains(&key.as_str())
            || full && matches!(key.as_str(), "cardData" | "sha" | "siblings")
            || key == "cardData" && query.flag("cardData")
            || key == "config" && query.flag("config");
        if wanted && !value.is_null() {
            kept.insert(key, value);
        }
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_the_wire_and_foreign_ones_are_refused() {
        let id = RepoId::from_i64(1 << 60);
        for value in [CursorValue::Real(1.5), CursorValue::Int(-3)] {
            let cursor = ListCursor { value, id };
            assert_eq!(decode(&encode(&cursor)).unwrap(), cursor);
        }
        for bad in ["", "x", "aTE", "////", &URL_SAFE_NO_PAD.encode("i1:zz")] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_parameters() {
        assert_eq!(
            parameters(Some("min:6B,max:0.5T")).unwrap(),
            (Some(6_000_000_000), Some(500_000_000_000))
        );
        assert!(parameters(Some("6B")).is_err());
        assert!(parameters(Some("min:x")).is_err());
    }
}
