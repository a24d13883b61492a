//! Rules for branches on every way to a ref, and pushes that need no stock git. What stock git does, and what packs
//! made by hand do, is in `tests/clients/test_push.py`.

use axum::body::Body;
use bastide_core::TokenRole;
use bastide_testkit::{Client, Reply, TestHub};
use http::Method;
use serde_json::json;

use crate::{commit, create, put};

const RULES: &str = "/api/models/ann/m/branch-rules";
const NONE: &str = "0000000000000000000000000000000000000000";

/// No object, and the sum of that.
pub const EMPTY_PACK: &[u8] = b"PACK\0\0\0\x02\0\0\0\0\
    \x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

async fn hub() -> (TestHub, Client) {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    (hub, ann)
}

async fn head(client: &Client, branch: &str) -> String {
    let refs = client.get("/api/models/ann/m/refs").await.expect(200).json();
    let mut branches = refs["branches"].as_array().unwrap().iter();
    let found = branches.find(|found| found["name"] == branch);
    found.map(|found| found["targetCommit"].as_str().unwrap().to_owned()).unwrap_or_default()
}

/// Sends moves as (ref, old, new), and a pack.
pub async fn push(client: &Client, moves: &[(&str, &str, &str)], pack: &[u8]) -> Reply {
    let mut body = Vec::new();
    for (at, (name, old, new)) in moves.iter().enumerate() {
        let words = if at == 0 { "\0report-status" } else { "" };
        let line = format!("{old} {new} {name}{words}");
        body.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
    }
    body.extend_from_slice(b"0000");
    body.extend_from_slice(pack);
    let headers = [("content-type", "application/x-git-receive-pack-request")];
    client.send(Method::POST, "/ann/m/git-receive-pack", &headers, Body::from(body)).await
}

#[tokio::test]
async fn rules_hold_on_every_way_to_a_branch() {
    let (hub, ann) = hub().await;
    let branch = "/api/models/ann/m/branch/release/1";
    ann.post(branch, json!({})).await.expect(200);
    ann.put(&format!("{RULES}/release/*"), json!({})).await.expect(200);
    let before = head(&ann, "release/1").await;
    commit(&ann, "ann/m", &[put("a", "2")]).await.expect(200);
    let text = ann.delete(branch, json!({})).await.expect(403).text();
    assert!(text.contains("the rule for 'release/*' forbids it"), "{text}");
    ann.post(branch, json!({ "overwrite": true })).await.expect(403);
    ann.post("/api/models/ann/m/super-squash/release%2F1", json!({})).await.expect(403);
    let reply = push(&ann, &[("refs/heads/release/1", &before, NONE)], b"").await.expect(200).text();
    assert!(reply.contains("ng refs/heads/release/1") && reply.contains("forbids it"), "{reply}");
    assert_eq!(head(&ann, "release/1").await, before);
    // The main branch is squashed unless its own rule forbids it.
    ann.put(&format!("{RULES}/main"), json!({ "allowForce": false })).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(403);
    ann.delete(&format!("{RULES}/main"), json!({})).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    ann.put(&format!("{RULES}/release/*"), json!({ "allowDelete": true })).await.expect(200);
    ann.delete(branch, json!({})).await.expect(200);
    let sql = "SELECT COUNT(*) FROM event WHERE action LIKE 'branch_rule.%'";
    assert_eq!(hub.count(sql), 4);
    hub.finish().await;
}

#[tokio::test]
async fn rules_are_made_by_administrators_and_checked() {
    let (hub, ann) = hub().await;
    for bad in ["a%20b", "a..b", "refs/heads/x", "-x", "a%00b", &"x".repeat(300)] {
        ann.put(&format!("{RULES}/{bad}"), json!({})).await.expect(400);
    }
    ann.put(&format!("{RULES}/x"), json!({ "allow_force": true })).await.expect(400);
    ann.put(&format!("{RULES}/main"), json!({ "allowDelete": true })).await.expect(400);
    ann.get(&format!("{RULES}/x")).await.expect(404);
    ann.delete(&format!("{RULES}/x"), json!({})).await.expect(404);
    for n in 0..100 {
        ann.put(&format!("{RULES}/b{n}"), json!({})).await.expect(200);
    }
    ann.put(&format!("{RULES}/one-more"), json!({})).await.expect(422);
    ann.put(&format!("{RULES}/b7"), json!({ "allowForce": true })).await.expect(200);
    let rule = json!({ "branch": "b7", "allowForce": true, "allowDelete": false });
    assert_eq!(ann.get(&format!("{RULES}/b7")).await.expect(200).json(), rule);
    let bob = hub.user("bob").await;
    bob.put(&format!("{RULES}/x"), json!({})).await.expect(403);
    bob.delete(&format!("{RULES}/b7"), json!({})).await.expect(403);
    assert_eq!(bob.get(RULES).await.expect(200).json().as_array().unwrap().len(), 100);
    hub.finish().await;
}

#[tokio::test]
async fn refs_are_removed_by_a_push_without_a_pack() {
    let (hub, ann) = hub().await;
    let main = head(&ann, "main").await;
    ann.post("/api/models/ann/m/branch/old", json!({})).await.expect(200);
    let elsewhere = "1".repeat(40);
    let moves = [
        ("refs/heads/old", elsewhere.as_str(), NONE),
        ("refs/heads/none", NONE, NONE),
        ("refs/heads/main", &main, NONE),
    ];
    let reply = push(&ann, &moves, b"").await.expect(200).text();
    assert!(reply.contains("ng refs/heads/old fetch first"), "{reply}");
    assert!(reply.contains("ng refs/heads/none there is no such ref"), "{reply}");
    assert!(reply.contains("ng refs/heads/main Cannot delete refs/heads/main"), "{reply}");
    let reply = push(&ann, &[("refs/heads/old", &main, NONE)], b"").await.expect(200).text();
    assert!(reply.contains("ok refs/heads/old"), "{reply}");
    assert_eq!((head(&ann, "old").await, head(&ann, "main").await), (String::new(), main));
    let sql = "SELECT COUNT(*) FROM event WHERE action = 'git.push' AND facts LIKE '%\"after\":\"\"%'";
    assert_eq!(hub.count(sql), 1);
    hub.finish().await;
}

#[tokio::test]
async fn a_push_has_a_largest_size() {
    let hub = TestHub::with(|config| config.max_push_bytes = 10_000).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let mut pack = b"PACK\0\0\0\x02\0\0\0\x01\xb0\x80\x40".to_vec();
    pack.extend(crate::uploads::noise(50_000, 7));
    let id = "2".repeat(40);
    let reply = push(&ann, &[("refs/heads/x", NONE, &id)], &pack).await.expect(200).text();
    assert!(reply.contains("unpack ") && !reply.contains("ok refs"), "{reply}");
    let left: Vec<_> = std::fs::read_dir(hub.data().join("cache/tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_pack"), 1);
    hub.finish().await;
}

#[tokio::test]
async fn a_pack_that_says_it_has_too_many_objects_is_told_so() {
    let (hub, ann) = hub().await;
    let mut pack = b"PACK\0\0\0\x02".to_vec();
    pack.extend(1_000_000_000u32.to_be_bytes());
    pack.extend(crate::uploads::noise(5_000, 7));
    let id = "2".repeat(40);
    let reply = push(&ann, &[("refs/heads/x", NONE, &id)], &pack).await.expect(200).text();
    assert!(reply.contains("unpack the pack says that it has 1000000000 objects"), "{reply}");
    assert!(!reply.contains("10 MiB"), "{reply}");
    hub.finish().await;
}

#[tokio::test]
async fn a_new_ref_has_a_name_that_shows() {
    let (hub, ann) = hub().await;
    let main = head(&ann, "main").await;
    for kind in ["heads", "tags"] {
        let name = format!("refs/{kind}/ma\u{202e}in");
        let reply = push(&ann, &[(&name, NONE, &main)], EMPTY_PACK).await.expect(200).text();
        assert!(reply.contains(&format!("ng {name} a name with characters that do not show")), "{reply}");
    }
    let reply = push(&ann, &[("refs/heads/fine", NONE, &main)], EMPTY_PACK).await.expect(200).text();
    assert!(reply.contains("ok refs/heads/fine"), "{reply}");
    assert_eq!(hub.count("SELECT COUNT(*) FROM git_ref"), 2);
    hub.finish().await;
}

#[tokio::test]
async fn a_busy_hub_says_so_in_the_report_of_a_small_push() {
    let hub = TestHub::with(|config| {
        config.concurrent_pushes = 0;
        config.git_wait = std::time::Duration::from_millis(50);
    })
    .await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let id = "2".repeat(40);
    let reply = push(&ann, &[("refs/heads/x", NONE, &id)], EMPTY_PACK).await.expect(200).text();
    assert!(reply.contains("unpack this hub is busy: try again in 30 s\n"), "{reply}");
    assert!(reply.contains("ng refs/heads/x this hub is busy: try again in 30 s\n"), "{reply}");
    let large = vec![b'x'; 5 * 1024 * 1024];
    push(&ann, &[("refs/heads/x", NONE, &id)], &large).await.expect(503);
    hub.finish().await;
}

#[tokio::test]
async fn who_may_not_write_moves_nothing() {
    let (hub, ann) = hub().await;
    let main = head(&ann, "main").await;
    ann.post("/api/models/ann/m/branch/x", json!({})).await.expect(200);
    let bob = hub.user("bob").await;
    let reply = push(&bob, &[("refs/heads/x", &main, NONE)], b"").await.expect(200).text();
    assert!(reply.contains("ng refs/heads/x you may read this repository"), "{reply}");
    let reader = hub.token("ann", TokenRole::Read).await;
    let reply = push(&reader, &[("refs/heads/x", &main, NONE)], b"").await.expect(403);
    assert!(
        reply.text().contains("the role 'read'") && reply.header("content-type").starts_with("text/plain")
    );
    push(&hub.anonymous(), &[("refs/heads/x", &main, NONE)], b"").await.expect(401);
    assert_eq!(head(&ann, "x").await, main);
    hub.finish().await;
}
