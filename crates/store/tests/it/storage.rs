//! What is used, locks, and deletion for good, on both engines.

use bastide_core::{EntryPath, Sha256, Visibility, XetHash, id::RowId};
use bastide_store::locks::{self, Lock, Wanted};
use bastide_store::permit::{Access, Admin, Write};
use bastide_store::storage::{self, Quota};
use bastide_store::xet::{self, NewFile, NewXorb, Received};
use bastide_store::{Db, gate, git, large_files, lfs, refs, repos};

use crate::suite::{NOW, event, new_xorb, oid, receive, repo, send_xorb, user};

async fn used(db: &Db, access: &Access<Admin>) -> (u64, u64) {
    let mut read = db.read().await.unwrap();
    let usage = storage::usage(&mut read, access).await.unwrap();
    let (noted, counted) = storage::recount(&mut read, access).await.unwrap();
    assert_eq!((noted, usage.repo), (counted, counted));
    assert_eq!(storage::miscounted(&mut read).await.unwrap(), Vec::<String>::new());
    (usage.repo.all, usage.namespace_used.all)
}

async fn add_file(db: &Db, access: &Access<Write>, n: u8, xorbs: &[u8]) {
    let xorbs: Vec<XetHash> = xorbs.iter().map(|n| XetHash::from_bytes([*n; 32])).collect();
    let new = NewFile {
        hash: XetHash::from_bytes([n; 32]),
        sha256: Some(Sha256::from_bytes([n; 32])),
        size: 7,
        terms: b"",
        xorbs: &xorbs,
        first_chunk: None,
        replace: false,
    };
    let mut tx = db.write().await.unwrap();
    assert!(xet::add_file(&mut tx, access, &new, NOW).await.unwrap());
    tx.commit(event()).await.unwrap();
}

fn pack(name: &str, bytes: u64) -> git::Pack {
    git::Pack { name: name.to_owned(), pack_key: "p".into(), index_key: "i".into(), objects: 1, bytes }
}

pub async fn what_is_used_follows_packs_and_rights(db: &Db) {
    let ann = user(db, "ann").await;
    let bob = user(db, "bob").await;
    let one = repo(db, &ann, "one", Visibility::Private).await;
    let two = repo(db, &bob, "two", Visibility::Private).await;
    assert_eq!(used(db, &one).await, (0, 0));
    send_xorb(db, &one.lower(), 1, "first").await;
    send_xorb(db, &one.lower(), 1, "again").await;
    assert_eq!(used(db, &one).await, (10, 10));
    let mut tx = db.write().await.unwrap();
    for _ in 0..2 {
        git::add_pack(&mut tx, &one, &pack("a", 100), NOW).await.unwrap();
    }
    git::add_pack(&mut tx, &one, &pack("b", 5), NOW).await.unwrap();
    git::remove_packs(&mut tx, &one, &["b".to_owned()]).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(used(db, &one).await, (110, 110));
    // A copy counts where it is, and what takes the place of a bad copy counts for all that share it.
    add_file(db, &one.lower(), 1, &[1]).await;
    let mut tx = db.write().await.unwrap();
    for _ in 0..2 {
        assert!(xet::copy_file(&mut tx, &one, &two.lower(), Sha256::from_bytes([1; 32]), NOW).await.unwrap());
    }
    tx.commit(event()).await.unwrap();
    assert_eq!(used(db, &two).await, (10, 10));
    let good = NewXorb { replaces: Some("first"), stored_bytes: 30, ..new_xorb(1, "second", &[]) };
    assert!(matches!(receive(db, &one.lower(), &good).await, Received::Replaced { .. }));
    assert_eq!((used(db, &one).await, used(db, &two).await), ((130, 130), (30, 30)));
    // It moves with the repository, and goes with it.
    let mut tx = db.write().await.unwrap();
    let to = bastide_core::RepoPath::parse(bastide_core::RepoKind::Model, "bob/one").unwrap();
    repos::rename(&mut tx, &one, &bob, &to).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!((used(db, &one).await, used(db, &two).await), ((130, 160), (30, 160)));
    let all = storage::usage_of_all(&mut db.read().await.unwrap()).await.unwrap();
    let all: Vec<_> = all.iter().map(|usage| (usage.name.as_str(), usage.used.all)).collect();
    assert_eq!(all, [("bob", 160), ("ann", 0)]);
    let mut tx = db.write().await.unwrap();
    repos::remove(&mut tx, &one).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(used(db, &two).await, (30, 30));
}

pub async fn quotas_and_what_uploads_in_parts_may_bring(db: &Db) {
    let ann = user(db, "ann").await;
    let one = repo(db, &ann, "one", Visibility::Private).await;
    let mut tx = db.write().await.unwrap();
    storage::set_namespace_quota(&mut tx, &ann, Quota::Bytes(5)).await.unwrap();
    storage::set_repo_quota(&mut tx, &one, Quota::Unlimited).await.unwrap();
    let upload =
        lfs::Upload { id: RowId::new(NOW), oid: Sha256::from_bytes([9; 32]), size: 100, part_bytes: 10 };
    lfs::begin(&mut tx, &one, &upload, NOW, NOW.plus_seconds(60)).await.unwrap();
    let part = lfs::Part { number: 1, size: 10, etag: "e".into(), terms: Vec::new() };
    assert!(lfs::add_part(&mut tx, &one, upload.id, &part, (&[], NOW)).await.unwrap());
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    let usage = storage::usage(&mut read, &one).await.unwrap();
    assert_eq!((usage.namespace_quota, usage.repo_quota), (Quota::Bytes(5), Quota::Unlimited));
    assert!(!usage.is_organization && usage.namespace == "ann");
    assert_eq!(storage::usage_of(&mut read, &ann).await.unwrap().quota, Quota::Bytes(5));
    assert_eq!(storage::reserved(&mut read, &one, NOW).await.unwrap(), 90);
    assert_eq!(storage::reserved(&mut read, &one, NOW.plus_seconds(61)).await.unwrap(), 0);
    drop(read);
    let mut tx = db.write().await.unwrap();
    storage::set_namespace_quota(&mut tx, &ann, Quota::Default).await.unwrap();
    assert_eq!(storage::usage_of(&mut tx, &ann).await.unwrap().quota, Quota::Default);
}

pub async fn a_path_is_locked_once(db: &Db) {
    let ann = user(db, "ann").await;
    let bob = user(db, "bob").await;
    let one = repo(db, &ann, "one", Visibility::Private).await;
    let lock = |n: i64, path: &str, of: &str, owner_id| Lock {
        id: RowId::from_i64(n),
        path: path.parse::<EntryPath>().unwrap(),
        owner_id,
        owner: of.to_owned(),
        created_at: NOW,
    };
    let (first, second) =
        (lock(1, "a", "ann", ann.namespace().id), lock(2, "b/c", "bob", bob.namespace().id));
    let mut tx = db.write().await.unwrap();
    locks::add(&mut tx, &one, &first, Some("refs/heads/x")).await.unwrap();
    locks::add(&mut tx, &one, &second, None).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut tx = db.write().await.unwrap();
    assert!(locks::add(&mut tx, &one, &lock(3, "a", "bob", bob.namespace().id), None).await.is_err());
    drop(tx);
    let mut read = db.read().await.unwrap();
    let wanted = |wanted: Wanted| Wanted { limit: 9, ..wanted };
    let after = Wanted { after: Some(first.id), ..Wanted::default() };
    let path = Wanted { path: Some("a".into()), id: Some(first.id), ..Wanted::default() };
    assert_eq!(locks::list(&mut read, &one, &wanted(after)).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(locks::list(&mut read, &one, &wanted(path)).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(locks::at(&mut read, &one, &second.path).await.unwrap(), Some(second.clone()));
    let others = locks::of_others(&mut read, &one, Some(ann.namespace().id)).await.unwrap();
    assert_eq!(others, std::slice::from_ref(&second));
    assert_eq!(locks::of_others(&mut read, &one, None).await.unwrap().len(), 2);
    assert_eq!(locks::count(&mut read, &one).await.unwrap(), 2);
    assert_eq!(locks::by_id(&mut read, &one, second.id).await.unwrap(), Some(second.clone()));
    drop(read);
    let mut tx = db.write().await.unwrap();
    for expected in [true, false] {
        assert_eq!(locks::remove(&mut tx, &one, second.id).await.unwrap(), expected);
    }
}

pub async fn content_is_listed_and_deleted_for_good(db: &Db) {
    let ann = user(db, "ann").await;
    let bob = user(db, "bob").await;
    let one = repo(db, &ann, "one", Visibility::Private).await;
    let copy = repo(db, &bob, "copy", Visibility::Private).await;
    let sha = |n: u8| Sha256::from_bytes([n; 32]);
    for n in 1..=2 {
        send_xorb(db, &one.lower(), n, &format!("blob{n}")).await;
    }
    add_file(db, &one.lower(), 1, &[1]).await;
    add_file(db, &one.lower(), 2, &[1, 2]).await;
    let mut tx = db.write().await.unwrap();
    let row = git::CommitRow {
        id: oid(1),
        tree: oid(2),
        parents: &[],
        time: NOW,
        author: "ann",
        author_id: Some(ann.namespace().id),
        pusher_id: None,
        title: "t",
        message: "t\n",
    };
    let change = git::ChangeRow { path: "x.bin", object: Some(oid(7)) };
    git::add_commit(&mut tx, &one, &row, &[change]).await.unwrap();
    let change = git::ChangeRow { path: "x.bin", object: Some(oid(8)) };
    for _ in 0..2 {
        git::renew_commit(&mut tx, &one, (oid(1), oid(3)), (oid(4), &[]), std::slice::from_ref(&change))
            .await
            .unwrap();
    }
    assert!(git::renew_commit(&mut tx, &one, (oid(9), oid(5)), (oid(4), &[]), &[]).await.is_err());
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    assert_eq!(large_files::history_size(&mut read, &one).await.unwrap(), (2, 2));
    assert_eq!(large_files::path_of(&mut read, &one, oid(8)).await.unwrap().as_deref(), Some("x.bin"));
    assert_eq!(large_files::path_of(&mut read, &one, oid(6)).await.unwrap(), None);
    let page = large_files::list(&mut read, &one, None, 1).await.unwrap();
    let rest = large_files::list(&mut read, &one, Some(page[0].id), 9).await.unwrap();
    let mut listed: Vec<Sha256> = page.iter().chain(&rest).map(|content| content.sha256).collect();
    listed.sort();
    assert_eq!(listed, [sha(1), sha(2)]);
    let own = gate::repos_with_content(&mut read, sha(1), Some(ann.namespace().id), 9).await.unwrap();
    assert_eq!(own, [one.repo_id()]);
    assert!(gate::repos_with_content(&mut read, sha(1), None, 9).await.unwrap().is_empty());
    drop(read);
    assert_eq!(used(db, &one).await.0, 20);
    let mut tx = db.write().await.unwrap();
    assert_eq!(large_files::delete(&mut tx, &one, sha(2), NOW).await.unwrap(), Some(7));
    assert_eq!(large_files::delete(&mut tx, &one, sha(2), NOW).await.unwrap(), None);
    large_files::copy_deleted(&mut tx, &one, &copy.lower()).await.unwrap();
    assert!(
        !refs::swap(&mut tx, &one, &bastide_core::RefName::main(), Some(oid(1)), None, NOW).await.unwrap()
    );
    tx.commit(event()).await.unwrap();
    // The xorb that the other file has stays.
    assert_eq!(used(db, &one).await.0, 10);
    let mut read = db.read().await.unwrap();
    assert_eq!(large_files::deleted_at(&mut read, &one, sha(2)).await.unwrap(), Some(NOW));
    assert_eq!(large_files::deleted_at(&mut read, &one, sha(1)).await.unwrap(), None);
    assert_eq!(large_files::all_deleted(&mut read, &copy).await.unwrap(), [sha(2)]);
    drop(read);
    // It comes again.
    send_xorb(db, &one.lower(), 2, "other2").await;
    add_file(db, &one.lower(), 2, &[1, 2]).await;
    assert!(large_files::all_deleted(&mut db.read().await.unwrap(), &one).await.unwrap().is_empty());
}
