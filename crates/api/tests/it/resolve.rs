//! Downloads of regular files.

use axum::body::Body;
use bastide_testkit::TestHub;
use http::Method;
use serde_json::json;

use crate::{commit, create, put};

#[tokio::test]
async fn headers_ranges_and_misses() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("d/hello.txt", "hello\n"), put("empty", ""), put("page.html", "<script>")])
        .await
        .expect(200);
    let client = hub.anonymous();
    let uri = "/ann/m/resolve/main/d/hello.txt";
    let head = client.head(uri).await.expect(200);
    assert_eq!(head.header("etag"), "\"ce013625030ba8dba906f756967f9e9ca394464a\"");
    assert_eq!((head.header("content-length"), head.header("accept-ranges")), ("6", "bytes"));
    assert_eq!(head.header("x-repo-commit").len(), 40);
    assert!(head.body.is_empty());
    assert_eq!(client.get(uri).await.expect(200).text(), "hello\n");
    assert_eq!(client.get("/ann/m/raw/main/d/hello.txt").await.expect(200).text(), "hello\n");

    let range = async |text| client.get_with(uri, &[("range", text)]).await;
    let part = range("bytes=1-3").await.expect(206);
    assert_eq!((part.text().as_str(), part.header("content-range")), ("ell", "bytes 1-3/6"));
    assert_eq!(range("bytes=-2").await.expect(206).text(), "o\n");
    assert_eq!(range("bytes=0-100000").await.expect(206).text(), "hello\n");
    assert_eq!(range("bytes=6-").await.expect(416).header("content-range"), "bytes */6");

    let empty = client.get("/ann/m/resolve/main/empty").await.expect(200);
    assert_eq!((empty.header("content-length"), empty.body.len()), ("0", 0));

    let missing = client.get("/ann/m/resolve/main/nope.json").await.expect(404);
    assert_eq!(missing.header("x-error-code"), "EntryNotFound");
    assert_eq!(missing.header("x-repo-commit").len(), 40);
    let revision = client.get("/ann/m/resolve/nope/a").await.expect(404);
    assert_eq!(revision.header("x-error-code"), "RevisionNotFound");
    client.get("/ann/m/resolve/main/d").await.expect(404);

    // What people upload is never a page of this hub.
    let page = client.get("/ann/m/resolve/main/page.html").await.expect(200);
    assert!(page.header("content-type").starts_with("text/plain"));
    assert!(page.header("content-security-policy").contains("sandbox"));
    hub.finish().await;
}

#[tokio::test]
async fn every_way_to_write_a_revision_and_a_path() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let name = "weird ?#%+ 🤗/it's (1).txt";
    commit(&ann, "ann/m", &[put(name, "odd")]).await.expect(200);
    ann.post("/api/models/ann/m/branch/feature%2Fx", json!({})).await.expect(200);
    ann.post("/api/models/ann/m/tag/main", json!({ "tag": "v1.0" })).await.expect(200);
    let sha = ann.get("/api/models/ann/m").await.json()["sha"].as_str().unwrap().to_owned();
    let encoded = "weird%20%3F%23%25%2B%20%F0%9F%A4%97";
    for rev in [
        "main",
        "refs%2Fheads%2Fmain",
        "refs/heads/main",
        "feature%2Fx",
        "feature/x",
        "v1.0",
        "HEAD",
        &sha,
        &sha[..8],
    ] {
        for path in [format!("{encoded}/it's%20(1).txt"), format!("{encoded}%2Fit%27s%20%281%29.txt")] {
            let uri = format!("/ann/m/resolve/{rev}/{path}");
            assert_eq!(ann.get(&uri).await.expect(200).text(), "odd", "{uri}");
        }
        ann.get(&format!("/api/models/ann/m/tree/{rev}/{encoded}")).await.expect(200);
    }
    hub.finish().await;
}

#[tokio::test]
async fn every_delivery_is_recorded_even_across_a_crash() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "hello")]).await.expect(200);
    ann.get("/ann/m/resolve/main/a.txt").await.expect(200);
    hub.anonymous().get_with("/ann/m/resolve/main/a.txt", &[("range", "bytes=0-1")]).await.expect(206);
    hub.anonymous().get("/ann/m/raw/main/a.txt").await.expect(200);
    ann.head("/ann/m/resolve/main/a.txt").await.expect(200);
    // As after a crash: another process finds the journal.
    let other = hub.reopened().await;
    assert_eq!(other.hub.flush_reads().await.unwrap(), 3);
    assert_eq!(other.hub.flush_reads().await.unwrap(), 0);
    let context = hub.operator();
    let path = bastide_core::RepoPath::parse(bastide_core::RepoKind::Model, "ann/m").unwrap();
    let access = other.hub.access(&context).repo(&path).await.unwrap();
    let reads = other.hub.reads_of(&access, 10).await.unwrap();
    let mut facts: Vec<_> =
        reads.iter().map(|read| (read.via.as_str(), read.bytes, read.actor_id.is_some())).collect();
    facts.sort();
    assert_eq!(facts, [("raw", 5, false), ("resolve", 2, false), ("resolve", 5, true)]);
    drop(other);
    hub.finish().await;
}

#[tokio::test]
async fn a_copy_is_not_sent_again_and_a_part_only_of_the_same_content() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", "first one")]).await.expect(200);
    let uri = "/ann/m/resolve/main/a.txt";
    let tag = ann.head(uri).await.expect(200).header("etag").to_owned();
    let same = ann.get_with(uri, &[("if-none-match", &tag), ("range", "bytes=0-0")]).await.expect(304);
    assert_eq!((same.header("etag"), same.body.len()), (tag.as_str(), 0));
    assert_eq!(same.header("x-repo-commit").len(), 40);
    assert_eq!(
        ann.get_with(uri, &[("if-range", &tag), ("range", "bytes=6-")]).await.expect(206).text(),
        "one"
    );
    let head = ann.send(Method::HEAD, uri, &[("range", "bytes=6-")], Body::empty()).await.expect(200);
    assert_eq!(head.header("content-length"), "9");
    commit(&ann, "ann/m", &[put("a.txt", "other two")]).await.expect(200);
    // Whoever holds the first half of another content gets all of this one.
    let whole = ann.get_with(uri, &[("if-range", &tag), ("range", "bytes=6-")]).await.expect(200);
    assert_eq!(whole.text(), "other two");
    ann.get_with(uri, &[("if-none-match", &tag)]).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn content_that_cannot_be_read_is_an_answer_not_a_cut_connection() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let data = crate::uploads::noise(300_000, 77);
    crate::uploads::upload(&ann, "ann/m", "x.bin", &data).await;
    fn cut(folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                cut(&entry.path());
            } else {
                std::fs::remove_file(entry.path()).unwrap();
                std::fs::write(entry.path(), b"short").unwrap();
            }
        }
    }
    cut(&hub.data().join("blobs/xorb"));
    let broken = ann.get("/ann/m/resolve/main/x.bin").await.expect(500);
    assert_eq!(broken.json()["error"], "internal error");
    hub.finish().await;
}
