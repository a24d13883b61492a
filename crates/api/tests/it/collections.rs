//! Collections: who may see and change them, what is hidden in them, order, limits.

use bastide_core::limits::{MAX_COLLECTION_ITEMS, MAX_COLLECTIONS};
use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, Reply, TestHub};
use http::Method;
use serde_json::{Value, json};

use crate::create;

async fn patch(client: &Client, uri: &str, body: Value) -> Reply {
    let headers = [("content-type", "application/json")];
    client.send(Method::PATCH, uri, &headers, body.to_string().into()).await
}

/// A new collection's address.
async fn collection(client: &Client, body: Value) -> String {
    let made = client.post("/api/collections", body).await.expect(200).json();
    format!("/api/collections/{}", made["slug"].as_str().unwrap())
}

async fn add(client: &Client, uri: &str, id: &str) -> Reply {
    client.post(&format!("{uri}/items"), json!({ "item": { "id": id, "type": "model" } })).await
}

async fn make(client: &Client, id: &str, visibility: &str) {
    let (organization, name) = id.split_once('/').unwrap();
    let body = json!({ "name": name, "organization": organization, "visibility": visibility });
    client.post("/api/repos/create", body).await.expect(200);
}

/// What a reader sees in it, and that places count from 0 without gaps.
async fn items(client: &Client, uri: &str) -> Vec<String> {
    let found = client.get(uri).await.expect(200).json();
    let items = found["items"].as_array().unwrap();
    for (place, item) in items.iter().enumerate() {
        assert_eq!(item["position"], place);
    }
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn item_id(client: &Client, uri: &str, id: &str) -> String {
    let found = client.get(uri).await.expect(200).json();
    let item = found["items"].as_array().unwrap().iter().find(|item| item["id"] == id).unwrap();
    item["_id"].as_str().unwrap().to_owned()
}

async fn titles(client: &Client, query: &str) -> Vec<String> {
    let rows = client.get(&format!("/api/collections?{query}")).await.expect(200).json();
    rows.as_array().unwrap().iter().map(|row| row["title"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_collection_has_all_that_clients_need_and_old_slugs_keep_leading_to_it() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let body =
        json!({ "title": "Recent models!", "description": "of ours", "namespace": "ann", "private": false });
    let uri = collection(&ann, body.clone()).await;
    let found = ann.get(&uri).await.expect(200).json();
    for key in ["slug", "title", "owner", "items", "lastUpdated", "position", "private", "theme", "upvotes"] {
        assert!(!found[key].is_null(), "{key}");
    }
    assert_eq!(found["owner"]["name"], "ann");
    assert_eq!(found["private"], false);
    let slug = found["slug"].as_str().unwrap();
    assert!(slug.starts_with("ann/recent-models-"), "{slug}");
    let again = ann.post("/api/collections", body).await.expect(409).json();
    assert_eq!(again["slug"], slug);

    hub.advance_seconds(5);
    let data = patch(&ann, &uri, json!({ "title": "Others", "theme": "green" })).await.expect(200).json();
    let new = data["data"]["slug"].as_str().unwrap();
    assert!(new.starts_with("ann/others-") && data["data"]["theme"] == "green", "{data}");
    assert_ne!(data["data"]["lastUpdated"], found["lastUpdated"]);
    for slug in [slug, new, &format!("nobody/whatever-{}", &slug[slug.len() - 24..])] {
        let reply = ann.get(&format!("/api/collections/{slug}")).await.expect(200).json();
        assert_eq!(reply["slug"], new);
    }
    patch(&ann, &uri, json!({ "theme": "black" })).await.expect(400);
    let other = collection(&ann, json!({ "title": "Third" })).await;
    assert_eq!(patch(&ann, &other, json!({ "title": "Others" })).await.expect(409).json()["slug"], new);
    // Its own title is no other's.
    patch(&ann, &uri, json!({ "title": "Others" })).await.expect(200);
    ann.delete(&uri, json!({})).await.expect(200);
    ann.get(&uri).await.expect(404);
    ann.delete(&uri, json!({})).await.expect(404);
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action LIKE 'collection.%'"), 5);
    hub.finish().await;
}

#[tokio::test]
async fn impossible_slugs_and_bodies_are_refused() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for slug in [
        "ann/x",
        "ann/x-000000000000000000000000",
        "ann/x-ffffffffffffffffffffffff",
        "ann/%00",
        "ann/x-%E2%80%AE00000000000000000000000",
        "ann/..",
    ] {
        ann.get(&format!("/api/collections/{slug}")).await.expect(404);
        let reply = hub.anonymous().get(&format!("/api/collections/{slug}")).await.expect(404);
        assert_eq!(reply.header("x-error-code"), "");
    }
    for body in [
        json!({ "title": "" }),
        json!({ "title": "a\nb" }),
        json!({ "title": "a\u{202e}b" }),
        json!({ "title": "x".repeat(61) }),
        json!({ "title": "a", "description": "x".repeat(151) }),
        json!({ "title": "a", "description": "x\u{0}" }),
        json!({ "title": "a", "theme": "black" }),
        json!({ "title": "a", "visibility": "everybody" }),
        json!({ "title": "a", "resourceGroupId": "66" }),
        json!({ "title": "a", "item": { "id": "2307.09288", "type": "paper" } }),
        json!({ "title": "a", "item": { "id": "ann/b", "type": "bucket" } }),
        json!({ "namespace": "ann" }),
        json!([]),
    ] {
        ann.post("/api/collections", body.clone()).await.expect(400);
    }
    ann.post("/api/collections", json!({ "title": "a", "item": { "id": "ann/none", "type": "model" } }))
        .await
        .expect(404);
    assert_eq!(hub.count("SELECT COUNT(*) FROM collection"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn not_private_is_as_open_as_the_hub_is() {
    let inside = TestHub::new().await;
    let (ann, bob) = (inside.user("ann").await, inside.user("bob").await);
    let uri = collection(&ann, json!({ "title": "Ours", "private": false })).await;
    assert_eq!(bob.get(&uri).await.expect(200).json()["private"], false);
    inside.anonymous().get(&uri).await.expect(404);
    assert!(titles(&inside.anonymous(), "").await.is_empty());
    // Who means everybody says so.
    patch(&ann, &uri, json!({ "visibility": "public" })).await.expect(200);
    inside.anonymous().get(&uri).await.expect(200);
    patch(&ann, &uri, json!({ "private": false })).await.expect(200);
    inside.anonymous().get(&uri).await.expect(200);
    patch(&ann, &uri, json!({ "private": true })).await.expect(200);
    patch(&ann, &uri, json!({ "private": false })).await.expect(200);
    inside.anonymous().get(&uri).await.expect(404);
    bob.get(&uri).await.expect(200);
    inside.finish().await;
}

#[tokio::test]
async fn a_private_collection_looks_missing_and_counts_for_nobody_else() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    let hidden = collection(&ann, json!({ "title": "Hidden", "private": true })).await;
    let shown = collection(&ann, json!({ "title": "Shown" })).await;
    let missing = bob.get("/api/collections/ann/x-00000000000000000000abcd").await.expect(404);
    for reply in [
        bob.get(&hidden).await,
        patch(&bob, &hidden, json!({ "title": "Mine" })).await,
        bob.delete(&hidden, json!({})).await,
        add(&bob, &hidden, "ann/m").await,
    ] {
        assert_eq!(reply.expect(404).text(), missing.text());
    }
    assert_eq!(titles(&bob, "owner=ann").await, ["Shown"]);
    assert_eq!(titles(&ann, "owner=ann").await.len(), 2);
    // Places do not tell that another stands before it.
    assert_eq!(ann.get(&shown).await.json()["position"], 1);
    assert_eq!(bob.get(&shown).await.json()["position"], 0);
    patch(&bob, &shown, json!({ "title": "Mine" })).await.expect(403);
    hub.anonymous().delete(&hidden, json!({})).await.expect(401);
    hub.anonymous().delete("/api/collections/ann/x-00000000000000000000abcd", json!({})).await.expect(401);
    let reader = hub.token("ann", TokenRole::Read).await;
    reader.get(&hidden).await.expect(200);
    reader.delete(&hidden, json!({})).await.expect(403);
    reader.post("/api/collections", json!({ "title": "New" })).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn items_are_shown_to_who_may_see_what_they_are() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    for (id, visibility) in
        [("ann/a", "public"), ("ann/b", "private"), ("ann/c", "internal"), ("ann/d", "public")]
    {
        make(&ann, id, visibility).await;
    }
    let uri = collection(&ann, json!({ "title": "All" })).await;
    let secret = collection(&ann, json!({ "title": "Secret", "private": true })).await;
    for id in ["ann/b", "ann/a", "ann/c", "ann/d"] {
        add(&ann, &uri, id).await.expect(200);
    }
    let inner = secret.trim_start_matches("/api/collections/");
    let body = json!({ "item": { "id": inner, "type": "collection" } });
    ann.post(&format!("{uri}/items"), body.clone()).await.expect(200);
    ann.post(&format!("{uri}/items"), body.clone()).await.expect(409);
    ann.post(&format!("{secret}/items"), body).await.expect(422);
    assert_eq!(items(&ann, &uri).await.len(), 5);
    assert_eq!(items(&bob, &uri).await, ["ann/a", "ann/c", "ann/d"]);
    assert_eq!(items(&hub.anonymous(), &uri).await, ["ann/a", "ann/d"]);
    let listed = hub.anonymous().get("/api/collections?owner=ann").await.json();
    assert_eq!(listed[0]["items"].as_array().unwrap().len(), 2);
    assert!(listed[0].get("position").is_none(), "the client numbers rows itself");
    // A repository that is hidden goes out of everybody's sight, and comes back at its place.
    let settings = "/api/models/ann/a/settings";
    ann.put(settings, json!({ "private": true })).await.expect(200);
    assert_eq!(items(&bob, &uri).await, ["ann/c", "ann/d"]);
    ann.put(settings, json!({ "private": false })).await.expect(200);
    assert_eq!(items(&bob, &uri).await, ["ann/a", "ann/c", "ann/d"]);
    // A renamed one is shown under its new name; a deleted one is gone.
    let body = json!({ "fromRepo": "ann/a", "toRepo": "ann/z", "type": "model" });
    ann.post("/api/repos/move", body).await.expect(200);
    ann.delete("/api/repos/delete", json!({ "name": "ann/c" })).await.expect(200);
    assert_eq!(items(&bob, &uri).await, ["ann/z", "ann/d"]);
    hub.finish().await;
}

#[tokio::test]
async fn what_is_not_seen_cannot_be_added_changed_or_looked_for() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    make(&ann, "ann/secret", "private").await;
    make(&ann, "ann/open", "public").await;
    let mine = collection(&bob, json!({ "title": "Bob's" })).await;
    let theirs = collection(&ann, json!({ "title": "Ann's" })).await;
    let hidden = add(&bob, &mine, "ann/secret").await.expect(404);
    assert_eq!(hidden.text(), add(&bob, &mine, "ann/missing").await.expect(404).text());
    add(&ann, &theirs, "ann/secret").await.expect(200);
    add(&ann, &theirs, "ann/open").await.expect(200);
    assert!(titles(&bob, "item=models/ann/secret").await.is_empty());
    assert!(titles(&bob, "item=models/ann/missing").await.is_empty());
    assert_eq!(titles(&ann, "item=models/ann/secret").await, ["Ann's"]);
    assert_eq!(titles(&bob, "item=models/ann/open&item=papers/1&item=x").await, ["Ann's"]);
    // Somebody else's item by its id, through a collection of one's own.
    add(&bob, &mine, "ann/open").await.expect(200);
    let foreign = item_id(&ann, &theirs, "ann/open").await;
    patch(&bob, &format!("{mine}/items/{foreign}"), json!({ "note": "x" })).await.expect(404);
    bob.delete(&format!("{mine}/items/{foreign}"), json!({})).await.expect(404);
    // One's own item, once its repository is hidden.
    let own = item_id(&bob, &mine, "ann/open").await;
    ann.put("/api/models/ann/open/settings", json!({ "private": true })).await.expect(200);
    patch(&bob, &format!("{mine}/items/{own}"), json!({ "note": "x" })).await.expect(404);
    bob.delete(&format!("{mine}/items/{own}"), json!({})).await.expect(404);
    for bad in ["x", "000000000000000000000000", "%00"] {
        bob.delete(&format!("{mine}/items/{bad}"), json!({})).await.expect(404);
    }
    assert_eq!(items(&ann, &theirs).await.len(), 2);
    hub.finish().await;
}

#[tokio::test]
async fn order_is_exact_for_everybody_who_looks() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Write)]).await;
    let uri = collection(&ann, json!({ "title": "Order", "namespace": "lab" })).await;
    for (name, visibility) in
        [("a", "public"), ("b", "public"), ("h", "private"), ("c", "public"), ("d", "public")]
    {
        make(&ann, &format!("ann/{name}"), visibility).await;
        add(&ann, &uri, &format!("ann/{name}")).await.expect(200);
    }
    let letters = async |client: &Client| -> String {
        items(client, &uri).await.iter().map(|id| id.trim_start_matches("ann/")).collect()
    };
    let go = async |client: &Client, name: &str, place: u64| {
        let item = item_id(client, &uri, &format!("ann/{name}")).await;
        patch(client, &format!("{uri}/items/{item}"), json!({ "position": place })).await.expect(200);
    };
    assert_eq!(letters(&ann).await, "abhcd");
    go(&ann, "a", 2).await;
    assert_eq!(letters(&ann).await, "bhacd");
    go(&ann, "d", 0).await;
    assert_eq!(letters(&ann).await, "dbhac");
    go(&ann, "b", u64::MAX).await;
    assert_eq!(letters(&ann).await, "dhacb");
    go(&ann, "h", 1).await;
    assert_eq!(letters(&ann).await, "dhacb");
    // bob does not see h: places are those of what he sees.
    assert_eq!(letters(&bob).await, "dacb");
    go(&bob, "b", 1).await;
    assert_eq!(letters(&bob).await, "dbac");
    go(&bob, "d", 3).await;
    assert_eq!(letters(&bob).await, "bacd");
    assert_eq!(letters(&ann).await.replace('h', ""), "bacd");
    let item = item_id(&ann, &uri, "ann/a").await;
    for bad in [json!({ "position": -1 }), json!({ "position": 1.5 }), json!({ "position": 1e30 })] {
        patch(&ann, &format!("{uri}/items/{item}"), bad).await.expect(400);
    }
    // Every order that there is, by single moves.
    for round in 0..20u64 {
        go(&bob, ["a", "b", "c", "d"][(round % 4) as usize], round * 7 % 4).await;
        let mut seen: Vec<char> = letters(&bob).await.chars().collect();
        assert_eq!(seen.len(), 4);
        seen.sort_unstable();
        assert_eq!(seen, ['a', 'b', 'c', 'd']);
    }
    hub.finish().await;
}

#[tokio::test]
async fn batches_are_done_whole_or_not_at_all() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let uri = collection(&ann, json!({ "title": "Batch" })).await;
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        make(&ann, &format!("ann/{name}"), "public").await;
        add(&ann, &uri, &format!("ann/{name}")).await.expect(200);
        ids.push(item_id(&ann, &uri, &format!("ann/{name}")).await);
    }
    let action = |id: &str, data: Value| json!({ "_id": id, "action": "update", "data": data });
    let batch = async |body: Value| ann.post(&format!("{uri}/items/batch"), body).await;
    let note = json!({ "note": "<b>two</b>\nlines" });
    batch(json!([action(&ids[1], json!({ "position": 0 })), action(&ids[0], note)])).await.expect(200);
    assert_eq!(items(&ann, &uri).await, ["ann/b", "ann/a"]);
    let found = ann.get(&uri).await.json();
    let expected = json!({ "text": "<b>two</b>\nlines", "html": "&lt;b&gt;two&lt;/b&gt;\nlines" });
    assert_eq!(found["items"][1]["note"], expected);
    let missing = action("00000000000000000000abcd", json!({ "note": "x" }));
    batch(json!([action(&ids[0], json!({ "note": "gone" })), missing])).await.expect(404);
    assert_eq!(ann.get(&uri).await.json()["items"][1]["note"], expected);
    batch(json!([{ "_id": ids[0], "action": "delete", "data": {} }])).await.expect(400);
    batch(json!([action(&ids[0], json!({ "gallery": ["x"] }))])).await.expect(400);
    batch(json!([action(&ids[0], json!({ "note": "x".repeat(501) }))])).await.expect(400);
    let many: Vec<Value> = (0..101).map(|_| action(&ids[0], json!({ "note": "x" }))).collect();
    batch(json!(many)).await.expect(422);
    batch(json!([])).await.expect(200);
    // An empty note takes it away.
    batch(json!([action(&ids[0], json!({ "note": "" }))])).await.expect(200);
    assert!(ann.get(&uri).await.json()["items"][1].get("note").is_none());
    hub.finish().await;
}

#[tokio::test]
async fn roles_decide_in_an_organization() {
    let hub = TestHub::open().await;
    let owner = hub.user("ann").await;
    let roles =
        [("nick", Role::NoAccess), ("rita", Role::Read), ("cora", Role::Contributor), ("will", Role::Write)];
    for (user, _) in roles {
        hub.user(user).await;
    }
    hub.org("lab", "ann", &roles).await;
    let hidden = collection(&owner, json!({ "title": "Ours", "namespace": "lab", "private": true })).await;
    for (user, sees, writes) in
        [("nick", false, false), ("rita", true, false), ("cora", true, false), ("will", true, true)]
    {
        let client = hub.token(user, TokenRole::Write).await;
        assert_eq!(client.get(&hidden).await.status.as_u16(), if sees { 200 } else { 404 }, "{user}");
        let body = json!({ "title": format!("by {user}"), "namespace": "lab" });
        let made = client.post("/api/collections", body).await;
        assert_eq!(made.status.as_u16(), if writes { 200 } else { 403 }, "{user}: {}", made.text());
        let changed = patch(&client, &hidden, json!({ "description": user })).await.status.as_u16();
        assert_eq!(changed, [[404, 403], [200, 200]][usize::from(writes)][usize::from(sees)], "{user}");
    }
    let body = json!({ "title": "x", "namespace": "nobody-here" });
    owner.post("/api/collections", body).await.expect(403);
    hub.anonymous().post("/api/collections", json!({ "title": "x", "namespace": "lab" })).await.expect(401);
    // Who leaves, sees and changes nothing any more.
    let will = hub.token("will", TokenRole::Write).await;
    let context = hub.operator();
    let lab = "lab".parse().unwrap();
    let lab = hub.hub.access(&context).namespace(&lab).await.unwrap();
    hub.hub.set_member(&context, &lab, &"will".parse().unwrap(), None).await.unwrap();
    will.get(&hidden).await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn lists_filter_search_and_page() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    for number in 0..25 {
        let client = if number % 5 == 0 { &bob } else { &ann };
        let body = json!({ "title": format!("Set {number}"), "description": format!("100%_{number}"), "private": number == 7 });
        collection(client, body).await;
        hub.advance_seconds(1);
    }
    let first = hub.anonymous().get("/api/collections?limit=15").await.expect(200);
    assert_eq!(first.json().as_array().unwrap().len(), 15);
    let next = first
        .header("link")
        .split(['<', '>'])
        .nth(1)
        .unwrap()
        .trim_start_matches("http://hub.test")
        .to_owned();
    let second = hub.anonymous().get(&next).await.expect(200);
    assert_eq!((second.json().as_array().unwrap().len(), second.header("link")), (9, ""));
    assert_eq!(titles(&ann, "limit=1").await, ["Set 24"]);
    assert_eq!(titles(&ann, "owner=BOB&limit=100").await.len(), 5);
    assert_eq!(titles(&ann, "owner=bob&owner=ann&limit=100").await.len(), 25);
    assert_eq!(titles(&bob, "owner=bob&owner=ann&limit=100").await.len(), 24);
    assert_eq!(titles(&ann, "q=SET%2013").await, ["Set 13"]);
    assert_eq!(titles(&ann, "q=100%25_7").await, ["Set 7"]);
    assert!(titles(&bob, "q=100%25_7").await.is_empty());
    assert!(titles(&ann, "q=%25%25").await.is_empty(), "a percent sign is a percent sign");
    assert!(titles(&ann, "owner=nobody").await.is_empty());
    for sort in ["lastModified", "trending", "upvotes"] {
        assert_eq!(titles(&ann, &format!("sort={sort}&limit=1")).await, ["Set 24"]);
    }
    for bad in ["sort=title", "limit=x", "cursor=x", "q=%00", "owner=a%0Ab"] {
        ann.get(&format!("/api/collections?{bad}")).await.expect(400);
    }
    let many = "owner=a&".repeat(33);
    ann.get(&format!("/api/collections?{many}")).await.expect(422);
    // Moving one among its owner's.
    let uri = collection(&bob, json!({ "title": "Last" })).await;
    assert_eq!(bob.get(&uri).await.json()["position"], 5);
    let moved = patch(&bob, &uri, json!({ "position": 2 })).await.expect(200).json();
    assert_eq!(moved["data"]["position"], 2);
    hub.finish().await;
}

#[tokio::test]
async fn there_is_an_end_to_how_much_one_makes() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let uri = collection(&ann, json!({ "title": "Full" })).await;
    make(&ann, "ann/one", "public").await;
    let (owner, full) = ("(SELECT id FROM namespace)", "(SELECT id FROM collection WHERE title = 'Full')");
    // As many collections, each an item of the first, as there may be.
    let _ = hub.tamper(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_COLLECTIONS}) \
         INSERT INTO collection (id, owner_id, title, words, visibility, theme, position, created_at, updated_at) \
         SELECT i, {owner}, 't' || i, '', 'public', 'blue', i, 0, 0 FROM n WHERE i < {MAX_COLLECTIONS}; \
         INSERT INTO collection_item (id, collection_id, inner_id, position, created_at) \
         SELECT id, {full}, id, id, 0 FROM collection WHERE id < {MAX_COLLECTION_ITEMS};"
    ));
    ann.post("/api/collections", json!({ "title": "One more" })).await.expect(422);
    add(&ann, &uri, "ann/one").await.expect(200);
    make(&ann, "ann/two", "public").await;
    add(&ann, &uri, "ann/two").await.expect(422);
    let found = ann.get(&uri).await.expect(200).json();
    assert_eq!(found["items"].as_array().unwrap().len() as u64, MAX_COLLECTION_ITEMS);
    hub.finish().await;
}
