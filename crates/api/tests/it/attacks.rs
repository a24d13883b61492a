//! Input that is made to cost us more than its sender: each is refused, or costs little.

use axum::body::Body;
use bastide_core::limits::{MAX_COMMIT_OPERATIONS, MAX_FILE_BYTES, MAX_PATH_SEGMENTS};
use bastide_inspect::attributes::{MAX_RULES, MAX_RULES_BYTES};
use bastide_testkit::{Client, Reply, TestHub};
use bastide_xet::hash::FileHasher;
use bastide_xet::xorb::XorbIndex;
use http::Method;
use serde_json::{Value, json};

use crate::uploads::{cas, lfs_line, noise, upload, xorb};
use crate::{commit, commit_with, create, delete, put};

async fn hub_with_repo() -> (TestHub, Client) {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    (hub, ann)
}

async fn preupload(client: &Client, paths: &[String], rules: Value) -> Reply {
    let files: Vec<Value> =
        paths.iter().map(|path| json!({ "path": path, "size": 1, "sample": "" })).collect();
    let mut body = json!({ "files": files });
    body.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    client.post("/api/models/ann/m/preupload/main", body).await
}

#[tokio::test]
async fn rules_that_take_long_to_match_are_refused() {
    let (hub, ann) = hub_with_repo().await;
    let paths: Vec<String> =
        (0..1000).map(|n| format!("{}/{n}", ["a"; MAX_PATH_SEGMENTS - 1].join("/"))).collect();
    // At the limit of rules, with folders that are shared: work, but little of it.
    let most = "x?\n".repeat(MAX_RULES);
    let answer = preupload(&ann, &paths, json!({ "gitIgnore": most })).await.expect(200).json();
    assert_eq!(answer["files"].as_array().unwrap().len(), 1000);
    let over = preupload(&ann, &paths, json!({ "gitIgnore": format!("{most}x\n") })).await.expect(422);
    assert!(over.text().contains("at most 1000"), "{}", over.text());
    let long = "#".repeat(MAX_RULES_BYTES + 1);
    preupload(&ann, &paths, json!({ "gitAttributes": long })).await.expect(422);
    // Few rules that go back and forth.
    let paths: Vec<String> =
        (0..1000).map(|n| format!("{}{n}", vec!["a".repeat(200); 4].join("/"))).collect();
    let slow = format!("*?{}b filter=lfs\n", "a".repeat(100)).repeat(60);
    let refused = preupload(&ann, &paths, json!({ "gitAttributes": slow })).await.expect(422);
    assert!(refused.text().contains("take too long to match"), "{}", refused.text());
    hub.finish().await;
}

#[tokio::test]
async fn deep_paths_are_refused_before_anything_is_made() {
    let (hub, ann) = hub_with_repo().await;
    let deep = |segments: usize| ["a"; 256].get(..segments).unwrap().join("/");
    commit(&ann, "ann/m", &[put(&deep(MAX_PATH_SEGMENTS), "x")]).await.expect(200);
    let refused = commit(&ann, "ann/m", &[put(&deep(MAX_PATH_SEGMENTS + 1), "x")]).await.expect(422);
    assert!(refused.text().contains("at most 64 segments"), "{}", refused.text());
    ann.get("/api/models/ann/m/tree/main?recursive=true").await.expect(200);
    // 50,050 folders in a small request.
    let below = ["a"; 62].join("/");
    let wide: Vec<Value> = (0..800).map(|n| put(&format!("{n:04}/{below}/x"), "x")).collect();
    let refused = commit(&ann, "ann/m", &wide).await.expect(422);
    assert!(refused.text().contains("folders: split it"), "{}", refused.text());
    hub.finish().await;
}

#[tokio::test]
async fn names_that_reach_git_or_go_up_are_refused_in_every_spelling() {
    let (hub, ann) = hub_with_repo().await;
    for bad in
        ["a\\.git\\config", "a\\..\\..\\x", "x\\..\\y", "b/c\\GIT~1", ".GITMODULES", ".gitattributes/x"]
    {
        commit(&ann, "ann/m", &[put(bad, "x")]).await.expect(422);
    }
    commit(&ann, "ann/m", &[put("a\\b", "x"), put("caf\u{e9}", "x")]).await.expect(200);
    commit(&ann, "ann/m", &[put("cafe\u{301}", "x")]).await.expect(422);
    hub.finish().await;
}

#[tokio::test]
async fn files_of_gits_own_that_git_would_not_take_are_refused() {
    let (hub, ann) = hub_with_repo().await;
    for bad in
        ["[submodule \"../../x\"]\n\turl = ../x\n", "[submodule \"x\"]\n\turl = -u./x\n", "[core]\n\tx = y\n"]
    {
        commit(&ann, "ann/m", &[put(".gitmodules", bad)]).await.expect(422);
        commit(&ann, "ann/m", &[put("deep/.gitmodules", bad)]).await.expect(422);
    }
    let elsewhere = "[lfs]\n\turl = https://evil.example/ann/m.git/info/lfs\n";
    let refused = commit(&ann, "ann/m", &[put(".lfsconfig", elsewhere)]).await.expect(422);
    assert!(refused.text().contains("send their credentials there"), "{}", refused.text());
    commit(&ann, "ann/m", &[put(".lfsconfig", "[lfs]\n\tfetchexclude = *.bin\n")]).await.expect(200);
    let good = "[submodule \"libs/x\"]\n\tpath = libs/x\n\turl = https://example.org/x.git\n";
    commit(&ann, "ann/m", &[put(".gitmodules", good)]).await.expect(200);
    let long = format!("{} filter=lfs\n", "x".repeat(2048));
    let refused = commit(&ann, "ann/m", &[put("sub/.gitattributes", long)]).await.expect(422);
    assert!(refused.text().contains("line 1 has more than 2047 bytes"), "{}", refused.text());
    let data = noise(30_000, 90);
    upload(&ann, "ann/m", "x.bin", &data).await;
    commit(&ann, "ann/m", &[lfs_line(".gitattributes", &data)]).await.expect(422);
    // A name that is too long for a line of its own, and one that a pattern covers.
    let brackets = format!(" {}", "[".repeat(250));
    let odd = [brackets.as_str(); 4].join("/");
    let refused = commit(&ann, "ann/m", &[lfs_line(&odd, &data)]).await.expect(422);
    assert!(refused.text().contains("add a pattern for it"), "{}", refused.text());
    commit(&ann, "ann/m", &[lfs_line(&format!("{odd}.bin"), &data)]).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn operations_on_one_path_happen_in_their_order() {
    let (hub, ann) = hub_with_repo().await;
    let data = noise(30_000, 91);
    upload(&ann, "ann/m", "x.bin", &data).await;
    commit(
        &ann,
        "ann/m",
        &[delete("x.bin"), lfs_line("x.bin", &data), put("y.bin", "small"), lfs_line("y.bin", &data)],
    )
    .await
    .expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/y.bin").await.expect(200).body, data);
    commit(
        &ann,
        "ann/m",
        &[lfs_line("x.bin", &data), delete("x.bin"), lfs_line("y.bin", &data), put("y.bin", "small")],
    )
    .await
    .expect(200);
    ann.get("/ann/m/resolve/main/x.bin").await.expect(404);
    assert_eq!(ann.get("/ann/m/resolve/main/y.bin").await.expect(200).text(), "small");
    hub.finish().await;
}

#[tokio::test]
async fn sizes_that_pointers_claim_do_not_overflow() {
    let (hub, ann) = hub_with_repo().await;
    let pointer = |size: u64| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n", "a".repeat(64))
    };
    commit(&ann, "ann/m", &[put("a", pointer(MAX_FILE_BYTES + 1))]).await.expect(422);
    commit(&ann, "ann/m", &[put("a", pointer(u64::MAX))]).await.expect(422);
    // Nor does one that could be, when its content is not here.
    commit(&ann, "ann/m", &[put("a", pointer(MAX_FILE_BYTES))]).await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn a_batch_of_huge_objects_gets_a_small_answer() {
    let (hub, ann) = hub_with_repo().await;
    let uri = "/ann/m.git/info/lfs/objects/batch";
    let batch = |objects: Vec<Value>| json!({ "operation": "upload", "transfers": ["multipart"], "objects": objects });
    let object = |n: usize, size: u64| json!({ "oid": format!("{n:064x}"), "size": size });
    let huge = (0..60).map(|n| object(n, MAX_FILE_BYTES)).collect();
    let answer = ann.post(uri, batch(huge)).await.expect(200);
    assert!(answer.body.len() < 8 * 1024 * 1024, "{}", answer.body.len());
    let parts: usize = answer.json()["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let header = object["actions"]["upload"]["header"].as_object().unwrap();
            let part: u64 = header["chunk_size"].as_str().unwrap().parse().unwrap();
            let parts = header.len() - 1;
            assert_eq!(parts as u64, MAX_FILE_BYTES.div_ceil(part));
            parts
        })
        .sum();
    assert!(parts <= 10_060, "{parts}");
    ann.post(uri, batch(vec![object(1, MAX_FILE_BYTES + 1)])).await.expect(422);
    hub.finish().await;
}

#[tokio::test]
async fn a_repository_has_so_many_uploads_under_way_and_no_more() {
    let (hub, ann) = hub_with_repo().await;
    let batch = |from: usize, count: usize| {
        let objects: Vec<Value> =
            (from..from + count).map(|n| json!({ "oid": format!("{n:064x}"), "size": 2u64 << 30 })).collect();
        json!({ "operation": "upload", "transfers": ["multipart"], "objects": objects })
    };
    let uri = "/ann/m.git/info/lfs/objects/batch";
    for n in 0..5 {
        ann.post(uri, batch(n * 1000, 1000)).await.expect(200);
        hub.advance_seconds(1);
    }
    let refused = ann.post(uri, batch(9000, 1)).await.expect(422);
    assert!(refused.text().contains("5000 uploads in parts under way"), "{}", refused.text());
    hub.advance_seconds(6 * 3600 + 1);
    ann.post(uri, batch(9000, 1)).await.expect(200);
    hub.finish().await;
}

/// A shard of one file: all chunks of a xorb, `count` times, a segment each time.
fn repeated(index: &XorbIndex, count: u32) -> (Vec<u8>, String) {
    let mut hasher = FileHasher::default();
    for _ in 0..count {
        let mut before = 0;
        for chunk in &index.chunks {
            hasher.push(chunk.hash, u64::from(chunk.raw_end - before));
            before = chunk.raw_end;
        }
    }
    let hash = hasher.finish();
    let mut bytes = bastide_xet::shard::dedup_answer(&[], &[0; 32], 0, 1)[..48].to_vec();
    bytes.extend_from_slice(hash.as_bytes());
    bytes.extend_from_slice(&(1u32 << 31).to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    for _ in 0..count {
        bytes.extend_from_slice(index.hash.as_bytes());
        for number in [0, index.raw_bytes(), 0, index.chunk_count()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    let proof = index.proof(&(0..index.chunk_count())).unwrap();
    for _ in 0..count {
        bytes.extend_from_slice(proof.as_bytes());
        bytes.extend_from_slice(&[0; 16]);
    }
    for _ in 0..2 {
        bytes.extend_from_slice(&[0xff; 32]);
        bytes.extend_from_slice(&[0; 16]);
    }
    (bytes, hash.to_string())
}

#[tokio::test]
async fn a_file_in_tiny_pieces_is_refused_and_one_in_many_is_served() {
    let (hub, ann) = hub_with_repo().await;
    let write = cas(&ann, "ann/m", "write").await;
    let (tiny, bytes) = xorb(&[vec![7]]);
    write.post(&format!("/v1/xorbs/default/{}", tiny.hash), bytes).await.expect(200);
    let refused = write.post("/v1/shards", repeated(&tiny, 1025).0).await.expect(400);
    assert!(refused.text().contains("more segments than its size needs"), "{}", refused.text());
    // As many as a file of its size may have: the answer comes in parts, and is the same in both versions.
    let (small, bytes) = xorb(&[noise(9000, 1), noise(9000, 2)]);
    write.post(&format!("/v1/xorbs/default/{}", small.hash), bytes).await.expect(200);
    let (shard, file) = repeated(&small, 3000);
    write.post("/v1/shards", shard).await.expect(200);
    let read = cas(&hub.anonymous(), "ann/m", "read").await;
    for (version, key) in [("v1", "fetch_info"), ("v2", "xorbs")] {
        let answer = read.get(&format!("/{version}/reconstructions/{file}")).await.expect(200);
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
        let answer = answer.json();
        assert_eq!(answer["terms"].as_array().unwrap().len(), 3000);
        assert_eq!(answer["terms"][2999]["unpacked_length"], 18_000);
        assert_eq!(answer[key][small.hash.to_string()].as_array().unwrap().len(), 1);
    }
    let uri = format!("{}/v1/reconstructions/{file}", read.base);
    let part = read.client.get_with(&uri, &[("range", "bytes=35999-36000")]).await.expect(200).json();
    assert_eq!(part["offset_into_first_range"], 8999);
    assert_eq!(part["terms"].as_array().unwrap().len(), 2);
    assert_eq!(part["terms"][0]["range"], json!({ "start": 1, "end": 2 }));
    hub.finish().await;
}

#[tokio::test]
async fn a_shard_that_repeats_a_few_bytes_without_end_is_refused() {
    let (hub, ann) = hub_with_repo().await;
    let write = cas(&ann, "ann/m", "write").await;
    let (zeros, bytes) = xorb(&vec![vec![0; 128 * 1024]; 512]);
    assert!(bytes.len() < 1 << 20);
    write.post(&format!("/v1/xorbs/default/{}", zeros.hash), bytes).await.expect(200);
    // 64 GiB from a shard of 100 kB.
    let refused = write.post("/v1/shards", repeated(&zeros, 1024).0).await.expect(400);
    assert!(refused.text().contains("checking them would take too long"), "{}", refused.text());
    let refused = write.post("/v2/shards", repeated(&zeros, 1024).0).await.expect(200).text();
    assert!(refused.contains("\"type\":\"error\"") && refused.contains("too long"), "{refused}");
    write.post("/v1/shards", repeated(&zeros, 2).0).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn a_document_is_read_into_its_fields_and_no_more() {
    let (hub, ann) = hub_with_repo().await;
    let uri = "/api/models/ann/m/commit/main";
    let post = |body: String| {
        let ann = ann.clone();
        async move { ann.send(Method::POST, uri, &[("content-type", "application/json")], Body::from(body)).await }
    };
    let unknown = format!(
        "{{\"summary\":\"s\",\"x\":[{}0],\"files\":[{{\"path\":\"a\",\"content\":\"1\"}}]}}",
        "0,".repeat(1 << 20)
    );
    post(unknown).await.expect(200);
    let file = r#"{"path":"a","content":""},"#;
    let many = format!("{{\"summary\":\"s\",\"files\":[{}{{}}]}}", file.repeat(MAX_COMMIT_OPERATIONS + 1));
    let refused = post(many).await.expect(400);
    assert!(refused.text().contains("at most 25000 operations"), "{}", refused.text());
    post(format!("{{\"summary\":\"{}\"}}", "s".repeat(29 << 20))).await.expect(413);
    hub.finish().await;
}

#[tokio::test]
async fn a_hostile_header_of_weights_is_not_kept_and_not_read_twice() {
    let (hub, ann) = hub_with_repo().await;
    let weights = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&vec![0; data]);
        bytes
    };
    let bad = weights(&format!("{{\"a\":[{}0]}}", "0,".repeat(500_000)), 0);
    upload(&ann, "ann/m", "bad.safetensors", &bad).await;
    let good = weights(r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#, 24);
    assert!(ann.get("/api/models/ann/m").await.expect(200).json().get("safetensors").is_none());
    upload(&ann, "ann/m", "model.safetensors", &good).await;
    for n in 0..3 {
        commit(&ann, "ann/m", &[put("n", n.to_string())]).await.expect(200);
        let info = ann.get("/api/models/ann/m").await.expect(200).json();
        assert_eq!(info["safetensors"]["total"], 6);
    }
    // Who only knows the hash cannot even name the weights.
    let bob = hub.user("bob").await;
    create(&bob, "model", "b").await.expect(200);
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        lfs_line("x", &good)["value"]["oid"].as_str().unwrap(),
        good.len()
    );
    commit(&bob, "bob/b", &[put("model.safetensors", pointer)]).await.expect(400);
    assert!(bob.get("/api/models/bob/b").await.expect(200).json().get("safetensors").is_none());
    hub.finish().await;
}

#[tokio::test]
async fn a_parent_is_a_commit_and_a_long_message_stays_out_of_the_headers() {
    let (hub, ann) = hub_with_repo().await;
    let head = ann.get("/api/models/ann/m").await.json()["sha"].as_str().unwrap().to_owned();
    let with = |parent: &str| {
        let header = json!({ "summary": "s", "parentCommit": parent });
        let ann = ann.clone();
        async move { commit_with(&ann, "ann/m", "main", header, &[put("a", "1")]).await }
    };
    // A name always is where the branch is: no protection at all.
    for name in ["main", "HEAD", "refs/heads/main", "xyz"] {
        let refused = with(name).await.expect(400);
        assert!(refused.text().contains("has to be a commit id"), "{}", refused.text());
    }
    with(&"f".repeat(40)).await.expect(412);
    with("ffffffff").await.expect(412);
    with(&head[..8]).await.expect(200);
    with(&head).await.expect(412);
    let long = "x".repeat(100_000);
    let refused = with(&long).await.expect(400);
    assert!(refused.header("x-error-message").len() <= 1024);
    let line = json!({ "key": "y".repeat(50_000), "value": {} });
    let refused = commit(&ann, "ann/m", &[line]).await.expect(400);
    assert_eq!(refused.header("x-error-message").len(), 1024);
    hub.finish().await;
}
