//! The whole hub on PostgreSQL and an object store, and two servers on both.

use bastide_testkit::{Shared, TestHub};
use serde_json::json;

use crate::journal::recorded;
use crate::prune::{EMPTY_PACK, head, is_fetched, leave_secret, sides, two_sides};
use crate::push::push;
use crate::uploads::{noise, upload};
use crate::{commit, create, delete, put};

async fn check(hub: &TestHub) {
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
}

#[tokio::test]
async fn a_whole_life_on_postgresql_and_a_bucket() {
    let Some(shared) = Shared::start("whole_life").await else { return };
    let hub = shared.server().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    create(&ann, "model", "m").await.expect(409);
    for n in 0..30 {
        commit(&ann, "ann/m", &[put(&format!("f{n}"), format!("text {n}"))]).await.expect(200);
    }
    assert_eq!(hub.run_jobs().await, 1, "a merge");
    let (kept, dropped) = (noise(3_000_000, 1), noise(400_000, 2));
    upload(&ann, "ann/m", "kept.bin", &kept).await;
    upload(&ann, "ann/m", "dropped.bin", &dropped).await;
    assert_eq!(ann.get("/ann/m/resolve/main/dropped.bin").await.expect(200).body, dropped);
    let part = ann.get_with("/ann/m/resolve/main/kept.bin", &[("range", "bytes=70000-2000000")]).await;
    assert_eq!(part.expect(206).body, kept[70_000..=2_000_000]);
    assert_eq!(ann.get("/ann/m/resolve/main/f7").await.expect(200).text(), "text 7");
    ann.post("/api/models/ann/m/tag/main", json!({ "tag": "v1", "message": "first" })).await.expect(200);
    ann.delete("/api/models/ann/m/tag/v1", json!({})).await.expect(200);
    check(&hub).await;

    commit(&ann, "ann/m", &[delete("dropped.bin")]).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    hub.advance_seconds(100_000);
    assert!(hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap().marked > 0);
    hub.advance_seconds(100_000);
    assert_eq!(hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap().condemned, 1);
    hub.advance_seconds(100_000);
    assert_eq!(hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap().removed_xorbs, 1);
    assert_eq!(ann.get("/ann/m/resolve/main/kept.bin").await.expect(200).body, kept);
    check(&hub).await;
    hub.hub.flush_reads().await.unwrap();
    assert_eq!(recorded(&hub, &hub.hub).await, 4);
    hub.finish().await;
}

#[tokio::test]
async fn two_servers_see_and_record_the_same() {
    let Some(shared) = Shared::start("two_servers").await else { return };
    let (one, two) = (shared.server().await, shared.server().await);
    let ann = one.user("ann").await;
    let there = two.anonymous().with_token(ann.token.as_deref().unwrap());
    create(&ann, "model", "m").await.expect(200);
    for n in 0..10 {
        let (first, second) = if n % 2 == 0 { (&ann, &there) } else { (&there, &ann) };
        commit(first, "ann/m", &[put("a", format!("text {n}"))]).await.expect(200);
        // In the same millisecond: the test's clock stands still.
        for client in [first, second] {
            let found = client.get("/ann/m/resolve/main/a").await.expect(200);
            assert_eq!(found.text(), format!("text {n}"));
        }
        let (moved, also) = tokio::join!(one.hub.flush_reads(), two.hub.flush_reads());
        assert_eq!((moved.unwrap(), also.unwrap()), (1, 1), "each server has delivered once");
    }
    assert_eq!(recorded(&one, &one.hub).await, 20);
    check(&two).await;
    one.finish().await;
    two.finish().await;
}

/// The copy of the other server still has what was pruned by one: nothing is built upon it.
#[tokio::test]
async fn two_servers_one_of_which_prunes() {
    let Some(shared) = Shared::start("two_prune").await else { return };
    let (one, two) = (shared.server().await, shared.server().await);
    let ann = one.user("ann").await;
    let there = two.anonymous().with_token(ann.token.as_deref().unwrap());
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "one\n")]).await.expect(200);
    commit(&ann, "ann/m", &[put("by-chance", &sides()[3])]).await.expect(200);
    commit(&ann, "ann/m", &[delete("by-chance")]).await.expect(200);
    let gone = leave_secret(&ann).await;
    for oid in &gone {
        assert!(is_fetched(&there, oid).await, "{oid}");
    }
    for _ in 0..2 {
        one.hub.collect(&one.operator(), |_, _| {}).await.unwrap();
        one.advance_seconds(100_000);
        two.advance_seconds(100_000);
    }
    assert_eq!(one.hub.collect(&one.operator(), |_, _| {}).await.unwrap().unpruned, 1);
    assert_eq!(one.run_jobs().await, 1);
    let none = "0".repeat(40);
    for (server, client) in [(&one, &ann), (&two, &there)] {
        for oid in &gone {
            assert!(!is_fetched(client, oid).await, "{oid}");
        }
        let refused = push(client, &[("refs/heads/old", &none, &gone[0])], EMPTY_PACK).await;
        assert!(!refused.expect(200).text().contains("ok refs/heads/old"));
        check(server).await;
    }
    let number = two_sides(&there).await;
    there.post(&format!("/api/models/ann/m/discussions/{number}/merge"), json!({})).await.expect(200);
    // Who never had the old packs sees whether anything is missing in the new ones.
    let third = shared.server().await;
    let anew = third.anonymous().with_token(ann.token.as_deref().unwrap());
    assert!(is_fetched(&anew, &head(&anew, "main").await).await);
    assert_eq!(anew.get("/ann/m/resolve/main/f").await.expect(200).text(), sides()[3]);
    check(&third).await;
    check(&one).await;
    one.finish().await;
    two.finish().await;
    third.finish().await;
}
