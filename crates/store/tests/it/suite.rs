//! The tests themselves: the same for both engines.

use std::collections::HashSet;
use std::sync::Arc;

pub use crate::discussions::*;
pub use crate::proposals::*;
pub use crate::rows::*;
pub use crate::social::*;
pub use crate::storage::*;
pub use crate::webhooks::*;
use bastide_core::id::RowId;
use bastide_core::{
    Clock, Name, NamespaceId, Oid, RefName, RepoId, RepoKind, RepoPath, Sha256, Timestamp, TokenId,
    TokenRole, Visibility, XetHash,
};
use bastide_ledger::context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::accounts::{self, NewNamespace, NewToken};
use bastide_store::collect::Step;
use bastide_store::jobs::{self, NewJob};
use bastide_store::lists::{Cursor, ListQuery, Sort};
use bastide_store::permit::{self, Access, Admin, Gated, Namespace, Repo, Write};
use bastide_store::reads::{self, ReadRow};
use bastide_store::refs::{self, Target};
use bastide_store::repos::{self, MetadataRow, NewRepo};
use bastide_store::xet::{self, NewFile, NewXorb, Received};
use bastide_store::{Db, StoreError, collect, gate, git, history, ledger, lfs, lists, related, search};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// The permit that a user's own things hang on.
pub(crate) type Owner = Access<Admin, Namespace>;

pub(crate) fn event() -> NewEvent {
    NewEvent::new(&context::operator(&Clock::System), Action::HubInit)
}

pub(crate) async fn user(db: &Db, name: &str) -> Access<Admin, Namespace> {
    let name: Name = name.parse().unwrap();
    let id = NamespaceId::new(NOW);
    let new = NewNamespace {
        id,
        name: &name,
        is_organization: false,
        full_name: name.as_str(),
        email: None,
        is_admin: false,
        now: NOW,
    };
    let mut tx = db.write().await.unwrap();
    accounts::add_namespace(&mut tx, &new).await.unwrap();
    tx.commit(event()).await.unwrap();
    permit::grant_namespace(Arc::new(Namespace {
        id,
        name,
        is_organization: false,
        default_visibility: None,
    }))
}

pub(crate) async fn repo(
    db: &Db,
    owner: &Access<Admin, Namespace>,
    name: &str,
    visibility: Visibility,
) -> Access<Admin> {
    let id = RepoId::new(NOW);
    let path = RepoPath {
        kind: RepoKind::Model,
        namespace: owner.namespace().name.clone(),
        name: name.parse().unwrap(),
    };
    let gated = Gated::No;
    let new = NewRepo { id, path: &path, visibility, gated, creator_id: None, sdk: None, now: NOW };
    let mut tx = db.write().await.unwrap();
    repos::add(&mut tx, owner, &new).await.unwrap();
    tx.commit(event()).await.unwrap();
    permit::grant_repo(Arc::new(Repo {
        id,
        path,
        namespace_id: owner.namespace().id,
        visibility,
        gated: Gated::No,
        disabled: false,
        creator_id: None,
        epoch: 1,
        created_at: NOW,
    }))
}

pub(crate) fn oid(n: u8) -> Oid {
    Oid::from_bytes([n; 20])
}

pub async fn names_are_one_space_in_any_case(db: &Db) {
    let ann = user(db, "Ann").await;
    let name: Name = "aNN".parse().unwrap();
    let new = NewNamespace {
        id: NamespaceId::new(NOW),
        name: &name,
        is_organization: true,
        full_name: "x",
        email: None,
        is_admin: false,
        now: NOW,
    };
    let mut tx = db.write().await.unwrap();
    assert!(matches!(accounts::add_namespace(&mut tx, &new).await, Err(StoreError::Conflict)));
    drop(tx);
    let found = gate::namespace_by_name(&mut db.read().await.unwrap(), &name, None).await.unwrap().unwrap();
    assert_eq!(found.namespace.id, ann.namespace().id);
    let one = repo(db, &ann, "Bert", Visibility::Private).await;
    let path = RepoPath::parse(RepoKind::Model, "ann/BERT").unwrap();
    let found = gate::repo_by_path(&mut db.read().await.unwrap(), &path, None).await.unwrap().unwrap();
    assert_eq!(
        (found.repo.id, found.repo.path.id(), found.role),
        (one.repo_id(), "Ann/Bert".to_owned(), None)
    );
}

pub async fn tokens_are_found_by_hash_and_end(db: &Db) {
    let ann = user(db, "ann").await;
    let id = TokenId::new(NOW);
    let new = NewToken {
        id,
        name: "t",
        role: TokenRole::Read,
        hash: [7; 32],
        hint: "abcd",
        created_at: NOW,
        expires_at: Some(NOW.plus_days(1)),
    };
    let mut tx = db.write().await.unwrap();
    accounts::add_token(&mut tx, &ann, &new).await.unwrap();
    tx.commit(event()).await.unwrap();
    let found = gate::token_by_hash(&mut db.read().await.unwrap(), [7; 32]).await.unwrap().unwrap();
    assert_eq!((found.id, found.role, found.revoked_at), (id, TokenRole::Read, None));
    accounts::touch_tokens(db, &[(id, NOW)]).await.unwrap();
    for expected in [true, false] {
        let mut tx = db.write().await.unwrap();
        assert_eq!(accounts::revoke_token(&mut tx, &ann, id, NOW).await.unwrap(), expected);
        tx.commit(event()).await.unwrap();
    }
    let found = gate::token_by_id(&mut db.read().await.unwrap(), id).await.unwrap().unwrap();
    assert_eq!((found.revoked_at, found.last_used_at), (Some(NOW), Some(NOW)));
    assert!(gate::token_by_hash(&mut db.read().await.unwrap(), [8; 32]).await.unwrap().is_none());
}

pub async fn refs_move_by_compare_and_swap(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "m", Visibility::Public).await;
    let main = RefName::main();
    let mut tx = db.write().await.unwrap();
    let to = |n| Some(Target::commit(oid(n)));
    assert!(refs::swap(&mut tx, &access, &main, None, to(1), NOW).await.unwrap());
    assert!(!refs::swap(&mut tx, &access, &main, None, to(2), NOW).await.unwrap());
    assert!(!refs::swap(&mut tx, &access, &main, Some(oid(2)), to(3), NOW).await.unwrap());
    assert!(refs::swap(&mut tx, &access, &main, Some(oid(1)), to(2), NOW).await.unwrap());
    assert!(!refs::swap(&mut tx, &access, &main, Some(oid(1)), None, NOW).await.unwrap());
    tx.commit(event()).await.unwrap();
    let list = refs::list(&mut db.read().await.unwrap(), &access).await.unwrap();
    assert_eq!(list, [refs::Ref { name: main, target: oid(2), commit: oid(2) }]);
}

pub async fn jobs_retry_and_do_not_double(db: &Db) {
    let enqueue = async |key: &str| {
        let mut tx = db.write().await.unwrap();
        let new = NewJob { kind: "k", key: key.to_owned(), payload: "{}".to_owned(), run_at: NOW };
        jobs::enqueue(&mut tx, NOW, new).await.unwrap();
        tx.commit(event()).await.unwrap();
    };
    let fail = async |job: &jobs::Job, now| jobs::fail(db, job, "broken", now, event()).await.unwrap();
    enqueue("a").await;
    enqueue("a").await;
    let job = jobs::claim(db, NOW).await.unwrap().unwrap();
    assert!(jobs::claim(db, NOW).await.unwrap().is_none(), "enqueued twice under one key");
    // While it runs, another of its kind may be asked for; when it fails, that one does the work.
    enqueue("a").await;
    assert_eq!(fail(&job, NOW).await, jobs::Failed::Again);
    let job = jobs::claim(db, NOW).await.unwrap().unwrap();
    assert_eq!(fail(&job, NOW).await, jobs::Failed::Again);
    assert!(jobs::claim(db, NOW).await.unwrap().is_none(), "retried without a pause");
    let later = NOW.plus_seconds(5);
    let job = jobs::claim(db, later).await.unwrap().unwrap();
    // A worker that died loses its lease.
    let after = later.plus_seconds(jobs::LEASE_SECONDS + 1);
    let again = jobs::claim(db, after).await.unwrap().unwrap();
    assert_eq!((again.id, again.attempts), (job.id, job.attempts + 1));
    assert!(jobs::finish(db, &again).await.unwrap());
    assert!(!jobs::finish(db, &again).await.unwrap());
    assert_eq!(jobs::counts(&mut db.read().await.unwrap()).await.unwrap(), (0, 0));
}

pub async fn a_job_belongs_to_who_claimed_it_last(db: &Db) {
    let mut tx = db.write().await.unwrap();
    let new = NewJob { kind: "k", key: "a".to_owned(), payload: String::new(), run_at: NOW };
    jobs::enqueue(&mut tx, NOW, new).await.unwrap();
    tx.commit(event()).await.unwrap();
    let slow = jobs::claim(db, NOW).await.unwrap().unwrap();
    // A sign of life keeps it.
    let later = NOW.plus_seconds(jobs::LEASE_SECONDS - 1);
    assert!(jobs::renew(db, &slow, later).await.unwrap());
    assert!(jobs::claim(db, NOW.plus_seconds(jobs::LEASE_SECONDS + 1)).await.unwrap().is_none());
    // Silence loses it: then it can neither be kept nor ended nor put back.
    let after = later.plus_seconds(jobs::LEASE_SECONDS + 1);
    let other = jobs::claim(db, after).await.unwrap().unwrap();
    assert!(!jobs::renew(db, &slow, after).await.unwrap());
    assert!(!jobs::finish(db, &slow).await.unwrap());
    assert_eq!(jobs::fail(db, &slow, "late", after, event()).await.unwrap(), jobs::Failed::Lost);
    assert!(jobs::claim(db, after).await.unwrap().is_none(), "the holder still has it");
    assert!(jobs::finish(db, &other).await.unwrap());
}

pub async fn a_job_that_kills_its_worker_is_put_aside_with_an_event(db: &Db) {
    let mut tx = db.write().await.unwrap();
    let new = NewJob { kind: "k", key: "a".to_owned(), payload: String::new(), run_at: NOW };
    jobs::enqueue(&mut tx, NOW, new).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut now = NOW;
    for attempt in 1..=jobs::MAX_ATTEMPTS {
        let job = jobs::claim(db, now).await.unwrap().unwrap();
        assert_eq!((job.attempts, job.is_used_up()), (attempt, false));
        now = now.plus_seconds(jobs::LEASE_SECONDS + 1);
    }
    let job = jobs::claim(db, now).await.unwrap().unwrap();
    assert!(job.is_used_up());
    let before = ledger::size(&mut db.read().await.unwrap()).await.unwrap();
    assert_eq!(jobs::fail(db, &job, "died", now, event()).await.unwrap(), jobs::Failed::ForGood);
    let mut read = db.read().await.unwrap();
    assert_eq!(ledger::size(&mut read).await.unwrap(), before + 1);
    assert_eq!(jobs::counts(&mut read).await.unwrap(), (0, 1));
    drop(read);
    assert!(jobs::claim(db, now.plus_days(1)).await.unwrap().is_none());
}

pub async fn writers_follow_each_other_and_nothing_stays_of_what_was_dropped(db: &Db) {
    let add = async |n: i64| {
        let mut tx = db.write().await.unwrap();
        let before = bastide_store::settings::get(&mut tx, "n").await.unwrap();
        tokio::task::yield_now().await;
        let sum = before.map_or(0, |text| text.parse::<i64>().unwrap()) + n;
        bastide_store::settings::set(&mut tx, "n", &sum.to_string()).await.unwrap();
        tx.commit(event()).await.unwrap();
    };
    let all = (1..=20).map(add);
    futures_util::future::join_all(all).await;
    let mut tx = db.write().await.unwrap();
    bastide_store::settings::set(&mut tx, "n", "lost").await.unwrap();
    drop(tx);
    let n = bastide_store::settings::get(&mut db.read().await.unwrap(), "n").await.unwrap();
    assert_eq!(n.as_deref(), Some("210"));
    assert_eq!(ledger::size(&mut db.read().await.unwrap()).await.unwrap(), 20);
}

pub async fn lists_find_by_words_and_pages_do_not_overlap(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let mut expected = Vec::new();
    for n in 0..30u8 {
        let visibility = if n % 5 == 0 { Visibility::Private } else { Visibility::Public };
        let access = repo(db, &ann, &format!("m{n}-word"), visibility).await;
        let mut tx = db.write().await.unwrap();
        let number = format!("m{n}");
        let mut terms = vec![("name", "ann"), ("name", number.as_str()), ("name", "word"), ("kind", "model")];
        if n % 2 == 0 {
            terms.push(("tag", "even"));
        }
        search::index(&mut tx, &access, &terms).await.unwrap();
        tx.commit(event()).await.unwrap();
        if n % 2 == 0 && n % 5 != 0 {
            expected.push(access.repo_id());
        }
    }
    let query = ListQuery {
        kind: RepoKind::Model,
        viewer: None,
        author: None,
        search: vec!["wor".into()],
        terms: vec![("tag", "even".into())],
        gated: None,
        parameters: (None, None),
        sort: Sort::Trending,
        ascending: false,
        limit: 4,
        cursor: None,
    };
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let page = ListQuery { cursor, ..query.clone() };
        let rows = lists::find(&mut db.read().await.unwrap(), &page).await.unwrap();
        let Some(last) = rows.last() else { break };
        cursor = Some(Cursor::after(last, Sort::Trending));
        found.extend(rows.iter().map(|row| row.id));
    }
    let unique: HashSet<_> = found.iter().collect();
    assert_eq!((found.len(), unique.len()), (expected.len(), expected.len()));
    for sort in [Sort::Downloads, Sort::Likes, Sort::Created, Sort::Updated] {
        for ascending in [true, false] {
            let other = ListQuery { sort, ascending, limit: 100, ..query.clone() };
            assert_eq!(
                lists::find(&mut db.read().await.unwrap(), &other).await.unwrap().len(),
                expected.len()
            );
        }
    }
    let count = async |viewer: Option<NamespaceId>| {
        let all = ListQuery { viewer, search: vec![], limit: 100, ..query.clone() };
        lists::find(&mut db.read().await.unwrap(), &all).await.unwrap().len()
    };
    assert_eq!(count(Some(ann.namespace().id)).await, 15);
    assert_eq!(count(Some(bob.namespace().id)).await, expected.len());
    for (part, number) in [
        ("m", 24),
        ("m1", 9),
        ("m13", 1),
        ("13", 1),
        ("ord", 24),
        ("-wo", 24),
        ("7-w", 3),
        ("x", 0),
        ("m99", 0),
    ] {
        let parts = ListQuery { search: vec![part.into()], terms: vec![], limit: 100, ..query.clone() };
        assert_eq!(lists::find(&mut db.read().await.unwrap(), &parts).await.unwrap().len(), number, "{part}");
    }
    let nothing = ListQuery { search: vec!["100%".into(), "_".into()], terms: vec![], ..query.clone() };
    assert!(lists::find(&mut db.read().await.unwrap(), &nothing).await.unwrap().is_empty());
}

pub async fn what_leads_to_a_model_is_told_to_who_may_see_it(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let base = repo(db, &ann, "Base", Visibility::Public).await;
    for (n, visibility) in
        [Visibility::Public, Visibility::Internal, Visibility::Private].into_iter().enumerate()
    {
        let child = repo(db, &ann, &format!("child-{n}"), visibility).await;
        let mut tx = db.write().await.unwrap();
        search::index(&mut tx, &child, &[("base", "ann/base"), ("link", "model:ann/base")]).await.unwrap();
        tx.commit(event()).await.unwrap();
    }
    let other = repo(db, &ann, "other", Visibility::Public).await;
    for (viewer, count) in [(None, 1), (Some(&bob), 2), (Some(&ann), 3)] {
        let viewer = viewer.map(|user| user.namespace().id);
        let mut read = db.read().await.unwrap();
        assert_eq!(related::children(&mut read, &base, viewer).await.unwrap(), count);
        assert_eq!(related::children(&mut read, &other, viewer).await.unwrap(), 0);
        // Models that link are no Spaces.
        assert!(related::spaces(&mut read, &base, viewer, 10).await.unwrap().is_empty());
    }
}

pub(crate) fn new_xorb<'a>(n: u8, key: &'a str, eligible: &'a [XetHash]) -> NewXorb<'a> {
    NewXorb {
        hash: XetHash::from_bytes([n; 32]),
        blob_key: key,
        index_key: key,
        stored_bytes: 10,
        raw_bytes: 10,
        chunks: 1,
        eligible,
        replaces: None,
    }
}

pub(crate) async fn send_xorb(db: &Db, access: &Access<Write>, n: u8, key: &str) -> Received {
    receive(db, access, &new_xorb(n, key, &[XetHash::from_bytes([n + 100; 32])])).await
}

pub(crate) async fn receive(db: &Db, access: &Access<Write>, new: &NewXorb<'_>) -> Received {
    let mut tx = db.write().await.unwrap();
    let received = xet::receive_xorb(&mut tx, access, new, NOW).await.unwrap();
    tx.commit(event()).await.unwrap();
    received
}

pub(crate) async fn add_file(db: &Db, access: &Access<Write>, n: u8, xorbs: &[XetHash]) -> bool {
    let new = NewFile {
        hash: XetHash::from_bytes([n; 32]),
        sha256: Some(Sha256::from_bytes([n; 32])),
        size: 10,
        terms: b"terms",
        xorbs,
        first_chunk: None,
        replace: false,
    };
    let mut tx = db.write().await.unwrap();
    let added = xet::add_file(&mut tx, access, &new, NOW).await.unwrap();
    if added {
        tx.commit(event()).await.unwrap();
    }
    added
}

pub async fn entitlements_decide_about_xorbs_and_files(db: &Db) {
    let ann = user(db, "ann").await;
    let one = repo(db, &ann, "one", Visibility::Private).await.lower::<Write>();
    let two = repo(db, &ann, "two", Visibility::Private).await.lower::<Write>();
    let hash = XetHash::from_bytes([1; 32]);
    assert!(matches!(send_xorb(db, &one, 1, "first").await, Received::New(_)));
    assert!(!add_file(db, &two, 9, &[hash]).await, "another repository's xorb");
    assert!(add_file(db, &one, 9, &[hash]).await);
    assert!(add_file(db, &one, 9, &[hash]).await, "again is no error");
    let mut read = db.read().await.unwrap();
    assert!(xet::xorb_of(&mut read, &two, hash).await.unwrap().is_none());
    let chunk = XetHash::from_bytes([101; 32]);
    assert!(xet::xorbs_with_chunk(&mut read, &two, chunk, NOW, 9).await.unwrap().is_empty());
    assert_eq!(xet::xorbs_with_chunk(&mut read, &one, chunk, NOW, 9).await.unwrap().len(), 1);
    drop(read);
    // Who sends the bytes gets back his own, whatever others have.
    assert!(matches!(send_xorb(db, &two, 1, "second").await, Received::New(_)));
    assert_eq!(send_xorb(db, &two, 1, "third").await, Received::Known);
    let found = xet::xorb_of(&mut db.read().await.unwrap(), &two, hash).await.unwrap().unwrap();
    assert_eq!(found.blob_key, "second");
    let sha256 = Sha256::from_bytes([9; 32]);
    let mut read = db.read().await.unwrap();
    assert!(xet::file_hash(&mut read, &two, sha256).await.unwrap().is_none());
    assert_eq!(
        xet::file_hash(&mut read, &one, sha256).await.unwrap(),
        Some((XetHash::from_bytes([9; 32]), 10))
    );
    drop(read);
    let mut tx = db.write().await.unwrap();
    assert!(xet::copy_file(&mut tx, &one, &two, sha256, NOW).await.unwrap());
    tx.commit(event()).await.unwrap();
    assert!(xet::file_hash(&mut db.read().await.unwrap(), &two, sha256).await.unwrap().is_some());
}

pub async fn read_records_count_once(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "m", Visibility::Public).await;
    let row = |position| ReadRow {
        position,
        time_ms: NOW.as_millis() + position,
        actor_kind: "user".into(),
        actor_id: Some(ann.namespace().id.as_i64()),
        credential_id: None,
        repo_id: access.repo_id().as_i64(),
        commit: Some(oid(1)),
        path: Some("a".into()),
        object: "x".into(),
        via: "resolve".into(),
        bytes: 5,
        address: None,
        user_agent: None,
        request_id: "r".into(),
    };
    assert_eq!(reads::add(db, 1, &[row(0), row(1)]).await.unwrap(), 2);
    assert_eq!(reads::add(db, 1, &[row(0), row(1), row(2)]).await.unwrap(), 1);
    let found = reads::of_repo(&mut db.read().await.unwrap(), &access, 10).await.unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(reads::prune(db, Timestamp::from_millis(NOW.as_millis() + 2)).await.unwrap(), 2);
    let info = lists::info_of(&mut db.read().await.unwrap(), &access).await.unwrap().unwrap();
    assert_eq!(info.downloads, 3, "each delivery counts once");
}

pub async fn packs_commits_and_short_ids(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "m", Visibility::Public).await;
    let mut tx = db.write().await.unwrap();
    let parents = [oid(0x11)];
    for (n, parents) in [(0x11u8, &[][..]), (0x12, &parents[..])] {
        let row = git::CommitRow {
            id: oid(n),
            tree: oid(1),
            parents,
            time: NOW,
            author: "ann",
            author_id: None,
            pusher_id: None,
            title: "t",
            message: "t",
        };
        let changes = [
            git::ChangeRow { path: "a", object: Some(oid(n)) },
            git::ChangeRow { path: "b", object: Some(oid(7)) },
        ];
        git::add_commit(&mut tx, &access, &row, &changes).await.unwrap();
    }
    let pack = git::Pack {
        name: "pack-1".into(),
        pack_key: "k".into(),
        index_key: "i".into(),
        objects: 1,
        bytes: 2,
    };
    git::add_pack(&mut tx, &access, &pack, NOW).await.unwrap();
    git::add_pack(&mut tx, &access, &pack, NOW).await.unwrap();
    assert_eq!(git::pack_count(&mut tx, &access).await.unwrap(), 1);
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    let wanted = [("a", oid(0x11)), ("b", oid(7)), ("none", oid(7))];
    let found = history::bringers(&mut read, &access, 1, &wanted).await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|found| (found.path.as_str(), found.change.commit, found.change.generation))
        .collect();
    assert_eq!(found, [("a", oid(0x11), 0), ("b", oid(0x12), 1), ("b", oid(0x11), 0)]);
    assert_eq!(history::bringers(&mut read, &access, 0, &wanted).await.unwrap().len(), 2);
    assert_eq!(history::generation(&mut read, &access, oid(0x12)).await.unwrap(), Some(1));
    assert_eq!(history::generation(&mut read, &access, oid(0x13)).await.unwrap(), None);
    assert_eq!(history::commits_up_to(&mut read, &access, 0).await.unwrap(), 1);
    let lineage = history::lineage(&mut read, &access, -1, 1).await.unwrap();
    assert_eq!(lineage, [(oid(0x12), vec![oid(0x11)]), (oid(0x11), vec![])]);
    let start = (i64::MAX, oid(0xff));
    let page = history::changes_of_path(&mut read, &access, "b", start, 1).await.unwrap();
    assert_eq!((page.len(), page[0].commit, page[0].is_merge), (1, oid(0x12), false));
    let place = (page[0].generation, page[0].commit);
    let next = history::changes_of_path(&mut read, &access, "b", place, 5).await.unwrap();
    assert_eq!((next.len(), next[0].commit), (1, oid(0x11)));
    let more = history::bringers_of(&mut read, &access, ("b", oid(7)), place, 5).await.unwrap();
    assert_eq!(more, next);
    let heads = history::headlines(&mut read, &access, &[oid(0x11)]).await.unwrap();
    assert_eq!((heads.len(), heads[0].title.as_str()), (1, "t"));
    // Many paths are asked for in several statements.
    let names: Vec<String> = (0..250).map(|n| format!("f{n}")).collect();
    let mut many: Vec<(&str, Oid)> = names.iter().map(|name| (name.as_str(), oid(7))).collect();
    many.push(("b", oid(7)));
    assert_eq!(history::bringers(&mut read, &access, 1, &many).await.unwrap().len(), 2);
    let range = |text: &str| {
        let from: Oid = format!("{text:0<40}").parse().unwrap();
        let to: Oid = format!("{text:f<40}").parse().unwrap();
        (from, to)
    };
    let (from, to) = range("1212");
    assert_eq!(git::commits_between(&mut read, &access, from, to).await.unwrap(), [oid(0x12)]);
    let (from, to) = range("1");
    assert_eq!(git::commits_between(&mut read, &access, from, to).await.unwrap().len(), 2);
    drop(read);
    let mut tx = db.write().await.unwrap();
    assert!(git::remove_packs(&mut tx, &access, &["pack-1".into()]).await.unwrap());
    assert!(!git::remove_packs(&mut tx, &access, &["pack-1".into()]).await.unwrap());
    repos::remove(&mut tx, &access).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert!(git::all_pack_keys(&mut db.read().await.unwrap()).await.unwrap().is_empty());
}

pub async fn the_ledger_grows_without_gaps(db: &Db) {
    for n in 0..37i64 {
        db.write().await.unwrap().commit(event().fact("n", n)).await.unwrap();
    }
    let mut read = db.read().await.unwrap();
    let events = ledger::events_from(&mut read, 0, 1000).await.unwrap();
    let mut tree = bastide_ledger::Frontier::default();
    for (seq, stored) in (0..).zip(&events) {
        let event = stored.event.as_ref().unwrap();
        assert_eq!((stored.seq, stored.leaf), (seq, Some(event.leaf_hash())));
        for (level, position, hash) in tree.push(event.leaf_hash()) {
            assert_eq!(ledger::node(&mut read, level, position).await.unwrap(), Some(hash));
        }
    }
    assert_eq!(tree.size(), 37);
}

/// Takes collection's steps for everything that is not in `used`, as of `now` with a grace of a day.
async fn take(db: &Db, admin: &Access<Admin>, steps: &[Step], now: Timestamp) -> Vec<bool> {
    let mut tx = db.write().await.unwrap();
    let mut took = Vec::new();
    for step in steps {
        took.push(collect::take(&mut tx, admin, *step, (now, now.plus_days(-1))).await.unwrap());
    }
    tx.commit(event()).await.unwrap();
    took
}

pub async fn what_goes_was_marked_a_grace_before(db: &Db) {
    let ann = user(db, "ann").await;
    let admin = repo(db, &ann, "m", Visibility::Private).await;
    let access = admin.lower::<Write>();
    send_xorb(db, &access, 1, "used").await;
    send_xorb(db, &access, 2, "unused").await;
    assert!(add_file(db, &access, 1, &[XetHash::from_bytes([1; 32])]).await);
    assert!(add_file(db, &access, 2, &[XetHash::from_bytes([2; 32])]).await);
    let marks = collect::file_marks(&mut db.read().await.unwrap(), &admin).await.unwrap();
    let unused = Some(Sha256::from_bytes([2; 32]));
    let id = marks.iter().find(|mark| mark.sha256 == unused).unwrap().id;
    let (mark, drop_it) = ([Step::MarkFile(id)], [Step::DropFile(id)]);
    assert_eq!(take(db, &admin, &mark, NOW).await, [false], "touched within the grace");
    let later = NOW.plus_days(2);
    assert_eq!(take(db, &admin, &drop_it, later).await, [false], "never marked");
    assert_eq!(take(db, &admin, &mark, later).await, [true]);
    assert_eq!(take(db, &admin, &drop_it, later.plus_seconds(3600)).await, [false], "marked an hour ago");
    // Wanted again: the mark is off.
    let mut tx = db.write().await.unwrap();
    assert!(xet::touch_file(&mut tx, &access, Sha256::from_bytes([2; 32]), later).await.unwrap());
    tx.commit(event()).await.unwrap();
    let end = later.plus_days(2);
    assert_eq!(take(db, &admin, &drop_it, end).await, [false]);
    assert_eq!(take(db, &admin, &mark, end).await, [true]);
    let end = end.plus_days(2);
    assert_eq!(take(db, &admin, &drop_it, end).await, [true]);
    let times = (end, end.plus_days(-1));
    let rights = collect::unneeded_rights(&mut db.read().await.unwrap(), &admin, times).await.unwrap();
    assert_eq!(rights.len(), 1);
    assert_eq!(take(db, &admin, &[Step::DropRight(rights[0])], end).await, [true]);
}

pub async fn xorbs_that_nobody_may_use_are_condemned_and_removed_with_their_own_blobs(db: &Db) {
    let ann = user(db, "ann").await;
    let mut one = repo(db, &ann, "one", Visibility::Private).await;
    let mut two = repo(db, &ann, "two", Visibility::Private).await;
    send_xorb(db, &one.lower(), 1, "first").await;
    send_xorb(db, &two.lower(), 1, "second").await;
    // Equal bytes come to be stored once.
    let all = collect::uncompared(&mut db.read().await.unwrap(), 10).await.unwrap();
    let first = all[0].blob_key.clone();
    if first == "second" {
        // Of one millisecond, either is the older.
        std::mem::swap(&mut one, &mut two);
    }
    let mut read = db.read().await.unwrap();
    assert!(collect::twins(&mut read, &all[0], 9).await.unwrap().is_empty(), "only the older is a twin");
    let twins = collect::twins(&mut read, &all[1], 9).await.unwrap();
    assert_eq!(twins[0].blob_key, first);
    drop(read);
    let mut tx = db.write().await.unwrap();
    assert!(collect::share(&mut tx, &all[1], &twins[0]).await.unwrap());
    assert!(!collect::share(&mut tx, &all[1], &twins[0]).await.unwrap(), "it is not where it was");
    collect::compared(&mut tx, &all, NOW).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert!(collect::uncompared(&mut db.read().await.unwrap(), 10).await.unwrap().is_empty());

    let later = NOW.plus_days(2);
    let rights = [Step::DropRight(all[0].id)];
    assert_eq!(take(db, &one, &rights, later).await, [true]);
    let mut tx = db.write().await.unwrap();
    assert_eq!(collect::condemn(&mut tx, later, 10).await.unwrap(), 1);
    assert_eq!(collect::remove_xorb(&mut tx, all[0].id).await.unwrap(), Some(vec![]), "another row names it");
    assert_eq!(collect::remove_xorb(&mut tx, all[0].id).await.unwrap(), None);
    assert_eq!(collect::remove_xorb(&mut tx, all[1].id).await.unwrap(), None, "it may be used");
    tx.commit(event()).await.unwrap();
    assert_eq!(take(db, &two, &[Step::DropRight(all[1].id)], later).await, [true]);
    let mut tx = db.write().await.unwrap();
    assert_eq!(collect::condemn(&mut tx, later, 10).await.unwrap(), 1);
    let unused = collect::remove_xorb(&mut tx, all[1].id).await.unwrap();
    assert_eq!(unused, Some(vec![first.clone(), first]));
    tx.commit(event()).await.unwrap();
}

pub async fn a_bad_copy_is_replaced_and_a_good_one_is_not(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "m", Visibility::Private).await.lower::<Write>();
    send_xorb(db, &access, 1, "first").await;
    let other = NewXorb { replaces: Some("gone before"), ..new_xorb(1, "second", &[]) };
    assert_eq!(receive(db, &access, &other).await, Received::Known);
    let facts = collect::xorbs(&mut db.read().await.unwrap()).await.unwrap().remove(0);
    for expected in [true, false] {
        let mut tx = db.write().await.unwrap();
        assert_eq!(collect::set_damaged(&mut tx, &facts, true, NOW).await.unwrap(), expected);
        tx.commit(event()).await.unwrap();
    }
    let chunk = XetHash::from_bytes([101; 32]);
    let offered = async || {
        xet::xorbs_with_chunk(&mut db.read().await.unwrap(), &access, chunk, NOW, 9).await.unwrap().len()
    };
    assert_eq!(offered().await, 0, "damaged");
    let good = NewXorb { replaces: Some("first"), ..new_xorb(1, "second", &[]) };
    let unused = vec!["first".to_owned(), "first".to_owned()];
    assert_eq!(receive(db, &access, &good).await, Received::Replaced { unused });
    assert_eq!(offered().await, 1);
}

pub async fn a_right_lasts_as_long_as_an_upload_in_parts_that_needs_it(db: &Db) {
    let ann = user(db, "ann").await;
    let admin = repo(db, &ann, "m", Visibility::Private).await;
    let access = admin.lower::<Write>();
    send_xorb(db, &access, 1, "a").await;
    let upload =
        lfs::Upload { id: RowId::new(NOW), oid: Sha256::from_bytes([9; 32]), size: 10, part_bytes: 10 };
    let mut tx = db.write().await.unwrap();
    lfs::begin(&mut tx, &access, &upload, NOW, NOW.plus_days(3)).await.unwrap();
    let part = lfs::Part { number: 1, size: 10, etag: "e".into(), terms: b"terms".to_vec() };
    let xorbs = [XetHash::from_bytes([1; 32])];
    for _ in 0..2 {
        assert!(lfs::add_part(&mut tx, &access, upload.id, &part, (&xorbs, NOW)).await.unwrap());
    }
    tx.commit(event()).await.unwrap();
    let rights = async |now: Timestamp| {
        let times = (now, now.plus_days(-1));
        collect::unneeded_rights(&mut db.read().await.unwrap(), &admin, times).await.unwrap().len()
    };
    assert_eq!((rights(NOW.plus_days(2)).await, rights(NOW.plus_days(4)).await), (0, 1));
    let mut tx = db.write().await.unwrap();
    let late = (&xorbs[..], NOW.plus_days(4));
    assert!(!lfs::add_part(&mut tx, &access, upload.id, &part, late).await.unwrap(), "it has ended");
    drop(tx);
    let mut tx = db.write().await.unwrap();
    let foreign = [XetHash::from_bytes([2; 32])];
    assert!(!lfs::add_part(&mut tx, &access, upload.id, &part, (&foreign, NOW)).await.unwrap());
}

pub async fn a_moving_ref_voids_a_walk_and_takes_marks_off(db: &Db) {
    let ann = user(db, "ann").await;
    let admin = repo(db, &ann, "m", Visibility::Private).await;
    let access = admin.lower::<Write>();
    let row = git::CommitRow {
        id: oid(1),
        tree: oid(2),
        parents: &[],
        time: NOW,
        author: "ann",
        author_id: None,
        pusher_id: None,
        title: "t",
        message: "t",
    };
    let mut tx = db.write().await.unwrap();
    git::add_commit(&mut tx, &access, &row, &[git::ChangeRow { path: "a", object: None }]).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(take(db, &admin, &[Step::MarkCommit(oid(1))], NOW).await, [true]);
    let before = collect::ref_moves(&mut db.read().await.unwrap(), &admin).await.unwrap().unwrap();
    let mut tx = db.write().await.unwrap();
    let to = Some(Target::commit(oid(1)));
    assert!(refs::swap(&mut tx, &access, &RefName::main(), None, to, NOW).await.unwrap());
    tx.commit(event()).await.unwrap();
    let after = collect::ref_moves(&mut db.read().await.unwrap(), &admin).await.unwrap().unwrap();
    assert_eq!(after, before + 1);
    let later = NOW.plus_days(9);
    let drop_it = [Step::DropCommit(oid(1))];
    assert_eq!(take(db, &admin, &drop_it, later).await, [false], "a ref has come back to it");
    assert_eq!(take(db, &admin, &[Step::MarkCommit(oid(1))], later).await, [true]);
    assert_eq!(take(db, &admin, &drop_it, later.plus_days(2)).await, [true]);
    let mut tx = db.write().await.unwrap();
    assert_eq!(collect::drop_changes(&mut tx, &admin).await.unwrap(), 1);
    tx.commit(event()).await.unwrap();
}

pub async fn refs_clash_where_git_needs_a_file_and_a_folder(db: &Db) {
    let ann = user(db, "ann").await;
    let repo = repo(db, &ann, "m", Visibility::Public).await;
    let mut tx = db.write().await.unwrap();
    for name in ["main", "feat/x", "100%/y"] {
        let name = RefName::branch(name).unwrap();
        let new = Some(Target::commit(oid(1)));
        assert!(refs::swap(&mut tx, &repo, &name, None, new, NOW).await.unwrap());
    }
    for (name, clash) in [
        ("feat", Some("feat/x")),
        ("main/a/b", Some("main")),
        ("100%", Some("100%/y")),
        ("1000", None),
        ("fea", None),
        ("feat/y", None),
        ("FEAT", None),
    ] {
        let found = refs::conflicting(&mut tx, &repo, &RefName::branch(name).unwrap()).await.unwrap();
        assert_eq!(found.as_ref().map(RefName::short), clash, "{name}");
    }
    let wanted = [RefName::branch("feat/x").unwrap(), RefName::tag("feat/x").unwrap(), RefName::main()];
    assert_eq!(refs::named(&mut tx, &repo, &wanted).await.unwrap().len(), 2);
}

pub async fn a_copy_takes_the_words_and_the_gate(db: &Db) {
    let ann = user(db, "ann").await;
    let one = repo(db, &ann, "one", Visibility::Public).await;
    let mut tx = db.write().await.unwrap();
    let row =
        MetadataRow { tags: "[]".into(), facts: "{}".into(), parameters: Some(7), ..MetadataRow::default() };
    repos::set_metadata(&mut tx, &one, &row).await.unwrap();
    search::index(&mut tx, &one, &[("tag", "odd"), ("name", "one")]).await.unwrap();
    let mut terms = search::terms_of(&mut tx, &one).await.unwrap();
    terms.sort();
    assert_eq!(terms, [("name".to_owned(), "one".to_owned()), ("tag".to_owned(), "odd".to_owned())]);
    assert_eq!(repos::metadata_of(&mut tx, &one).await.unwrap().parameters, Some(7));
    let settings = repos::settings_of(&mut tx, &one).await.unwrap();
    assert_eq!((settings.visibility, settings.gated), (Some(Visibility::Public), Some(Gated::No)));
    let path = RepoPath::parse(RepoKind::Model, "ANN/One").unwrap();
    assert_eq!(repos::at(&mut tx, &ann, &path).await.unwrap().unwrap().id(), "ann/one");
    tx.commit(event()).await.unwrap();
}
