//! The life of a repository.

use bastide_core::Role;
use bastide_testkit::TestHub;
use serde_json::json;

use crate::{commit, create, put};

#[tokio::test]
async fn create_again_move_and_delete() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    let made = create(&ann, "model", "bert").await.expect(200).json();
    assert_eq!(made["url"], "http://hub.test/ann/bert");
    assert_eq!(made["name"], "ann/bert");
    assert_eq!(made["id"].as_str().unwrap().len(), 24);

    let again = create(&ann, "model", "BERT").await.expect(409);
    assert_eq!(again.json()["url"], "http://hub.test/ann/bert");
    assert!(!again.text().contains("another conflicting operation"));

    let body = json!({ "fromRepo": "ann/bert", "toRepo": "ann/roberta", "type": "model" });
    ann.post("/api/repos/move", body).await.expect(200);
    let old = hub.anonymous().get("/api/models/ann/bert?full=true").await.expect(307);
    assert_eq!(old.header("location"), "/api/models/ann/roberta?full=true");
    let case = hub.anonymous().get("/api/models/Ann/Roberta").await.expect(307);
    assert_eq!(case.header("location"), "/api/models/ann/roberta");
    // Writing works under the old name and in any spelling.
    commit(&ann, "ANN/bert", &[put("a.txt", "1")]).await.expect(200);

    ann.delete("/api/repos/delete", json!({ "name": "roberta", "type": "model" })).await.expect(200);
    let gone = ann.get("/api/models/ann/roberta").await.expect(404);
    assert_eq!(gone.header("x-error-code"), "RepoNotFound");
    ann.delete("/api/repos/delete", json!({ "name": "roberta", "type": "model" })).await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn moving_onto_another_is_refused_and_names_it() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "dataset", "one").await.expect(200);
    create(&ann, "dataset", "two").await.expect(200);
    let body = json!({ "fromRepo": "ann/one", "toRepo": "ann/TWO", "type": "dataset" });
    let refused = ann.post("/api/repos/move", body).await.expect(409);
    assert!(
        refused.text().contains("A dataset repository called ann/two already exists"),
        "{}",
        refused.text()
    );
    hub.finish().await;
}

#[tokio::test]
async fn organizations_and_roles() {
    let hub = TestHub::open().await;
    let (ann, bob, cem) = (hub.user("ann").await, hub.user("bob").await, hub.user("cem").await);
    hub.org("lab", "ann", &[("bob", Role::Contributor), ("cem", Role::Read)]).await;
    let body = json!({ "name": "m", "organization": "lab", "private": true });
    bob.post("/api/repos/create", body.clone()).await.expect(200);
    commit(&bob, "lab/m", &[put("a", "1")]).await.expect(200);
    let refused = commit(&cem, "lab/m", &[put("a", "2")]).await.expect(403);
    assert!(refused.header("x-error-message").contains("rights"));
    cem.get("/api/models/lab/m").await.expect(200);
    cem.post("/api/repos/create", json!({ "name": "n", "organization": "lab" })).await.expect(403);
    hub.user("dan").await.get("/api/models/lab/m").await.expect(404);
    ann.post("/api/repos/create", json!({ "name": "n", "organization": "nobody" })).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn a_space_starts_with_a_card() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    ann.post("/api/repos/create", json!({ "name": "s", "type": "space" })).await.expect(400);
    ann.post("/api/repos/create", json!({ "name": "s", "type": "space", "sdk": "static" })).await.expect(200);
    let info = ann.get("/api/spaces/ann/s").await.expect(200).json();
    assert_eq!(info["sdk"], "static");
    assert!(info["runtime"]["hardware"].is_object());
    let files: Vec<_> =
        info["siblings"].as_array().unwrap().iter().map(|file| file["rfilename"].as_str().unwrap()).collect();
    assert_eq!(files, [".gitattributes", "README.md", "index.html", "style.css"]);
    hub.finish().await;
}

#[tokio::test]
async fn settings_and_duplicate() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("README.md", "---\nlicense: mit\n---\n"), put("x/y.txt", "hello")])
        .await
        .expect(200);
    let copy =
        bob.post("/api/models/ann/m/duplicate", json!({ "repository": "bob/copy" })).await.expect(200).json();
    assert_eq!(copy["url"], "http://hub.test/bob/copy");
    assert_eq!(bob.get("/bob/copy/resolve/main/x/y.txt").await.expect(200).text(), "hello");
    assert_eq!(bob.get("/api/models/bob/copy").await.json()["cardData"]["license"], "mit");

    bob.put("/api/models/ann/m/settings", json!({ "private": true })).await.expect(403);
    ann.put("/api/models/ann/m/settings", json!({ "gated": "sometimes" })).await.expect(400);
    ann.put("/api/models/ann/m/settings", json!({ "visibility": "private" })).await.expect(200);
    bob.get("/api/models/ann/m").await.expect(404);
    bob.post("/api/models/ann/m/duplicate", json!({ "repository": "bob/two" })).await.expect(404);
    // The copy lives on.
    bob.get("/bob/copy/resolve/main/x/y.txt").await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn expand_gives_what_is_asked_and_names_what_there_is() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let info = ann.get("/api/models/ann/m?expand=sha&expand[]=likes").await.expect(200).json();
    let mut keys: Vec<_> = info.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["_id", "id", "likes", "sha"]);
    assert_eq!(ann.get("/api/models/ann/m?expand=xetEnabled").await.json()["xetEnabled"], true);
    let bad = ann.get("/api/models/ann/m?expand=nope").await.expect(400).json();
    assert!(bad["error"].as_str().unwrap().starts_with("\"expand\" must be one of [author, baseModels, "));
    hub.finish().await;
}
