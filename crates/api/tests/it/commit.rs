//! Commits by the API.

use bastide_testkit::TestHub;
use serde_json::{Value, json};

use crate::{commit, commit_with, create, delete, put};

async fn paths(client: &bastide_testkit::Client, id: &str) -> Vec<String> {
    let tree = client.get(&format!("/api/models/{id}/tree/main?recursive=true")).await.expect(200).json();
    tree.as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_operation() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let made = commit(&ann, "ann/m", &[put("a.txt", "1"), put("d/b.txt", "2"), put("d/e/c.txt", "3")])
        .await
        .expect(200);
    let made = made.json();
    let oid = made["commitOid"].as_str().unwrap();
    assert_eq!(made["commitUrl"], format!("http://hub.test/ann/m/commit/{oid}"));
    assert_eq!(paths(&ann, "ann/m").await, [".gitattributes", "a.txt", "d", "d/b.txt", "d/e", "d/e/c.txt"]);

    let rename =
        json!({ "key": "file", "value": { "path": "z.txt", "content": "moved", "oldPath": "a.txt" } });
    commit(&ann, "ann/m", &[rename, delete("d/e/")]).await.expect(200);
    assert_eq!(paths(&ann, "ann/m").await, [".gitattributes", "d", "d/b.txt", "z.txt"]);

    let missing = commit(&ann, "ann/m", &[delete("nope")]).await.expect(404);
    assert_eq!(missing.header("x-error-code"), "EntryNotFound");
    assert!(missing.text().contains("A file with this name doesn't exist"));

    // The same again changes nothing and makes no commit.
    let head = ann.get("/api/models/ann/m").await.json()["sha"].clone();
    let same = commit(&ann, "ann/m", &[put("z.txt", "moved")]).await.expect(200).json();
    assert_eq!(same["commitOid"], head);

    let old = json!({ "summary": "old form", "files": [{ "path": "o", "content": "x" }], "deletedEntries": [{ "path": "z.txt" }] });
    ann.post("/api/models/ann/m/commit/main", old).await.expect(200);
    assert_eq!(paths(&ann, "ann/m").await, [".gitattributes", "d", "d/b.txt", "o"]);
    hub.finish().await;
}

#[tokio::test]
async fn a_branch_that_has_moved_refuses() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let head = ann.get("/api/models/ann/m").await.json()["sha"].as_str().unwrap().to_owned();
    let header = || json!({ "summary": "x", "parentCommit": head });
    let (one, two) = (put("a", "1"), put("b", "2"));
    let (one, two) = tokio::join!(
        commit_with(&ann, "ann/m", "main", header(), std::slice::from_ref(&one)),
        commit_with(&ann, "ann/m", "main", header(), std::slice::from_ref(&two)),
    );
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let refused = if one.status.as_u16() == 412 { one } else { two };
    assert!(refused.text().contains("The branch was updated since you opened this page"));
    // Without a parent both go in, one after the other.
    let (one, two) = (put("c", "1"), put("d", "2"));
    let (one, two) = tokio::join!(
        commit(&ann, "ann/m", std::slice::from_ref(&one)),
        commit(&ann, "ann/m", std::slice::from_ref(&two)),
    );
    one.expect(200);
    two.expect(200);
    assert_eq!(ann.get("/api/models/ann/m/commits/main").await.json().as_array().unwrap().len(), 4);
    hub.finish().await;
}

#[tokio::test]
async fn bad_paths_and_bad_lines() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let long = "x".repeat(4096);
    for bad in
        ["../x", "..\\ddd", "/a", "a//b", ".git/config", "a/.GIT/x", "a\u{0}b", "a\nb", "", long.as_str()]
    {
        let refused = commit(&ann, "ann/m", &[put(bad, "x")]).await;
        assert_eq!(refused.status.as_u16(), 422, "{bad:?}: {}", refused.text());
    }
    commit(&ann, "ann/m", &[put("dir/a\\b", "a backslash in a name")]).await.expect(200);
    let refused = commit(&ann, "ann/m", &[put("Dir/x", "case clash")]).await.expect(422);
    assert!(refused.text().contains("only in case"));
    commit(&ann, "ann/m", &[put("dir", "a file where a folder is")]).await.expect(422);
    let lines: [Value; 4] = [
        json!({ "key": "file", "value": { "path": "a", "content": "???", "encoding": "base64" } }),
        json!({ "key": "file", "value": { "path": "a" } }),
        json!({ "key": "explode", "value": {} }),
        json!(7),
    ];
    for line in lines {
        commit(&ann, "ann/m", &[line]).await.expect(400);
    }
    commit_with(&ann, "ann/m", "main", json!({ "summary": "" }), &[put("a", "1")]).await.expect(400);
    commit_with(&ann, "ann/m", "nope", json!({ "summary": "x" }), &[put("a", "1")]).await.expect(404);
    let head = ann.get("/api/models/ann/m").await.json()["sha"].as_str().unwrap().to_owned();
    commit_with(&ann, "ann/m", &head, json!({ "summary": "x" }), &[put("a", "1")]).await.expect(404);
    hub.finish().await;
}

#[tokio::test]
async fn a_pointer_needs_its_content_in_this_repository() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let line = json!({ "key": "lfsFile", "value": { "path": "x.bin", "algo": "sha256", "oid": "0".repeat(64), "size": 3 } });
    let refused = commit(&ann, "ann/m", &[line]).await.expect(400);
    assert!(refused.text().contains("was not uploaded to this repository"));
    hub.finish().await;
}

#[tokio::test]
async fn cards_are_checked_and_read() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let bad = commit(&ann, "ann/m", &[put("README.md", "---\nlicense: mine\n---\n")]).await.expect(400);
    assert!(bad.text().contains("- Error: \\\"license\\\" must be one of"), "{}", bad.text());
    let card = "---\nlicense: mit\nlanguage: no\ntags: [vision]\npipeline_tag: fill-mask\n---\n# hi arxiv.org/abs/1234.56789\n";
    commit(&ann, "ann/m", &[put("README.md", card)]).await.expect(200);
    let info = ann.get("/api/models/ann/m").await.expect(200).json();
    assert_eq!(info["cardData"]["language"], "no");
    assert_eq!(info["pipeline_tag"], "fill-mask");
    let tags: Vec<_> = info["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    assert_eq!(tags, ["fill-mask", "no", "vision", "license:mit", "arxiv:1234.56789", "region:us"]);

    let checked =
        ann.post("/api/validate-yaml", json!({ "content": card, "repoType": "model" })).await.expect(200);
    assert_eq!(checked.json(), json!({ "errors": [], "warnings": [] }));
    let wrong = json!({ "content": "---\nlicense: mine\n---\n", "repoType": "model" });
    ann.post("/api/validate-yaml", wrong).await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn preupload_decides_and_notices_what_is_there() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "hello\n"), put(".gitignore", "*.tmp\n")]).await.expect(200);
    let file = |path: &str, size: u64, sample: &str| json!({ "path": path, "size": size, "sample": sample });
    let body = json!({ "files": [
        file("a.txt", 6, "aGVsbG8K"), file("m.safetensors", 5, ""), file("big.txt", 10 * 1024 * 1024 + 1, ""),
        file("edge.txt", 10 * 1024 * 1024, ""), file("x.dat", 3, "AAEC"), file("b.tmp", 1, "eA=="), file("empty.bin", 0, ""),
    ] });
    let answer = ann.post("/api/models/ann/m/preupload/main", body).await.expect(200).json();
    let modes: Vec<_> =
        answer["files"].as_array().unwrap().iter().map(|file| file["uploadMode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["regular", "lfs", "lfs", "regular", "lfs", "regular", "regular"]);
    assert_eq!(answer["files"][0]["oid"], "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_eq!(answer["files"][5]["shouldIgnore"], true);
    assert_eq!(answer["commitOid"].as_str().unwrap().len(), 40);
    ann.post("/api/models/ann/m/preupload/nope", json!({ "files": [] })).await.expect(404);
    ann.post("/api/models/ann/m/preupload/main", json!({ "files": [file("../x", 1, "")] })).await.expect(422);
    hub.finish().await;
}

#[tokio::test]
async fn packs_are_merged_and_nothing_is_lost() {
    let hub = TestHub::new().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    for n in 0..30 {
        commit(&ann, "ann/m", &[put(&format!("f{}", n % 7), format!("content {n}"))]).await.expect(200);
    }
    assert!(hub.run_jobs().await >= 1);
    assert_eq!(ann.get("/ann/m/resolve/main/f1").await.expect(200).text(), "content 29");
    // From the blobs alone, without the node's copy.
    std::fs::remove_dir_all(hub.data().join("cache")).unwrap();
    let other = hub.reopened().await;
    let client = other.client(ann.token.as_deref());
    assert_eq!(client.get("/ann/m/resolve/main/f1").await.expect(200).text(), "content 29");
    let log = client.get("/api/models/ann/m/commits/main?limit=100").await.json();
    assert_eq!(log.as_array().unwrap().len(), 31);
    drop(other);
    hub.finish().await;
}
