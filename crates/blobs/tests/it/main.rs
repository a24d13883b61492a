//! One suite, run on a folder and on a real S3 server in this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

// Of the test kit, which cannot be used from here: it uses this crate.
#[path = "../../../testkit/src/s3.rs"]
mod s3;

use std::io::ErrorKind;

use bastide_blobs::{BlobError, BlobKey, Blobs, Class, Faults, Point, RangeBody};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;

fn key(name: &str) -> BlobKey {
    BlobKey::new(Class::Xorb, name).unwrap()
}

/// More than one read, and no multiple of anything.
fn content() -> Bytes {
    (0..1_300_001u32).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>().into()
}

async fn suite(blobs: Blobs) {
    let content = content();
    blobs.put(&key("abcd1"), content.clone()).await.unwrap();
    assert!(matches!(blobs.put(&key("abcd1"), "other".into()).await, Err(BlobError::Exists(_))));
    assert!(matches!(blobs.open(&key("none1")).await, Err(BlobError::NotFound(_))));

    let reader = blobs.open(&key("abcd1")).await.unwrap();
    assert_eq!(reader.len(), content.len() as u64);
    for (start, len) in [(0, 0), (0, 1), (7, 600_000), (1_300_000, 1), (0, 1_300_001)] {
        assert_eq!(reader.read_at(start as u64, len).await.unwrap(), content[start..start + len]);
    }
    assert!(matches!(reader.read_at(1_300_000, 2).await, Err(BlobError::Truncated(_))));
    assert!(matches!(reader.read_at(u64::MAX, 2).await, Err(BlobError::Truncated(_))));

    let body = RangeBody::new(reader, 5, 1_300_000);
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(1_299_995));
    assert_eq!(body.collect().await.unwrap().to_bytes(), content[5..1_300_000]);

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    blobs.fetch_to(&key("abcd1"), &copy).await.unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), content);

    blobs.put(&key("abce2"), Bytes::new()).await.unwrap();
    let mut listed: Vec<_> = blobs.list(Class::Xorb).await.unwrap();
    listed.sort_by_key(|blob| blob.size);
    let listed: Vec<_> = listed.into_iter().map(|blob| (blob.key, blob.size)).collect();
    assert_eq!(listed, [(key("abce2"), 0), (key("abcd1"), 1_300_001)]);
    assert!(blobs.list(Class::Pack).await.unwrap().is_empty());

    blobs.delete(&key("abce2")).await.unwrap();
    blobs.delete(&key("abce2")).await.unwrap();
    assert!(matches!(blobs.open(&key("abce2")).await, Err(BlobError::NotFound(_))));
}

/// Wrong keys were found out by the first upload.
#[tokio::test]
async fn a_probe_finds_wrong_keys() {
    let server = s3::Server::start().await;
    server.blobs().probe().await.unwrap();
    assert!(server.blobs().list(Class::Xorb).await.unwrap().is_empty());
    assert!(matches!(server.blobs_in("blobs", "wrong").probe().await, Err(BlobError::Object(_))));
}

#[tokio::test]
async fn on_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    suite(Blobs::folder(folder.path()).unwrap()).await;
}

#[tokio::test]
async fn on_s3() {
    let server = s3::Server::start().await;
    suite(server.blobs()).await;
    // Large enough for several parts.
    server.blobs().put(&key("large"), large()).await.unwrap();
    assert_eq!(server.blobs().get(&key("large"), 1 << 30).await.unwrap(), large());
}

fn large() -> Bytes {
    vec![7; 40 * 1024 * 1024].into()
}

/// Each point at which storing can fail: no blob, no litter, and the next try succeeds.
async fn failures(blobs: Blobs, scratch: &std::path::Path) {
    let faults = Faults::armed();
    let blobs = blobs.with_faults(faults.clone());
    for (at, point) in [Point::Stage, Point::Write, Point::Sync, Point::Link].into_iter().enumerate() {
        let key = key(&format!("abcd{at}"));
        faults.fail(point, 0, 1, ErrorKind::StorageFull);
        assert!(matches!(blobs.put(&key, content()).await, Err(BlobError::Full)), "{point:?}");
        assert_eq!(blobs.list(Class::Xorb).await.unwrap().len(), at);
        assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
        blobs.put(&key, content()).await.unwrap();
    }
    let reader = blobs.open(&key("abcd0")).await.unwrap();
    faults.fail(Point::Read, 0, 1, ErrorKind::TimedOut);
    assert!(matches!(reader.read_at(0, 10).await, Err(BlobError::Io(_))));
    faults.fail(Point::ShortRead, 0, 1, ErrorKind::UnexpectedEof);
    assert!(matches!(reader.read_at(0, 10).await, Err(BlobError::Truncated(_))));
    assert_eq!(reader.read_at(0, 10).await.unwrap(), content()[..10]);
    faults.fail(Point::Delete, 0, 1, ErrorKind::TimedOut);
    assert!(blobs.delete(&key("abcd0")).await.is_err());
    blobs.delete(&key("abcd0")).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_or_a_failed_link_leaves_no_blob_and_no_litter() {
    let folder = tempfile::tempdir().unwrap();
    failures(Blobs::folder(folder.path()).unwrap(), &folder.path().join("tmp")).await;
}

#[tokio::test]
async fn the_same_failures_before_a_bucket() {
    let server = s3::Server::start().await;
    let scratch = tempfile::tempdir().unwrap();
    failures(server.blobs_with(scratch.path()), scratch.path()).await;
}

#[tokio::test]
async fn a_full_bucket_is_full_and_not_a_fault_of_ours() {
    let server = s3::Server::start().await;
    // The library asks again when it hears of a fault of the server.
    for _ in 0..10 {
        server.fail(Method::PUT, s3::Fault::Refuse(StatusCode::INSUFFICIENT_STORAGE, "XMinioStorageFull"));
    }
    assert!(matches!(server.blobs().put(&key("abcd1"), content()).await, Err(BlobError::Full)));
    let server = s3::Server::start().await;
    server.fail(Method::PUT, s3::Fault::Refuse(StatusCode::FORBIDDEN, "QuotaExceeded"));
    assert!(matches!(server.blobs().put(&key("abcd1"), content()).await, Err(BlobError::Full)));
    server.blobs().put(&key("abcd1"), content()).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_no_failure() {
    let server = s3::Server::start().await;
    server.fail(Method::PUT, s3::Fault::LoseAnswer);
    server.blobs().put(&key("abcd1"), content()).await.unwrap();
    assert_eq!(server.blobs().get(&key("abcd1"), 1 << 30).await.unwrap(), content());
}

/// Uploads in parts that the server thinks are under way. (A part that was on the wire while its
/// upload was taken back may stay a while.)
fn unfinished(server: &s3::Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.files()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".upload-")).collect()
}

async fn until_nothing_is_unfinished(server: &s3::Server) {
    for _ in 0..200 {
        if unfinished(server).is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("left behind: {:?}", unfinished(server));
}

#[tokio::test]
async fn an_upload_in_parts_that_fails_is_taken_back() {
    let server = s3::Server::start().await;
    server.fail(Method::PUT, s3::Fault::Refuse(StatusCode::FORBIDDEN, "AccessDenied"));
    assert!(server.blobs().put(&key("large"), large()).await.is_err());
    until_nothing_is_unfinished(&server).await;
    server.blobs().put(&key("large"), large()).await.unwrap();
}

#[tokio::test]
async fn an_upload_in_parts_that_is_given_up_is_taken_back() {
    let server = s3::Server::start().await;
    let blobs = server.blobs();
    let mut given_up = 0;
    for wait in 0..40 {
        let key = key(&format!("large{wait}"));
        let put = blobs.put(&key, large());
        if tokio::time::timeout(std::time::Duration::from_millis(wait * 10), put).await.is_ok() {
            break;
        }
        given_up += 1;
    }
    assert!(given_up > 0);
    until_nothing_is_unfinished(&server).await;
}

#[tokio::test]
async fn a_truncated_blob_is_an_error_and_never_short() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(folder.path()).unwrap();
    blobs.put(&key("abcd1"), content()).await.unwrap();
    let reader = blobs.open(&key("abcd1")).await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join("xorb/ab/cd/abcd1")).unwrap();
    file.set_len(1000).unwrap();
    assert!(matches!(reader.read_at(900, 200).await, Err(BlobError::Truncated(_))));
}

#[tokio::test]
async fn what_is_not_stored_is_gone_and_old_litter_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(folder.path()).unwrap();
    let mut staged = blobs.stage().await.unwrap();
    staged.write(b"half").await.unwrap();
    drop(staged);
    std::fs::write(folder.path().join("tmp/left-by-a-crash"), b"x").unwrap();
    assert_eq!(blobs.sweep_temporary(std::time::Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(blobs.sweep_temporary(std::time::Duration::ZERO).await.unwrap(), 1);
}

#[test]
fn a_folder_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let error = Blobs::folder(&folder.path().join("file/blobs")).err().unwrap().to_string();
    assert!(error.contains("cannot write to"), "{error}");
}
