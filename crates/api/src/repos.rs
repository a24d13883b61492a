//! The life of repositories: create, delete, move, settings, duplicate, may I.

use axum::Json;
use axum::extract::State;
use bastide_core::{RepoKind, RepoPath, Visibility};
use bastide_hub::access::{Admin, Read, Write};
use bastide_hub::repos::{RepoRequest, parse_gated};
use bastide_hub::{Hub, Problem, RepoSettings};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::extract::{Caller, JsonBody, RepoRoute};
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::POST, "/api/repos/create", create)
        .add(Method::DELETE, "/api/repos/delete", delete)
        .add(Method::POST, "/api/repos/move", rename)
        .api(Method::PUT, "/api/{kind}/{ns}/{name}/settings", settings)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/duplicate", duplicate)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/auth-check", auth_check)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/auth-check/write", auth_check_write)
}

/// `visibility`, or the older `private`.
#[derive(Deserialize)]
struct Shown {
    visibility: Option<String>,
    private: Option<bool>,
}

impl Shown {
    fn visibility(&self) -> Result<Option<Visibility>, Problem> {
        match (&self.visibility, self.private) {
            // Protected Spaces are private to everybody who only has the code.
            (Some(text), _) if text == "protected" => Ok(Some(Visibility::Private)),
            (Some(text), _) => Ok(Some(text.parse()?)),
            (None, Some(true)) => Ok(Some(Visibility::Private)),
            (None, Some(false)) => Ok(Some(Visibility::Public)),
            (None, None) => Ok(None),
        }
    }
}

fn kind(text: Option<&str>) -> Result<RepoKind, Problem> {
    text.map_or(Ok(RepoKind::Model), |text| Ok(text.parse()?))
}

#[derive(Deserialize)]
struct CreateBody {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    sdk: Option<String>,
    #[serde(flatten)]
    shown: Shown,
}

async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateBody>,
) -> Answer<Json<Value>> {
    // Some clients put the namespace into the name.
    let (namespace, name) = match body.name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
        None => (body.organization, body.name),
    };
    let request = RepoRequest {
        kind: kind(body.kind.as_deref())?,
        namespace: namespace.map(|name| name.parse()).transpose()?,
        name,
        visibility: body.shown.visibility()?,
        sdk: body.sdk,
    };
    let made = hub.create_repo(&caller.context, request).await?;
    Ok(Json(json!({ "url": made.url, "name": made.path.id(), "id": made.id })))
}

#[derive(Deserialize)]
struct DeleteBody {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

async fn delete(
    State(hub): State<Hub>,
    caller: Caller,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Answer<&'static str> {
    let own = || match &caller.context.actor() {
        bastide_core::Actor::User { name, .. } => Ok(name.to_string()),
        _ => Err(Problem::SignInNeeded),
    };
    let id = match (body.name.contains('/'), body.organization) {
        (true, _) => body.name,
        (false, Some(namespace)) => format!("{namespace}/{}", body.name),
        (false, None) => format!("{}/{}", own()?, body.name),
    };
    let missing = |_| Problem::RepoNotFound { anonymous: caller.context.is_anonymous() };
    let path = RepoPath::parse(kind(body.kind.as_deref())?, &id).map_err(missing)?;
    let access = caller.repo::<Admin>(&hub, &path).await?;
    hub.delete_repo(&caller.context, &access).await?;
    Ok("OK")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MoveBody {
    from_repo: String,
    to_repo: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

async fn rename(
    State(hub): State<Hub>,
    caller: Caller,
    JsonBody(body): JsonBody<MoveBody>,
) -> Answer<&'static str> {
    let kind = kind(body.kind.as_deref())?;
    let (from, to) = (RepoPath::parse(kind, &body.from_repo)?, RepoPath::parse(kind, &body.to_repo)?);
    let access = caller.repo::<Admin>(&hub, &from).await?;
    hub.move_repo(&caller.context, &access, &to).await?;
    Ok("OK")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SettingsBody {
    gated: Option<Value>,
    discussions_disabled: Option<bool>,
    #[serde(flatten)]
    shown: Shown,
}

async fn settings(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<SettingsBody>,
) -> Answer<Json<Value>> {
    let settings = RepoSettings {
        visibility: body.shown.visibility()?,
        gated: body.gated.as_ref().map(parse_gated).transpose()?,
        discussions_disabled: body.discussions_disabled,
    };
    let access = caller.repo::<Admin>(&hub, &route.path).await?;
    hub.set_repo(&caller.context, &access, settings).await?;
    let now = hub.access(&caller.context).repo::<Admin>(&route.path).await?;
    let visibility = now.repo().visibility;
    Ok(Json(json!({ "visibility": visibility, "private": visibility != Visibility::Public })))
}

#[derive(Deserialize)]
struct DuplicateBody {
    repository: String,
    #[serde(flatten)]
    shown: Shown,
}

async fn duplicate(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<DuplicateBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    let to = RepoPath::parse(route.path.kind, &body.repository)?;
    let made = hub.duplicate_repo(&caller.context, &access, &to, body.shown.visibility()?).await?;
    Ok(Json(json!({ "url": made.url, "name": made.path.id(), "id": made.id })))
}

async fn auth_check(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    caller.repo::<Read>(&hub, &route.path).await?;
    Ok(Json(json!({})))
}

async fn auth_check_write(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    caller.repo::<Write>(&hub, &route.path).await?;
    Ok(Json(json!({})))
}
