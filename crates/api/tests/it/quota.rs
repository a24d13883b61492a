//! How much is used, to the byte, and what a quota keeps out.

use bastide_core::Role;
use bastide_hub::access::Admin;
use bastide_hub::storage::Quota;
use bastide_testkit::{Client, TestHub};
use serde_json::{Value, json};

use crate::uploads::{batch, lfs_line, local, noise, put_bytes, sha256, upload};
use crate::{commit, create, delete, put};

/// What the repositories have, counted from the rows.
const COUNTED: &str = "SELECT COALESCE((SELECT SUM(bytes) FROM git_pack), 0) + COALESCE((SELECT SUM(x.stored_bytes) \
    FROM repo_xorb r JOIN xorb x ON x.id = r.xorb_id), 0)";

/// Every counter says what the rows do, and the check of everything finds no fault.
async fn assert_counted(hub: &TestHub) {
    let counted = hub.count(COUNTED);
    assert_eq!(hub.count("SELECT COALESCE(SUM(used_bytes), 0) FROM repo"), counted);
    assert_eq!(hub.count("SELECT COALESCE(SUM(used_bytes), 0) FROM namespace"), counted);
    let checked = hub.hub.check_all(&hub.operator(), false, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
}

async fn set_quota(hub: &TestHub, name: &str, quota: Quota) {
    let context = hub.operator();
    let access = hub.hub.access(&context).namespace::<Admin>(&name.parse().unwrap()).await.unwrap();
    hub.hub.set_namespace_quota(&context, &access, quota).await.unwrap();
}

async fn used(client: &Client, id: &str) -> u64 {
    let info = client.get(&format!("/api/models/{id}?expand=usedStorage")).await.expect(200).json();
    info["usedStorage"].as_u64().unwrap()
}

fn namespace_used(hub: &TestHub, name: &str) -> i64 {
    hub.count(&format!("SELECT used_bytes FROM namespace WHERE name = '{name}'"))
}

#[tokio::test]
async fn what_is_used_is_known_after_every_change() {
    let hub = TestHub::with(|config| config.gc_grace_seconds = 3600).await;
    let ann = hub.user("ann").await;
    hub.org("lab", "ann", &[]).await;
    create(&ann, "model", "m").await.expect(200);
    let empty = used(&ann, "ann/m").await;
    let data = noise(200_000, 1);
    upload(&ann, "ann/m", "x.bin", &data).await;
    let full = used(&ann, "ann/m").await;
    assert!(full >= empty + 200_000 && full < empty + 210_000, "{empty} {full}");
    // The same again, and more of the same, brings its commit alone.
    upload(&ann, "ann/m", "y.bin", &data).await;
    assert!(used(&ann, "ann/m").await < full + 2000);
    assert_counted(&hub).await;
    // A copy counts for whoever has it.
    let body = json!({ "repository": "lab/copy" });
    ann.post("/api/models/ann/m/duplicate", body).await.expect(200);
    assert_eq!(used(&ann, "lab/copy").await, used(&ann, "ann/m").await);
    assert_eq!(namespace_used(&hub, "lab"), namespace_used(&hub, "ann"));
    assert_counted(&hub).await;
    // It moves with the repository.
    let (before, moved) = (namespace_used(&hub, "lab"), used(&ann, "ann/m").await);
    let body = json!({ "fromRepo": "ann/m", "toRepo": "lab/m" });
    ann.post("/api/repos/move", body).await.expect(200);
    assert_eq!(namespace_used(&hub, "ann"), 0);
    assert_eq!(namespace_used(&hub, "lab"), before + i64::try_from(moved).unwrap());
    assert_counted(&hub).await;
    // What collection takes does not count any more.
    commit(&ann, "lab/m", &[delete("x.bin"), delete("y.bin")]).await.expect(200);
    ann.post("/api/models/lab/m/super-squash/main", json!({})).await.expect(200);
    for _ in 0..4 {
        hub.advance_seconds(7200);
        hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
        assert_counted(&hub).await;
    }
    assert!(used(&ann, "lab/m").await < 20_000);
    for n in 0..30 {
        commit(&ann, "lab/m", &[put("n.txt", n.to_string())]).await.expect(200);
    }
    assert!(hub.run_jobs().await > 0);
    assert_counted(&hub).await;
    ann.delete("/api/repos/delete", json!({ "name": "copy", "organization": "lab" })).await.expect(200);
    ann.delete("/api/repos/delete", json!({ "name": "m", "organization": "lab" })).await.expect(200);
    assert_eq!(namespace_used(&hub, "lab"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn a_quota_is_told_before_bytes_move() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    set_quota(&hub, "ann", Quota::Bytes(150_000)).await;
    let data = noise(200_000, 1);
    // Each object for itself: what fits is let in, in order.
    let small = noise(90_000, 2);
    let objects =
        [&small, &data, &noise(70_000, 3)].map(|data| json!({ "oid": sha256(data), "size": data.len() }));
    for transfers in [json!(["basic"]), json!(["xet"])] {
        let body = json!({ "operation": "upload", "transfers": transfers, "objects": objects });
        let answer = ann.post("/ann/m.git/info/lfs/objects/batch", body).await.expect(200).json();
        assert!(answer["objects"][0]["actions"]["upload"].is_object(), "{answer}");
        for late in [1, 2] {
            let error = &answer["objects"][late]["error"];
            assert_eq!(error["code"], 402, "{answer}");
            let text = error["message"].as_str().unwrap();
            assert!(text.contains("its quota of 150.0 kB") && text.contains("Delete large files"), "{text}");
        }
    }
    let file = |size| json!({ "files": [{ "path": "new.bin", "size": size, "sample": "" }] });
    let uri = "/api/models/ann/m/preupload/main";
    let refused = ann.post(uri, file(200_000)).await.expect(402);
    assert!(
        refused.header("x-error-message").contains("no room for 200.0 kB: ann uses"),
        "{}",
        refused.text()
    );
    ann.post(uri, file(100_000)).await.expect(200);
    ann.get("/api/models/ann/m/xet-write-token/main").await.expect(200);
    // With the quota used up there is no token either; reading, deleting and what is smaller than a
    // quota of somebody else go on.
    upload(&ann, "ann/m", "x.bin", &small).await;
    set_quota(&hub, "ann", Quota::Bytes(50_000)).await;
    ann.get("/api/models/ann/m/xet-write-token/main").await.expect(402);
    commit(&ann, "ann/m", &[put("more.txt", "x")]).await.expect(402);
    ann.get("/ann/m/resolve/main/x.bin").await.expect(200);
    commit(&ann, "ann/m", &[delete("x.bin")]).await.expect(200);
    ann.post("/api/repos/create", json!({ "name": "other" })).await.expect(402);
    set_quota(&hub, "ann", Quota::Default).await;
    commit(&ann, "ann/m", &[put("more.txt", "x")]).await.expect(200);
    assert_counted(&hub).await;
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action = 'quota.set'"), 3);
    hub.finish().await;
}

/// Links that were given while there was room do not add up to more than there is.
#[tokio::test]
async fn uploads_at_the_same_time_do_not_go_beyond_it_together() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let room = 250_000;
    set_quota(&hub, "ann", Quota::Bytes(room)).await;
    let files: Vec<Vec<u8>> = (1..=4).map(|seed| noise(100_000, seed)).collect();
    let mut links = Vec::new();
    for data in &files {
        let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), data).await.expect(200).json();
        links.push(local(&answer["objects"][0]["actions"]["upload"]["href"]));
    }
    let puts = links.iter().zip(&files).map(|(link, data)| put_bytes(&ann, link, data));
    let replies = futures_util::future::join_all(puts).await;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 402).count(), 2, "{statuses:?}");
    assert!(namespace_used(&hub, "ann") <= i64::try_from(room).unwrap());
    // What was refused left nothing: no right, no blob.
    assert_eq!(hub.count("SELECT COUNT(*) FROM xorb"), 2);
    assert_counted(&hub).await;
    assert_eq!(hub.hub.check_all(&hub.operator(), false, |_, _, _| {}).await.unwrap().orphans, 0);
    hub.finish().await;
}

/// A file of several xorbs that turns out not to fit takes nothing away.
#[tokio::test]
async fn an_upload_that_does_not_fit_in_the_end_is_taken_back() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(66_000_000, 5);
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    let link = local(&answer["objects"][0]["actions"]["upload"]["href"]);
    set_quota(&hub, "ann", Quota::Bytes(65_900_000)).await;
    let before = namespace_used(&hub, "ann");
    put_bytes(&ann, &link, &data).await.expect(402);
    assert_eq!(namespace_used(&hub, "ann"), before);
    assert_eq!(hub.count("SELECT COUNT(*) FROM repo_xorb"), 0);
    assert_counted(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn uploads_in_parts_count_while_they_are_under_way() {
    let hub = TestHub::with(|config| config.lfs_multipart_bytes = 100_000).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    set_quota(&hub, "ann", Quota::Bytes(500_000)).await;
    let (one, two) = (noise(300_000, 1), noise(250_000, 2));
    let first = batch(&ann, "ann/m", "upload", json!(["multipart"]), &one).await.expect(200).json();
    assert!(first["objects"][0]["actions"].is_object());
    let second = batch(&ann, "ann/m", "upload", json!(["multipart"]), &two).await.expect(200).json();
    let text = second["objects"][0]["error"]["message"].as_str().unwrap();
    assert!(text.contains("uploads under way may bring 300.0 kB"), "{text}");
    // Parts that have come count once.
    let header = &first["objects"][0]["actions"]["upload"]["header"];
    put_bytes(&ann, &local(&header["00001"]), &one[..100_000]).await.expect(200);
    let small = noise(150_000, 3);
    let third = batch(&ann, "ann/m", "upload", json!(["basic"]), &small).await.expect(200).json();
    assert!(third["objects"][0]["actions"].is_object(), "{third}");
    // They are let go when the upload has ended.
    hub.advance_seconds(7 * 3600);
    let again = batch(&ann, "ann/m", "upload", json!(["basic"]), &two).await.expect(200).json();
    assert!(again["objects"][0]["actions"].is_object(), "{again}");
    hub.finish().await;
}

#[tokio::test]
async fn settings_an_override_and_a_repositorys_own_quota() {
    let hub = TestHub::with(|config| {
        config.quota_bytes_user = Some(100_000);
        config.quota_bytes_org = Some(1_000_000);
    })
    .await;
    let ann = hub.user("ann").await;
    hub.org("lab", "ann", &[]).await;
    create(&ann, "model", "m").await.expect(200);
    ann.post("/api/repos/create", json!({ "name": "m", "organization": "lab" })).await.expect(200);
    let fits = async |id: &str, size: usize| {
        let answer = batch(&ann, id, "upload", json!(["basic"]), &noise(size, 9)).await.expect(200).json();
        answer["objects"][0]["error"] == Value::Null
    };
    assert!(!fits("ann/m", 100_000).await);
    assert!(fits("lab/m", 500_000).await);
    set_quota(&hub, "ann", Quota::Unlimited).await;
    assert!(fits("ann/m", 5_000_000).await);
    let context = hub.operator();
    let path = bastide_core::RepoPath::parse(bastide_core::RepoKind::Model, "ann/m").unwrap();
    let access = hub.hub.access(&context).repo::<Admin>(&path).await.unwrap();
    hub.hub.set_repo_quota(&context, &access, Quota::Bytes(50_000)).await.unwrap();
    assert!(!fits("ann/m", 60_000).await);
    hub.hub.set_repo_quota(&context, &access, Quota::Default).await.unwrap();
    // A copy and a move need room where they go.
    upload(&ann, "ann/m", "x.bin", &noise(900_000, 4)).await;
    upload(&ann, "lab/m", "x.bin", &noise(500_000, 5)).await;
    ann.post("/api/models/ann/m/duplicate", json!({ "repository": "lab/copy" })).await.expect(402);
    let to = json!({ "fromRepo": "ann/m", "toRepo": "lab/moved" });
    ann.post("/api/repos/move", to).await.expect(402);
    ann.get("/api/models/ann/m").await.expect(200);
    assert_counted(&hub).await;
    hub.finish().await;
}

/// Nobody but the operator sets one, and nobody learns from an error what others use.
#[tokio::test]
async fn a_quota_is_the_operators() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    hub.org("lab", "ann", &[("ann", Role::Admin)]).await;
    create(&ann, "model", "m").await.expect(200);
    set_quota(&hub, "ann", Quota::Bytes(1)).await;
    let eve = hub.user("eve").await;
    let data = noise(50_000, 1);
    for (refused, status) in [
        // What eve sends is for a pull request, and measured by her own bounds: nothing tells of ann's.
        (eve.get("/api/models/ann/m/xet-write-token/main?create_pr=1").await, 200),
        (commit(&eve, "ann/m", &[lfs_line("x.bin", &data)]).await, 403),
        (eve.get("/api/models/ann/m/xet-write-token/main").await, 403),
    ] {
        assert_eq!(refused.status, status);
        let text = refused.text();
        assert!(!text.contains("quota") && !text.contains("uses") && !text.contains("href"), "{text}");
    }
    let answer = batch(&eve, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    assert!(answer["objects"][0]["actions"].is_object(), "{answer}");
    // She who owns it is told of her quota, as before.
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    assert!(answer["objects"][0]["error"]["message"].as_str().unwrap().contains("its quota of 1 bytes"));
    hub.finish().await;
}
