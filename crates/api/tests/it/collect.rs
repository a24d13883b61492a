//! Collection and checking, over the whole hub.

use bastide_testkit::TestHub;
use serde_json::json;

use crate::uploads::{noise, upload};
use crate::{commit, create, delete, put};

#[tokio::test]
async fn what_nothing_points_at_goes_in_two_phases_and_the_rest_stays() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let (kept, dropped) = (noise(300_000, 1), noise(400_000, 2));
    upload(&ann, "ann/m", "kept.bin", &kept).await;
    upload(&ann, "ann/m", "dropped.bin", &dropped).await;
    commit(&ann, "ann/m", &[delete("dropped.bin")]).await.expect(200);
    let context = hub.operator();
    let run = async || hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();

    // The history still has it.
    hub.advance_seconds(100_000);
    assert_eq!(run().await.dropped, 0);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    let cas_before = ann.get("/api/models/ann/m/xet-read-token/main").await.json()["casUrl"].clone();
    let first = run().await;
    assert_eq!((first.dropped > 0, first.condemned, first.removed_xorbs), (true, 1, 0));
    // Clients forget what they thought was here.
    let cas_after = ann.get("/api/models/ann/m/xet-read-token/main").await.json()["casUrl"].clone();
    assert_ne!(cas_before, cas_after);
    assert_eq!(run().await.removed_xorbs, 0, "within the grace");
    hub.advance_seconds(100_000);
    let last = run().await;
    assert_eq!((last.removed_xorbs, last.freed_bytes > 390_000), (1, true));
    assert_eq!(ann.get("/ann/m/resolve/main/kept.bin").await.expect(200).body, kept);
    let checked = hub.hub.check_all(&context, true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    assert_eq!((checked.xorbs, checked.files), (1, 1));
    // The same content again: it is simply new.
    upload(&ann, "ann/m", "again.bin", &dropped).await;
    assert_eq!(ann.get("/ann/m/resolve/main/again.bin").await.expect(200).body, dropped);
    hub.finish().await;
}

#[tokio::test]
async fn a_deleted_repository_leaves_nothing_behind() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    upload(&ann, "ann/m", "x.bin", &noise(300_000, 3)).await;
    ann.delete("/api/repos/delete", json!({ "name": "m" })).await.expect(200);
    let run = async || hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    assert_eq!(run().await.condemned, 1);
    // Blobs have the age that the file system says: only a clock far ahead finds them old.
    hub.advance_seconds(100 * 365 * 86_400);
    let done = run().await;
    assert_eq!(done.removed_xorbs, 1);
    assert!(done.removed_blobs >= 4, "the packs and their indexes: {done:?}");
    hub.finish().await;
}

/// Every kind of damage to the stored bytes is found and named.
#[tokio::test]
async fn fsck_names_what_is_wrong() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    upload(&ann, "ann/m", "x.bin", &noise(300_000, 4)).await;
    commit(&ann, "ann/m", &[put("a.txt", "hello")]).await.expect(200);
    let check = async |deep| hub.hub.check_all(&hub.operator(), deep, |_, _, _| {}).await.unwrap().problems;
    assert!(check(true).await.is_empty());
    for class in ["xorb", "pack", "pack-index", "xorb-index"] {
        let path = blobs(&hub.data().join("blobs").join(class)).pop().unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        for (bytes, deep) in [(&whole[..whole.len() / 2], false), (&flipped[..], true)] {
            // A copy may be linked to the blob: the damage is to the blob alone.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
            let reopened = hub.reopened().await;
            let found = reopened.hub.check_all(&hub.operator(), deep, |_, _, _| {}).await.unwrap().problems;
            assert!(!found.is_empty(), "{class}, deep: {deep}");
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(check(true).await.is_empty());
    hub.finish().await;
}

fn blobs(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { blobs(&path) } else { vec![path] }).collect()
}
