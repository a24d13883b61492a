//! What accounts show of themselves, and to whom: names, numbers, circles, sizes, pictures.

use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, TestHub};
use serde_json::{Value, json};

use crate::{commit, create, put};

async fn make(client: &Client, id: &str, kind: &str, visibility: &str) {
    let (organization, name) = id.split_once('/').unwrap();
    let body = json!({ "name": name, "organization": organization, "type": kind, "visibility": visibility });
    client.post("/api/repos/create", body).await.expect(200);
}

async fn get(client: &Client, uri: &str) -> Value {
    client.get(uri).await.expect(200).json()
}

async fn names(client: &Client, uri: &str) -> Vec<String> {
    let rows = get(client, uri).await;
    rows.as_array().unwrap().iter().map(|row| row["user"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn numbers_count_what_the_reader_may_see() {
    let hub = TestHub::new().await;
    let (ann, bob, eve) = (hub.user("ann").await, hub.user("bob").await, hub.user("eve").await);
    hub.org("lab", "ann", &[("bob", Role::Read), ("eve", Role::NoAccess)]).await;
    let numbers = async |client: &Client| {
        let overview = get(client, "/api/organizations/lab/overview").await;
        ["numModels", "numDatasets", "numSpaces"].map(|key| overview[key].as_u64().unwrap())
    };
    make(&ann, "lab/public", "model", "public").await;
    make(&ann, "lab/inside", "model", "internal").await;
    make(&ann, "lab/hidden", "model", "private").await;
    make(&ann, "lab/data", "dataset", "private").await;
    let anyone = hub.anonymous();
    assert_eq!(numbers(&ann).await, [3, 1, 0]);
    assert_eq!(numbers(&bob).await, [3, 1, 0]);
    assert_eq!(numbers(&eve).await, [2, 0, 0]);
    assert_eq!(numbers(&anyone).await, [1, 0, 0]);
    // The numbers follow every change: shown, moved away, copied, deleted.
    ann.put("/api/models/lab/hidden/settings", json!({ "visibility": "public" })).await.expect(200);
    assert_eq!((numbers(&eve).await, numbers(&anyone).await), ([3, 0, 0], [2, 0, 0]));
    let body = json!({ "fromRepo": "lab/hidden", "toRepo": "ann/hidden", "type": "model" });
    ann.post("/api/repos/move", body).await.expect(200);
    assert_eq!((numbers(&ann).await, numbers(&anyone).await), ([2, 1, 0], [1, 0, 0]));
    assert_eq!(get(&anyone, "/api/users/ann/overview").await["numModels"], 1);
    bob.post("/api/datasets/lab/data/duplicate", json!({ "repository": "bob/data" })).await.expect(200);
    assert_eq!(get(&bob, "/api/users/bob/overview").await["numDatasets"], 1);
    assert_eq!(get(&eve, "/api/users/bob/overview").await["numDatasets"], 0);
    ann.delete("/api/repos/delete", json!({ "name": "lab/public" })).await.expect(200);
    assert_eq!(numbers(&ann).await, [1, 1, 0]);
    let counted = "SELECT COUNT(*) FROM (SELECT namespace_id, kind, visibility, COUNT(*) AS repos FROM repo \
        GROUP BY 1, 2, 3 EXCEPT SELECT namespace_id, kind, visibility, repos FROM repo_count)";
    assert_eq!(hub.count(counted), 0);
    hub.finish().await;
}

#[tokio::test]
async fn without_signing_in_only_names_that_something_public_tells_are_there() {
    let hub = TestHub::new().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Write)]).await;
    create(&ann, "model", "inside").await.expect(200);
    let anyone = hub.anonymous();
    let missing = anyone.get("/api/users/nobody/overview").await.expect(401);
    let tails = ["overview", "followers", "following", "likes", "avatar"];
    for tail in tails {
        for name in ["ann", "nobody", "lab", "a%00b", "-", "%2e%2e"] {
            let reply = anyone.get(&format!("/api/users/{name}/{tail}")).await.expect(401);
            assert_eq!(reply.text(), missing.text(), "{name}/{tail}");
        }
    }
    for tail in ["overview", "members", "followers", "avatar", "settings/repositories"] {
        anyone.get(&format!("/api/organizations/lab/{tail}")).await.expect(401);
    }
    // Who signs in sees all, and what is missing is missing.
    assert_eq!(get(&bob, "/api/users/ANN/overview").await["user"], "ann");
    for (uri, status) in [
        ("/api/users/nobody/overview", 404),
        ("/api/users/lab/overview", 404),
        ("/api/organizations/ann/overview", 404),
        ("/api/users/a%00b/overview", 404),
        ("/api/organizations/lab/members", 200),
    ] {
        bob.get(uri).await.expect(status);
    }
    // Something public of ann's shows her and nobody else, also among members.
    make(&ann, "ann/open", "model", "public").await;
    make(&ann, "lab/open", "model", "public").await;
    assert_eq!(names(&anyone, "/api/organizations/lab/members").await, ["ann"]);
    assert_eq!(get(&anyone, "/api/organizations/lab/overview").await["numUsers"], 1);
    assert_eq!(get(&bob, "/api/organizations/lab/overview").await["numUsers"], 2);
    anyone.get("/api/users/bob/overview").await.expect(401);
    // A public collection tells its owner's name as well.
    bob.post("/api/collections", json!({ "title": "c", "visibility": "public" })).await.expect(200);
    get(&anyone, "/api/users/bob/overview").await;
    ann.put("/api/models/lab/open/settings", json!({ "private": true })).await.expect(200);
    anyone.get("/api/organizations/lab/overview").await.expect(401);
    hub.finish().await;
}

#[tokio::test]
async fn overviews_have_what_clients_read_and_no_address_to_write_to() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[]).await;
    let user = get(&bob, "/api/users/ann/overview").await;
    assert_eq!(user["type"], "user");
    for key in ["numLikes", "numFollowing", "numFollowers", "numPapers", "numUpvotes"] {
        assert_eq!(user[key], 0, "{key}");
    }
    assert_eq!(user["orgs"][0]["name"], "lab");
    let org = get(&bob, "/api/organizations/lab/overview").await;
    assert_eq!(
        (&org["name"], &org["numUsers"], &org["isFollowing"]),
        (&json!("lab"), &json!(1), &json!(false))
    );
    let members = get(&bob, "/api/organizations/lab/members").await;
    for text in [user, org, members].map(|value| value.to_string()) {
        assert!(!text.contains("example.org") && !text.contains("email"), "{text}");
    }
    let avatar = get(&ann, "/api/organizations/lab/avatar").await;
    assert_eq!(avatar["avatarUrl"], "http://hub.test/avatars/lab.svg");
    hub.finish().await;
}

#[tokio::test]
async fn following_is_by_ones_own_name_and_once() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[]).await;
    let events = hub.count("SELECT COUNT(*) FROM event");
    for _ in 0..2 {
        bob.post("/api/users/ann/follow", json!({})).await.expect(200);
        hub.advance_seconds(1);
        bob.post("/api/organizations/lab/follow", json!({})).await.expect(200);
    }
    assert_eq!(hub.count("SELECT COUNT(*) FROM event"), events + 2);
    assert_eq!(names(&ann, "/api/users/bob/following").await, ["lab", "ann"]);
    assert_eq!(names(&ann, "/api/users/ann/followers").await, ["bob"]);
    assert_eq!(names(&ann, "/api/organizations/lab/followers").await, ["bob"]);
    let overview = get(&bob, "/api/users/ann/overview").await;
    assert_eq!((&overview["isFollowing"], &overview["numFollowers"]), (&json!(true), &json!(1)));
    assert_eq!(get(&ann, "/api/users/ann/overview").await["isFollowing"], false);
    assert_eq!(get(&ann, "/api/users/bob/overview").await["numFollowing"], 2);
    assert_eq!(get(&bob, "/api/organizations/lab/members").await[0]["isFollowing"], true);
    bob.delete("/api/users/ann/follow", json!({})).await.expect(200);
    bob.delete("/api/users/ann/follow", json!({})).await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM event"), events + 3);
    assert_eq!(names(&ann, "/api/users/bob/following").await, ["lab"]);
    bob.post("/api/users/bob/follow", json!({})).await.expect(400);
    bob.post("/api/users/lab/follow", json!({})).await.expect(404);
    bob.post("/api/users/nobody/follow", json!({})).await.expect(404);
    hub.anonymous().post("/api/users/ann/follow", json!({})).await.expect(401);
    hub.token("bob", TokenRole::Read).await.post("/api/users/ann/follow", json!({})).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn who_is_disabled_is_in_no_list_and_has_no_page() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Write)]).await;
    create(&ann, "model", "m").await.expect(200);
    bob.post("/api/models/ann/m/like", json!({})).await.expect(200);
    bob.post("/api/users/ann/follow", json!({})).await.expect(200);
    let context = hub.operator();
    let user = hub.hub.access(&context).namespace(&"bob".parse().unwrap()).await.unwrap();
    hub.hub.disable_user(&context, &user).await.unwrap();
    for uri in ["/api/models/ann/m/likers", "/api/users/ann/followers"] {
        assert!(names(&ann, uri).await.is_empty(), "{uri}");
    }
    assert_eq!(names(&ann, "/api/organizations/lab/members").await, ["ann"]);
    assert_eq!(get(&ann, "/api/organizations/lab/overview").await["numUsers"], 1);
    assert_eq!(get(&ann, "/api/users/ann/overview").await["numFollowers"], 0);
    let reply = ann.get("/api/users/bob/overview").await.expect(403);
    assert_eq!(reply.json()["error"], "Access to this resource is disabled.");
    hub.anonymous().get("/api/users/bob/overview").await.expect(401);
    hub.finish().await;
}

#[tokio::test]
async fn sizes_are_for_the_owner_and_members() {
    let hub = TestHub::open().await;
    let (ann, bob, eve) = (hub.user("ann").await, hub.user("bob").await, hub.user("eve").await);
    hub.org("lab", "ann", &[("bob", Role::Read), ("eve", Role::NoAccess)]).await;
    make(&ann, "lab/small", "model", "private").await;
    make(&ann, "lab/large", "dataset", "internal").await;
    crate::commit_to(&ann, "datasets/lab/large", &[put("data.csv", "x".repeat(9000))]).await.expect(200);
    commit(&ann, "lab/small", &[put("config.json", "{}")]).await.expect(200);
    hub.run_jobs().await;
    let uri = "/api/organizations/lab/settings/repositories";
    let rows = get(&bob, uri).await;
    assert_eq!((&rows[0]["id"], &rows[0]["type"]), (&json!("lab/large"), &json!("dataset")));
    assert_eq!((&rows[0]["visibility"], &rows[1]["visibility"]), (&json!("internal"), &json!("private")));
    assert!(rows[0]["storage"].as_i64() > rows[1]["storage"].as_i64(), "{rows}");
    let percent: f64 = [0, 1].iter().map(|at| rows[*at]["storagePercent"].as_f64().unwrap()).sum();
    assert!((percent - 100.0).abs() < 0.001, "{rows}");
    eve.get(uri).await.expect(403);
    hub.user("zoe").await.get(uri).await.expect(403);
    bob.get("/api/organizations/ann/settings/repositories").await.expect(404);
    assert!(get(&bob, "/api/settings/repositories").await.as_array().unwrap().is_empty());
    hub.anonymous().get("/api/settings/repositories").await.expect(401);
    for number in 0..101 {
        make(&bob, &format!("bob/m{number}"), "model", "public").await;
    }
    let reply = bob.get("/api/settings/repositories").await.expect(200);
    let next = reply
        .header("link")
        .split(['<', '>'])
        .nth(1)
        .unwrap()
        .trim_start_matches("http://hub.test")
        .to_owned();
    let rest = bob.get(&next).await.expect(200);
    assert_eq!(reply.json().as_array().unwrap().len() + rest.json().as_array().unwrap().len(), 101);
    hub.finish().await;
}

#[tokio::test]
async fn pictures_tell_nothing_and_run_nothing() {
    let hub = TestHub::new().await;
    hub.user("ann").await;
    let anyone = hub.anonymous();
    let reply = anyone.get("/avatars/ann.svg").await.expect(200);
    assert_eq!(reply.header("content-type"), "image/svg+xml");
    assert!(reply.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert!(reply.header("cache-control").contains("max-age"));
    // Like one of nobody.
    let nobody = anyone.get("/avatars/abe.svg").await.expect(200);
    assert_eq!(reply.headers.len(), nobody.headers.len());
    for bad in ["ann", "ann.png", ".svg", "%3Cscript%3E.svg", "a%22b.svg", "..%2Fx.svg"] {
        anyone.get(&format!("/avatars/{bad}")).await.expect(404);
    }
    hub.finish().await;
}
