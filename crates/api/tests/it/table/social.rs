//! Requests to the routes of likes, follows, accounts and collections. Accounts are `lab`, which has
//! something public, and `zoe`, who has nothing at all.

use serde_json::json;

use super::{Ask, Cell, Scene};

/// A collection of the organization.
#[derive(Default)]
pub struct Made {
    slug: String,
    item: String,
}

/// One of no hub.
const MISSING: &str = "00000000000000000000abcd";

/// The collection of a cell, and an item in it; ids that nothing has for the missing column.
pub async fn make(scene: &Scene, route: &str, (column, repo): (&str, &str), number: usize) -> Made {
    if !route.contains("/api/collections/") {
        return Made::default();
    }
    if column == "missing" {
        return Made { slug: format!("lab/c{number:05}-{MISSING}"), item: MISSING.to_owned() };
    }
    let visibility = if column == "gated" { "public" } else { column };
    let item = json!({ "id": repo, "type": "model" });
    let body = json!({ "title": format!("c{number:05}"), "namespace": "lab", "visibility": visibility, "item": item });
    let made = scene.clients["admin"].post("/api/collections", body).await.expect(200).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    Made { slug: text(&made["slug"]), item: text(&made["items"][0]["_id"]) }
}

pub fn ask(cell: &Cell, route: &str) -> Option<Ask> {
    let (repo, number) = (&cell.repo, cell.number);
    let Made { slug, item } = &cell.collection;
    let collection = format!("/api/collections/{slug}");
    Some(match route {
        "POST /api/{kind}/{ns}/{name}/like" | "DELETE /api/{kind}/{ns}/{name}/like" => {
            Ask::get(format!("/api/models/{repo}/like"))
        }
        "GET /api/{kind}/{ns}/{name}/likers" => Ask::get(format!("/api/models/{repo}/likers")),
        "GET /api/settings/repositories" => Ask::get("/api/settings/repositories"),
        "GET /avatars/{file}" => Ask::get("/avatars/zoe.svg"),
        "GET /api/collections" => Ask::get("/api/collections?owner=lab"),
        "POST /api/collections" => {
            Ask::json("/api/collections", &json!({ "title": format!("n{number:05}"), "namespace": "lab" }))
        }
        "GET /api/collections/{ns}/{slug}" | "DELETE /api/collections/{ns}/{slug}" => Ask::get(collection),
        "PATCH /api/collections/{ns}/{slug}" => Ask::json(collection, &json!({ "theme": "green" })),
        "POST /api/collections/{ns}/{slug}/items" => {
            let item = json!({ "id": "lab/openone", "type": "model" });
            Ask::json(format!("{collection}/items"), &json!({ "item": item }))
        }
        "POST /api/collections/{ns}/{slug}/items/batch" => {
            let action = json!({ "_id": item, "action": "update", "data": { "note": "good" } });
            Ask::json(format!("{collection}/items/batch"), &json!([action]))
        }
        "PATCH /api/collections/{ns}/{slug}/items/{item}" => {
            Ask::json(format!("{collection}/items/{item}"), &json!({ "position": 0 }))
        }
        "DELETE /api/collections/{ns}/{slug}/items/{item}" => Ask::get(format!("{collection}/items/{item}")),
        _ => return of_account(route),
    })
}

fn of_account(route: &str) -> Option<Ask> {
    let (_, path) = route.split_once(' ')?;
    let name = if path.starts_with("/api/users/{name}/") {
        "zoe"
    } else if path.starts_with("/api/organizations/{name}/") {
        "lab"
    } else {
        return None;
    };
    Some(Ask::get(path.replace("{name}", name)))
}
