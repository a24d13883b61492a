//! What proposers bring: counted for as long as it is there.

use bastide_core::id::RowId;
use bastide_core::{DiscussionStatus, NamespaceId, RefName, Sha256, Visibility, XetHash};
use bastide_store::discussions::{self, NewDiscussion};
use bastide_store::permit::{Access, Admin, Propose, Write};
use bastide_store::proposals::CommitCharge;
use bastide_store::xet::{self, NewFile, NewXorb, Received};
use bastide_store::{Db, git, large_files, proposals, prune, repos, storage};

use crate::suite::{NOW, add_file, event, new_xorb, oid, receive, repo, send_xorb, user};

const BOB: NamespaceId = NamespaceId::from_i64(77);

async fn used(db: &Db, access: &Access<Propose>) -> u64 {
    proposals::used_bytes(&mut db.read().await.unwrap(), access, BOB).await.unwrap()
}

/// What only proposals use, and what it is charged, as it is noted and as it is.
async fn counted(db: &Db, access: &Access<Admin>) -> (u64, u64) {
    let mut read = db.read().await.unwrap();
    let (noted, counted) = storage::recount(&mut read, access).await.unwrap();
    assert_eq!((noted.proposed, noted.price), (counted.proposed, counted.price));
    assert_eq!(storage::miscounted(&mut read).await.unwrap(), Vec::<String>::new());
    (noted.proposed, noted.price)
}

pub async fn what_proposers_bring_counts_until_it_is_gone_or_taken_over(db: &Db) {
    let ann = user(db, "ann").await;
    let admin: Access<Admin> = repo(db, &ann, "one", Visibility::Public).await;
    let other = repo(db, &ann, "two", Visibility::Public).await.lower::<Propose>();
    let (propose, write) = (admin.lower::<Propose>(), admin.lower::<Write>());
    assert_eq!(used(db, &propose).await, 0);
    for n in [1, 2] {
        let Received::New(xorb) = send_xorb(db, &write, n, &format!("key-{n}")).await else { panic!("new") };
        assert!(add_file(db, &write, n, &[XetHash::from_bytes([n; 32])]).await);
        let mut tx = db.write().await.unwrap();
        let sha256 = Sha256::from_bytes([n; 32]);
        for _ in 0..2 {
            // Nothing counts twice.
            proposals::charge_xorb(&mut tx, &propose, (BOB, xorb), 100).await.unwrap();
            proposals::charge_file(&mut tx, &propose, (BOB, sha256), 10).await.unwrap();
        }
        for _ in 0..2 {
            let charge = CommitCharge { price: 1, pack_bytes: 40 };
            proposals::charge_commit(&mut tx, &propose, (BOB, u64::from(n)), charge).await.unwrap();
        }
        tx.commit(event()).await.unwrap();
    }
    assert_eq!((used(db, &propose).await, used(db, &other).await), (224, 0));
    // Two xorbs of 10 bytes, and what is in packs.
    assert_eq!(counted(db, &admin).await, (180, 224));
    let charged = proposals::charged_files(&mut db.read().await.unwrap(), &write).await.unwrap();
    assert_eq!(charged.len(), 2);
    assert_eq!(proposals::charged_pulls(&mut db.read().await.unwrap(), &write).await.unwrap().len(), 2);
    let mut read = db.read().await.unwrap();
    let files = [Sha256::from_bytes([1; 32]), Sha256::from_bytes([2; 32])];
    assert_eq!(proposals::bytes_of_files_alone(&mut read, &write, &files).await.unwrap(), 20);
    assert_eq!(proposals::bytes_of_files_alone(&mut read, &write, &files[..1]).await.unwrap(), 10);
    assert_eq!(proposals::bytes_of_files_alone(&mut read, &write, &[]).await.unwrap(), 0);
    drop(read);
    let mut tx = db.write().await.unwrap();
    proposals::release_file(&mut tx, &write, files[0]).await.unwrap();
    proposals::release_commits(&mut tx, &write, 1).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(used(db, &propose).await, 112);
    assert_eq!(counted(db, &admin).await, (90, 112));
    // Nothing goes twice, and nothing below nothing; what packs lose, proposals lose with them.
    let mut tx = db.write().await.unwrap();
    proposals::release_file(&mut tx, &write, files[0]).await.unwrap();
    proposals::release_commits(&mut tx, &write, 1).await.unwrap();
    proposals::repacked(&mut tx, &write, (100, 101)).await.unwrap();
    proposals::repacked(&mut tx, &write, (100, 49)).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(counted(db, &admin).await, (10 + 39, 112));
    // A xorb that is stored anew counts as it is stored then.
    let good = NewXorb { replaces: Some("key-2"), stored_bytes: 25, ..new_xorb(2, "key-3", &[]) };
    assert!(matches!(receive(db, &write, &good).await, Received::Replaced { .. }));
    assert_eq!(counted(db, &admin).await, (25 + 39, 112));
    // Deleted for good, file and right go with their price.
    let mut tx = db.write().await.unwrap();
    assert!(large_files::delete(&mut tx, &admin, files[1], NOW).await.unwrap().is_some());
    tx.commit(event()).await.unwrap();
    assert_eq!(counted(db, &admin).await, (39, 2));
    assert!(proposals::any(&mut db.read().await.unwrap(), &write).await.unwrap());
    // They move with the repository.
    let bob = user(db, "bob").await;
    let mut tx = db.write().await.unwrap();
    let to = bastide_core::RepoPath::parse(bastide_core::RepoKind::Model, "bob/one").unwrap();
    repos::rename(&mut tx, &admin, &bob, &to).await.unwrap();
    tx.commit(event()).await.unwrap();
    let moved = storage::usage(&mut db.read().await.unwrap(), &admin).await.unwrap();
    assert_eq!((moved.namespace_used, moved.namespace.as_str()), (moved.repo, "bob"));
    let left = storage::usage_of(&mut db.read().await.unwrap(), &ann).await.unwrap();
    assert_eq!((left.used.proposed, left.used.price), (0, 0));
    // Collected, or removed with the repository.
    let mut tx = db.write().await.unwrap();
    repos::remove(&mut tx, &admin).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(used(db, &propose).await, 0);
}

pub async fn a_permit_to_propose_replaces_nothing(db: &Db) {
    let ann = user(db, "ann").await;
    let admin = repo(db, &ann, "one", Visibility::Public).await;
    let (propose, write) = (admin.lower::<Propose>(), admin.lower::<Write>());
    assert!(matches!(send_xorb(db, &write, 1, "old").await, Received::New(_)));
    assert!(add_file(db, &write, 1, &[XetHash::from_bytes([1; 32])]).await);
    let hash = XetHash::from_bytes([1; 32]);
    let new = NewXorb {
        hash,
        blob_key: "new",
        index_key: "new",
        stored_bytes: 10,
        raw_bytes: 10,
        chunks: 1,
        eligible: &[],
        replaces: Some("old"),
    };
    let file = NewFile {
        hash,
        sha256: Some(Sha256::from_bytes([1; 32])),
        size: 10,
        terms: b"others",
        xorbs: &[hash],
        first_chunk: None,
        replace: true,
    };
    let mut tx = db.write().await.unwrap();
    assert_eq!(xet::receive_xorb(&mut tx, &propose, &new, NOW).await.unwrap(), Received::Known);
    assert!(xet::add_file(&mut tx, &propose, &file, NOW).await.unwrap());
    assert!(xet::is_in_use(&mut tx, &propose, Sha256::from_bytes([1; 32])).await.unwrap());
    assert!(!xet::is_in_use(&mut tx, &propose, Sha256::from_bytes([9; 32])).await.unwrap());
    tx.commit(event()).await.unwrap();
    let known = xet::file_by_hash(&mut db.read().await.unwrap(), &write, hash).await.unwrap().unwrap();
    assert_eq!(known.terms, b"terms");
    let mut tx = db.write().await.unwrap();
    let replaced = xet::receive_xorb(&mut tx, &write, &new, NOW).await.unwrap();
    assert!(matches!(replaced, Received::Replaced { .. }));
    tx.commit(event()).await.unwrap();
}

pub async fn pull_requests_are_counted_by_author_and_day(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "one", Visibility::Public).await;
    let (main, author) = (RefName::main(), access.repo().namespace_id);
    let mut tx = db.write().await.unwrap();
    for (n, pull) in [(0, true), (1, true), (2, false)] {
        let now = NOW.plus_seconds(n);
        let base = pull.then_some(&main);
        let status = DiscussionStatus::Open;
        let new =
            NewDiscussion { id: RowId::new(now), title: "a title", status, author: Some(author), base, now };
        discussions::create(&mut tx, &access, &new).await.unwrap();
    }
    assert_eq!(proposals::open_pulls(&mut tx, &access, author).await.unwrap(), 2);
    assert_eq!(proposals::open_pulls(&mut tx, &access, BOB).await.unwrap(), 0);
    let since = proposals::pulls_since(&mut tx, &access, author, NOW).await.unwrap();
    assert_eq!(since, (1, Some(NOW.plus_seconds(1))));
    assert_eq!(proposals::pulls_since(&mut tx, &access, BOB, NOW).await.unwrap(), (0, None));
    // What a commit has changed, and which of it others have too.
    let (one, two) = (oid(1), oid(2));
    for (commit, object) in [(one, oid(11)), (two, oid(11))] {
        let row = git::CommitRow {
            id: commit,
            tree: oid(9),
            parents: &[],
            time: NOW,
            author: "ann",
            author_id: None,
            pusher_id: None,
            title: "t",
            message: "t",
        };
        let changes =
            [git::ChangeRow { path: "a", object: Some(object) }, git::ChangeRow { path: "b", object: None }];
        git::add_commit(&mut tx, &access, &row, &changes).await.unwrap();
    }
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    assert_eq!(git::changes_of(&mut read, &access, one, 10).await.unwrap(), [("a".to_owned(), oid(11))]);
    let shared = git::objects_elsewhere(&mut read, &access, &[oid(11), oid(12)], &[one]).await.unwrap();
    assert_eq!(shared, [oid(11)]);
    assert!(git::objects_elsewhere(&mut read, &access, &[oid(11)], &[one, two]).await.unwrap().is_empty());
}

/// What is lost is noted until it is pruned, and what is lost meanwhile beyond that; a charge lasts as long as the bytes.
pub async fn what_a_repository_lost_is_noted_until_it_is_pruned(db: &Db) {
    let ann = user(db, "ann").await;
    let admin: Access<Admin> = repo(db, &ann, "one", Visibility::Public).await;
    let (propose, write) = (admin.lower::<Propose>(), admin.lower::<Write>());
    let loss = async || prune::loss(&mut db.read().await.unwrap(), &admin).await.unwrap();
    assert_eq!(loss().await, None);
    let mut tx = db.write().await.unwrap();
    prune::hurry(&mut tx, &admin, NOW).await.unwrap();
    prune::lost(&mut tx, &admin, 2, NOW.plus_seconds(5)).await.unwrap();
    prune::lost(&mut tx, &admin, 3, NOW.plus_seconds(9)).await.unwrap();
    tx.commit(event()).await.unwrap();
    let noted = |commits, urgent| Some(prune::Loss { commits, since: NOW.plus_seconds(5), urgent });
    assert_eq!(loss().await, noted(5, true));
    assert_eq!(prune::unpruned(&mut db.read().await.unwrap()).await.unwrap(), 1);
    for (seen, more, left) in [(4, false, noted(1, true)), (1, true, noted(0, true)), (0, false, None)] {
        let mut tx = db.write().await.unwrap();
        prune::settled(&mut tx, &write, (seen, more)).await.unwrap();
        tx.commit(event()).await.unwrap();
        assert_eq!(loss().await, left, "{seen} {more}");
    }
    assert_eq!(prune::unpruned(&mut db.read().await.unwrap()).await.unwrap(), 0);
    let mut tx = db.write().await.unwrap();
    for number in [1, 2] {
        let charge = CommitCharge { price: 9, pack_bytes: 50 * number };
        proposals::charge_commit(&mut tx, &propose, (BOB, number), charge).await.unwrap();
    }
    proposals::leave_commits(&mut tx, &write, (2, oid(7))).await.unwrap();
    proposals::bound_bytes(&mut tx, &write, 150).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(counted(db, &admin).await, (150, 18));
    let mut read = db.read().await.unwrap();
    let mut charged = proposals::charged_pulls(&mut read, &write).await.unwrap();
    charged.sort_unstable();
    assert_eq!(charged, [(1, None), (2, Some(oid(7)))]);
    drop(read);
    let mut tx = db.write().await.unwrap();
    proposals::bound_bytes(&mut tx, &write, 30).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(counted(db, &admin).await, (30, 18));
    let mut tx = db.write().await.unwrap();
    proposals::release_commits(&mut tx, &write, 2).await.unwrap();
    proposals::bound_bytes(&mut tx, &write, 0).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(counted(db, &admin).await, (0, 9));
}
