//! Copies of large files between repositories, and what commits copy: no bytes move, and nobody gets at
//! what they may not read.

use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, Reply, TestHub};
use serde_json::{Value, json};

use crate::uploads::{noise, sha256, upload};
use crate::{commit, create, put};

async fn xet_hash(client: &Client, id: &str, path: &str) -> Value {
    let info = client.post(&format!("/api/models/{id}/paths-info/main"), json!({ "paths": [path] })).await;
    info.expect(200).json()[0]["xetHash"].clone()
}

async fn copy(client: &Client, from: &str, to: &str, files: &[(&str, &Value)]) -> Reply {
    let files: Vec<Value> = files
        .iter()
        .map(|(sha256, hash)| json!({ "sha256": sha256, "xetHash": hash, "filename": "x.bin" }))
        .collect();
    let body = json!({ "target": { "type": "model", "name": to }, "files": files });
    client.post(&format!("/api/models/{from}/lfs-files/duplicate"), body).await
}

/// A line that copies: without a size.
fn copy_line(path: &str, data: &[u8]) -> Value {
    json!({ "key": "lfsFile", "value": { "path": path, "algo": "sha256", "oid": sha256(data) } })
}

#[tokio::test]
async fn files_are_copied_without_their_bytes() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for name in ["from", "to"] {
        create(&ann, "model", name).await.expect(200);
    }
    let data = noise(300_000, 1);
    upload(&ann, "ann/from", "x.bin", &data).await;
    let xorbs = hub.count("SELECT COUNT(*) FROM xorb");
    let hash = xet_hash(&ann, "ann/from", "x.bin").await;
    let (known, none) = (sha256(&data), "0".repeat(64));
    let reply = copy(&ann, "ann/from", "ann/to", &[(&known, &hash), (&none, &hash)]).await.expect(200).json();
    let failed = reply["failed"].as_array().unwrap();
    assert_eq!((failed.len(), &failed[0]["sha256"]), (1, &json!(none)), "{reply}");
    // A hash that is not the file's is as good as no file.
    let wrong = json!("1".repeat(64));
    let reply = copy(&ann, "ann/from", "ann/to", &[(&known, &wrong)]).await.expect(200).json();
    assert_eq!(reply["failed"][0]["error"], failed[0]["error"]);
    commit(&ann, "ann/to", &[copy_line("y.bin", &data)]).await.expect(200);
    assert_eq!(ann.get("/ann/to/resolve/main/y.bin").await.expect(200).body, data);
    assert_eq!(hub.count("SELECT COUNT(*) FROM xorb"), xorbs);
    for (action, name) in [("files.copy_in", "models/ann/to"), ("files.copy_out", "models/ann/from")] {
        let sql = format!(
            "SELECT COUNT(*) FROM event WHERE action = '{action}' AND subject_name = '{name}' AND facts LIKE '%{known}%'"
        );
        assert_eq!(hub.count(&sql), 1, "{action}");
    }
    hub.hub.flush_reads().await.unwrap();
    assert_eq!(hub.count("SELECT bytes FROM read_record WHERE via = 'copy'"), 300_000);
    // The copy stays when its source goes.
    ann.delete("/api/repos/delete", json!({ "name": "from" })).await.expect(200);
    for _ in 0..3 {
        hub.advance_seconds(90_000);
        hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    }
    assert_eq!(ann.get("/ann/to/resolve/main/y.bin").await.expect(200).body, data);
    hub.finish().await;
}

#[tokio::test]
async fn nobody_copies_what_they_may_not_read_or_to_where_they_may_not_write() {
    let hub = TestHub::new().await;
    let anna = hub.user("anna").await;
    hub.user("rita").await;
    let eve = hub.user("eve").await;
    hub.org("lab", "anna", &[("rita", Role::Read)]).await;
    for (name, visibility) in [("secret", "private"), ("gated", "public")] {
        let body = json!({ "name": name, "organization": "lab", "visibility": visibility });
        anna.post("/api/repos/create", body).await.expect(200);
    }
    anna.put("/api/models/lab/gated/settings", json!({ "gated": "auto" })).await.expect(200);
    create(&eve, "model", "own").await.expect(200);
    let (data, behind) = (noise(100_000, 1), noise(110_000, 2));
    upload(&anna, "lab/secret", "x.bin", &data).await;
    upload(&anna, "lab/gated", "x.bin", &behind).await;
    let hash = xet_hash(&anna, "lab/secret", "x.bin").await;
    let gated = xet_hash(&anna, "lab/gated", "x.bin").await;
    let (known, hidden) = (sha256(&data), sha256(&behind));
    // To the letter what a repository that is not there answers.
    let refused = copy(&eve, "lab/secret", "eve/own", &[(&known, &hash)]).await.expect(404);
    let missing = copy(&eve, "lab/nobody", "eve/own", &[(&known, &hash)]).await.expect(404);
    assert_eq!(refused.text(), missing.text());
    copy(&eve, "lab/gated", "eve/own", &[(&hidden, &gated)]).await.expect(403);
    copy(&hub.anonymous(), "lab/secret", "eve/own", &[(&known, &hash)]).await.expect(401);
    // From a repository that eve may read, with the hash of one that she may not.
    create(&eve, "model", "other").await.expect(200);
    let reply = copy(&eve, "eve/other", "eve/own", &[(&known, &hash)]).await.expect(200).json();
    assert_eq!(reply["failed"].as_array().unwrap().len(), 1);
    // In a commit neither: whether it is stored elsewhere nobody can tell.
    let refused = commit(&eve, "eve/own", &[copy_line("x.bin", &data)]).await.expect(400).text();
    let unknown = commit(&eve, "eve/own", &[copy_line("x.bin", b"no such")]).await.expect(400).text();
    assert_eq!(refused.replace(&known, ""), unknown.replace(&sha256(b"no such"), ""));
    commit(&eve, "eve/own", &[copy_line("x.bin", &behind)]).await.expect(400);
    // Reading is not enough on the other side.
    let rita = hub.token("rita", TokenRole::Write).await;
    let reading = hub.token("anna", TokenRole::Read).await;
    upload(&eve, "eve/own", "e.bin", &noise(70_000, 3)).await;
    let own = xet_hash(&eve, "eve/own", "e.bin").await;
    let sha = sha256(&noise(70_000, 3));
    copy(&rita, "eve/own", "lab/secret", &[(&sha, &own)]).await.expect(403);
    copy(&eve, "eve/own", "lab/secret", &[(&sha, &own)]).await.expect(404);
    copy(&reading, "lab/secret", "lab/secret", &[(&known, &hash)]).await.expect(403);
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action LIKE 'files.copy%'"), 0);
    hub.finish().await;
}

#[tokio::test]
async fn a_call_has_a_bound_and_a_shape() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let hash = json!("0".repeat(64));
    let sha = "0".repeat(64);
    let files = vec![(sha.as_str(), &hash); 501];
    copy(&ann, "ann/m", "ann/m", &files).await.expect(422);
    let reply = copy(&ann, "ann/m", "ann/m", &files[..500]).await.expect(200).json();
    assert!(!reply["failed"].as_array().unwrap().is_empty());
    copy(&ann, "ann/m", "ann/m", &[("xyz", &hash)]).await.expect(400);
    copy(&ann, "ann/m", "no/such/thing", &[(&sha, &hash)]).await.expect(404);
    let body = json!({ "target": { "type": "bucket", "name": "ann/m" }, "files": [] });
    ann.post("/api/models/ann/m/lfs-files/duplicate", body).await.expect(400);
    hub.finish().await;
}

/// Without a word about where it is: from wherever the author of the commit may read it.
#[tokio::test]
async fn a_commit_copies_what_its_author_may_read() {
    let hub = TestHub::new().await;
    let anna = hub.user("anna").await;
    let rita = hub.user("rita").await;
    hub.org("lab", "anna", &[("rita", Role::Read)]).await;
    let body = json!({ "name": "secret", "organization": "lab", "visibility": "private" });
    anna.post("/api/repos/create", body).await.expect(200);
    let data = noise(100_000, 1);
    upload(&anna, "lab/secret", "x.bin", &data).await;
    create(&rita, "model", "own").await.expect(200);
    // A size says that it was uploaded: nothing is looked for then.
    let sized = json!({ "key": "lfsFile", "value": { "path": "y.bin", "algo": "sha256", "oid": sha256(&data), "size": 100_000 } });
    commit(&rita, "rita/own", &[sized]).await.expect(400);
    commit(&rita, "rita/own", &[copy_line("y.bin", &data)]).await.expect(200);
    assert_eq!(rita.get("/rita/own/resolve/main/y.bin").await.expect(200).body, data);
    let sql =
        "SELECT COUNT(*) FROM event WHERE action = 'files.copy_out' AND subject_name = 'models/lab/secret'";
    assert_eq!(hub.count(sql), 1);
    // Within a repository, also under a new name.
    let renamed = json!({ "key": "lfsFile", "value": { "path": "z.bin", "algo": "sha256", "oid": sha256(&data),
        "oldPath": "y.bin" } });
    commit(&rita, "rita/own", &[renamed, put("a.txt", "1")]).await.expect(200);
    rita.get("/rita/own/resolve/main/y.bin").await.expect(404);
    assert_eq!(rita.get("/rita/own/resolve/main/z.bin").await.expect(200).body, data);
    let moved = json!({ "key": "file", "value": { "path": "b.txt", "content": "1", "oldPath": "a.txt" } });
    commit(&rita, "rita/own", &[moved]).await.expect(200);
    rita.get("/rita/own/resolve/main/a.txt").await.expect(404);
    assert_eq!(rita.get("/rita/own/resolve/main/b.txt").await.expect(200).text(), "1");
    assert_eq!(hub.count(sql), 1);
    hub.finish().await;
}
