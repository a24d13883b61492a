//! Making and copying repositories: whole, or not at all, and never for more people than may see.

use axum::body::Body;
use bastide_blobs::{Blobs, Faults, Point};
use bastide_core::{Role, Visibility};
use bastide_hub::access::Admin;
use bastide_testkit::{Client, TestHub};
use http::Method;
use serde_json::{Value, json};

use crate::uploads::{noise, upload};
use crate::{commit, create, put};

/// A hub whose disk fails on demand.
async fn failing() -> (TestHub, Faults) {
    let faults = Faults::armed();
    let plan = faults.clone();
    let hub =
        TestHub::over(move |folder| Blobs::folder(&folder.join("blobs")).unwrap().with_faults(faults)).await;
    (hub, plan)
}

/// Events of an action: subject and facts.
pub async fn events(hub: &TestHub, action: &str) -> Vec<(String, Value)> {
    let lines = hub.hub.export_events(&hub.operator(), 0..i64::MAX).await.unwrap();
    let events = lines.iter().map(|line| serde_json::from_slice::<Value>(line).unwrap());
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let found = events.filter(|event| event["action"] == action);
    found
        .map(|event| (text(&event, "subject_name"), serde_json::from_str(&text(&event, "facts")).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_repository_that_could_not_be_made_whole_is_not_there() {
    let (hub, faults) = failing().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    // Whoever makes one may not always remove one: nothing has to be removed.
    hub.org("lab", "ann", &[("bob", Role::Write)]).await;
    let before = hub.verify_ledger().await.events;
    let body = json!({ "name": "m", "organization": "lab" });
    for (point, after) in [(Point::Sync, 0), (Point::Link, 0), (Point::Link, 1)] {
        faults.fail(point, after, 1, std::io::ErrorKind::StorageFull);
        bob.post("/api/repos/create", body.clone()).await.expect(507);
        ann.get("/api/models/lab/m").await.expect(404);
    }
    assert_eq!(hub.verify_ledger().await.events, before);
    bob.post("/api/repos/create", body).await.expect(200);
    commit(&bob, "lab/m", &[put("a", "1")]).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn an_old_name_survives_a_repository_that_could_not_be_made_in_its_place() {
    let (hub, faults) = failing().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "old").await.expect(200);
    let body = json!({ "fromRepo": "ann/old", "toRepo": "ann/new", "type": "model" });
    ann.post("/api/repos/move", body).await.expect(200);
    faults.fail(Point::Sync, 0, 1, std::io::ErrorKind::StorageFull);
    create(&ann, "model", "old").await.expect(507);
    ann.get("/api/models/ann/old").await.expect(307);
    create(&ann, "model", "old").await.expect(200);
    ann.get("/api/models/ann/old").await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn a_space_can_have_a_name_that_yaml_takes_for_something_else() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for name in ["2048", "true", "1.5", "null", "0x10"] {
        let body = json!({ "name": name, "type": "space", "sdk": "gradio" });
        ann.post("/api/repos/create", body).await.expect(200);
        let info = ann.get(&format!("/api/spaces/ann/{name}")).await.expect(200).json();
        assert_eq!(info["cardData"]["title"], name);
    }
    hub.finish().await;
}

#[tokio::test]
async fn the_first_commit_comes_into_a_repository_without_any() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let context = hub.operator();
    let owner = hub.hub.access(&context).namespace::<Admin>(&"ann".parse().unwrap()).await.unwrap();
    hub.hub.seed_repos(&context, &owner, 0..1).await.unwrap();
    let id = ann.get("/api/models?author=ann").await.json()[0]["id"].as_str().unwrap().to_owned();
    let body = json!({ "files": [{ "path": "a.txt", "size": 3, "sample": null }] });
    let answer = ann.post(&format!("/api/models/{id}/preupload/main"), body.clone()).await.expect(200).json();
    assert_eq!((&answer["files"][0]["uploadMode"], &answer["commitOid"]), (&json!("regular"), &Value::Null));
    ann.post(&format!("/api/models/{id}/preupload/dev"), body.clone()).await.expect(404);
    commit(&ann, &id, &[put("a.txt", "1")]).await.expect(200);
    ann.post(&format!("/api/models/{id}/preupload/dev"), body).await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn files_and_a_license_go_into_the_first_commit_and_are_checked() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let make = async |extra: Value| {
        let mut body = json!({ "name": "m" });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ann.post("/api/repos/create", body).await
    };
    let file = |path: &str, content: &str| json!({ "path": path, "content": content });
    make(json!({ "files": [file("../x", "1")] })).await.expect(422);
    make(json!({ "files": [file("README.md", "---\nlicense: none-such\n---\n")] })).await.expect(400);
    make(json!({ "license": "none-such" })).await.expect(400);
    make(json!({ "license": "mit", "files": [file("README.md", "x")] })).await.expect(400);
    make(json!({ "resourceGroupId": "6" })).await.expect(400);
    ann.get("/api/models/ann/m").await.expect(404);
    let files = json!([file("a/b.txt", "hi"), { "path": "c", "content": "aGk=", "encoding": "base64" }]);
    make(json!({ "license": "mit", "files": files, "resourceGroupId": null, "private": null }))
        .await
        .expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/a/b.txt").await.expect(200).text(), "hi");
    assert_eq!(ann.get("/ann/m/resolve/main/c").await.expect(200).text(), "hi");
    assert_eq!(ann.get("/api/models/ann/m").await.json()["cardData"]["license"], "mit");
    assert_eq!(ann.get("/api/models/ann/m/commits/main").await.json().as_array().unwrap().len(), 1);
    hub.finish().await;
}

#[tokio::test]
async fn who_may_not_make_learns_nothing_about_names() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.user("gone").await;
    let context = hub.operator();
    let gone = hub.hub.access(&context).namespace(&"gone".parse().unwrap()).await.unwrap();
    hub.hub.disable_user(&context, &gone).await.unwrap();
    let ask = async |client: &Client, namespace: &str| {
        client.post("/api/repos/create", json!({ "name": "m", "organization": namespace })).await
    };
    let anyone = hub.anonymous();
    let texts = [
        ask(&anyone, "ann").await.expect(401).text(),
        ask(&anyone, "nobody").await.expect(401).text(),
        ask(&anyone, "gone").await.expect(401).text(),
    ];
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let there = ask(&bob, "ann").await.expect(403).text();
    assert_eq!(ask(&bob, "nobody").await.expect(403).text().replace("nobody", "ann"), there);
    create(&ann, "model", "m").await.expect(200);
    let body = json!({ "fromRepo": "ann/m", "toRepo": "nobody/m", "type": "model" });
    ann.post("/api/repos/move", body).await.expect(403);
    ann.post("/api/models/ann/m/duplicate", json!({ "repository": "nobody/m" })).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn an_old_name_cannot_be_used_to_delete_or_move_what_was_moved_away() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "old").await.expect(200);
    let body = json!({ "fromRepo": "ann/old", "toRepo": "ann/new", "type": "model" });
    ann.post("/api/repos/move", body.clone()).await.expect(200);
    let refused =
        ann.delete("/api/repos/delete", json!({ "name": "old", "type": "model" })).await.expect(404);
    assert_eq!(refused.header("x-error-code"), "RepoNotFound");
    assert!(refused.text().contains("ann/new"), "{}", refused.text());
    ann.post("/api/repos/move", body).await.expect(404);
    // Where it went is for those who may see it.
    ann.put("/api/models/ann/new/settings", json!({ "private": true })).await.expect(200);
    let stale = json!({ "name": "ann/old", "type": "model" });
    assert!(!bob.delete("/api/repos/delete", stale.clone()).await.expect(404).text().contains("new"));
    assert!(!hub.anonymous().delete("/api/repos/delete", stale).await.expect(401).text().contains("new"));
    ann.get("/api/models/ann/new").await.expect(200);
    ann.delete("/api/repos/delete", json!({ "name": "NEW", "type": "model" })).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn a_copy_is_never_for_more_people_than_its_original() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    hub.org("lab", "ann", &[("bob", Role::Read)]).await;
    let body = json!({ "name": "m", "organization": "lab", "visibility": "internal" });
    ann.post("/api/repos/create", body).await.expect(200);
    ann.put("/api/models/lab/m/settings", json!({ "gated": "manual" })).await.expect(200);
    let copy = async |body: Value| bob.post("/api/models/lab/m/duplicate", body).await;
    let refused = copy(json!({ "repository": "bob/m", "visibility": "public" })).await.expect(403);
    assert!(refused.text().contains("internal"), "{}", refused.text());
    bob.get("/api/models/bob/m").await.expect(404);
    copy(json!({ "repository": "bob/m" })).await.expect(200);
    let info = bob.get("/api/models/bob/m").await.expect(200).json();
    assert_eq!((&info["visibility"], &info["gated"]), (&json!("internal"), &json!("manual")));
    let cem = hub.user("cem").await;
    cem.get("/bob/m/resolve/main/.gitattributes").await.expect(403);
    hub.anonymous().get("/api/models/bob/m").await.expect(401);
    // The new owner's own preference holds where it is stricter.
    let context = hub.operator();
    let owner = hub.hub.access(&context).namespace::<Admin>(&"bob".parse().unwrap()).await.unwrap();
    hub.hub.set_default_visibility(&context, &owner, Some(Visibility::Private)).await.unwrap();
    copy(json!({ "repository": "bob/two" })).await.expect(200);
    assert_eq!(bob.get("/api/models/bob/two").await.json()["visibility"], "private");
    hub.finish().await;
}

#[tokio::test]
async fn who_took_a_repository_is_a_question_with_an_answer() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    upload(&ann, "ann/m", "x.bin", &noise(50_000, 3)).await;
    commit(&ann, "ann/m", &[put("README.md", "---\nlicense: mit\ntags: [odd]\n---\n")]).await.expect(200);
    bob.post("/api/models/ann/m/duplicate", json!({ "repository": "bob/copy" })).await.expect(200);
    assert_eq!(bob.get("/bob/copy/resolve/main/x.bin").await.expect(200).body.len(), 50_000);
    let found = bob.get("/api/models?filter=odd&search=copy").await.json();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["id"]), (1, &json!("bob/copy")));
    assert!(bob.get("/api/models?filter=odd&search=m").await.json().as_array().unwrap().len() < 2);

    let copied = events(&hub, "repo.duplicate").await;
    assert_eq!((copied[0].0.as_str(), &copied[0].1["source"]), ("models/bob/copy", &json!("models/ann/m")));
    assert!(copied[0].1["source_id"].is_i64());
    let taken = events(&hub, "repo.copy_out").await;
    assert_eq!((taken[0].0.as_str(), &taken[0].1["copy"]), ("models/ann/m", &json!("models/bob/copy")));
    hub.hub.flush_reads().await.unwrap();
    let context = hub.operator();
    let path = bastide_core::RepoPath::parse(bastide_core::RepoKind::Model, "ann/m").unwrap();
    let source = hub.hub.access(&context).repo::<Admin>(&path).await.unwrap();
    let reads = hub.hub.reads_of(&source, 10).await.unwrap();
    assert!(reads.iter().any(|read| read.via == "duplicate"), "{reads:?}");
    hub.finish().await;
}

#[tokio::test]
async fn settings_answer_with_everything_and_refuse_what_is_not_served() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let set = async |body: Value| ann.put("/api/models/ann/m/settings", body).await;
    set(json!({ "xetEnabled": false })).await.expect(400);
    set(json!({ "resourceGroupId": "66" })).await.expect(400);
    set(json!({ "gatedNotificationsEmail": "a@example.org" })).await.expect(400);
    let answer =
        set(json!({ "gated": "auto", "discussionsDisabled": true, "private": null })).await.expect(200);
    let all = json!({ "visibility": "public", "private": false, "gated": "auto",
        "discussionsDisabled": true, "xetEnabled": true, "resourceGroup": null });
    assert_eq!(answer.json(), all);
    let noted = events(&hub, "repo.settings").await;
    assert_eq!((&noted[0].1["gated"], &noted[0].1["gated_before"]), (&json!("auto"), &json!("false")));
    assert!(noted[0].1.get("visibility").is_none());
    hub.finish().await;
}

#[tokio::test]
async fn events_tell_what_was_before() {
    let hub = TestHub::open().await;
    hub.user("ann").await;
    hub.user("bob").await;
    hub.org("lab", "ann", &[("bob", Role::Read), ("bob", Role::Write)]).await;
    let members = events(&hub, "org.member_set").await;
    let roles: Vec<_> = members.iter().map(|(_, facts)| facts["role_before"].as_str().unwrap()).collect();
    assert_eq!(roles, ["", "read"]);
    assert!(events(&hub, "token.create").await[0].1["expires_at"].as_str().unwrap().starts_with("2027-"));
    let context = hub.operator();
    let owner = hub.hub.access(&context).namespace::<Admin>(&"ann".parse().unwrap()).await.unwrap();
    let token = hub.hub.list_tokens(&owner).await.unwrap()[0].clone();
    hub.hub.revoke_token(&context, &owner, token.id).await.unwrap();
    assert_eq!(events(&hub, "token.revoke").await[0].0, token.name);
    hub.finish().await;
}

#[tokio::test]
async fn messages_have_no_control_characters() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let send =
        async |header: Value| crate::commit_with(&ann, "ann/m", "main", header, &[put("a", "1")]).await;
    for bad in ["a\0b", "a\u{1b}[2Jb", "a\u{85}b"] {
        send(json!({ "summary": bad })).await.expect(400);
        send(json!({ "summary": "s", "description": bad })).await.expect(400);
        ann.post("/api/models/ann/m/super-squash/main", json!({ "message": bad })).await.expect(400);
        ann.post("/api/models/ann/m/tag/main", json!({ "tag": "t", "message": bad })).await.expect(400);
    }
    send(json!({ "summary": "s", "description": "one\r\ntwo\tthree\n" })).await.expect(200);
    let row = ann.get("/api/models/ann/m/commits/main").await.json()[0].clone();
    assert_eq!(row["message"], "one\ntwo\tthree");
    let path = "/api/models/ann/m/commit/main";
    ann.send(Method::POST, path, &[], Body::from("{\"key\":\"header\",\"value\":{\"summary\":\"\"}}"))
        .await
        .expect(400);
    hub.finish().await;
}
