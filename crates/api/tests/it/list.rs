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

#[tokio::test]
async fn what_no_name_can_have_is_refused_and_not_asked_of_the_database() {
    let hub = TestHub::open().await;
    let anyone = hub.anonymous();
    for key in ["search", "author", "filter", "pipeline_tag"] {
        for bad in ["%00", "a%00b", "%1b", "a%0ab"] {
            anyone.get(&format!("/api/models?{key}={bad}")).await.expect(400);
        }
    }
    anyone.get("/api/spaces?models=a%00/b").await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn a_list_of_many_terms_is_cut_at_its_limit() {
    use bastide_core::limits::MAX_LIST_TERMS;
    let hub = TestHub::open().await;
    let anyone = hub.anonymous();
    let query = |count: usize, word: fn(usize) -> String| {
        (0..count).map(|n| format!("search={}&", word(n))).collect::<String>()
    };
    // The same word again is no other word.
    anyone.get(&format!("/api/models?{}", query(500, |_| "a".into()))).await.expect(200);
    let half = MAX_LIST_TERMS / 2;
    let tags = (0..half).map(|n| format!("t{n}")).collect::<Vec<_>>().join(",");
    let most = query(MAX_LIST_TERMS - half, |n| format!("w{n}"));
    anyone.get(&format!("/api/models?{most}filter={tags}")).await.expect(200);
    let refused = anyone.get(&format!("/api/models?{most}filter={tags},more")).await.expect(422);
    assert!(refused.text().contains(&MAX_LIST_TERMS.to_string()), "{}", refused.text());
    hub.finish().await;
}

#[tokio::test]
async fn a_cursor_is_of_the_order_that_it_goes_on_with() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let hub = TestHub::open().await;
    let id = bastide_core::RepoId::from_i64(1 << 60);
    for (value, sort, status) in [
        ("i5", "likes", 200),
        ("r0.5", "trendingScore", 200),
        ("r0.5", "likes", 400),
        ("i5", "trendingScore", 400),
        ("rNaN", "trendingScore", 400),
        ("rinf", "trendingScore", 400),
    ] {
        let cursor = URL_SAFE_NO_PAD.encode(format!("{value}:{id}"));
        let answer = hub.anonymous().get(&format!("/api/models?sort={sort}&cursor={cursor}")).await;
        assert_eq!(answer.status.as_u16(), status, "{value} {sort}: {}", answer.text());
    }
    hub.finish().await;
}
