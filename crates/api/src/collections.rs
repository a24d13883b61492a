//! Collections: `/api/collections`, one of them by its slug, its items.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use bastide_core::id::RowId;
use bastide_core::{CollectionId, Timestamp, Visibility};
use bastide_hub::access::{Access, Collection, Level, Read, Write};
use bastide_hub::collections::{
    CollectionChange, CollectionInfo, CollectionRequest, CollectionSearch, CollectionView, InnerCollection,
    Item, ItemChange, ItemRequest, ItemTarget, RepoItem, Shown, slug, slug_id,
};
use bastide_hub::{Hub, Problem};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::avatars::avatar_url;
use crate::extract::{Caller, JsonBody};
use crate::info::gated;
use crate::pages::Paging;
use crate::repos::refuse_resource_group;
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/api/collections", list)
        .add(Method::POST, "/api/collections", create)
        .add(Method::GET, "/api/collections/{ns}/{slug}", show)
        .add(Method::PATCH, "/api/collections/{ns}/{slug}", update)
        .add(Method::DELETE, "/api/collections/{ns}/{slug}", delete)
        .add(Method::POST, "/api/collections/{ns}/{slug}/items", add_item)
        .add(Method::POST, "/api/collections/{ns}/{slug}/items/batch", update_items)
        .add(Method::PATCH, "/api/collections/{ns}/{slug}/items/{item}", update_item)
        .add(Method::DELETE, "/api/collections/{ns}/{slug}/items/{item}", remove_item)
}

type Slug = Path<(String, String)>;
type ItemPath = Path<(String, String, String)>;

/// A permit for the collection that a slug ends with the id of.
async fn permit<L: Level>(hub: &Hub, caller: &Caller, slug: &str) -> Result<Access<L, Collection>, Problem> {
    // An id that no collection has, so that impossible slugs answer like missing ones.
    let id = slug_id(slug).unwrap_or(CollectionId::from_i64(-1));
    hub.access(&caller.context).collection(id).await
}

async fn list(State(hub): State<Hub>, caller: Caller, paging: Paging) -> Answer<Response> {
    let query = &paging.query;
    check_sort(query.get("sort"))?;
    let all = |key| query.all(key).filter(|text| !text.is_empty()).map(ToOwned::to_owned).collect();
    let after = paging.after()?.map(|(at, id)| (Timestamp::from_millis(at), CollectionId::from_i64(id)));
    let search = CollectionSearch {
        owners: all("owner"),
        items: all("item"),
        text: query.get("q").map(ToOwned::to_owned),
        after,
        limit: query.number("limit")?,
    };
    let page = hub.list_collections(&caller.context, search).await?;
    let base = hub.url(&caller.context);
    let rows = page.rows.iter().map(|view| collection_json(view, base)).collect();
    let next = page.next.map(|(at, id)| (at.as_millis(), id.as_i64()));
    Ok(paging.answer((&hub, &caller), rows, next))
}

/// Nobody votes here: every order is that of the last change.
fn check_sort(sort: Option<&str>) -> Result<(), Problem> {
    match sort {
        None | Some("lastModified" | "trending" | "upvotes") => Ok(()),
        Some(_) => Err(Problem::Invalid("\"sort\" must be one of [lastModified, trending, upvotes]".into())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateBody {
    title: String,
    namespace: Option<String>,
    description: Option<String>,
    private: Option<bool>,
    visibility: Option<String>,
    theme: Option<String>,
    item: Option<ItemBody>,
    note: Option<String>,
    resource_group_id: Option<Value>,
}

#[derive(Deserialize)]
struct ItemBody {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

fn shown(private: Option<bool>, visibility: Option<&str>) -> Result<Shown, Problem> {
    let visibility = visibility.map(str::parse::<Visibility>).transpose()?;
    Ok(Shown { private, visibility })
}

fn item_request(item: ItemBody, note: Option<String>) -> ItemRequest {
    ItemRequest { kind: item.kind, id: item.id, note: note.unwrap_or_default() }
}

async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateBody>,
) -> Answer<Json<Value>> {
    refuse_resource_group(body.resource_group_id.as_ref())?;
    let request = CollectionRequest {
        namespace: body.namespace.map(|name| name.parse()).transpose()?,
        title: body.title,
        description: body.description.unwrap_or_default(),
        shown: shown(body.private, body.visibility.as_deref())?,
        theme: body.theme,
        item: body.item.map(|item| item_request(item, body.note)),
    };
    let view = hub.create_collection(&caller.context, request).await?;
    Ok(Json(collection_json(&view, hub.url(&caller.context))))
}

async fn show(State(hub): State<Hub>, caller: Caller, Path((_, slug)): Slug) -> Answer<Json<Value>> {
    let access = permit::<Read>(&hub, &caller, &slug).await?;
    let view = hub.collection(&caller.context, &access).await?;
    Ok(Json(collection_json(&view, hub.url(&caller.context))))
}

#[derive(Deserialize)]
struct UpdateBody {
    title: Option<String>,
    description: Option<String>,
    private: Option<bool>,
    visibility: Option<String>,
    theme: Option<String>,
    position: Option<u64>,
}

async fn update(
    State(hub): State<Hub>,
    caller: Caller,
    Path((_, slug)): Slug,
    JsonBody(body): JsonBody<UpdateBody>,
) -> Answer<Json<Value>> {
    let access = permit::<Write>(&hub, &caller, &slug).await?;
    let change = CollectionChange {
        title: body.title,
        description: body.description,
        shown: shown(body.private, body.visibility.as_deref())?,
        theme: body.theme,
        position: body.position,
    };
    let view = hub.update_collection(&caller.context, &access, &change).await?;
    Ok(Json(json!({ "success": true, "data": collection_json(&view, hub.url(&caller.context)) })))
}

async fn delete(State(hub): State<Hub>, caller: Caller, Path((_, slug)): Slug) -> Answer<Json<Value>> {
    let access = permit::<Write>(&hub, &caller, &slug).await?;
    hub.delete_collection(&caller.context, &access).await?;
    Ok(Json(json!({ "success": true })))
}

#[derive(Deserialize)]
struct AddBody {
    item: ItemBody,
    note: Option<String>,
}

async fn add_item(
    State(hub): State<Hub>,
    caller: Caller,
    Path((_, slug)): Slug,
    JsonBody(body): JsonBody<AddBody>,
) -> Answer<Json<Value>> {
    let access = permit::<Write>(&hub, &caller, &slug).await?;
    let item = item_request(body.item, body.note);
    let view = hub.add_collection_item(&caller.context, &access, &item).await?;
    Ok(Json(collection_json(&view, hub.url(&caller.context))))
}

#[derive(Deserialize)]
struct ChangeBody {
    note: Option<String>,
    position: Option<u64>,
    gallery: Option<Vec<Value>>,
}

impl ChangeBody {
    fn change(self, id: &str) -> Result<ItemChange, Problem> {
        if self.gallery.is_some_and(|gallery| !gallery.is_empty()) {
            return Err(Problem::Invalid(
                "this hub keeps no pictures for items: leave \"gallery\" out".into(),
            ));
        }
        Ok(ItemChange { id: item_id(id), note: self.note, position: self.position })
    }
}

/// An item's id; one that cannot be is missing.
fn item_id(text: &str) -> RowId {
    text.parse().unwrap_or(RowId::from_i64(-1))
}

async fn update_item(
    State(hub): State<Hub>,
    caller: Caller,
    Path((_, slug, item)): ItemPath,
    JsonBody(body): JsonBody<ChangeBody>,
) -> Answer<Json<Value>> {
    let access = permit::<Write>(&hub, &caller, &slug).await?;
    let change = body.change(&item)?;
    hub.update_collection_items(&caller.context, &access, &[change]).await?;
    Ok(Json(json!({ "success": true })))
}

#[derive(Deserialize)]
struct BatchAction {
    action: String,
    #[serde(rename = "_id")]
    id: String,
    data: ChangeBody,
}

async fn update_items(
    State(hub): State<Hub>,
    caller: Caller,
    Path((_, slug)): Slug,
    JsonBody(body): JsonBody<Vec<BatchAction>>,
) -> Answer<Json<Value>> {
    let access = permit::<Write>(&hub, &caller, &slug).await?;
    let change = |action: BatchAction| match action.action.as_str() {
        "update" => action.data.change(&action.id),
        _ => Err(Problem::Invalid("\"action\" must be one of [update]".into())),
    };
    let changes = body.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
    hub.update_collection_items(&caller.context, &access, &changes).await?;
    Ok(Json(json!({ "success": true })))
}

async fn remove_item(
    State(hub): State<Hub>,
    caller: Caller,
    Path((_, slug, item)): ItemPath,
) -> Answer<Json<Value>> {
    let access = permit::<Write>(&hub, &caller, &slug).await?;
    hub.remove_collection_item(&caller.context, &access, item_id(&item)).await?;
    Ok(Json(json!({ "success": true })))
}

fn collection_json(view: &CollectionView, base: &str) -> Value {
    let info = &view.info;
    let slug = slug(&info.owner, &info.title, info.id);
    let mut value = json!({
        "_id": info.id,
        "slug": slug,
        "title": info.title,
        "description": info.description,
        "gating": false,
        "lastUpdated": info.updated_at,
        "owner": owner_json(info, base),
        "items": view.items.iter().enumerate().map(|(place, item)| item_json(place, item, base)).collect::<Vec<_>>(),
        "theme": info.theme,
        "private": info.visibility == Visibility::Private,
        "visibility": info.visibility,
        "upvotes": 0,
        "isUpvotedByUser": false,
    });
    // Lists leave it out: the Python client numbers their rows by itself, and takes no other.
    if let (Some(position), Some(value)) = (view.position, value.as_object_mut()) {
        value.insert("position".into(), json!(position));
        value.insert("shareUrl".into(), json!(format!("{base}/collections/{slug}")));
    }
    value
}

fn owner_json(info: &CollectionInfo, base: &str) -> Value {
    json!({
        "_id": info.owner_id,
        "type": if info.owner_is_organization { "org" } else { "user" },
        "name": info.owner,
        "fullname": info.owner_full_name,
        "avatarUrl": avatar_url(base, &info.owner),
        "isPro": false,
        "isHf": false,
        "isMod": false,
    })
}

fn item_json(place: usize, item: &Item, base: &str) -> Value {
    let mut fields = match &item.target {
        ItemTarget::Repo(repo) => repo_json(repo),
        ItemTarget::Collection(inner) => inner_json(inner, base),
    };
    fields.insert("_id".into(), json!(item.id));
    fields.insert("position".into(), json!(place));
    if !item.note.is_empty() {
        fields.insert("note".into(), json!({ "text": item.note, "html": escape(&item.note) }));
    }
    Value::Object(fields)
}

fn repo_json(repo: &RepoItem) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("id", json!(repo.path.id()));
    put("type", json!(repo.path.kind));
    put("repoType", json!(repo.path.kind));
    put("author", json!(repo.path.namespace));
    put("private", json!(repo.visibility != Visibility::Public));
    put("gated", gated(repo.gated));
    put("likes", json!(repo.likes));
    put("downloads", json!(repo.downloads));
    put("lastModified", json!(repo.updated_at));
    if let Some(tag) = &repo.pipeline_tag {
        put("pipeline_tag", json!(tag));
    }
    if let Some(sdk) = &repo.sdk {
        put("sdk", json!(sdk));
    }
    fields
}

fn inner_json(inner: &InnerCollection, base: &str) -> Map<String, Value> {
    let slug = slug(&inner.owner, &inner.title, inner.id);
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("id", json!(inner.id));
    put("type", json!("collection"));
    put("slug", json!(slug));
    put("title", json!(inner.title));
    put("theme", json!(inner.theme));
    put("private", json!(inner.visibility == Visibility::Private));
    put("lastUpdated", json!(inner.updated_at));
    put("upvotes", json!(0));
    put("shareUrl", json!(format!("{base}/collections/{slug}")));
    fields
}

/// Text that is safe inside of HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
