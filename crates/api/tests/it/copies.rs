//! The node's own copies of repositories are cache: whatever happens to them, nothing is lost and
//! nobody notices.
#![allow(clippy::disallowed_methods, reason = "files are made to look old by the machine's clock")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bastide_testkit::{Client, TestHub};
use serde_json::json;

use crate::{commit, create, put};

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] });
    all.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

fn cache(hub: &TestHub) -> PathBuf {
    hub.data().join("cache/git")
}

/// A copy may be linked to the blob: the damage is to the copy alone.
fn damage(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

async fn tag(client: &Client, name: &str) -> u16 {
    let body = json!({ "tag": name, "message": "a message makes an object" });
    client.post("/api/models/ann/m/tag/main", body).await.status.as_u16()
}

#[tokio::test]
async fn many_annotated_tags_do_not_brick_a_repository() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    commit(&ann, "ann/m", &[put("a", "hello")]).await.expect(200);
    // More packs than an open repository has room for at first.
    for n in 0..300 {
        assert_eq!(tag(&ann, &format!("v{n}")).await, 200, "tag {n}");
    }
    assert!(files(&cache(&hub), ".idx").len() > 300);
    assert_eq!(ann.get("/ann/m/resolve/main/a").await.expect(200).text(), "hello");
    let reopened = hub.reopened().await.client(ann.token.as_deref());
    assert_eq!(reopened.get("/ann/m/resolve/main/a").await.expect(200).text(), "hello");
    commit(&reopened, "ann/m", &[put("a", "again")]).await.expect(200);
    assert_eq!(ann.get("/ann/m/resolve/main/a").await.expect(200).text(), "again");
    // Tags ask for a merge, too.
    assert_eq!(hub.run_jobs().await, 1);
    assert!(files(&cache(&hub), ".idx").len() < 5);
    assert_eq!(ann.get("/ann/m/resolve/v299/a").await.expect(200).text(), "hello");
    hub.finish().await;
}

#[tokio::test]
async fn squashes_ask_for_a_merge() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    for n in 0..30 {
        let body = json!({ "message": format!("squash {n}") });
        ann.post("/api/models/ann/m/super-squash/main", body).await.expect(200);
    }
    assert_eq!(hub.run_jobs().await, 1);
    hub.finish().await;
}

#[tokio::test]
async fn a_change_that_is_refused_leaves_no_bytes_behind() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    assert_eq!(tag(&ann, "v1").await, 200);
    let stored = || files(&hub.data().join("blobs/pack"), "").len();
    let before = stored();
    for _ in 0..5 {
        assert_eq!(tag(&ann, "v1").await, 409);
    }
    assert_eq!(stored(), before);
    // Two that race: one is refused only after its object was stored.
    let (one, two) = tokio::join!(tag(&ann, "v2"), tag(&ann, "v2"));
    assert!([one, two].contains(&200), "{one} {two}");
    assert_eq!(stored(), before + 1);
    hub.finish().await;
}

#[tokio::test]
async fn a_damaged_copy_is_made_anew() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    for n in 0..3 {
        commit(&ann, "ann/m", &[put(&format!("f{n}"), format!("text {n}"))]).await.expect(200);
    }
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 7] = [
        ("empty indexes", |cache| files(cache, ".idx").iter().for_each(|path| damage(path, b""))),
        ("empty packs", |cache| files(cache, ".pack").iter().for_each(|path| damage(path, b""))),
        ("short packs", |cache| {
            for path in files(cache, ".pack") {
                let bytes = fs::read(&path).unwrap();
                damage(&path, &bytes[..bytes.len() - 25]);
            }
        }),
        ("packs of zeros", |cache| {
            for path in files(cache, ".pack") {
                let bytes = fs::read(&path).unwrap();
                damage(&path, &vec![0; bytes.len()]);
            }
        }),
        ("no packs", |cache| files(cache, ".pack").iter().for_each(|path| fs::remove_file(path).unwrap())),
        ("an empty HEAD", |cache| files(cache, "HEAD").iter().for_each(|path| damage(path, b""))),
        ("no folder at all", |cache| fs::remove_dir_all(cache).unwrap()),
    ];
    for (at, (what, damage)) in damages.into_iter().enumerate() {
        // A server that starts with the damage, and one that runs.
        let running = hub.reopened().await.client(ann.token.as_deref());
        running.get("/ann/m/resolve/main/f0").await.expect(200);
        damage(&cache(&hub));
        let starting = hub.reopened().await.client(ann.token.as_deref());
        for client in [starting, running] {
            for n in 0..3 {
                let found = client.get(&format!("/ann/m/resolve/main/f{n}")).await;
                assert_eq!((found.status.as_u16(), found.text()), (200, format!("text {n}")), "{what}");
            }
            let made = commit(&client, "ann/m", &[put(&format!("new{at}"), what)]).await;
            assert_eq!(made.status.as_u16(), 200, "{what}: {}", made.text());
        }
    }
    let checked = hub.hub.check_all(&hub.operator(), true, |_, _, _| {}).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    hub.finish().await;
}

#[tokio::test]
async fn packs_merge_over_a_damaged_copy() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    for n in 0..30 {
        commit(&ann, "ann/m", &[put(&format!("f{n}"), format!("text {n}"))]).await.expect(200);
    }
    files(&cache(&hub), "HEAD").iter().for_each(|path| damage(path, b""));
    files(&cache(&hub), ".pack").iter().take(3).for_each(|path| damage(path, b"PACK"));
    assert_eq!(hub.run_jobs().await, 1);
    assert_eq!(ann.get("/ann/m/resolve/main/f7").await.expect(200).text(), "text 7");
    assert!(files(&cache(&hub), ".idx").len() < 5);
    hub.finish().await;
}

/// Makes a file look as if it had been there for two days.
fn make_old(path: &Path) {
    let before = SystemTime::now() - Duration::from_secs(2 * 86_400);
    File::open(path).unwrap().set_modified(before).unwrap();
}

#[tokio::test]
async fn packs_without_a_row_do_not_stay_in_a_copy() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let kept = files(&cache(&hub), ".idx").pop().unwrap();
    for (name, old) in [("pack-old", true), ("pack-new", false)] {
        for ending in ["pack", "idx"] {
            let path = kept.with_file_name(format!("{name}.{ending}"));
            fs::copy(kept.with_extension(ending), &path).unwrap();
            if old {
                make_old(&path);
            }
        }
    }
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    let names: Vec<_> = files(&cache(&hub), ".idx");
    let has = |name: &str| names.contains(&kept.with_file_name(name));
    assert_eq!((has("pack-old.idx"), has("pack-new.idx"), names.contains(&kept)), (false, true, true));
    hub.finish().await;
}

#[tokio::test]
async fn what_crashes_leave_in_the_cache_is_swept() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let cache = hub.data().join("cache");
    let packs = files(&cache, ".idx").pop().unwrap().parent().unwrap().to_owned();
    fs::create_dir_all(cache.join("fsck-old/7.git")).unwrap();
    make_old(&cache.join("fsck-old"));
    let litter = [
        (cache.join("tmp/pack-abc"), false),
        (cache.join("tmp/merged-abc"), false),
        (packs.join(".tmpAbC"), true),
        (packs.join("pack-12.pack.part-ab"), true),
        (packs.join("0123456789abcdef0123456789abcdef"), true),
    ];
    for (path, old) in &litter {
        fs::write(path, b"half").unwrap();
        if *old {
            make_old(path);
        }
    }
    let young = packs.join(".tmpYoung");
    fs::write(&young, b"being written").unwrap();
    hub.hub.clear_scratch().await.unwrap();
    hub.hub.sweep().await.unwrap();
    for (path, _) in &litter {
        assert!(!path.exists(), "{path:?}");
    }
    assert!(young.exists() && !cache.join("fsck-old").exists());
    commit(&ann, "ann/m", &[put("a", "1")]).await.expect(200);
    hub.finish().await;
}

#[tokio::test]
async fn checks_leave_no_copies() {
    let hub = TestHub::open().await;
    let ann = hub.user("ann").await;
    create(&ann, "model", "m").await.expect(200);
    let check = async || hub.hub.check_all(&hub.operator(), false, |_, _, _| {}).await.unwrap().problems;
    let (one, two) = tokio::join!(check(), check());
    assert!(one.is_empty() && two.is_empty(), "{one:?} {two:?}");
    let left = fs::read_dir(hub.data().join("cache")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_str().unwrap().starts_with("fsck")).collect();
    assert!(left.is_empty(), "{left:?}");
    hub.finish().await;
}
