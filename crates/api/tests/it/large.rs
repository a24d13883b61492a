//! Large files that are sent again, lost and healed, and what must not be learnt from them.

use bastide_testkit::TestHub;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::uploads::{Cas, batch, cas, lfs_line, local, noise, put_bytes, shard, upload, xorb};
use crate::{commit, create, put};

/// More than the grace.
const LATER: i64 = 100_000;

async fn collect(hub: &TestHub) {
    let done = hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    assert!(done.problems.is_empty(), "{:?}", done.problems);
}

async fn assert_well(hub: &TestHub) {
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
}

/// The files of a folder of blobs and of all folders in it.
fn blobs(hub: &TestHub, class: &str) -> Vec<std::path::PathBuf> {
    fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let entries = entries.map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
    }
    walk(&hub.data().join("blobs").join(class))
}

fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A xorb of one chunk that is stored as it is.
fn plain_xorb(chunk: &[u8]) -> Vec<u8> {
    let len = u32::try_from(chunk.len()).unwrap().to_le_bytes();
    [&[0, len[0], len[1], len[2], 0, len[0], len[1], len[2]], chunk].concat()
}

/// What a repository answers about a file over one chunk that it sends uncompressed.
async fn answers(client: &bastide_testkit::Client, id: &str, chunk: &[u8]) -> Vec<Value> {
    let (index, _) = xorb(&[chunk.to_vec()]);
    let write = cas(client, id, "write").await;
    let asked = write.get(&format!("/v1/chunks/default/{}", index.chunks[0].hash)).await;
    let sent = write.post(&format!("/v1/xorbs/default/{}", index.hash), plain_xorb(chunk)).await.expect(200);
    let (bytes, file) = shard(&index, Sha256::digest(chunk).into(), |_| {});
    let registered = write.post("/v1/shards", bytes).await.expect(200);
    let read = cas(client, id, "read").await;
    let plan = read.get(&format!("/v1/reconstructions/{file}")).await.expect(200).json();
    let fetch = &plan["fetch_info"][index.hash.to_string()][0];
    let range = format!("bytes={}-{}", fetch["url_range"]["start"], fetch["url_range"]["end"]);
    let bytes = client.get_with(&local(&fetch["url"]), &[("range", &range)]).await.expect(206);
    vec![
        json!(asked.status.as_u16()),
        sent.json(),
        registered.json(),
        fetch["url_range"].clone(),
        json!(bytes.body.to_vec()),
    ]
}

/// Somebody guesses what another's private repository holds, and sends the guess in another form than
/// the hub would give it: what comes back is what was sent, whether the guess was right or not.
#[tokio::test]
async fn what_others_hold_cannot_be_tested_by_sending_it() {
    let hub = TestHub::open().await;
    let (ann, eve) = (hub.user("ann").await, hub.user("eve").await);
    ann.post("/api/repos/create", json!({ "name": "secret", "private": true })).await.expect(200);
    let guess = |pin: u32| format!("pin = {pin:04}\n{}", "#".repeat(3000)).into_bytes();
    upload(&ann, "ann/secret", "config.bin", &guess(4711)).await;
    create(&eve, "model", "probe").await.expect(200);
    create(&eve, "model", "other").await.expect(200);
    let mut seen = Vec::new();
    for pin in [4710, 4711, 4712] {
        let mut answer = answers(&eve, "eve/probe", &guess(pin)).await;
        assert_eq!(answer.pop().unwrap(), json!(plain_xorb(&guess(pin))), "the bytes that were sent");
        seen.push(answer);
    }
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:?}");
    // Nor later, when the job that stores equal bytes once has run.
    hub.run_jobs().await;
    let again = answers(&eve, "eve/other", &guess(4711)).await;
    assert_eq!(again[4], json!(plain_xorb(&guess(4711))));
    assert_well(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn equal_bytes_of_two_repositories_are_stored_once_and_live_as_long_as_either() {
    let hub = TestHub::open().await;
    let (ann, bob) = (hub.user("ann").await, hub.user("bob").await);
    create(&ann, "model", "a").await.expect(200);
    create(&bob, "model", "b").await.expect(200);
    let data = noise(200_000, 4);
    upload(&ann, "ann/a", "x.bin", &data).await;
    upload(&bob, "bob/b", "x.bin", &data).await;
    assert_eq!(hub.count("SELECT COUNT(DISTINCT blob_key) FROM xorb"), 2);
    hub.run_jobs().await;
    assert_eq!(hub.count("SELECT COUNT(DISTINCT blob_key) FROM xorb"), 1);
    assert_well(&hub).await;
    ann.delete("/api/repos/delete", json!({ "name": "a" })).await.expect(200);
    for _ in 0..3 {
        hub.advance_seconds(100 * 365 * 86_400);
        collect(&hub).await;
    }
    assert_eq!(hub.count("SELECT COUNT(*) FROM xorb"), 1);
    assert_eq!((blobs(&hub, "xorb").len(), blobs(&hub, "xorb-index").len()), (1, 1));
    let bob = hub.token("bob", bastide_core::TokenRole::Write).await;
    assert_eq!(bob.get("/bob/b/resolve/main/x.bin").await.expect(200).body, data);
    hub.finish().await;
}

/// A duplicate has the rights of its original, and keeps them when that is gone.
#[tokio::test]
async fn a_duplicate_lives_on_without_its_original() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(200_000, 4);
    upload(&ann, "ann/m", "x.bin", &data).await;
    ann.post("/api/models/ann/m/duplicate", json!({ "repository": "ann/copy" })).await.expect(200);
    ann.delete("/api/repos/delete", json!({ "name": "m" })).await.expect(200);
    for _ in 0..3 {
        hub.advance_seconds(LATER);
        collect(&hub).await;
    }
    assert_eq!(ann.get("/ann/copy/resolve/main/x.bin").await.expect(200).body, data);
    assert_well(&hub).await;
    hub.finish().await;
}

/// Whoever sends the bytes again makes good what was lost, by the plain way too.
#[tokio::test]
async fn lost_and_damaged_bytes_are_replaced_by_the_next_upload() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(400_000, 4);
    upload(&ann, "ann/m", "x.bin", &data).await;
    type Harm<'a> = (&'a str, &'a dyn Fn(&std::path::Path));
    let harms: [Harm<'_>; 4] = [
        ("missing", &|path| std::fs::remove_file(path).unwrap()),
        ("short", &|path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("damaged", &flip),
        ("without an index", &|path| {
            let index = path.to_str().unwrap().replace("/xorb/", "/xorb-index/");
            let folder = std::path::Path::new(&index).parent().unwrap().to_owned();
            std::fs::remove_dir_all(folder).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let named = hub.count("SELECT COUNT(*) FROM xorb");
        assert_eq!(named, 1, "{what}");
        harm(&blobs(&hub, "xorb")[0]);
        let other = hub.reopened().await;
        let ann = other.client(ann.token.as_deref());
        if what == "damaged" {
            // Only a deep check sees it; then the content is not "already here" any more.
            let checked = other.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
            assert!(!checked.problems.is_empty());
        }
        let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
        let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
        put_bytes(&ann, &href, &data).await.expect(200);
        assert_eq!(ann.get("/ann/m/resolve/main/x.bin").await.expect(200).body, data, "{what}");
        let checked = other.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
        assert!(checked.problems.is_empty(), "{what}: {:?}", checked.problems);
        assert_eq!(blobs(&hub, "xorb").len(), 1, "{what}");
    }
    hub.finish().await;
}

/// A xorb that is sent again heals even what no check has seen, and nothing is built on what is lost.
#[tokio::test]
async fn xet_uploads_heal_and_do_not_build_on_lost_bytes() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let chunks = vec![noise(50_000, 1), noise(60_000, 2)];
    let data = chunks.concat();
    let (index, bytes) = xorb(&chunks);
    let write = cas(&ann, "ann/m", "write").await;
    let send = async |write: &Cas| {
        write.post(&format!("/v1/xorbs/default/{}", index.hash), bytes.clone()).await.expect(200);
    };
    send(&write).await;
    let (shard_bytes, _) = shard(&index, Sha256::digest(&data).into(), |_| {});
    write.post("/v1/shards", shard_bytes.clone()).await.expect(200);
    commit(&ann, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(200);
    // The bytes rot; the same xorb comes again.
    flip(&blobs(&hub, "xorb")[0]);
    send(&write).await;
    assert_well(&hub).await;
    assert_eq!(ann.get("/ann/m/resolve/main/x.bin").await.expect(200).body, data);
    // They are lost: neither an offer nor the known file stands for them.
    let chunk = format!("/v1/chunks/default/{}", index.chunks[0].hash);
    write.get(&chunk).await.expect(200);
    std::fs::remove_file(&blobs(&hub, "xorb")[0]).unwrap();
    write.get(&chunk).await.expect(404);
    write.post("/v1/shards", shard_bytes.clone()).await.expect(400);
    send(&write).await;
    write.post("/v1/shards", shard_bytes.clone()).await.expect(200);
    assert_well(&hub).await;
    // A deep check marks what it finds: clients forget, and what they send is taken.
    flip(&blobs(&hub, "xorb")[0]);
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(!checked.problems.is_empty());
    let fresh = cas(&ann, "ann/m", "write").await;
    assert_ne!(fresh.base, write.base, "another epoch");
    fresh.get(&chunk).await.expect(404);
    fresh.post("/v1/shards", shard_bytes).await.expect(400);
    send(&fresh).await;
    assert_well(&hub).await;
    hub.finish().await;
}

/// A pointer that is committed as a file stands for a large file: its content has to be here.
#[tokio::test]
async fn a_pointer_that_comes_as_a_file_is_a_large_file() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(200_000, 3);
    let pointer = |data: &[u8], size: usize| {
        let sha256 = crate::uploads::sha256(data);
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
    };
    let absent = commit(&ann, "ann/m", &[put("x.bin", pointer(b"absent", 6))]).await.expect(400);
    assert!(absent.text().contains("upload it first"), "{}", absent.text());
    upload(&ann, "ann/m", "x.bin", &data).await;
    commit(&ann, "ann/m", &[put("y.bin", pointer(&data, 1))]).await.expect(400);
    commit(&ann, "ann/m", &[put("y.bin", pointer(&data, data.len()))]).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/y.bin").await.expect(200).body, data);
    assert_well(&hub).await;
    hub.finish().await;
}

/// `resolve` gives content or an error. Git's own view stays.
#[tokio::test]
async fn a_pointer_is_never_given_for_the_content_that_is_lost() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    upload(&ann, "ann/m", "x.bin", &noise(200_000, 3)).await;
    hub.tamper("DELETE FROM xet_file");
    let lost = ann.get("/ann/m/resolve/main/x.bin").await.expect(404);
    assert!(!lost.text().contains("git-lfs"), "{}", lost.text());
    ann.head("/ann/m/resolve/main/x.bin").await.expect(404);
    assert!(ann.get("/ann/m/raw/main/x.bin").await.expect(200).text().starts_with("version https://git-lfs"));
    hub.finish().await;
}

struct Multipart {
    complete: String,
    parts: Vec<String>,
    size: usize,
}

async fn multipart(client: &bastide_testkit::Client, data: &[u8]) -> Multipart {
    let answer = batch(client, "ann/m", "upload", json!(["multipart"]), data).await.expect(200).json();
    let upload = answer["objects"][0]["actions"]["upload"].clone();
    let size = upload["header"]["chunk_size"].as_str().unwrap().parse().unwrap();
    let parts =
        (1..=data.len().div_ceil(size)).map(|number| local(&upload["header"][format!("{number:05}")]));
    Multipart { complete: local(&upload["href"]), parts: parts.collect(), size }
}

async fn put_parts(client: &bastide_testkit::Client, upload: &Multipart, data: &[u8]) -> Value {
    let mut tags = Vec::new();
    for ((uri, part), number) in upload.parts.iter().zip(data.chunks(upload.size)).zip(1..) {
        let done = put_bytes(client, uri, part).await.expect(200);
        tags.push(json!({ "partNumber": number, "etag": done.header("etag") }));
    }
    json!({ "oid": crate::uploads::sha256(data), "parts": tags })
}

/// Parts that build on what is here from long ago hold it until their upload ends.
#[tokio::test]
async fn parts_over_old_chunks_survive_collection() {
    let hub = TestHub::with(|config| config.lfs_multipart_bytes = 300_000).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    // A file that no commit points at, and that collection is about to take.
    let old = noise(280_000, 1);
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &old).await.expect(200).json();
    put_bytes(&ann, &local(&answer["objects"][0]["actions"]["upload"]["href"]), &old).await.expect(200);
    hub.advance_seconds(LATER);
    let data = [old.clone(), noise(400_000, 2)].concat();
    let upload = multipart(&ann, &data).await;
    let tags = put_parts(&ann, &upload, &data).await;
    collect(&hub).await;
    ann.post(&upload.complete, tags).await.expect(200);
    commit(&ann, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/x.bin").await.expect(200).body, data);
    // "It is here" is a promise too: the next collection would have taken it.
    hub.advance_seconds(LATER);
    let present = batch(&ann, "ann/m", "upload", json!(["basic"]), &old).await.expect(200).json();
    assert!(present["objects"][0].get("actions").is_none());
    collect(&hub).await;
    commit(&ann, "ann/m", &[lfs_line("old.bin", &old)]).await.expect(200);
    assert_well(&hub).await;
    hub.finish().await;
}

#[tokio::test]
async fn an_upload_that_has_ended_says_so_again_and_takes_no_more_parts() {
    let hub = TestHub::with(|config| config.lfs_multipart_bytes = 300_000).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = noise(700_000, 2);
    let upload = multipart(&ann, &data).await;
    let tags = put_parts(&ann, &upload, &data).await;
    ann.post(&upload.complete, tags.clone()).await.expect(200);
    ann.post(&upload.complete, tags.clone()).await.expect(200);
    let events = hub.count("SELECT COUNT(*) FROM event WHERE action = 'upload.part'");
    put_bytes(&ann, &upload.parts[0], &data[..300_000]).await.expect(404);
    assert_eq!(hub.count("SELECT COUNT(*) FROM event WHERE action = 'upload.part'"), events);
    // One that has ended without its file is not complete.
    let other = noise(700_000, 3);
    let late = multipart(&ann, &other).await;
    let tags = put_parts(&ann, &late, &other).await;
    hub.tamper("UPDATE lfs_upload SET expires_at = 0");
    ann.post(&late.complete, tags).await.expect(404);
    put_bytes(&ann, &late.parts[0], &other[..300_000]).await.expect(404);
    hub.finish().await;
}

/// A body with another content than was named: "nothing was stored" is true.
#[tokio::test]
async fn of_a_body_with_the_wrong_hash_nothing_stays() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let (data, wrong) = (noise(300_000, 1), noise(300_000, 2));
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &data).await.expect(200).json();
    let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
    let refused = put_bytes(&ann, &href, &wrong).await.expect(400);
    assert!(refused.text().contains("nothing was stored"));
    for table in ["xorb", "repo_xorb", "dedup_chunk", "xet_file"] {
        assert_eq!(hub.count(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
    assert_eq!((blobs(&hub, "xorb").len(), blobs(&hub, "xorb-index").len()), (0, 0));
    // What was here before stays, though the wrong body had it.
    put_bytes(&ann, &href, &data).await.expect(200);
    let longer = [data.clone(), noise(1000, 5)].concat();
    let answer = batch(&ann, "ann/m", "upload", json!(["basic"]), &longer).await.expect(200).json();
    let href = local(&answer["objects"][0]["actions"]["upload"]["href"]);
    let mut other = longer.clone();
    *other.last_mut().unwrap() ^= 1;
    put_bytes(&ann, &href, &other).await.expect(400);
    commit(&ann, "ann/m", &[lfs_line("x.bin", &data)]).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/x.bin").await.expect(200).body, data);
    hub.finish().await;
}
