//! Lists, searches, pages.

use bastide_testkit::{Client, TestHub};
use serde_json::json;

use crate::{commit, create, put};

async fn ids(client: &Client, query: &str) -> Vec<String> {
    let rows = client.get(&format!("/api/models{query}")).await.expect(200).json();
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filters_search_order_and_pages() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    for (client, name, card) in [
        (&ann, "bert-base", "license: mit\ntags: [vision]"),
        (&ann, "bert-large", "license: apache-2.0\ntags: [vision, big]"),
        (&bob, "robertson", "license: mit"),
        (&bob, "hidden_bert", "license: mit\ntags: [vision]"),
    ] {
        hub.advance_seconds(1);
        create(client, "model", name).await.expect(200);
        let id = if std::ptr::eq(client, &ann) { format!("ann/{name}") } else { format!("bob/{name}") };
        commit(client, &id, &[put("README.md", format!("---\n{card}\n---\n"))]).await.expect(200);
    }
    bob.put("/api/models/bob/hidden_bert/settings", json!({ "private": true })).await.expect(200);
    let anyone = hub.anonymous();
    assert_eq!(ids(&anyone, "?sort=createdAt").await, ["bob/robertson", "ann/bert-large", "ann/bert-base"]);
    assert_eq!(
        ids(&anyone, "?sort=createdAt&direction=1&limit=2").await,
        ["ann/bert-base", "ann/bert-large"]
    );
    assert_eq!(ids(&anyone, "?author=ANN&search=LARGE").await, ["ann/bert-large"]);
    assert_eq!(ids(&anyone, "?search=bert-b").await, ["ann/bert-base"]);
    assert_eq!(ids(&anyone, "?search=ert&search=ann").await.len(), 2);
    assert_eq!(ids(&anyone, "?search=b%25t").await.len(), 0);
    assert_eq!(ids(&anyone, "?filter=vision&filter=big").await, ["ann/bert-large"]);
    assert_eq!(ids(&anyone, "?filter=vision,license:mit").await, ["ann/bert-base"]);
    assert_eq!(ids(&anyone, "?filter=nothing").await.len(), 0);
    assert_eq!(ids(&bob, "?filter=vision&sort=createdAt").await[0], "bob/hidden_bert");
    assert_eq!(ids(&ann, "?search=hidden").await.len(), 0);

    let first = anyone.get("/api/models?limit=2&sort=likes").await.expect(200);
    let next =
        first.header("link").split_once('>').unwrap().0.trim_start_matches("<http://hub.test").to_owned();
    let second = anyone.get(&next).await.expect(200);
    assert_eq!((second.json().as_array().unwrap().len(), second.header("link")), (1, ""));
    anyone.get("/api/models?cursor=zzz").await.expect(400);
    anyone.get("/api/models?sort=size").await.expect(400);

    let row = anyone.get("/api/models?search=base").await.json()[0].clone();
    assert!(row.get("cardData").is_none() && row.get("siblings").is_none() && row["likes"] == 0);
    let full = anyone.get("/api/models?search=base&cardData=true").await.json()[0].clone();
    assert_eq!(full["cardData"]["license"], "mit");

    // Words follow a move and a change of who may see.
    let body = json!({ "fromRepo": "ann/bert-base", "toRepo": "ann/tiny", "type": "model" });
    ann.post("/api/repos/move", body).await.expect(200);
    assert_eq!(ids(&anyone, "?search=base").await.len(), 0);
    assert_eq!(ids(&anyone, "?search=tiny&filter=vision").await, ["ann/tiny"]);
    hub.finish().await;
}
