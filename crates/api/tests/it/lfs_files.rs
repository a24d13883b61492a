//! The list of large files, and their deletion for good: with and without rewriting history.

use axum::body::Body;
use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, Reply, TestHub};
use http::Method;
use serde_json::{Value, json};

use crate::uploads::{batch, local, noise, put_bytes, sha256, upload};
use crate::{commit, commit_with, create, put};

async fn files(client: &Client, id: &str) -> Vec<Value> {
    let listed = client.get(&format!("/api/models/{id}/lfs-files")).await.expect(200).json();
    listed.as_array().unwrap().clone()
}

async fn delete_for_good(client: &Client, id: &str, data: &[&[u8]], rewrite: bool) -> Reply {
    let shas: Vec<String> = data.iter().map(|data| sha256(data)).collect();
    let body = json!({ "deletions": { "sha": shas, "rewriteHistory": rewrite } });
    client.post(&format!("/api/models/{id}/lfs-files/batch"), body).await
}

/// The history of a revision, the last commit first: all that people see of it.
async fn history(client: &Client, id: &str, rev: &str) -> Vec<Value> {
    let mut commits = client.get(&format!("/api/models/{id}/commits/{rev}")).await.expect(200).json();
    commits.as_array_mut().unwrap().drain(..).collect()
}

fn without_ids(mut commits: Vec<Value>) -> Vec<Value> {
    commits.iter_mut().for_each(|commit| drop(commit.as_object_mut().unwrap().remove("id")));
    commits
}

async fn assert_sound(hub: &TestHub) {
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
}

async fn collect(hub: &TestHub) -> u64 {
    let mut freed = 0;
    for _ in 0..4 {
        hub.advance_seconds(90_000);
        freed += hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap().freed_bytes;
    }
    freed
}

#[tokio::test]
async fn large_files_are_listed_with_their_names_and_where_they_stand() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let (one, two, three) = (noise(50_000, 1), noise(60_000, 2), noise(70_000, 3));
    for (data, path) in [(&one, "w/one.bin"), (&two, "two.bin")] {
        upload(&ann, "ann/m", path, data).await;
        hub.advance_seconds(60);
    }
    // In the past only; sent and never committed.
    commit(&ann, "ann/m", &[crate::delete("two.bin")]).await.expect(200);
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &three).await.expect(200).json();
    put_bytes(&ann, &local(&answer["objects"][0]["actions"]["upload"]["href"]), &three).await.expect(200);
    let listed = files(&ann, "ann/m").await;
    let shown: Vec<_> = listed
        .iter()
        .map(|file| (file["filename"].as_str().unwrap().to_owned(), file["ref"].clone()))
        .collect();
    let expected = [
        (sha256(&three), Value::Null),
        ("two.bin".to_owned(), Value::Null),
        ("w/one.bin".to_owned(), json!("refs/heads/main")),
    ];
    assert_eq!(shown, expected);
    assert_eq!((&listed[2]["fileOid"], &listed[2]["oid"]), (&json!(sha256(&one)), &json!(sha256(&one))));
    assert_eq!(listed[2]["size"], 50_000);
    assert!(listed[2]["pushedAt"].as_str().unwrap().ends_with('Z') && listed[2]["xetHash"].is_null());
    // In pages, with the hash for those who ask.
    let mut uri = "/api/models/ann/m/lfs-files?limit=2&xet=true".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = ann.get(&uri).await.expect(200);
        seen.extend(
            page.json().as_array().unwrap().iter().map(|file| file["xetHash"].as_str().unwrap().len()),
        );
        let Some(next) = page.header("link").strip_prefix("<http://hub.test") else { break };
        uri = next.split('>').next().unwrap().to_owned();
    }
    assert_eq!(seen, [64, 64, 64]);
    ann.get("/api/models/ann/m/lfs-files?cursor=x").await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn who_may_not_may_neither_list_nor_delete() {
    let hub = TestHub::new().await;
    let anna = hub.user("anna").await;
    let will = hub.user("will").await;
    let eve = hub.user("eve").await;
    hub.org("lab", "anna", &[("will", Role::Write)]).await;
    let body = json!({ "name": "m", "organization": "lab", "visibility": "private" });
    anna.post("/api/repos/create", body).await.expect(200);
    let data = noise(50_000, 1);
    upload(&will, "lab/m", "x.bin", &data).await;
    let reading = hub.token("anna", TokenRole::Read).await;
    let one = format!("/api/models/lab/m/lfs-files/{}", sha256(&data));
    for (client, list, delete) in
        [(&hub.anonymous(), 401, 401), (&eve, 404, 404), (&reading, 403, 403), (&will, 200, 403)]
    {
        client.get("/api/models/lab/m/lfs-files").await.expect(list);
        delete_for_good(client, "lab/m", &[&data], true).await.expect(delete);
        client.send(Method::DELETE, &one, &[], Body::empty()).await.expect(delete);
    }
    for bad in ["x", "..", &"g".repeat(64)] {
        let body = json!({ "deletions": { "sha": [bad] } });
        anna.post("/api/models/lab/m/lfs-files/batch", body).await.expect(400);
    }
    let many: Vec<String> = (0..1001).map(|n| format!("{n:064x}")).collect();
    let body = json!({ "deletions": { "sha": many, "rewriteHistory": true } });
    anna.post("/api/models/lab/m/lfs-files/batch", body).await.expect(422);
    will.get("/lab/m/resolve/main/x.bin").await.expect(200);
    // The same content of another repository is none of this one's.
    create(&eve, "model", "own").await.expect(200);
    delete_for_good(&eve, "eve/own", &[&data], true).await.expect(200);
    will.get("/lab/m/resolve/main/x.bin").await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action = 'files.delete'"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn deleted_content_is_gone_and_says_so_and_can_come_again() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let (data, other) = (noise(200_000, 1), noise(90_000, 2));
    upload(&ann, "ann/m", "x.bin", &data).await;
    upload(&ann, "ann/m", "y.bin", &other).await;
    let link = batch(&ann, "ann/m", "download", json!(["basic"]), &data).await.json();
    let link = local(&link["objects"][0]["actions"]["download"]["href"]);
    let used = hub.count("SELECT used_bytes FROM repo");
    let head = history(&ann, "ann/m", "main").await;
    let uri = format!("/api/models/ann/m/lfs-files/{}", sha256(&data));
    ann.send(Method::DELETE, &uri, &[], Body::empty()).await.expect(200);
    // The room is there at once.
    assert!(hub.count("SELECT used_bytes FROM repo") < used - 200_000);
    let gone = ann.get("/ann/m/resolve/main/x.bin").await.expect(404);
    assert_eq!(gone.header("x-error-code"), "EntryNotFound");
    assert!(gone.text().contains("was deleted from this repository for good"), "{}", gone.text());
    assert!(ann.get(&link).await.status.is_client_error());
    let asked = batch(&ann, "ann/m", "download", json!(["basic"]), &data).await.expect(200).json();
    assert_eq!(asked["objects"][0]["error"]["code"], 410, "{asked}");
    // History, the pointer and all else are as they were.
    assert_eq!(history(&ann, "ann/m", "main").await, head);
    ann.get("/ann/m/raw/main/x.bin").await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/y.bin").await.expect(200).body, other);
    assert_eq!(files(&ann, "ann/m").await.len(), 1);
    assert_sound(&hub).await;
    // A copy lacks the same, and is as sound.
    ann.post("/api/models/ann/m/duplicate", json!({ "repository": "ann/copy" })).await.expect(200);
    assert_sound(&hub).await;
    let freed = collect(&hub).await;
    assert!(freed >= 200_000, "{freed}");
    assert_eq!(ann.get("/ann/m/resolve/main/y.bin").await.expect(200).body, other);
    ann.send(Method::DELETE, &uri, &[], Body::empty()).await.expect(404);
    // The old pointer works again.
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    put_bytes(&ann, &local(&answer["objects"][0]["actions"]["upload"]["href"]), &data).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/x.bin").await.expect(200).body, data);
    assert_eq!(hub.count("SELECT COUNT(*) FROM deleted_content"), 1);
    assert_sound(&hub).await;
    hub.finish().await;
}

/// What a file shares with others stays.
#[tokio::test]
async fn bytes_that_other_files_are_made_of_stay() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(600_000, 1);
    let longer = [data.clone(), noise(100_000, 2)].concat();
    upload(&ann, "ann/m", "x.bin", &data).await;
    upload(&ann, "ann/m", "y.bin", &longer).await;
    let xorbs = hub.count("SELECT COUNT(*) FROM repo_xorb");
    delete_for_good(&ann, "ann/m", &[&data], true).await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM repo_xorb"), xorbs);
    collect(&hub).await;
    assert_eq!(ann.get("/ann/m/resolve/main/y.bin").await.expect(200).body, longer);
    delete_for_good(&ann, "ann/m", &[&longer], true).await.expect(200);
    assert_eq!(hub.count("SELECT COUNT(*) FROM repo_xorb"), 0);
    collect(&hub).await;
    assert_eq!(hub.count("SELECT COUNT(*) FROM xorb"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn history_is_rewritten_without_the_file_and_otherwise_the_same() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let (data, other) = (noise(120_000, 1), noise(90_000, 2));
    let first = history(&ann, "ann/m", "main").await[0].clone();
    let tag = async |name: &str, rev: &str, message: Value| {
        let body = json!({ "tag": name, "message": message });
        ann.post(&format!("/api/models/ann/m/tag/{rev}"), body).await.expect(200);
    };
    tag("before", "main", Value::Null).await;
    upload(&ann, "ann/m", "deep/er/x.bin", &data).await;
    hub.advance_seconds(60);
    let header = json!({ "summary": "both", "description": "with words\n\nand more" });
    commit_with(&ann, "ann/m", "main", header, &[put("a.txt", "1"), put("deep/b.txt", "1")])
        .await
        .expect(200);
    tag("v1", "main", json!("a tag with words")).await;
    ann.post("/api/models/ann/m/branch/side", json!({})).await.expect(200);
    upload(&ann, "ann/m", "again.bin", &data).await;
    upload(&ann, "ann/m", "y.bin", &other).await;
    let header = json!({ "summary": "aside" });
    commit_with(&ann, "ann/m", "side", header, &[put("a.txt", "2"), crate::delete("deep/er/x.bin")])
        .await
        .expect(200);
    let revisions = ["main", "side", "v1", "before"];
    let mut old = Vec::new();
    for rev in revisions {
        old.push(history(&ann, "ann/m", rev).await);
    }
    let reply = delete_for_good(&ann, "ann/m", &[&data], true).await.expect(200).json();
    assert_eq!((&reply["deleted"], &reply["rewrittenCommits"]), (&json!(1), &json!(5)), "{reply}");
    for (rev, old) in revisions.into_iter().zip(old) {
        let new = history(&ann, "ann/m", rev).await;
        // The same words, times and people, from a first commit that is the same.
        assert_eq!(without_ids(new.clone()), without_ids(old.clone()), "{rev}");
        assert_eq!(new.last().unwrap(), &first);
        assert_eq!(new[0]["id"] == old[0]["id"], rev == "before", "{rev}");
        for commit in &new {
            let tree = format!("/api/models/ann/m/tree/{}?recursive=true", commit["id"].as_str().unwrap());
            let text = ann.get(&tree).await.expect(200).text();
            assert!(!text.contains(&sha256(&data)) && !text.contains("\"deep/er\""), "{text}");
        }
        let old_head = old[0]["id"].as_str().unwrap();
        let refs = ann.get("/api/models/ann/m/refs").await.expect(200).text();
        assert!(rev == "before" || !refs.contains(old_head));
    }
    ann.get("/ann/m/resolve/main/again.bin").await.expect(404);
    assert_eq!(ann.get("/ann/m/resolve/main/y.bin").await.expect(200).body, other);
    assert_eq!(ann.get("/ann/m/resolve/v1/deep/b.txt").await.expect(200).text(), "1");
    let info =
        ann.post("/api/models/ann/m/paths-info/main", json!({ "paths": ["a.txt"], "expand": true })).await;
    assert_eq!(info.expect(200).json()[0]["lastCommit"]["title"], "both");
    let facts = "SELECT COUNT(*) FROM event WHERE action = 'history.rewrite' AND facts LIKE '%refs/heads/side %' \
        AND facts LIKE '%\"commits\":5%'";
    assert_eq!(hub.count(facts), 1);
    // Commits go on from there, and everything written down twice agrees.
    commit(&ann, "ann/m", &[put("a.txt", "3")]).await.expect(200);
    assert_sound(&hub).await;
    collect(&hub).await;
    assert_sound(&hub).await;
    // Nothing is left to rewrite.
    let again = delete_for_good(&ann, "ann/m", &[&data], true).await.expect(200).json();
    assert_eq!((&again["deleted"], &again["rewrittenCommits"]), (&json!(0), &json!(0)));
    hub.finish().await;
}

/// A long history is rewritten in one go.
#[tokio::test]
async fn a_long_history_is_rewritten_in_seconds() {
    const COMMITS: usize = 300;
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(50_000, 1);
    upload(&ann, "ann/m", "big/x.bin", &data).await;
    for n in 0..COMMITS {
        commit(&ann, "ann/m", &[put(&format!("f/{}.txt", n % 50), n.to_string())]).await.expect(200);
    }
    hub.run_jobs().await;
    let started = std::time::Instant::now();
    let reply = delete_for_good(&ann, "ann/m", &[&data], true).await.expect(200).json();
    let took = started.elapsed();
    assert_eq!(reply["rewrittenCommits"], json!(COMMITS + 1), "{reply}");
    assert!(took.as_secs() < 10, "{took:?}");
    ann.get("/ann/m/resolve/main/big/x.bin").await.expect(404);
    hub.finish().await;
}
