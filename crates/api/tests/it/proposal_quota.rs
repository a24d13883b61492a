//! Who pays for what strangers propose: they do, until it is merged, and all of them together within a bound.

use bastide_core::Role;
use bastide_hub::access::Admin;
use bastide_hub::storage::{Quota, Usage};
use bastide_testkit::{Client, Reply, TestHub};
use serde_json::{Value, json};

use crate::uploads::{batch, lfs_line, local, noise, put_bytes, upload};
use crate::{commit, commit_with, create, delete, put};

/// A public repository of ann's with one file, and bob, who has nothing to do with it.
async fn scene(change: impl FnOnce(&mut bastide_hub::Config)) -> (TestHub, Client, Client) {
    let hub = TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.gc_grace_seconds = 3600;
        change(config);
    })
    .await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "one\n")]).await.expect(200);
    (hub, ann, bob)
}

async fn set_quota(hub: &TestHub, name: &str, quota: Quota) {
    let context = hub.operator();
    let access = hub.hub.access(&context).namespace::<Admin>(&name.parse().unwrap()).await.unwrap();
    hub.hub.set_namespace_quota(&context, &access, quota).await.unwrap();
}

/// What ann's repository and ann use: the counters, which the check of everything has found right.
async fn usage(hub: &TestHub) -> Usage {
    let context = hub.operator();
    let checked = hub.hub.check_all(&context, false, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    let path = bastide_core::RepoPath::parse(bastide_core::RepoKind::Model, "ann/m").unwrap();
    let access = hub.hub.access(&context).repo::<Admin>(&path).await.unwrap();
    hub.hub.usage(&access).await.unwrap()
}

async fn link(client: &Client, data: &[u8]) -> String {
    let answer = batch(client, "ann/m", "upload", json!(["basic"]), data).await.expect(200).json();
    local(&answer["objects"][0]["actions"]["upload"]["href"])
}

async fn bring(client: &Client, data: &[u8]) -> Reply {
    put_bytes(client, &link(client, data).await, data).await
}

async fn propose(client: &Client, operations: &[Value]) -> Reply {
    let header = json!({ "summary": "a proposal", "description": "why" });
    commit_with(client, "ann/m", "main?create_pr=1", header, operations).await
}

async fn merge(client: &Client, number: u64) -> Reply {
    client.post(&format!("/api/models/ann/m/discussions/{number}/merge"), json!({})).await
}

async fn collect(hub: &TestHub) {
    for _ in 0..3 {
        hub.advance_seconds(7200);
        hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    }
}

#[tokio::test]
async fn a_stranger_does_not_fill_the_quota_of_an_owner() {
    let (hub, ann, bob) = scene(|_| {}).await;
    let own = usage(&hub).await.repo.owned();
    set_quota(&hub, "ann", Quota::Bytes(own + 150_000)).await;
    // More than the quota, in a large file and in a commit.
    bring(&bob, &noise(400_000, 1)).await.expect(200);
    let text = "x".repeat(50_000);
    let operations = [lfs_line("bob.bin", &noise(400_000, 1)), put("bob.txt", text)];
    propose(&bob, &operations).await.expect(200);
    let after = usage(&hub).await;
    assert_eq!(after.repo.owned(), own, "to the byte");
    assert!(after.repo.proposed > 400_000 && after.namespace_used == after.repo);
    upload(&ann, "ann/m", "ann.bin", &noise(100_000, 2)).await;
    // The merge is the owner's decision, and has to fit.
    let refused = merge(&ann, 1).await.expect(402);
    assert!(refused.header("x-error-message").contains("of its quota of"), "{}", refused.text());
    assert!(refused.header("x-error-message").contains("Delete large files"), "{}", refused.text());
    assert_eq!(usage(&hub).await.repo.proposed, after.repo.proposed, "nothing was taken over");
    set_quota(&hub, "ann", Quota::Bytes(own + 700_000)).await;
    merge(&ann, 1).await.expect(200);
    let merged = usage(&hub).await.repo;
    assert_eq!((merged.proposed, merged.price), (0, 0));
    assert_eq!(merged.owned(), merged.all);
    hub.finish().await;
}

#[tokio::test]
async fn a_push_to_a_pull_request_is_its_authors_to_the_byte() {
    let (hub, ann, bob) = scene(|_| {}).await;
    propose(&bob, &[put("b.txt", "x")]).await.expect(200);
    let (own, before) = (usage(&hub).await.repo.owned(), usage(&hub).await.repo.proposed);
    commit_with(&bob, "ann/m", "refs%2Fpr%2F1", json!({ "summary": "more" }), &[put("c.txt", "x")])
        .await
        .expect(200);
    let after = usage(&hub).await.repo;
    assert_eq!(after.owned(), own);
    // The price has a least; what is stored does not.
    assert!(after.proposed > before && after.proposed < 64 * 1024, "{after:?}");
    assert_eq!(after.price, 2 * 64 * 1024);
    // What a writer adds is the owner's.
    commit_with(&ann, "ann/m", "refs%2Fpr%2F1", json!({ "summary": "ann" }), &[put("d.txt", "x")])
        .await
        .expect(200);
    let with_ann = usage(&hub).await.repo;
    assert_eq!((with_ann.proposed, with_ann.price), (after.proposed, after.price));
    assert!(with_ann.owned() > own);
    hub.finish().await;
}

#[tokio::test]
async fn all_proposers_of_a_repository_have_a_bound_together() {
    // Each thing that is stored takes its bytes, and the row of a file 64 KiB.
    let (hub, ann, bob) = scene(|config| {
        config.proposal_bytes = 400_000;
        config.proposal_bytes_repo = 500_000;
    })
    .await;
    let eve = hub.user("eve").await;
    let late = link(&eve, &noise(300_000, 4)).await;
    bring(&bob, &noise(300_000, 1)).await.expect(200);
    let used = usage(&hub).await.repo.price;
    let left = usize::try_from(500_000 - used).unwrap();
    // Before bytes move, to the byte.
    let refused = batch(&eve, "ann/m", "upload", json!(["basic"]), &noise(left + 1, 2)).await.expect(402);
    assert!(refused.text().contains("500000 bytes together"), "{}", refused.text());
    assert!(refused.text().contains("ask a maintainer to merge or close"), "{}", refused.text());
    batch(&eve, "ann/m", "upload", json!(["basic"]), &noise(left, 2)).await.expect(200);
    // By a link from before, and by Xet.
    put_bytes(&eve, &late, &noise(300_000, 4)).await.expect(402);
    eve.get("/api/models/ann/m/xet-write-token/main?create_pr=1").await.expect(200);
    assert_eq!(usage(&hub).await.repo.price, used);
    // Two commits of 64 KiB each do not fit, but one does.
    propose(&eve, &[put("1.txt", "x")]).await.expect(200);
    propose(&eve, &[put("2.txt", "x")]).await.expect(if left >= 2 * 64 * 1024 { 200 } else { 402 });
    // The owner is not touched by it.
    upload(&ann, "ann/m", "ann.bin", &noise(900_000, 3)).await;
    // Closed, its ref deleted, collected: there is room again.
    let number = hub.count("SELECT MIN(number) FROM proposal_commit");
    let discussion = format!("/api/models/ann/m/discussions/{number}");
    ann.post(&format!("{discussion}/status"), json!({ "status": "closed" })).await.expect(200);
    ann.delete(&format!("{discussion}/ref"), Value::Null).await.expect(200);
    collect(&hub).await;
    assert!(usage(&hub).await.repo.price < used);
    bring(&eve, &noise(150_000, 5)).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn all_repositories_of_an_owner_have_a_bound_together() {
    let (hub, ann, bob) = scene(|config| config.proposal_bytes_owner = 500_000).await;
    create(&ann, "model", "n").await.expect(200);
    commit(&ann, "ann/n", &[put("a.txt", "one\n")]).await.expect(200);
    bring(&bob, &noise(300_000, 1)).await.expect(200);
    let refused = batch(&bob, "ann/n", "upload", json!(["basic"]), &noise(300_000, 2)).await.expect(402);
    assert!(refused.text().contains("of this owner may have 500000 bytes"), "{}", refused.text());
    // Nobody else's repositories are meant.
    let eve = hub.user("eve").await;
    create(&eve, "model", "m").await.expect(200);
    commit(&eve, "eve/m", &[put("a.txt", "one\n")]).await.expect(200);
    batch(&bob, "eve/m", "upload", json!(["basic"]), &noise(300_000, 2)).await.expect(200);
    hub.finish().await;
}

/// Who was the first to bring something is charged for it; what a writer points at is the owner's.
#[tokio::test]
async fn the_same_content_from_several_sides_counts_once() {
    let (hub, ann, bob) = scene(|_| {}).await;
    let eve = hub.user("eve").await;
    let (shared, anns) = (noise(200_000, 1), noise(100_000, 2));
    upload(&ann, "ann/m", "ann.bin", &anns).await;
    let own = usage(&hub).await.repo.owned();
    // There already: nobody is charged, and the owner is let off nothing.
    propose(&bob, &[lfs_line("copy.bin", &anns)]).await.expect(200);
    let before = usage(&hub).await.repo;
    assert!(before.owned() == own && before.proposed < 64 * 1024, "{before:?}");
    // Proposed by two at the same time.
    let links = [link(&bob, &shared).await, link(&eve, &shared).await];
    put_bytes(&bob, &links[0], &shared).await.expect(200);
    put_bytes(&eve, &links[1], &shared).await.expect(200);
    propose(&eve, &[lfs_line("eve.bin", &shared)]).await.expect(200);
    let twice = usage(&hub).await.repo;
    assert_eq!(twice.owned(), own);
    assert!(twice.proposed < before.proposed + 300_000, "{twice:?}");
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_xorb"), 1);
    // The owner brings it herself: hers from then on, once, whatever becomes of the pull requests.
    upload(&ann, "ann/m", "shared.bin", &shared).await;
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_xorb"), 0);
    assert_eq!(hub.count("SELECT COUNT(*) FROM proposal_file"), 0);
    let taken = usage(&hub).await.repo;
    assert!(taken.owned() >= own + 200_000 && taken.owned() < own + 300_000, "{taken:?}");
    merge(&ann, 2).await.expect(200);
    merge(&ann, 1).await.expect(200);
    let merged = usage(&hub).await.repo;
    assert_eq!((merged.proposed, merged.price), (0, 0));
    hub.finish().await;
}

/// History that a merge brings along counts with it; what comes into a branch without one is found by collection.
#[tokio::test]
async fn what_came_into_a_branch_by_a_side_door_is_the_owners() {
    let (hub, ann, bob) = scene(|_| {}).await;
    let (gone, kept) = (noise(200_000, 1), noise(100_000, 2));
    bring(&bob, &gone).await.expect(200);
    propose(&bob, &[lfs_line("gone.bin", &gone)]).await.expect(200);
    commit_with(
        &bob,
        "ann/m",
        "refs%2Fpr%2F1",
        json!({ "summary": "less" }),
        &[delete("gone.bin"), put("b", "x")],
    )
    .await
    .expect(200);
    // What its head has would fit.
    let own = usage(&hub).await.repo.owned();
    set_quota(&hub, "ann", Quota::Bytes(own + 150_000)).await;
    merge(&ann, 1).await.expect(402);
    assert_eq!(usage(&hub).await.repo.owned(), own);
    set_quota(&hub, "ann", Quota::Unlimited).await;
    merge(&ann, 1).await.expect(200);
    assert_eq!(usage(&hub).await.repo.proposed, 0);
    bring(&bob, &kept).await.expect(200);
    propose(&bob, &[lfs_line("kept.bin", &kept)]).await.expect(200);
    let branch = json!({ "startingPoint": "refs/pr/2" });
    ann.post("/api/models/ann/m/branch/taken", branch).await.expect(200);
    collect(&hub).await;
    let settled = usage(&hub).await.repo;
    assert_eq!((settled.proposed, settled.price), (0, 0));
    assert!(settled.owned() > 300_000);
    hub.finish().await;
}

#[tokio::test]
async fn races_at_the_edge_go_beyond_neither_bound() {
    let (hub, ann, bob) = scene(|config| config.proposal_bytes = 300_000).await;
    let own = usage(&hub).await.repo.owned();
    set_quota(&hub, "ann", Quota::Bytes(own + 250_000)).await;
    let mut puts = Vec::new();
    for seed in 1..=6 {
        let client = if seed % 2 == 0 { &ann } else { &bob };
        puts.push((client, link(client, &noise(100_000, seed)).await, noise(100_000, seed)));
    }
    let sent = puts.iter().map(|(client, link, data)| put_bytes(client, link, data));
    let replies = futures_util::future::join_all(sent).await;
    let done = |of: usize| {
        let of_one = replies.iter().enumerate().filter(move |(at, _)| at % 2 == of);
        of_one.map(|(_, reply)| reply.status.as_u16()).collect::<Vec<_>>()
    };
    // ann has the odd places: two of hers fit, and none because of bob.
    assert_eq!(done(1).iter().filter(|status| **status == 200).count(), 2, "{:?}", done(1));
    assert_eq!(done(1).iter().filter(|status| **status == 402).count(), 1, "{:?}", done(1));
    assert!(done(0).iter().filter(|status| **status == 200).count() >= 1, "{:?}", done(0));
    let after = usage(&hub).await;
    assert!(after.repo.owned() <= own + 250_000, "{after:?}");
    assert!(after.repo.price <= 300_000, "{after:?}");
    hub.finish().await;
}

#[tokio::test]
async fn a_merge_under_an_upload_and_a_proposer_who_becomes_a_member() {
    let (hub, ann, bob) = scene(|_| {}).await;
    let (one, two) = (noise(100_000, 1), noise(120_000, 2));
    bring(&bob, &one).await.expect(200);
    propose(&bob, &[lfs_line("one.bin", &one)]).await.expect(200);
    let under_way = link(&bob, &two).await;
    merge(&ann, 1).await.expect(200);
    // What comes after is bob's until it is collected, and no commit takes it to what is merged.
    put_bytes(&bob, &under_way, &two).await.expect(200);
    let late = json!({ "summary": "late" });
    commit_with(&bob, "ann/m", "refs%2Fpr%2F1", late, &[lfs_line("two.bin", &two)]).await.expect(403);
    assert!(usage(&hub).await.repo.proposed >= 120_000);
    collect(&hub).await;
    assert_eq!(usage(&hub).await.repo.proposed, 0);
    // A member meanwhile: a link of before still charges him; what he commits is the owner's.
    hub.org("lab", "ann", &[("ann", Role::Admin)]).await;
    let to = json!({ "fromRepo": "ann/m", "toRepo": "lab/m" });
    let before = link(&bob, &two).await;
    ann.post("/api/repos/move", to).await.expect(200);
    put_bytes(&bob, &before, &two).await.expect(200);
    assert!(hub.count("SELECT proposed_bytes FROM namespace WHERE name = 'lab'") >= 120_000);
    assert_eq!(hub.count("SELECT proposed_bytes FROM namespace WHERE name = 'ann'"), 0);
    let operator = hub.operator();
    let lab = hub.hub.access(&operator).namespace::<Admin>(&"lab".parse().unwrap()).await.unwrap();
    hub.hub.set_member(&operator, &lab, &"bob".parse().unwrap(), Some(Role::Write)).await.unwrap();
    commit(&bob, "lab/m", &[lfs_line("two.bin", &two)]).await.expect(200);
    assert_eq!(hub.count("SELECT proposed_bytes + proposal_price FROM namespace WHERE name = 'lab'"), 0);
    hub.finish().await;
}
