//! Collection and checking, over the whole hub.

use bastide_hub::gc::Collected;
use bastide_testkit::TestHub;
use serde_json::json;

use crate::uploads::{noise, upload};
use crate::{commit, create, delete, put};

async fn collect(hub: &TestHub) -> Collected {
    let done = hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap();
    assert!(done.problems.is_empty(), "{:?}", done.problems);
    done
}

async fn problems(hub: &TestHub, deep: bool) -> Vec<String> {
    hub.hub.check_all(&hub.operator(), deep, |_, _, _| {}).await.unwrap().problems
}

/// More than the grace.
const LATER: i64 = 100_000;

#[tokio::test]
async fn what_nothing_points_at_goes_step_by_step_and_the_rest_stays() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let (kept, dropped) = (noise(300_000, 1), noise(400_000, 2));
    upload(&ann, "ann/m", "kept.bin", &kept).await;
    upload(&ann, "ann/m", "dropped.bin", &dropped).await;
    commit(&ann, "ann/m", &[delete("dropped.bin")]).await.expect(200);
    // The history still has it.
    hub.advance_seconds(LATER);
    let done = collect(&hub).await;
    assert_eq!((done.marked, done.dropped), (0, 0));
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    let cas_before = ann.get("/api/models/ann/m/xet-read-token/main").await.json()["casUrl"].clone();
    let first = collect(&hub).await;
    assert_eq!((first.marked > 0, first.dropped, first.condemned), (true, 0, 0), "marked only");
    assert_eq!(collect(&hub).await.marked, 0);
    hub.advance_seconds(LATER);
    let second = collect(&hub).await;
    assert_eq!((second.dropped > 0, second.condemned, second.removed_xorbs), (true, 1, 0));
    // Clients forget what they thought was here.
    let cas_after = ann.get("/api/models/ann/m/xet-read-token/main").await.json()["casUrl"].clone();
    assert_ne!(cas_before, cas_after);
    assert_eq!(collect(&hub).await.removed_xorbs, 0, "within the grace of those who are reading");
    hub.advance_seconds(LATER);
    let last = collect(&hub).await;
    assert_eq!((last.removed_xorbs, last.freed_bytes > 390_000), (1, true));
    assert_eq!(ann.get("/ann/m/resolve/main/kept.bin").await.expect(200).body, kept);
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    assert_eq!((checked.xorbs, checked.files), (1, 1));
    // The same content again: it is simply new.
    upload(&ann, "ann/m", "again.bin", &dropped).await;
    assert_eq!(ann.get("/ann/m/resolve/main/again.bin").await.expect(200).body, dropped);
    hub.finish().await;
}

/// A branch of an old file is deleted: the commit stays whole for the grace, may be taken up again,
/// and in the end goes together with its file.
#[tokio::test]
async fn a_commit_that_no_ref_reaches_keeps_its_files_for_the_grace_and_goes_with_them() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    ann.post("/api/models/ann/m/branch/exp", json!({})).await.expect(200);
    let data = noise(300_000, 7);
    let line = send(&ann, "ann/m", &data).await;
    let done = crate::commit_with(&ann, "ann/m", "exp", json!({ "summary": "x" }), &[line("x.bin")]).await;
    let old = done.expect(200).json()["commitOid"].as_str().unwrap().to_owned();
    let uri = format!("/ann/m/resolve/{old}/x.bin");
    let drop_branch = async |name: &str| {
        ann.delete(&format!("/api/models/ann/m/branch/{name}"), json!({})).await.expect(200);
    };
    hub.advance_seconds(LATER);
    drop_branch("exp").await;
    assert!(collect(&hub).await.marked > 0);
    assert_eq!(ann.get(&uri).await.expect(200).body, data);
    // Taken up again, and left again: the grace begins anew.
    hub.advance_seconds(LATER);
    let start = json!({ "startingPoint": old });
    ann.post("/api/models/ann/m/branch/back", start.clone()).await.expect(200);
    drop_branch("back").await;
    assert_eq!(collect(&hub).await.dropped, 0);
    assert_eq!(ann.get(&uri).await.expect(200).body, data);
    ann.post("/api/models/ann/m/branch/back", start.clone()).await.expect(200);
    collect(&hub).await;
    hub.advance_seconds(LATER);
    assert_eq!(collect(&hub).await.dropped, 0);
    assert_eq!(ann.get("/ann/m/resolve/back/x.bin").await.expect(200).body, data);
    drop_branch("back").await;
    collect(&hub).await;
    hub.advance_seconds(LATER);
    assert!(collect(&hub).await.dropped > 0);
    let gone = ann.get(&uri).await.expect(404);
    assert_eq!(gone.header("x-error-code"), "RevisionNotFound");
    ann.post("/api/models/ann/m/branch/again", start).await.expect(404);
    ann.get(&format!("/api/models/ann/m/revision/{old}")).await.expect(404);
    assert!(problems(&hub, true).await.is_empty());
    hub.finish().await;
}

#[tokio::test]
async fn one_damaged_repository_does_not_stop_collection_and_keeps_all_that_it_has() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for name in ["bad", "good"] {
        create(&ann, "model", name).await.expect(200);
        upload(&ann, &format!("ann/{name}"), "x.bin", &noise(200_000, name.len() as u64)).await;
        commit(&ann, &format!("ann/{name}"), &[delete("x.bin")]).await.expect(200);
        ann.post(&format!("/api/models/ann/{name}/super-squash/main"), json!({})).await.expect(200);
    }
    hub.tamper(
        "UPDATE git_ref SET target = x'1111111111111111111111111111111111111111' WHERE repo_id = \
        (SELECT id FROM repo WHERE name = 'bad')",
    );
    let run = async || {
        hub.advance_seconds(LATER);
        hub.hub.collect(&hub.operator(), |_, _| {}).await.unwrap()
    };
    run().await;
    let done = run().await;
    assert_eq!((done.repos, done.problems.len(), done.condemned), (1, 1, 1), "{done:?}");
    assert!(done.problems[0].contains("ann/bad") && done.problems[0].contains("fsck"), "{done:?}");
    assert_eq!(hub.count("SELECT COUNT(*) FROM xet_file"), 1);
    hub.tamper("UPDATE repo SET gated = 'bogus' WHERE name = 'bad'");
    assert_eq!(run().await.problems.len(), 1);
    hub.finish().await;
}

#[tokio::test]
async fn two_collections_at_once_are_one() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let kept = noise(200_000, 1);
    upload(&ann, "ann/m", "kept.bin", &kept).await;
    upload(&ann, "ann/m", "x.bin", &noise(200_000, 2)).await;
    commit(&ann, "ann/m", &[delete("x.bin")]).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    let other = hub.reopened().await;
    let mut removed = 0;
    for _ in 0..4 {
        hub.advance_seconds(LATER);
        let context = hub.operator();
        let (one, two) =
            tokio::join!(hub.hub.collect(&context, |_, _| {}), other.hub.collect(&context, |_, _| {}));
        removed += one.unwrap().removed_xorbs + two.unwrap().removed_xorbs;
    }
    assert_eq!(removed, 1);
    assert_eq!(ann.get("/ann/m/resolve/main/kept.bin").await.expect(200).body, kept);
    assert!(problems(&hub, true).await.is_empty());
    hub.finish().await;
}

/// Blobs come before the rows that name them: a setting cannot make an upload on its way garbage.
#[tokio::test]
async fn no_grace_is_short_enough_to_take_what_is_on_its_way() {
    let hub = TestHub::with(|config| config.gc_grace_seconds = -1_000_000).await;
    let blobs = bastide_blobs::Blobs::folder(&hub.data().join("blobs")).unwrap();
    let key = bastide_blobs::BlobKey::fresh(bastide_blobs::Class::Xorb, "abcdef").unwrap();
    blobs.put(&key, "x".into()).await.unwrap();
    // The test's clock is not the file system's: bring them together.
    let mtime = std::fs::metadata(blobs_of(&hub, "xorb").pop().unwrap()).unwrap().modified().unwrap();
    let written = mtime.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    hub.advance_seconds(written - hub.hub.clock().now().as_seconds() + 3600);
    assert_eq!(collect(&hub).await.removed_blobs, 0);
    hub.advance_seconds(6 * 3600);
    assert_eq!(collect(&hub).await.removed_blobs, 1);
    hub.finish().await;
}

#[tokio::test]
async fn uploads_that_ended_are_forgotten_though_nothing_is_condemned() {
    let hub = TestHub::with(|config| config.lfs_multipart_bytes = 1000).await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    crate::uploads::batch(&ann, "ann/m", "upload", json!(["multipart"]), &noise(5000, 1)).await.expect(200);
    hub.advance_seconds(LATER);
    assert_eq!(collect(&hub).await.uploads, 1);
    assert_eq!(hub.count("SELECT COUNT(*) FROM lfs_upload"), 0);
    assert_eq!(collect(&hub).await.uploads, 0);
    hub.finish().await;
}

#[tokio::test]
async fn a_deleted_repository_leaves_nothing_behind() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    upload(&ann, "ann/m", "x.bin", &noise(300_000, 3)).await;
    ann.delete("/api/repos/delete", json!({ "name": "m" })).await.expect(200);
    assert_eq!(collect(&hub).await.condemned, 1);
    // Blobs have the age that the file system says: only a clock far ahead finds them old.
    hub.advance_seconds(100 * 365 * 86_400);
    let done = collect(&hub).await;
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

/// Every value that is stored twice is compared: whatever row somebody changes is named.
#[tokio::test]
async fn fsck_names_every_row_that_does_not_fit() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    upload(&ann, "ann/m", "d/x.bin", &noise(300_000, 4)).await;
    commit(&ann, "ann/m", &[put("a.txt", "hello")]).await.expect(200);
    ann.post("/api/models/ann/m/tag/main", json!({ "tag": "v1", "message": "the first" })).await.expect(200);
    hub.run_jobs().await;
    assert_eq!(problems(&hub, true).await, Vec::<String>::new());
    const ZEROS: &str = "x'0000000000000000000000000000000000000000'";
    const HASH: &str = "x'0000000000000000000000000000000000000000000000000000000000000000'";
    const ROOT: &str = "(SELECT commit_id FROM git_commit WHERE generation = 0)";
    let shallow = [
        ("repo.path_key", "UPDATE repo SET path_key = 'ann/other'".to_owned()),
        ("repo.name", "UPDATE repo SET name = 'other'".to_owned()),
        ("repo.namespace", "UPDATE repo SET namespace = 'bob'".to_owned()),
        ("repo.visibility", "UPDATE repo SET visibility = 'bogus'".to_owned()),
        ("repo.gated", "UPDATE repo SET gated = 'bogus'".to_owned()),
        ("git_ref.name", "UPDATE git_ref SET name = 'a..b' WHERE name LIKE '%v1'".to_owned()),
        ("git_ref.target", format!("UPDATE git_ref SET target = {ROOT} WHERE name LIKE '%main'")),
        ("git_ref.commit_id", format!("UPDATE git_ref SET commit_id = {ROOT}")),
        ("git_pack", "DELETE FROM git_pack WHERE rowid = (SELECT MIN(rowid) FROM git_pack)".to_owned()),
        ("git_pack.name", "UPDATE git_pack SET name = 'pack-' || created_at || objects || bytes".to_owned()),
        ("git_pack.pack_key", "UPDATE git_pack SET pack_key = 'pack/abcdef.00'".to_owned()),
        ("git_pack.index_key", "UPDATE git_pack SET index_key = 'pack-index/abcdef.00'".to_owned()),
        ("git_pack.objects", "UPDATE git_pack SET objects = objects + 1".to_owned()),
        ("git_pack.bytes", "UPDATE git_pack SET bytes = bytes + 1".to_owned()),
        ("git_commit", format!("DELETE FROM git_commit WHERE commit_id = {ROOT}")),
        ("git_commit.commit_id", format!("UPDATE git_commit SET commit_id = {ZEROS} WHERE generation = 0")),
        ("git_commit.tree", format!("UPDATE git_commit SET tree = {ZEROS}")),
        ("git_commit.parents", format!("UPDATE git_commit SET parents = {ZEROS} WHERE generation = 1")),
        ("git_commit.generation", "UPDATE git_commit SET generation = 9 WHERE generation = 2".to_owned()),
        ("git_commit.time", "UPDATE git_commit SET time = time + 1000".to_owned()),
        ("git_commit.author", "UPDATE git_commit SET author = 'bob'".to_owned()),
        ("git_commit.title", "UPDATE git_commit SET title = 'other'".to_owned()),
        ("git_commit.message", "UPDATE git_commit SET message = message || 'x'".to_owned()),
        ("git_change", "DELETE FROM git_change WHERE path = 'a.txt'".to_owned()),
        ("git_change.path", "UPDATE git_change SET path = 'b.txt' WHERE path = 'a.txt'".to_owned()),
        ("git_change.generation", "UPDATE git_change SET generation = 9 WHERE path = 'a.txt'".to_owned()),
        ("git_change.commit_id", format!("UPDATE git_change SET commit_id = {ZEROS} WHERE path = 'a.txt'")),
        ("git_change.object_id", "UPDATE git_change SET object_id = NULL WHERE path = 'a.txt'".to_owned()),
        ("xorb", "DELETE FROM xorb".to_owned()),
        ("xorb.hash", format!("UPDATE xorb SET hash = {HASH}")),
        ("xorb.blob_key", "UPDATE xorb SET blob_key = 'xorb/abcdef.00'".to_owned()),
        ("xorb.index_key", "UPDATE xorb SET index_key = 'xorb-index/abcdef.00'".to_owned()),
        ("xorb.stored_bytes", "UPDATE xorb SET stored_bytes = stored_bytes + 1".to_owned()),
        ("xorb.raw_bytes", "UPDATE xorb SET raw_bytes = raw_bytes + 1".to_owned()),
        ("xorb.chunks", "UPDATE xorb SET chunks = chunks + 1".to_owned()),
        ("xorb.state", "UPDATE xorb SET state = 'condemned'".to_owned()),
        ("repo_xorb", "DELETE FROM repo_xorb".to_owned()),
        ("repo_xorb.hash", format!("UPDATE repo_xorb SET hash = {HASH}")),
        ("repo_xorb.xorb_id", "UPDATE repo_xorb SET xorb_id = 1".to_owned()),
        ("xet_file", "DELETE FROM xet_file".to_owned()),
        ("xet_file.hash", format!("UPDATE xet_file SET hash = {HASH}")),
        ("xet_file.sha256", format!("UPDATE xet_file SET sha256 = {HASH}")),
        ("xet_file.size", "UPDATE xet_file SET size = size - 1".to_owned()),
        ("xet_file.terms", "UPDATE xet_file SET terms = substr(terms, 1, 10)".to_owned()),
        ("file_xorb", "DELETE FROM file_xorb".to_owned()),
        ("file_xorb.xorb_id", "UPDATE file_xorb SET xorb_id = 1".to_owned()),
        ("dedup_chunk.chunk", format!("UPDATE dedup_chunk SET chunk = {HASH}")),
    ];
    for (what, sql) in shallow {
        let undo = hub.tamper(&format!("PRAGMA foreign_keys = OFF; {sql}"));
        let found = problems(&hub, false).await;
        assert!(!found.is_empty(), "{what} was not named");
        undo.undo();
    }
    let deep = [
        ("xet_file.repo_id", "UPDATE xet_file SET repo_id = 1".to_owned()),
        ("dedup_chunk.xorb_id", "UPDATE dedup_chunk SET xorb_id = 1".to_owned()),
        ("member", "INSERT INTO member VALUES (1, 1, 'read', 0)".to_owned()),
    ];
    for (what, sql) in deep {
        let undo = hub.tamper(&format!("PRAGMA foreign_keys = OFF; {sql}"));
        let found = problems(&hub, true).await;
        assert!(found.iter().any(|found| found.contains("the database")), "{what}: {found:?}");
        undo.undo();
    }
    assert_eq!(problems(&hub, true).await, Vec::<String>::new());
    hub.finish().await;
}

#[tokio::test]
async fn fsck_finds_nothing_wrong_with_what_the_hub_does() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    ann.post("/api/repos/create", json!({ "name": "s", "type": "space", "sdk": "static" })).await.expect(200);
    upload(&ann, "ann/m", "d/e/x.bin", &noise(300_000, 4)).await;
    let odd = [
        json!({ "summary": "  spaces  ", "description": "a\tb\r\n\n\n" }),
        json!({ "summary": "näme", "description": "\u{1F680}\ngpgsig x\n" }),
        json!({ "summary": "x", "description": "\n\n  indented\n\n" }),
    ];
    for (header, number) in odd.into_iter().zip(0..) {
        let lines = [put(&format!("d/{number}"), "1"), put(&format!("swap{number}"), "file")];
        crate::commit_with(&ann, "ann/m", "main", header, &lines).await.expect(200);
    }
    // A file becomes a folder, and a folder goes with all that is in it.
    commit(&ann, "ann/m", &[delete("swap0")]).await.expect(200);
    commit(&ann, "ann/m", &[put("swap0/a", "a"), put("swap1", "changed")]).await.expect(200);
    let folder = json!({ "key": "deletedFolder", "value": { "path": "d/e/" } });
    commit(&ann, "ann/m", &[folder]).await.expect(200);
    ann.post("/api/models/ann/m/tag/main", json!({ "tag": "light" })).await.expect(200);
    ann.post("/api/models/ann/m/tag/main", json!({ "tag": "v1", "message": "m" })).await.expect(200);
    ann.post("/api/models/ann/m/branch/old", json!({})).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({ "message": "\nsquashed\nto one" }))
        .await
        .expect(200);
    commit(&ann, "ann/m", &[put("after", "1")]).await.expect(200);
    ann.post("/api/models/ann/m/duplicate", json!({ "repository": "ann/copy" })).await.expect(200);
    let to = json!({ "fromRepo": "ann/m", "toRepo": "ann/Moved", "type": "model" });
    ann.post("/api/repos/move", to).await.expect(200);
    for number in 0..30 {
        commit(&ann, "ann/copy", &[put(&format!("n/{number}"), format!("{number}"))]).await.expect(200);
    }
    hub.run_jobs().await;
    assert_eq!(problems(&hub, true).await, Vec::<String>::new());
    for _ in 0..4 {
        ann.delete("/api/models/ann/copy/branch/old", json!({})).await;
        collect(&hub).await;
        hub.advance_seconds(LATER);
    }
    assert_eq!(problems(&hub, true).await, Vec::<String>::new());
    hub.finish().await;
}

/// What is wrong in one place does not hide what is wrong in another.
#[tokio::test]
async fn fsck_goes_on_after_a_missing_pack_and_a_repository_that_it_cannot_read() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    for name in ["m", "n"] {
        create(&ann, "model", name).await.expect(200);
        upload(&ann, &format!("ann/{name}"), "x.bin", &noise(300_000, 4)).await;
    }
    hub.tamper("UPDATE repo SET gated = 'bogus' WHERE name = 'm'; DELETE FROM file_xorb");
    let pack = blobs_of(&hub, "pack");
    pack.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let reopened = hub.reopened().await;
    let found = reopened.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap().problems;
    let named = |what: &str| found.iter().any(|found| found.contains(what));
    assert!(
        named("gated: bogus") && named("there is no blob") && named("the xorbs that it keeps"),
        "{found:?}"
    );
    hub.finish().await;
}

/// The checksum of a pack covers bytes that no object needs, and objects that no ref reaches.
#[tokio::test]
async fn a_deep_check_reads_packs_whole() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a.txt", noise(3000, 1))]).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    commit(&ann, "ann/m", &[delete("a.txt"), put("b.txt", "b")]).await.expect(200);
    ann.post("/api/models/ann/m/super-squash/main", json!({})).await.expect(200);
    let path = blobs_of(&hub, "pack").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let found = problems(&hub, true).await;
    assert!(found.iter().any(|found| found.contains("pack-")), "{found:?}");
    hub.finish().await;
}

/// Sends content by LFS, without a commit; answers the lines that commit it.
async fn send<'a>(
    client: &bastide_testkit::Client,
    id: &str,
    data: &'a [u8],
) -> impl Fn(&str) -> serde_json::Value + 'a {
    use crate::uploads::{batch, lfs_line, local, put_bytes};
    let answer = batch(client, id, "upload", json!(["basic"]), data).await.expect(200).json();
    let actions = &answer["objects"][0]["actions"];
    if actions.is_object() {
        put_bytes(client, &local(&actions["upload"]["href"]), data).await.expect(200);
    }
    move |path| lfs_line(path, data)
}

fn blobs_of(hub: &TestHub, class: &str) -> Vec<std::path::PathBuf> {
    blobs(&hub.data().join("blobs").join(class))
}

fn blobs(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { blobs(&path) } else { vec![path] }).collect()
}
