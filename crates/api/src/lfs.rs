//! Git LFS: the batch call, and the links that it hands out.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bastide_core::id::RowId;
use bastide_core::{RepoId, Sha256};
use bastide_hub::access::{Level, Read, Write};
use bastide_hub::lfs::{LfsObject, LinkKind, UploadPlan};
use bastide_hub::uploads::{Purpose, Right, Uploader};
use bastide_hub::{Hub, Problem};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, header_text};
use crate::cas::signature;
use crate::extract::{Caller, JsonBody, Query, RepoRoute, body_bytes, origin};
use crate::guard::guarded;
use crate::resolve::parse_range;
use crate::routes::Routes;
use bastide_hub::links::Signature;

pub const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// Objects of one call.
const MAX_OBJECTS: usize = 1000;
const UPLOAD_SECONDS: i64 = bastide_core::limits::UPLOAD_LINK_SECONDS;
const DOWNLOAD_SECONDS: i64 = bastide_core::limits::SIGNED_LINK_SECONDS;

pub fn routes(routes: Routes) -> Routes {
    routes
        .files(Method::POST, "/{prefix}/{ns}/{name}/info/lfs/objects/batch", batch)
        .add(Method::PUT, "/lfs/{repo}/upload/{oid}", upload)
        .add(Method::PUT, "/lfs/{repo}/part/{oid}", part)
        .add(Method::POST, "/lfs/{repo}/complete/{oid}", complete)
        .add(Method::POST, "/lfs/{repo}/verify/{oid}", verify)
        .add(Method::GET, "/lfs/{repo}/download/{oid}", download)
}

#[derive(Deserialize)]
struct BatchBody {
    operation: String,
    #[serde(default)]
    transfers: Vec<String>,
    objects: Vec<BatchObject>,
    hash_algo: Option<String>,
}

#[derive(Deserialize)]
struct BatchObject {
    oid: String,
    size: u64,
}

async fn batch(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<BatchBody>,
) -> Answer<Response> {
    if body.objects.len() > MAX_OBJECTS {
        return Err(Problem::Unprocessable(format!("at most {MAX_OBJECTS} objects in one call")).into());
    }
    // One client spells it `sha_256`.
    if body.hash_algo.as_deref().is_some_and(|algo| !matches!(algo, "sha256" | "sha_256")) {
        return Err(Problem::Unprocessable("only sha256 is supported".into()).into());
    }
    let value = match body.operation.as_str() {
        "download" => download_batch(&hub, &caller, &route, &body).await?,
        "upload" => upload_batch(&hub, &caller, &route, &body).await?,
        other => return Err(Problem::Unprocessable(format!("'{other}' is not an operation")).into()),
    };
    let mut response = Json(value).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LFS_JSON));
    Ok(response)
}

fn object(object: &BatchObject) -> Result<LfsObject, Problem> {
    let oid = object.oid.parse().map_err(|error: bastide_core::Invalid| Problem::Unprocessable(error.0))?;
    Ok(LfsObject { oid, size: object.size })
}

async fn download_batch(hub: &Hub, caller: &Caller, route: &RepoRoute, body: &BatchBody) -> Answer<Value> {
    let access = caller.repo::<Read>(hub, &route.path).await?;
    let mut objects = Vec::with_capacity(body.objects.len());
    for asked in &body.objects {
        let wanted = object(asked)?;
        objects.push(match hub.download_link(&caller.context, &access, wanted.oid).await? {
            Some((size, href)) => json!({ "oid": wanted.oid, "size": size, "authenticated": true,
                "actions": { "download": { "href": href, "expires_in": DOWNLOAD_SECONDS } } }),
            None => missing_json(hub, &access, wanted).await?,
        });
    }
    Ok(json!({ "transfer": "basic", "objects": objects, "hash_algo": "sha256" }))
}

/// An object that is not here: by somebody's will, or because it never was.
async fn missing_json(
    hub: &Hub,
    access: &bastide_hub::access::Access<Read>,
    wanted: LfsObject,
) -> Result<Value, Problem> {
    let (status, message) = match hub.deleted_at(access, wanted.oid).await? {
        Some(at) => (StatusCode::GONE, format!("Object was deleted from this repository for good, at {at}")),
        None => (StatusCode::NOT_FOUND, "Object does not exist in this repository".to_owned()),
    };
    let error = json!({ "code": status.as_u16(), "message": message });
    Ok(json!({ "oid": wanted.oid, "size": wanted.size, "error": error }))
}

async fn upload_batch(hub: &Hub, caller: &Caller, route: &RepoRoute, body: &BatchBody) -> Answer<Value> {
    // Nothing here says what the upload is for: who cannot write can only propose.
    let by = caller.uploader(hub, &route.path, Purpose::Unknown).await?;
    let offers = |name: &str| body.transfers.iter().any(|transfer| transfer == name);
    if offers("xet") {
        return xet_batch(hub, caller, &by, &route.path, body).await;
    }
    // One answer has one way of transfer: parts only when all objects that are missing need them, and only
    // for writers.
    let large = |asked: &BatchObject| asked.size > hub.config.lfs_multipart_bytes;
    let writer = by.right() == Right::Write;
    let multipart =
        writer && offers("multipart") && !body.objects.is_empty() && body.objects.iter().all(large);
    let wanted = body.objects.iter().map(object).collect::<Result<Vec<_>, _>>()?;
    let plans = hub.plan_uploads(&caller.context, &by, &wanted, multipart).await?;
    let objects: Vec<Value> =
        wanted.into_iter().zip(plans).map(|(one, plan)| upload_json(one, plan)).collect();
    let transfer = if multipart { "multipart" } else { "basic" };
    Ok(json!({ "transfer": transfer, "objects": objects, "hash_algo": "sha256" }))
}

/// Clients that speak Xet go there directly: the header tells them where, with which token.
async fn xet_batch(
    hub: &Hub,
    caller: &Caller,
    by: &Uploader,
    path: &bastide_core::RepoPath,
    body: &BatchBody,
) -> Answer<Value> {
    let token = hub.xet_upload_token(&caller.context, by);
    let proposal = if by.right() == Right::Propose { "?create_pr=1" } else { "" };
    let (base, kind) = (hub.url(&caller.context), path.kind.plural());
    let refresh = format!("{base}/api/{kind}/{}/xet-write-token/main{proposal}", path.id());
    let header = json!({
        "X-Xet-Cas-Url": token.cas_url,
        "X-Xet-Access-Token": token.text,
        "X-Xet-Token-Expiration": token.expires.to_string(),
        "X-Xet-Session-Id": caller.context.origin().request_id,
    });
    let wanted = body.objects.iter().map(object).collect::<Result<Vec<_>, _>>()?;
    let plans = hub.plan_uploads(&caller.context, by, &wanted, false).await?;
    let mut objects = Vec::with_capacity(wanted.len());
    for (wanted, plan) in wanted.iter().zip(plans) {
        if let UploadPlan::Refused(why) = &plan {
            objects.push(refused_json(*wanted, why));
            continue;
        }
        let mut value = json!({ "oid": wanted.oid, "size": wanted.size, "authenticated": true });
        if let (false, Some(value)) = (matches!(plan, UploadPlan::Present), value.as_object_mut()) {
            let upload = json!({ "href": refresh, "header": header, "expires_in": 900 });
            value.insert("actions".into(), json!({ "upload": upload }));
        }
        objects.push(value);
    }
    Ok(json!({ "transfer": "xet", "objects": objects, "hash_algo": "sha256" }))
}

fn refused_json(object: LfsObject, why: &str) -> Value {
    let code = StatusCode::PAYMENT_REQUIRED.as_u16();
    json!({ "oid": object.oid, "size": object.size, "error": { "code": code, "message": why } })
}

fn upload_json(object: LfsObject, plan: UploadPlan) -> Value {
    let mut value = json!({ "oid": object.oid, "size": object.size, "authenticated": true });
    let link = |href: String| json!({ "href": href, "expires_in": UPLOAD_SECONDS });
    let actions = match plan {
        UploadPlan::Present => return value,
        UploadPlan::Refused(why) => return refused_json(object, &why),
        UploadPlan::Basic { href, verify } => json!({ "upload": link(href), "verify": link(verify) }),
        UploadPlan::Multipart { parts, part_bytes, complete, verify } => {
            let mut header = Map::from_iter([("chunk_size".to_owned(), json!(part_bytes.to_string()))]);
            header.extend(
                (1..).zip(parts).map(|(number, url): (usize, _)| (format!("{number:05}"), json!(url))),
            );
            let upload = json!({ "href": complete, "header": header, "expires_in": UPLOAD_SECONDS });
            json!({ "upload": upload, "verify": link(verify) })
        }
    };
    if let Some(value) = value.as_object_mut() {
        value.insert("actions".into(), actions);
    }
    value
}

/// A link of ours: its object, and the caller behind it.
struct Link<L> {
    object: LfsObject,
    context: bastide_hub::Context,
    access: bastide_hub::access::Access<L>,
}

async fn link<L: Level>(
    hub: &Hub,
    path: &(String, String),
    query: &Query,
    parts: &Parts,
    kind: LinkKind,
) -> Result<Link<L>, Problem> {
    let (repo, object, signature) = shown(path, query)?;
    let (context, access) = hub.check_lfs_link(repo, object, kind, &signature, origin(parts)).await?;
    Ok(Link { object, context, access })
}

/// A link of ours to upload by: its object, the caller behind it and the right that it was made by.
struct UploadLink {
    object: LfsObject,
    context: bastide_hub::Context,
    by: Uploader,
}

async fn upload_link(
    hub: &Hub,
    path: &(String, String),
    query: &Query,
    parts: &Parts,
    kind: fn(Right) -> LinkKind,
) -> Result<UploadLink, Problem> {
    let (repo, object, signature) = shown(path, query)?;
    let right = if query.get("r") == Some("propose") { Right::Propose } else { Right::Write };
    let (context, by) = hub.check_upload_link(repo, object, kind(right), &signature, origin(parts)).await?;
    Ok(UploadLink { object, context, by })
}

/// What a link says.
fn shown((repo, oid): &(String, String), query: &Query) -> Result<(RepoId, LfsObject, Signature), Problem> {
    let refused = || Problem::Forbidden("this link is not valid: ask for a new one".into());
    let repo: RepoId = repo.parse().map_err(|_| refused())?;
    let oid: Sha256 = oid.parse().map_err(|_| refused())?;
    let size = query.number("size")?.ok_or_else(refused)?;
    let signature = signature(query).ok_or_else(refused)?;
    Ok((repo, LfsObject { oid, size }, signature))
}

fn upload_id(query: &Query) -> RowId {
    RowId::from_i64(query.get("u").and_then(|number| number.parse().ok()).unwrap_or(0))
}

async fn upload(
    State(hub): State<Hub>,
    Path(path): Path<(String, String)>,
    query: Query,
    request: Request,
) -> Answer<StatusCode> {
    let (parts, body) = request.into_parts();
    let link = upload_link(&hub, &path, &query, &parts, LinkKind::Upload).await?;
    hub.receive_object(&link.context, &link.by, link.object, body.into_data_stream()).await?;
    Ok(StatusCode::OK)
}

async fn part(
    State(hub): State<Hub>,
    Path(path): Path<(String, String)>,
    query: Query,
    request: Request,
) -> Answer<Response> {
    let (parts, body) = request.into_parts();
    let (upload, number) = (upload_id(&query), query.number("n")?.unwrap_or(0));
    let link: Link<Write> = link(&hub, &path, &query, &parts, LinkKind::Part { upload, number }).await?;
    let etag = hub.receive_part(&link.context, &link.access, upload, number, body.into_data_stream()).await?;
    let mut response = StatusCode::OK.into_response();
    response.headers_mut().insert(header::ETAG, header_text(&format!("\"{etag}\"")));
    Ok(response)
}

#[derive(Deserialize)]
struct CompleteBody {
    parts: Vec<CompletePart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompletePart {
    part_number: u64,
    etag: String,
}

async fn complete(
    State(hub): State<Hub>,
    Path(path): Path<(String, String)>,
    query: Query,
    request: Request,
) -> Answer<Json<Value>> {
    let (parts, body) = request.into_parts();
    let upload = upload_id(&query);
    let link: Link<Write> = link(&hub, &path, &query, &parts, LinkKind::Complete { upload }).await?;
    let bytes = body_bytes(Request::new(body), bastide_core::limits::MAX_JSON_BYTES).await?;
    let body: CompleteBody =
        serde_json::from_slice(&bytes).map_err(|error| Problem::Invalid(format!("bad JSON: {error}")))?;
    let tags: Vec<(u64, String)> = body.parts.into_iter().map(|part| (part.part_number, part.etag)).collect();
    hub.complete_upload(&link.context, &link.access, (upload, link.object), &tags).await?;
    Ok(Json(json!({})))
}

async fn verify(
    State(hub): State<Hub>,
    Path(path): Path<(String, String)>,
    query: Query,
    request: Request,
) -> Answer<Json<Value>> {
    let (parts, _) = request.into_parts();
    let link = upload_link(&hub, &path, &query, &parts, LinkKind::Verify).await?;
    hub.verify_object(&link.by.reader(), link.object).await?;
    Ok(Json(json!({})))
}

async fn download(
    State(hub): State<Hub>,
    Path(path): Path<(String, String)>,
    query: Query,
    request: Request,
) -> Answer<Response> {
    let (parts, _) = request.into_parts();
    let link: Link<Read> = link(&hub, &path, &query, &parts, LinkKind::Download).await?;
    let size = link.object.size;
    let range = match parts.headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(text) => parse_range(text, size)?,
        None => None,
    };
    let wanted = range.clone().unwrap_or(0..size);
    let len = wanted.end - wanted.start;
    let stream = hub.download_object(&link.context, &link.access, link.object, wanted).await?;
    let mut response = guarded(&hub, &link.context, &link.access, Body::from_stream(stream)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(range) = range {
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        headers.insert(header::CONTENT_RANGE, header_text(&text));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}
