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
use crate::commit::FileValue;
use crate::extract::{Caller, JsonBody, RepoRoute, null_is_missing};
use crate::info::gated;
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
#[serde(rename_all = "camelCase")]
struct CreateBody {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    sdk: Option<String>,
    license: Option<String>,
    #[serde(default, deserialize_with = "null_is_missing")]
    files: Vec<FileValue>,
    resource_group_id: Option<Value>,
    #[serde(flatten)]
    shown: Shown,
}

async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateBody>,
) -> Answer<Json<Value>> {
    refuse_resource_group(body.resource_group_id.as_ref())?;
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
        license: body.license,
        files: body.files.into_iter().map(FileValue::decode).collect::<Result<_, _>>()?,
    };
    let made = hub.create_repo(&caller.context, request).await?;
    Ok(Json(json!({ "url": made.url, "name": made.path.id(), "id": made.id })))
}

/// Who asks for a narrower circle and gets none would think that it holds.
pub fn refuse_resource_group(id: Option<&Value>) -> Result<(), Problem> {
    match id {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Problem::Invalid(
            "this hub does not serve resource groups: leave \"resourceGroupId\" out".into(),
        )),
    }
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
        _ => Err(Problem::RepoNotFound { anonymous: true }),
    };
    let id = match (body.name.contains('/'), body.organization) {
        (true, _) => body.name,
        (false, Some(namespace)) => format!("{namespace}/{}", body.name),
        (false, None) => format!("{}/{}", own()?, body.name),
    };
    let missing = |_| Problem::RepoNotFound { anonymous: caller.context.is_anonymous() };
    let path = RepoPath::parse(kind(body.kind.as_deref())?, &id).map_err(missing)?;
    let access = hub.access(&caller.context).repo_by_current_path::<Admin>(&path).await?;
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
    let access = hub.access(&caller.context).repo_by_current_path::<Admin>(&from).await?;
    hub.move_repo(&caller.context, &access, &to).await?;
    Ok("OK")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SettingsBody {
    gated: Option<Value>,
    discussions_disabled: Option<bool>,
    xet_enabled: Option<bool>,
    resource_group_id: Option<Value>,
    gated_notifications_email: Option<Value>,
    gated_notifications_mode: Option<Value>,
    #[serde(flatten)]
    shown: Shown,
}

impl SettingsBody {
    /// What this hub cannot do is refused: silence would look like consent.
    fn check(&self) -> Result<(), Problem> {
        refuse_resource_group(self.resource_group_id.as_ref())?;
        if self.xet_enabled == Some(false) {
            let text =
                "\"xetEnabled\" cannot be false: this hub keeps every large file in chunks, however it comes";
            return Err(Problem::Invalid(text.into()));
        }
        if self.gated_notifications_email.is_some() || self.gated_notifications_mode.is_some() {
            let text = "this hub sends no mail yet: leave \"gatedNotificationsEmail\" and \
                \"gatedNotificationsMode\" out";
            return Err(Problem::Invalid(text.into()));
        }
        Ok(())
    }
}

async fn settings(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<SettingsBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Admin>(&hub, &route.path).await?;
    body.check()?;
    let settings = RepoSettings {
        visibility: body.shown.visibility()?,
        gated: body.gated.as_ref().map(parse_gated).transpose()?,
        discussions_disabled: body.discussions_disabled,
    };
    hub.set_repo(&caller.context, &access, settings).await?;
    Ok(Json(settings_json(&hub.repo_settings(&access).await?)))
}

fn settings_json(settings: &RepoSettings) -> Value {
    json!({
        "visibility": settings.visibility,
        "private": settings.visibility != Some(Visibility::Public),
        "gated": settings.gated.map(gated),
        "discussionsDisabled": settings.discussions_disabled,
        "xetEnabled": true,
        "resourceGroup": null,
    })
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
    if caller.context.is_anonymous() {
        return Err(Problem::RepoNotFound { anonymous: true }.into());
    }
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
