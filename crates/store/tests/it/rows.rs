//! The rest of the suite: queries that the tests of the wire pass through, but that have to be
//! right on both engines by themselves.

use bastide_core::id::RowId;
use bastide_core::{Oid, RefName, RepoKind, RepoPath, Sha256, Visibility, XetHash};
use bastide_store::ledger::{self, StoredCheckpoint};
use bastide_store::lfs::{self, Part, Upload};
use bastide_store::permit::Write;
use bastide_store::refs::{self, Target};
use bastide_store::repos::{self, MetadataRow};
use bastide_store::{Db, gate, git, history, lists, xet};

use crate::suite::{NOW, add_file, event, oid, repo, send_xorb, user};

pub async fn uploads_in_parts_are_their_repositorys_and_end(db: &Db) {
    let ann = user(db, "ann").await;
    let (one, two) =
        (repo(db, &ann, "one", Visibility::Public).await, repo(db, &ann, "two", Visibility::Public).await);
    let id = RowId::new(NOW);
    let upload = Upload { id, oid: Sha256::from_bytes([1; 32]), size: 30, part_bytes: 10 };
    let part = |number, etag: &str| Part { number, size: 10, etag: etag.to_owned(), terms: vec![9; 3] };
    let mut tx = db.write().await.unwrap();
    lfs::begin(&mut tx, &one, &upload, NOW, NOW.plus_days(1)).await.unwrap();
    for (number, etag) in [(2, "b"), (1, "a"), (2, "again")] {
        assert!(lfs::add_part(&mut tx, &one, id, &part(number, etag), (&[], NOW)).await.unwrap());
    }
    // Not into somebody else's upload.
    assert!(!lfs::add_part(&mut tx, &two, id, &part(3, "foreign"), (&[], NOW)).await.unwrap());
    tx.commit(event()).await.unwrap();

    let mut read = db.read().await.unwrap();
    let found = lfs::upload(&mut read, &one, id, NOW).await.unwrap().unwrap();
    assert_eq!((found.oid, found.size, found.part_bytes), (upload.oid, 30, 10));
    assert!(lfs::upload(&mut read, &two, id, NOW).await.unwrap().is_none());
    assert!(lfs::upload(&mut read, &one, id, NOW.plus_days(1)).await.unwrap().is_none(), "it has ended");
    let parts = lfs::parts(&mut read, &one, id).await.unwrap();
    let parts: Vec<_> =
        parts.iter().map(|part| (part.number, part.etag.as_str(), part.terms.len())).collect();
    assert_eq!(parts, [(1, "a", 3), (2, "again", 3)]);
    assert!(lfs::parts(&mut read, &two, id).await.unwrap().is_empty());
    drop(read);

    let mut tx = db.write().await.unwrap();
    lfs::end(&mut tx, &two, id).await.unwrap();
    assert!(lfs::upload(&mut tx, &one, id, NOW).await.unwrap().is_some(), "ended by another");
    lfs::end(&mut tx, &one, id).await.unwrap();
    assert!(lfs::upload(&mut tx, &one, id, NOW).await.unwrap().is_none());
    assert!(lfs::parts(&mut tx, &one, id).await.unwrap().is_empty());
    tx.commit(event()).await.unwrap();
}

pub async fn old_paths_lead_to_moved_repositories(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "old", Visibility::Public).await;
    let path = |text: &str| RepoPath::parse(RepoKind::Model, text).unwrap();
    let mut tx = db.write().await.unwrap();
    repos::rename(&mut tx, &access, &ann, &path("ann/new")).await.unwrap();
    tx.commit(event()).await.unwrap();
    let find = async |text: &str| {
        let mut read = db.read().await.unwrap();
        let old = gate::repo_by_old_path(&mut read, &path(text), None).await.unwrap();
        let now = gate::repo_by_path(&mut read, &path(text), None).await.unwrap();
        (old.map(|facts| facts.repo.path.id()), now.map(|facts| facts.repo.path.id()))
    };
    let moved = Some("ann/new".to_owned());
    assert_eq!(find("Ann/OLD").await, (moved.clone(), None));
    assert_eq!(find("ann/new").await, (None, moved));
    // Somebody takes the old name: it leads nowhere else any more.
    repo(db, &ann, "old", Visibility::Public).await;
    assert_eq!(find("ann/old").await, (None, Some("ann/old".to_owned())));
}

pub async fn metadata_and_times_are_kept(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "m", Visibility::Public).await;
    let row = MetadataRow {
        tags: r#"["a"]"#.into(),
        pipeline_tag: Some("text-generation".into()),
        library: Some("transformers".into()),
        sdk: Some("gradio".into()),
        card: Some(r#"{"license":"mit"}"#.into()),
        facts: r#"{"x":1}"#.into(),
        parameters: Some(7_000_000_000),
    };
    let later = NOW.plus_seconds(5);
    let mut tx = db.write().await.unwrap();
    repos::set_metadata(&mut tx, &access, &row).await.unwrap();
    repos::touch(&mut tx, &access, later).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    let info = lists::info_of(&mut read, &access).await.unwrap().unwrap();
    assert_eq!((info.updated_at, info.created_at), (later, NOW));
    assert_eq!(info.sdk.as_deref(), Some("gradio"));
    drop(read);
    // What is not there any more is gone; the SDK stays.
    let mut tx = db.write().await.unwrap();
    let empty = MetadataRow { tags: "[]".into(), facts: "{}".into(), ..MetadataRow::default() };
    repos::set_metadata(&mut tx, &access, &empty).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    let info = lists::info_of(&mut read, &access).await.unwrap().unwrap();
    assert_eq!(info.sdk.as_deref(), Some("gradio"));
}

pub async fn a_copied_history_is_the_copys_own(db: &Db) {
    let ann = user(db, "ann").await;
    let (from, to) =
        (repo(db, &ann, "from", Visibility::Public).await, repo(db, &ann, "to", Visibility::Public).await);
    let row = git::CommitRow {
        id: oid(1),
        tree: oid(2),
        parents: &[],
        time: NOW,
        author: "ann",
        author_id: Some(ann.namespace().id),
        pusher_id: None,
        title: "t",
        message: "t",
    };
    let changes = [git::ChangeRow { path: "a", object: Some(oid(3)) }];
    let pack = git::Pack {
        name: "pack-1".into(),
        pack_key: "k".into(),
        index_key: "i".into(),
        objects: 1,
        bytes: 2,
    };
    let mut tx = db.write().await.unwrap();
    git::add_commit(&mut tx, &from, &row, &changes).await.unwrap();
    git::add_pack(&mut tx, &from, &pack, NOW).await.unwrap();
    for name in ["refs/heads/main", "refs/tags/v1", "refs/pr/1"] {
        let name: RefName = name.parse().unwrap();
        assert!(refs::swap(&mut tx, &from, &name, None, Some(Target::commit(oid(1))), NOW).await.unwrap());
    }
    git::copy_history(&mut tx, &from, &to.lower::<Write>()).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    assert!(git::has_commit(&mut read, &to, oid(1)).await.unwrap());
    assert!(!git::has_commit(&mut read, &to, Oid::from_bytes([7; 20])).await.unwrap());
    let found = history::bringers(&mut read, &to, 0, &[("a", oid(3))]).await.unwrap();
    assert_eq!((found.len(), found[0].change.commit), (1, oid(1)));
    assert_eq!(git::packs(&mut read, &to).await.unwrap().len(), 1);
    let names: Vec<_> =
        refs::list(&mut read, &to).await.unwrap().into_iter().map(|found| found.name).collect();
    let names: Vec<_> = names.iter().map(RefName::as_str).collect();
    assert_eq!(names, ["refs/heads/main", "refs/tags/v1"], "pull requests stay behind");
    drop(read);
    // The original goes, the copy stays.
    let mut tx = db.write().await.unwrap();
    repos::remove(&mut tx, &from).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    assert!(git::has_commit(&mut read, &to, oid(1)).await.unwrap());
    assert!(!git::has_commit(&mut read, &from, oid(1)).await.unwrap());
}

pub async fn checkpoints_are_kept_once_and_in_order(db: &Db) {
    let keep = async |size: i64, note: &str| {
        let root = [u8::try_from(size).unwrap(); 32];
        ledger::keep_checkpoint(db, &StoredCheckpoint { size, root, note: note.to_owned() }).await.unwrap();
    };
    assert!(ledger::last_checkpoint(&mut db.read().await.unwrap()).await.unwrap().is_none());
    keep(2, "two").await;
    keep(11, "eleven").await;
    keep(3, "three").await;
    keep(3, "another for the same tree").await;
    let mut read = db.read().await.unwrap();
    let all = ledger::checkpoints(&mut read).await.unwrap();
    let all: Vec<_> = all.iter().map(|kept| (kept.size, kept.note.as_str())).collect();
    assert_eq!(all, [(2, "two"), (3, "three"), (11, "eleven")]);
    let last = ledger::last_checkpoint(&mut read).await.unwrap().unwrap();
    assert_eq!((last.size, last.root), (11, [11; 32]));
}

pub async fn files_are_found_in_their_own_repository(db: &Db) {
    let ann = user(db, "ann").await;
    let one = repo(db, &ann, "one", Visibility::Public).await.lower::<Write>();
    let two = repo(db, &ann, "two", Visibility::Public).await.lower::<Write>();
    send_xorb(db, &one, 1, "key").await;
    let hash = XetHash::from_bytes([5; 32]);
    assert!(add_file(db, &one, 5, &[XetHash::from_bytes([1; 32])]).await);
    let sha256 = Sha256::from_bytes([5; 32]);
    let mut read = db.read().await.unwrap();
    let by_hash = xet::file_by_hash(&mut read, &one, hash).await.unwrap().unwrap();
    let by_sha256 = xet::file_by_sha256(&mut read, &one, sha256).await.unwrap().unwrap();
    for file in [by_hash, by_sha256] {
        assert_eq!((file.size, file.sha256), (10, Some(sha256)));
    }
    assert!(xet::file_by_hash(&mut read, &two, hash).await.unwrap().is_none());
    assert!(xet::file_by_sha256(&mut read, &two, sha256).await.unwrap().is_none());
    let unknown = XetHash::from_bytes([6; 32]);
    assert!(xet::file_by_hash(&mut read, &one, unknown).await.unwrap().is_none());
}
