//! Likes: counted exactly, by who may read, and never telling of what is hidden.

use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, TestHub};
use serde_json::{Value, json};

use crate::create;

async fn make(client: &Client, name: &str, visibility: &str) {
    let body = json!({ "name": name, "visibility": visibility });
    client.post("/api/repos/create", body).await.expect(200);
}

async fn like(client: &Client, id: &str) -> i64 {
    client.post(&format!("/api/models/{id}/like"), json!({})).await.expect(200).json()["likes"]
        .as_i64()
        .unwrap()
}

/// Names and Link of one page.
async fn page(client: &Client, uri: &str, name: impl Fn(&Value) -> &Value) -> (Vec<String>, Option<String>) {
    let reply = client.get(uri).await.expect(200);
    let rows = reply.json();
    let names = rows.as_array().unwrap().iter().map(|row| name(row).as_str().unwrap().to_owned()).collect();
    let link = reply.header("link");
    let next = link.strip_prefix("<http://hub.test").map(|rest| rest.split('>').next().unwrap().to_owned());
    (names, next)
}

async fn liked(client: &Client, user: &str) -> Vec<String> {
    page(client, &format!("/api/users/{user}/likes"), |row| &row["repo"]["name"]).await.0
}

#[tokio::test]
async fn twice_is_once_and_the_number_is_exact() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    let events = hub.count("SELECT COUNT(*) FROM event");
    assert_eq!(like(&bob, "ann/m").await, 1);
    assert_eq!(like(&bob, "ann/m").await, 1);
    assert_eq!(like(&ann, "Ann/M").await, 2);
    assert_eq!(hub.count("SELECT COUNT(*) FROM event"), events + 2, "what changes nothing is no event");
    assert_eq!(ann.get("/api/models/ann/m").await.json()["likes"], 2);
    let gone = bob.delete("/api/models/ann/m/like", json!({})).await.expect(200).json();
    assert_eq!(gone["likes"], 1);
    bob.delete("/api/models/ann/m/like", json!({})).await.expect(200);
    assert_eq!(hub.count("SELECT likes FROM repo"), 1);
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action = 'repo.unlike'"), 1);
    hub.finish().await;
}

#[tokio::test]
async fn lists_sort_by_likes() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    for name in ["one", "two", "three"] {
        create(&ann, "model", name).await.expect(200);
    }
    like(&ann, "ann/two").await;
    like(&bob, "ann/two").await;
    like(&bob, "ann/three").await;
    let (names, _) = page(&bob, "/api/models?sort=likes", |row| &row["id"]).await;
    assert_eq!(names, ["ann/two", "ann/three", "ann/one"]);
    hub.finish().await;
}

#[tokio::test]
async fn only_who_may_read_and_change_likes() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    make(&ann, "secret", "private").await;
    make(&ann, "open", "public").await;
    for id in ["ann/secret", "ann/missing"] {
        let reply = bob.post(&format!("/api/models/{id}/like"), json!({})).await.expect(404);
        assert_eq!(reply.header("x-error-code"), "RepoNotFound");
        bob.get(&format!("/api/models/{id}/likers")).await.expect(404);
    }
    hub.anonymous().post("/api/models/ann/open/like", json!({})).await.expect(401);
    let reader = hub.token("bob", TokenRole::Read).await;
    let reply = reader.post("/api/models/ann/open/like", json!({})).await.expect(403);
    assert!(reply.text().contains("role 'read'"), "{}", reply.text());
    assert_eq!(hub.count("SELECT COUNT(*) FROM repo_like"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn what_somebody_likes_tells_nothing_of_what_the_reader_may_not_see() {
    let hub = TestHub::open().await;
    let (ann, bob, eve) = (hub.user("ann").await, hub.user("bob").await, hub.user("eve").await);
    hub.org("lab", "ann", &[("bob", Role::Read)]).await;
    for (name, visibility) in [("open", "public"), ("inhouse", "internal"), ("hidden", "private")] {
        let body = json!({ "name": name, "organization": "lab", "visibility": visibility });
        ann.post("/api/repos/create", body).await.expect(200);
        hub.advance_seconds(1);
        like(&bob, &format!("lab/{name}")).await;
    }
    make(&bob, "own", "public").await;
    assert_eq!(liked(&bob, "bob").await, ["lab/hidden", "lab/inhouse", "lab/open"]);
    assert_eq!(liked(&ann, "bob").await.len(), 3);
    assert_eq!(liked(&eve, "bob").await, ["lab/inhouse", "lab/open"]);
    assert_eq!(liked(&hub.anonymous(), "BOB").await, ["lab/open"]);
    for (reader, count) in [(&bob, 3), (&eve, 2), (&hub.anonymous(), 1)] {
        assert_eq!(reader.get("/api/users/bob/overview").await.expect(200).json()["numLikes"], count);
    }
    // It goes out of sight with the repository.
    ann.put("/api/models/lab/open/settings", json!({ "private": true })).await.expect(200);
    assert_eq!(liked(&eve, "bob").await, ["lab/inhouse"]);
    hub.finish().await;
}

#[tokio::test]
async fn likes_follow_a_repository_and_end_with_it() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    like(&bob, "ann/m").await;
    let body = json!({ "fromRepo": "ann/m", "toRepo": "ann/n", "type": "model" });
    ann.post("/api/repos/move", body).await.expect(200);
    assert_eq!(liked(&bob, "bob").await, ["ann/n"]);
    // An old name leads to it, too.
    bob.delete("/api/models/ann/m/like", json!({})).await.expect(200);
    assert_eq!(ann.get("/api/models/ann/n").await.json()["likes"], 0);
    like(&bob, "ann/n").await;
    let copy = json!({ "repository": "bob/copy" });
    bob.post("/api/models/ann/n/duplicate", copy).await.expect(200);
    assert_eq!(bob.get("/api/models/bob/copy").await.json()["likes"], 0, "a copy has its own");
    ann.delete("/api/repos/delete", json!({ "name": "ann/n" })).await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM repo_like"), 0);
    assert!(liked(&bob, "bob").await.is_empty());
    hub.finish().await;
}

#[tokio::test]
async fn pages_hold_what_the_reader_sees_and_cursors_cannot_be_made_up() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    for number in 0..205 {
        let visibility = if number % 2 == 0 { "public" } else { "private" };
        make(&ann, &format!("m{number}"), visibility).await;
        like(&ann, &format!("ann/m{number}")).await;
    }
    // 103 public ones: a full page and three more, whatever lies between.
    let (first, next) = page(&bob, "/api/users/ann/likes", |row| &row["repo"]["name"]).await;
    let (second, end) = page(&bob, &next.unwrap(), |row| &row["repo"]["name"]).await;
    assert_eq!((first.len(), second.len(), end), (100, 3, None));
    let mut all: Vec<_> = first.into_iter().chain(second).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 103);
    for bad in ["x", "aTE", "MTo5OTk5OTk5OTk5OTk5OTk5OTk5"] {
        bob.get(&format!("/api/users/ann/likes?cursor={bad}")).await.expect(400);
    }
    // A place of somebody's own choosing shows no more than the list does: 9223372036854775807:0.
    let forged = "/api/users/ann/likes?cursor=OTIyMzM3MjAzNjg1NDc3NTgwNzow";
    let (names, _) = page(&bob, forged, |row| &row["repo"]["name"]).await;
    assert_eq!(names.len(), 100);
    assert!(names.iter().all(|name| all.contains(name)));
    hub.finish().await;
}

#[tokio::test]
async fn likers_are_those_whom_the_reader_may_know() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    like(&ann, "ann/m").await;
    hub.advance_seconds(1);
    like(&bob, "ann/m").await;
    let uri = "/api/models/ann/m/likers";
    assert_eq!(page(&ann, uri, |row| &row["user"]).await.0, ["bob", "ann"]);
    let rows = ann.get(uri).await.json();
    assert_eq!(rows[0]["avatarUrl"], "http://hub.test/avatars/bob.svg");
    assert!(rows[0].get("email").is_none());
    // bob has nothing public.
    assert_eq!(page(&hub.anonymous(), uri, |row| &row["user"]).await.0, ["ann"]);
    hub.finish().await;
}

#[tokio::test]
async fn checking_finds_numbers_that_are_not_those_of_the_rows() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    like(&ann, "ann/m").await;
    let problems = async || hub.hub.check_all(&hub.operator(), false, |_, _, _| {}).await.unwrap().problems;
    assert!(problems().await.is_empty());
    for (forgery, said) in [
        ("UPDATE repo SET likes = 5", "it says that 5 like it: 1 do"),
        ("DELETE FROM repo_like", "it says that 1 like it: 0 do"),
        ("UPDATE repo_count SET repos = 2", "ann has another number of public model repositories"),
        ("DELETE FROM repo_count", "ann has another number of public model repositories"),
    ] {
        let undo = hub.tamper(forgery);
        let found = problems().await;
        assert!(found.len() == 1 && found[0].contains(said), "{forgery}: {found:?}");
        undo.undo();
    }
    assert!(problems().await.is_empty());
    hub.finish().await;
}
