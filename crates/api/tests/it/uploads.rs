//! Large files: LFS basic and in parts, and Xet, with those who would cheat.

use axum::body::Body;
use bastide_testkit::{Client, Reply, TestHub};
use bastide_xet::hash::FileHasher;
use bastide_xet::xorb::{Builder, XorbIndex};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{commit, create};

pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..len).map(|_| next()).collect()
}

pub fn sha256(data: &[u8]) -> String {
    bastide_core::Sha256::from_bytes(Sha256::digest(data).into()).to_string()
}

pub fn lfs_line(path: &str, data: &[u8]) -> Value {
    json!({ "key": "lfsFile", "value": { "path": path, "algo": "sha256", "oid": sha256(data), "size": data.len() } })
}

pub fn local(url: &Value) -> String {
    url.as_str().unwrap().trim_start_matches("http://hub.test").to_owned()
}

pub async fn batch(client: &Client, id: &str, operation: &str, transfers: Value, data: &[u8]) -> Reply {
    let body = json!({ "operation": operation, "transfers": transfers, "hash_algo": "sha_256",
        "objects": [{ "oid": sha256(data), "size": data.len() }] });
    client.post(&format!("/{id}.git/info/lfs/objects/batch"), body).await
}

pub async fn put_bytes(client: &Client, uri: &str, data: &[u8]) -> Reply {
    client.send(Method::PUT, uri, &[], Body::from(data.to_vec())).await
}

/// Uploads by LFS and commits.
pub async fn upload(client: &Client, id: &str, path: &str, data: &[u8]) {
    let answer = batch(client, id, "upload", json!(["basic"]), data).await.expect(200).json();
    let actions = &answer["objects"][0]["actions"];
    if actions.is_object() {
        put_bytes(client, &local(&actions["upload"]["href"]), data).await.expect(200);
    }
    commit(client, id, &[lfs_line(path, data)]).await.expect(200);
}

#[tokio::test]
async fn lfs_basic_upload_and_download_with_ranges() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(700_000, 1);
    let answer =
        batch(&ann, "ann/m", "upload", json!(["basic", "multipart"]), &data).await.expect(200).json();
    assert_eq!(answer["transfer"], "basic");
    let actions = answer["objects"][0]["actions"].clone();
    let href = local(&actions["upload"]["href"]);
    // The link is the credential: without any token, and for these very bytes.
    let wrong = put_bytes(&hub.anonymous(), &href, &noise(700_000, 2)).await.expect(400);
    assert!(wrong.text().contains("nothing was stored"));
    put_bytes(&hub.anonymous(), &href, &data[..699_999]).await.expect(400);
    put_bytes(&hub.anonymous(), &href.replace("size=700000", "size=700001"), &data).await.expect(403);
    ann.post(&local(&actions["verify"]["href"]), json!({})).await.expect(404);
    put_bytes(&hub.anonymous(), &href, &data).await.expect(200);
    ann.post(&local(&actions["verify"]["href"]), json!({})).await.expect(200);
    let again = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.json();
    assert!(again["objects"][0].get("actions").is_none());
    commit(&ann, "ann/m", &[lfs_line("w/model.weights", &data)]).await.expect(200);

    let client = hub.anonymous();
    let uri = "/ann/m/resolve/main/w/model.weights";
    let head = client.head(uri).await.expect(200);
    assert_eq!(head.header("x-linked-etag"), format!("\"{}\"", sha256(&data)));
    assert_eq!((head.header("x-linked-size"), head.header("content-length")), ("700000", "700000"));
    assert_eq!(head.header("x-xet-hash").len(), 64);
    assert!(head.header("link").contains("rel=\"xet-auth\""));
    assert_eq!(client.get(uri).await.expect(200).body, data);
    for (start, end) in [(0, 0), (65_000, 300_000), (699_999, 699_999)] {
        let part = client.get_with(uri, &[("range", &format!("bytes={start}-{end}"))]).await.expect(206);
        assert_eq!(part.body, data[start..=end]);
    }
    // Who asks for the way to the chunks, among others, gets that and no byte.
    let accept = [("accept", "application/vnd.xet-fileinfo+json, */*"), ("range", "bytes=0-0")];
    let info = client.get_with(uri, &accept).await.expect(200);
    assert_eq!(info.header("content-type"), "application/vnd.xet-fileinfo+json");
    for name in ["x-xet-hash", "x-linked-size", "x-linked-etag", "link", "etag", "x-repo-commit"] {
        assert_eq!(info.header(name), head.header(name), "{name}");
    }
    assert!(info.header("link").contains(info.json()["reconstructionUrl"].as_str().unwrap()));
    assert_eq!(info.json()["hash"], head.header("x-xet-hash"));
    let small = client.get_with("/ann/m/resolve/main/.gitattributes", &accept).await.expect(206);
    assert_eq!(small.body.len(), 1, "what has no chunks is sent");
    ann.put("/api/models/ann/m/settings", json!({ "gated": "auto" })).await.expect(200);
    client.get_with(uri, &accept).await.expect(401);
    ann.put("/api/models/ann/m/settings", json!({ "gated": false })).await.expect(200);
    let raw = client.get("/ann/m/raw/main/w/model.weights").await.expect(200).text();
    assert!(raw.starts_with("version https://git-lfs.github.com/spec/v1\noid sha256:"));
    // A pattern for a name that none covered.
    let attributes = client.get("/ann/m/resolve/main/.gitattributes").await.text();
    assert!(attributes.ends_with("w/model.weights filter=lfs diff=lfs merge=lfs -text\n"), "{attributes}");

    let down = batch(&client, "ann/m", "download", json!(["basic"]), &data).await.expect(200).json();
    let href = local(&down["objects"][0]["actions"]["download"]["href"]);
    assert_eq!(client.get(&href).await.expect(200).body, data);
    hub.advance_seconds(15 * 60);
    client.get(&href).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn lfs_in_parts() {
    let hub = TestHub::with(|config| config.lfs_multipart_bytes = 300_000).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(1_000_000, 3);
    let answer =
        batch(&ann, "ann/m", "upload", json!(["basic", "multipart"]), &data).await.expect(200).json();
    assert_eq!(answer["transfer"], "multipart");
    let upload = answer["objects"][0]["actions"]["upload"].clone();
    let size: usize = upload["header"]["chunk_size"].as_str().unwrap().parse().unwrap();
    assert_eq!(size, 300_000);
    let complete = local(&upload["href"]);
    let mut parts = Vec::new();
    for (number, part) in data.chunks(size).enumerate().map(|(n, part)| (n + 1, part)) {
        let uri = local(&upload["header"][format!("{number:05}")]);
        let done = put_bytes(&ann, &uri, part).await.expect(200);
        parts.push(json!({ "partNumber": number, "etag": done.header("etag") }));
        if number == 1 {
            ann.post(&complete, json!({ "oid": sha256(&data), "parts": parts })).await.expect(400);
        }
    }
    assert_eq!(parts.len(), 4);
    ann.post(&complete, json!({ "oid": sha256(&data), "parts": parts })).await.expect(200);
    commit(&ann, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/x.bin").await.expect(200).body, data);
    hub.finish().await;
}

#[tokio::test]
async fn knowing_a_hash_gives_no_right_to_the_bytes() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    ann.post("/api/repos/create", json!({ "name": "secret", "private": true })).await.expect(200);
    create(&bob, "model", "b").await.expect(200);
    let data = noise(200_000, 4);
    upload(&ann, "ann/secret", "x.bin", &data).await;
    // Not "already there" for him, and not to be committed.
    let answer = batch(&bob, "bob/b", "upload", json!(["basic"]), &data).await.expect(200).json();
    assert!(answer["objects"][0]["actions"]["upload"].is_object());
    commit(&bob, "bob/b", &[lfs_line("x.bin", &data)]).await.expect(400);
    let down = batch(&bob, "bob/b", "download", json!(["basic"]), &data).await.expect(200).json();
    assert_eq!(down["objects"][0]["error"]["code"], 404);
    // With the bytes themselves it works, and they are kept once.
    upload(&bob, "bob/b", "x.bin", &data).await;
    assert_eq!(bob.get("/bob/b/resolve/main/x.bin").await.expect(200).body, data);
    hub.finish().await;
}

pub struct Cas {
    pub base: String,
    pub client: Client,
}

pub async fn cas(client: &Client, id: &str, scope: &str) -> Cas {
    let token = client.get(&format!("/api/models/{id}/xet-{scope}-token/main")).await.expect(200);
    assert_eq!(token.header("x-xet-cas-url"), token.json()["casUrl"]);
    let body = token.json();
    Cas { base: local(&body["casUrl"]), client: client.with_token(body["accessToken"].as_str().unwrap()) }
}

impl Cas {
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Reply {
        self.client.send(Method::POST, &format!("{}{path}", self.base), &[], Body::from(body)).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.client.get(&format!("{}{path}", self.base)).await
    }
}

pub fn xorb(chunks: &[Vec<u8>]) -> (XorbIndex, Vec<u8>) {
    let mut builder = Builder::default();
    let mut bytes = Vec::new();
    for chunk in chunks {
        let (_, _, encoded) = builder.push(Bytes::copy_from_slice(chunk));
        bytes.extend_from_slice(&encoded.header);
        bytes.extend_from_slice(&encoded.data);
    }
    (builder.finish(), bytes)
}

/// A shard of one file that is the whole of a xorb; `lie` may change its fields.
pub fn shard(index: &XorbIndex, sha: [u8; 32], lie: impl FnOnce(&mut Vec<u8>)) -> (Vec<u8>, String) {
    let mut hasher = FileHasher::default();
    let mut before = 0;
    for chunk in &index.chunks {
        hasher.push(chunk.hash, u64::from(chunk.raw_end - before));
        before = chunk.raw_end;
    }
    let hash = hasher.finish();
    let count = index.chunk_count();
    let proof = index.proof(&(0..count)).unwrap();
    // The head of an empty answer is the head of a shard.
    let mut bytes = bastide_xet::shard::dedup_answer(&[], &[0; 32], 0, 1)[..48].to_vec();
    bytes.extend_from_slice(hash.as_bytes());
    bytes.extend_from_slice(&(3u32 << 30).to_le_bytes());
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(index.hash.as_bytes());
    for number in [0, index.raw_bytes(), 0, count] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(proof.as_bytes());
    bytes.extend_from_slice(&[0; 16]);
    let mut words = sha;
    words.chunks_exact_mut(8).for_each(<[u8]>::reverse);
    bytes.extend_from_slice(&words);
    bytes.extend_from_slice(&[0; 16]);
    for _ in 0..2 {
        bytes.extend_from_slice(&[0xff; 32]);
        bytes.extend_from_slice(&[0; 16]);
    }
    lie(&mut bytes);
    (bytes, hash.to_string())
}

#[tokio::test]
async fn xet_upload_reconstruction_and_fetch() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let chunks: Vec<Vec<u8>> =
        (0..5).map(|n| noise(20_000 + n, n as u64)).chain([vec![7; 100_000]]).collect();
    let data = chunks.concat();
    let (index, bytes) = xorb(&chunks);
    let write = cas(&ann, "ann/m", "write").await;
    let (shard_bytes, file) = shard(&index, Sha256::digest(&data).into(), |_| {});
    // The shard before its xorb: unknown chunks.
    let early = write.post("/v2/shards", shard_bytes.clone()).await.expect(200).text();
    assert!(
        early.contains("\"type\":\"error\"") && early.contains("not uploaded to this repository"),
        "{early}"
    );
    let sent = write.post(&format!("/v1/xorbs/default/{}", index.hash), bytes.clone()).await.expect(200);
    assert_eq!(sent.json()["was_inserted"], true);
    let again =
        write.post(&format!("/xorbs/default-merkledb/{}", index.hash), bytes.clone()).await.expect(200);
    assert_eq!(again.json()["was_inserted"], false);
    let done = write.post("/v2/shards", shard_bytes.clone()).await.expect(200).text();
    assert!(done.trim_end().ends_with("{\"result\":1,\"type\":\"result\"}"), "{done}");
    assert_eq!(write.post("/v1/shards", shard_bytes).await.expect(200).json()["result"], 0);
    commit(&ann, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/x.bin").await.expect(200).body, data);
    let tree = ann.get("/api/models/ann/m/tree/main").await.json();
    assert_eq!(tree[1]["xetHash"], file);

    let read = cas(&hub.anonymous(), "ann/m", "read").await;
    let plan = read.get(&format!("/v1/reconstructions/{file}")).await.expect(200).json();
    let fetch = &plan["fetch_info"][index.hash.to_string()][0];
    let range = format!("bytes={}-{}", fetch["url_range"]["start"], fetch["url_range"]["end"]);
    let nobody = hub.anonymous();
    let uri = local(&fetch["url"]);
    assert_eq!(nobody.get_with(&uri, &[("range", &range)]).await.expect(206).body, bytes);
    // Another range, a changed address, a link that has ended: all forbidden, so that clients ask anew.
    nobody.get_with(&uri, &[("range", "bytes=0-1")]).await.expect(403);
    nobody.get(&uri.replace("e=", "e=9")).await.expect(403);
    let second = read.get(&format!("/v2/reconstructions/{file}")).await.expect(200).json();
    assert!(second["xorbs"][index.hash.to_string()][0]["ranges"][0]["bytes"].is_object());
    let part = read
        .client
        .get_with(&format!("{}/v1/reconstructions/{file}", read.base), &[("range", "bytes=30000-30001")])
        .await
        .expect(200)
        .json();
    assert_eq!(part["offset_into_first_range"], 10_000);
    let past = format!("bytes={}-", data.len());
    read.client
        .get_with(&format!("{}/v1/reconstructions/{file}", read.base), &[("range", &past)])
        .await
        .expect(416);
    // A read token writes nothing; tokens and links end.
    let refused = read.post(&format!("/v1/xorbs/default/{}", index.hash), bytes).await.expect(403);
    assert!(refused.text().contains("this token is for reading"), "{}", refused.text());
    hub.advance_seconds(16 * 60);
    read.get(&format!("/v1/reconstructions/{file}")).await.expect(401);
    nobody.get(&uri).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn lies_are_refused_and_nothing_of_them_is_kept() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let chunks = vec![noise(30_000, 1), noise(40_000, 2)];
    let data = chunks.concat();
    let (index, bytes) = xorb(&chunks);
    let write = cas(&ann, "ann/m", "write").await;
    let mut broken = bytes.clone();
    broken[20] ^= 1;
    for (body, path) in [
        (broken, index.hash.to_string()),
        (bytes.clone(), "0".repeat(64)),
        (bytes[..100].to_vec(), index.hash.to_string()),
    ] {
        write.post(&format!("/v1/xorbs/default/{path}"), body).await.expect(400);
    }
    write.post(&format!("/v1/xorbs/default/{}", index.hash), bytes).await.expect(200);
    let sha: [u8; 32] = Sha256::digest(&data).into();
    type Lie<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));
    let lies: [Lie<'_>; 4] = [
        ("file hash", &|bytes| bytes[48] ^= 1),
        ("proof", &|bytes| bytes[144] ^= 1),
        ("range", &|bytes| bytes[140] = 9),
        ("length", &|bytes| bytes[132] ^= 1),
    ];
    for (what, lie) in lies {
        let (bytes, _) = shard(&index, sha, lie);
        let refused = write.post("/v1/shards", bytes).await;
        assert_eq!(refused.status.as_u16(), 400, "{what}");
    }
    let (bytes, file) = shard(&index, Sha256::digest(b"other").into(), |_| {});
    let refused = write.post("/v1/shards", bytes).await.expect(400);
    assert!(refused.text().contains("SHA-256"));
    let read = cas(&ann, "ann/m", "read").await;
    read.get(&format!("/v1/reconstructions/{file}")).await.expect(404);
    commit(&ann, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(400);
    hub.finish().await;
}

#[tokio::test]
async fn one_repository_cannot_reach_into_another() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    ann.post("/api/repos/create", json!({ "name": "secret", "private": true })).await.expect(200);
    create(&bob, "model", "b").await.expect(200);
    let chunks = vec![noise(50_000, 1)];
    let data = chunks.concat();
    let (index, bytes) = xorb(&chunks);
    let hers = cas(&ann, "ann/secret", "write").await;
    hers.post(&format!("/v1/xorbs/default/{}", index.hash), bytes.clone()).await.expect(200);
    let (shard_bytes, file) = shard(&index, Sha256::digest(&data).into(), |_| {});
    hers.post("/v1/shards", shard_bytes.clone()).await.expect(200);

    let his = cas(&bob, "bob/b", "write").await;
    // He knows every hash and every proof; it is no use.
    let refused = his.post("/v1/shards", shard_bytes).await.expect(400);
    assert!(refused.text().contains("not uploaded to this repository"));
    his.get(&format!("/v1/reconstructions/{file}")).await.expect(404);
    his.get(&format!("/v1/chunks/default/{}", index.chunks[0].hash)).await.expect(404);
    // His token at her address.
    let crossed = Cas { base: hers.base.clone(), client: his.client.clone() };
    crossed.get(&format!("/v1/reconstructions/{file}")).await.expect(401);
    // The same bytes from him are taken as if they were new.
    let sent = his.post(&format!("/v1/xorbs/default/{}", index.hash), bytes).await.expect(200);
    assert_eq!(sent.json()["was_inserted"], true);
    hers.get(&format!("/v1/chunks/default/{}", index.chunks[0].hash)).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn xet_tokens_and_links_die_with_their_token() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    ann.post("/api/repos/create", json!({ "name": "m", "private": true })).await.expect(200);
    let data = noise(100_000, 9);
    upload(&ann, "ann/m", "x.bin", &data).await;
    let read = cas(&ann, "ann/m", "read").await;
    let file = ann.head("/ann/m/resolve/main/x.bin").await.header("x-xet-hash").to_owned();
    let plan = read.get(&format!("/v1/reconstructions/{file}")).await.expect(200).json();
    let (_, fetches) = plan["fetch_info"].as_object().unwrap().iter().next().unwrap();
    let uri = local(&fetches[0]["url"]);
    let down = batch(&ann, "ann/m", "download", json!(["basic"]), &data).await.json();
    let href = local(&down["objects"][0]["actions"]["download"]["href"]);
    hub.anonymous().get(&uri).await.expect(206);
    hub.anonymous().get(&href).await.expect(200);

    let context = hub.operator();
    let owner = hub.hub.access(&context).namespace(&"ann".parse().unwrap()).await.unwrap();
    let token = hub.hub.list_tokens(&owner).await.unwrap()[0].id;
    hub.hub.revoke_token(&context, &owner, token).await.unwrap();
    read.get(&format!("/v1/reconstructions/{file}")).await.expect(401);
    hub.anonymous().get(&uri).await.expect(403);
    hub.anonymous().get(&href).await.expect(403);
    hub.finish().await;
}

#[tokio::test]
async fn a_full_disk_says_so_and_leaves_everything_as_it_was() {
    use bastide_blobs::{Blobs, Faults, Point};
    let faults = Faults::armed();
    let plan = faults.clone();
    let hub =
        TestHub::over(move |folder| Blobs::folder(&folder.join("blobs")).unwrap().with_faults(faults)).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(100_000, 5);
    for point in [Point::Stage, Point::Sync, Point::Link] {
        plan.fail(point, 0, 1, std::io::ErrorKind::StorageFull);
        let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
        let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
        let refused = put_bytes(&ann, &href, &data).await;
        assert_eq!(refused.status.as_u16(), 507, "{point:?}: {}", refused.text());
    }
    plan.fail(Point::Sync, 0, 1, std::io::ErrorKind::StorageFull);
    commit(&ann, "ann/m", &[crate::put("a", "1")]).await.expect(507);
    assert_eq!(ann.get("/api/models/ann/m/commits/main").await.json().as_array().unwrap().len(), 1);
    upload(&ann, "ann/m", "x.bin", &data).await;
    commit(&ann, "ann/m", &[crate::put("a", "1")]).await.expect(200);
    hub.finish().await;
}

/// Threads that may block, in a runtime of its own: some more than uploads are worked at.
const THREADS: usize = 80;

#[test]
fn uploads_that_wait_for_their_clients_hold_no_threads() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(THREADS).enable_all().build().unwrap();
    runtime.block_on(async {
        let hub = TestHub::open().await;
        let ann = hub.user("ann").await;
        create(&ann, "model", "m").await.expect(200);
        let mut uploads = tokio::task::JoinSet::new();
        let mut senders = Vec::new();
        for seed in 0..THREADS as u64 * 2 {
            let data = noise(40_000, seed);
            let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
            let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
            let (sender, parts) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(2);
            sender.send(Ok(Bytes::copy_from_slice(&data[..1]))).await.unwrap();
            let parts = futures_util::stream::unfold(parts, |mut parts| async {
                parts.recv().await.map(|part| (part, parts))
            });
            let parts = futures_util::StreamExt::fuse(parts);
            let client = ann.clone();
            uploads.spawn(async move {
                client.send(Method::PUT, &href, &[], Body::from_stream(parts)).await.expect(200);
            });
            senders.push((sender, data));
        }
        while senders.iter().any(|(sender, _)| sender.capacity() < sender.max_capacity()) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        // All of them wait for the rest: others are served.
        let others = async {
            let data = noise(100_000, 77);
            upload(&ann, "ann/m", "other.bin", &data).await;
            let found = ann.get("/ann/m/resolve/main/other.bin").await.expect(200);
            assert_eq!(found.body, data);
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), others).await.expect("a hub that answers");
        for (sender, data) in senders {
            for part in data[1..].chunks(30_000) {
                sender.send(Ok(Bytes::copy_from_slice(part))).await.unwrap();
            }
        }
        while let Some(done) = uploads.join_next().await {
            done.unwrap();
        }
    });
}
