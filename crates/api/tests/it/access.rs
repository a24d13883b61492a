//! Who sees what, and how a credential ends.

use bastide_core::TokenRole;
use bastide_testkit::TestHub;
use serde_json::json;

use crate::{commit, create, put};

#[tokio::test]
async fn what_may_not_be_read_does_not_exist() {
    let hub = TestHub::new().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    ann.post("/api/repos/create", json!({ "name": "secret", "private": true })).await.expect(200);
    ann.post("/api/repos/create", json!({ "name": "inner" })).await.expect(200);
    let paths = [
        "/api/models/ann/{}",
        "/api/models/ann/{}/tree/main",
        "/ann/{}/resolve/main/.gitattributes",
        "/api/models/ann/{}/refs",
        "/api/models/ann/{}/xet-read-token/main",
        "/api/models/ann/{}/commits/main",
        "/api/models/ann/{}/auth-check",
    ];
    for path in paths {
        let at = |name: &str| path.replace("{}", name);
        // Missing and hidden are the same answer, to the letter.
        for (client, status) in [(hub.anonymous(), 401), (bob.clone(), 404)] {
            let hidden = client.get(&at("secret")).await.expect(status);
            let missing = client.get(&at("missing")).await.expect(status);
            assert_eq!(hidden.header("x-error-code"), "RepoNotFound", "{path}");
            assert_eq!(hidden.text(), missing.text(), "{path}");
        }
        hub.anonymous().get(&at("inner")).await.expect(401);
        bob.get(&at("inner")).await.expect(200);
        ann.get(&at("secret")).await.expect(200);
    }
    hub.finish().await;
}

#[tokio::test]
async fn tokens_that_are_wrong_revoked_or_expired() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    let me = ann.get("/api/whoami-v2").await.expect(200).json();
    assert_eq!((me["type"].as_str(), me["name"].as_str()), (Some("user"), Some("ann")));
    assert_eq!(me["auth"]["accessToken"]["role"], "write");
    let bad = ann.with_token("hf_nonsense").get("/api/whoami-v2").await.expect(401);
    assert_eq!(bad.header("x-error-message"), "Invalid credentials in Authorization header");
    assert_eq!(bad.header("x-error-code"), "");
    hub.anonymous().get("/api/whoami-v2").await.expect(401);

    let context = hub.operator();
    let owner = hub.hub.access(&context).namespace(&"ann".parse().unwrap()).await.unwrap();
    let first = hub.hub.list_tokens(&owner).await.unwrap()[0].id;
    hub.hub.revoke_token(&context, &owner, first).await.unwrap();
    ann.get("/api/whoami-v2").await.expect(401);
    assert!(hub.hub.revoke_token(&context, &owner, first).await.is_err());

    let second = hub.token("ann", TokenRole::Write).await;
    second.get("/api/whoami-v2").await.expect(200);
    hub.advance_seconds(90 * 86_400 - 1);
    second.get("/api/whoami-v2").await.expect(200);
    hub.advance_seconds(1);
    second.get("/api/whoami-v2").await.expect(401);
    hub.finish().await;
}

#[tokio::test]
async fn a_read_token_reads_and_nothing_else() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let reader = hub.token("ann", TokenRole::Read).await;
    reader.get("/ann/m/resolve/main/.gitattributes").await.expect(200);
    reader.get("/api/models/ann/m/auth-check/write").await.expect(403);
    reader.get("/api/models/ann/m/xet-write-token/main").await.expect(403);
    create(&reader, "model", "n").await.expect(403);
    let refused = commit(&reader, "ann/m", &[put("a", "1")]).await.expect(403);
    assert!(refused.header("x-error-message").contains("role 'read'"));
    let body = json!({ "operation": "upload", "objects": [] });
    reader.post("/ann/m.git/info/lfs/objects/batch", body).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    let context = hub.operator();
    let user = hub.hub.access(&context).namespace(&"ann".parse().unwrap()).await.unwrap();
    hub.hub.disable_user(&context, &user).await.unwrap();
    ann.get("/api/whoami-v2").await.expect(401);
    hub.finish().await;
}

#[tokio::test]
async fn gated_repositories_show_metadata_and_keep_contents() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    ann.put("/api/models/ann/m/settings", json!({ "gated": "manual" })).await.expect(200);
    bob.get("/api/models/ann/m").await.expect(200);
    bob.get("/api/models/ann/m/tree/main").await.expect(200);
    let refused = bob.get("/ann/m/resolve/main/.gitattributes").await.expect(403);
    assert_eq!(refused.header("x-error-code"), "GatedRepo");
    assert!(
        refused.text().contains("Access to model ann/m is restricted and you are not in the authorized list")
    );
    hub.anonymous().get("/ann/m/resolve/main/.gitattributes").await.expect(401);
    bob.get("/api/models/ann/m/xet-read-token/main").await.expect(403);
    ann.get("/ann/m/resolve/main/.gitattributes").await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn request_ids_come_back() {
    let hub = TestHub::new().await;
    let client = hub.anonymous();
    let own = client.get_with("/api/tasks", &[("x-request-id", "my-id")]).await;
    assert_eq!(own.header("x-request-id"), "my-id");
    let traced = client.get_with("/api/tasks", &[("x-amzn-trace-id", "abc-def")]).await;
    assert!(traced.header("x-request-id").contains("abc-def"));
    let unknown = client.get("/api/no/such/route").await.expect(404);
    assert_eq!(unknown.header("x-error-code"), "");
    assert!(unknown.json()["error"].as_str().unwrap().contains("does not serve"));
    hub.finish().await;
}

#[tokio::test]
async fn an_id_without_a_namespace_is_a_missing_repository() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for path in [
        "/api/models/gpt2",
        "/api/datasets/squad",
        "/api/models/gpt2/tree/main",
        "/api/models/gpt2/revision/main",
        "/gpt2/resolve/main/config.json",
        "/datasets/squad/resolve/main/x",
        // Names that cannot be are no different.
        "/api/models/a--b/c",
        "/api/models/a%00b/c/tree/main",
    ] {
        for (client, status) in [(hub.anonymous(), 401), (ann.clone(), 404)] {
            let missing = client.get(path).await.expect(status);
            assert_eq!(missing.header("x-error-code"), "RepoNotFound", "{path}");
        }
    }
    ann.with_token("hf_nonsense").get("/api/models/gpt2").await.expect(401);
    hub.finish().await;
}

#[tokio::test]
async fn who_has_not_signed_in_is_told_no_more_when_writing() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let anyone = hub.anonymous();
    for id in ["ann/m", "ann/missing"] {
        let refused = anyone.put(&format!("/api/models/{id}/settings"), json!({})).await.expect(401);
        assert_eq!(refused.header("x-error-code"), "RepoNotFound");
        let body = json!({ "repository": "ann/copy" });
        let refused = anyone.post(&format!("/api/models/{id}/duplicate"), body).await.expect(401);
        assert_eq!(refused.header("x-error-code"), "RepoNotFound");
        let refused = commit(&anyone, id, &[put("a", "1")]).await.expect(401);
        assert_eq!(refused.header("x-error-code"), "RepoNotFound");
    }
    hub.finish().await;
}

#[tokio::test]
async fn before_the_gate_there_is_the_card_and_no_hash_that_opens_anything() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    crate::uploads::upload(&ann, "ann/m", "x.bin", &crate::uploads::noise(50_000, 9)).await;
    let card = put("README.md", "---\nlicense: mit\n---\n# Ask me\n");
    commit(&ann, "ann/m", &[card, put("sub/README.md", "inside")]).await.expect(200);
    ann.put("/api/models/ann/m/settings", json!({ "gated": "auto" })).await.expect(200);
    let hash = async |client: &bastide_testkit::Client| {
        let tree = client.get("/api/models/ann/m/tree/main").await.expect(200).json();
        let in_tree =
            tree.as_array().unwrap().iter().find(|item| item["path"] == "x.bin").unwrap()["xetHash"].clone();
        let body = json!({ "paths": ["x.bin"] });
        let info = client.post("/api/models/ann/m/paths-info/main", body).await.expect(200).json();
        assert_eq!(info[0]["xetHash"], in_tree);
        in_tree
    };
    for outside in [&bob, &hub.anonymous()] {
        assert_eq!(hash(outside).await, "*".repeat(64));
        for verb in ["resolve", "raw"] {
            let card = outside.get(&format!("/ann/m/{verb}/main/README.md")).await.expect(200);
            assert!(card.text().contains("Ask me"));
            assert_eq!(card.header("x-repo-commit").len(), 40);
        }
        let part =
            outside.get_with("/ann/m/resolve/main/README.md", &[("range", "bytes=0-2")]).await.expect(206);
        assert_eq!(part.text(), "---");
        let status = if outside.token.is_some() { 403 } else { 401 };
        for path in ["sub/README.md", "x.bin", ".gitattributes"] {
            let refused = outside.get(&format!("/ann/m/resolve/main/{path}")).await.expect(status);
            assert_eq!(refused.header("x-error-code"), "GatedRepo", "{path}");
        }
    }
    assert_ne!(hash(&ann).await, "*".repeat(64));
    hub.hub.flush_reads().await.unwrap();
    let path = bastide_core::RepoPath::parse(bastide_core::RepoKind::Model, "ann/m").unwrap();
    let admin = hub.operator();
    let access = hub.hub.access(&admin).repo(&path).await.unwrap();
    assert_eq!(hub.hub.reads_of(&access, 100).await.unwrap().len(), 6);
    hub.finish().await;
}

#[tokio::test]
async fn a_large_card_stays_behind_the_gate() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    crate::uploads::upload(&ann, "ann/m", "README.md", &crate::uploads::noise(50_000, 9)).await;
    ann.put("/api/models/ann/m/settings", json!({ "gated": "auto" })).await.expect(200);
    for verb in ["resolve", "raw"] {
        bob.get(&format!("/ann/m/{verb}/main/README.md")).await.expect(403);
    }
    hub.finish().await;
}

#[tokio::test]
async fn a_path_that_cannot_be_is_missing_at_a_commit_that_is_named() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let missing = ann.get("/ann/m/resolve/main/a%00b").await.expect(404);
    assert_eq!(missing.header("x-error-code"), "EntryNotFound");
    assert_eq!(missing.header("x-repo-commit").len(), 40);
    hub.finish().await;
}
