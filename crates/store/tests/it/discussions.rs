//! Discussions: numbers, lists and their counts, events, every version of a comment.

use bastide_core::id::RowId;
use bastide_core::{DiscussionEventKind, DiscussionStatus, RefName, Timestamp, Visibility};
use bastide_store::discussions::{
    self, Discussion, DiscussionOrder, DiscussionPage, DiscussionQuery, Merged, NewDiscussion,
    NewDiscussionEvent, NewVersion, Participant, Reached, Spent,
};
use bastide_store::permit::{Access, Admin, Propose};
use bastide_store::refs::{self, Target};
use bastide_store::{Db, WriteTx, repos};

use crate::suite::{NOW, event, oid, repo, user};

async fn open(tx: &mut WriteTx, access: &Access<Admin>, title: &str, pull: bool, now: Timestamp) -> u64 {
    let (id, main) = (RowId::new(now), RefName::main());
    let author = Some(access.repo().namespace_id);
    let status = if pull { DiscussionStatus::Draft } else { DiscussionStatus::Open };
    let new = NewDiscussion { id, title, status, author, base: pull.then_some(&main), now };
    discussions::create(tx, access, &new).await.unwrap()
}

async fn get(db: &Db, access: &Access<Admin>, num: u64) -> Option<Discussion> {
    discussions::get(&mut db.read().await.unwrap(), access, num).await.unwrap()
}

async fn list(db: &Db, access: &Access<Admin>, query: DiscussionQuery) -> (Vec<u64>, u64, u64) {
    let query = DiscussionQuery { limit: if query.limit == 0 { 100 } else { query.limit }, ..query };
    let mut read = db.read().await.unwrap();
    let summary = discussions::summary(&mut read, access).await.unwrap();
    let DiscussionPage { rows, count, closed } =
        discussions::list(&mut read, access, &query, &summary).await.unwrap();
    (rows.iter().map(|row| row.num).collect(), count, closed)
}

pub async fn discussions_are_numbered_once_and_listed_with_pinned_ones_first(db: &Db) {
    let ann = user(db, "ann").await;
    let (one, two) =
        (repo(db, &ann, "one", Visibility::Public).await, repo(db, &ann, "two", Visibility::Public).await);
    let mut tx = db.write().await.unwrap();
    for (n, title) in ["Crash", "a 100% loss", "Typo", "crash again"].into_iter().enumerate() {
        let now = NOW.plus_seconds(i64::try_from(n).unwrap());
        assert_eq!(open(&mut tx, &one, title, n == 2, now).await, n as u64 + 1);
    }
    assert_eq!(open(&mut tx, &two, "other", false, NOW).await, 1, "numbers are each repository's own");
    tx.commit(event()).await.unwrap();
    let plain = DiscussionQuery::default();
    assert_eq!(list(db, &one, plain.clone()).await, (vec![4, 3, 2, 1], 4, 0));

    let (first, last) = (get(db, &one, 1).await.unwrap(), get(db, &one, 4).await.unwrap());
    let mut tx = db.write().await.unwrap();
    discussions::set_pinned(&mut tx, &one, first.id, true, NOW.plus_seconds(9)).await.unwrap();
    discussions::set_status(&mut tx, &one, &first, DiscussionStatus::Closed, NOW).await.unwrap();
    // Not through another repository's permit.
    discussions::set_title(&mut tx, &two, last.id, "stolen", NOW).await.unwrap();
    discussions::remove(&mut tx, &two, &last).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(get(db, &one, 4).await.unwrap().title, "crash again");

    let pulls = |pull_requests| DiscussionQuery { pull_requests: Some(pull_requests), ..plain.clone() };
    let opened = |open| DiscussionQuery { open: Some(open), ..plain.clone() };
    let search = |text: &str| DiscussionQuery { search: Some(text.into()), ..plain.clone() };
    let author = |name: &str| DiscussionQuery { author: Some(name.parse().unwrap()), ..plain.clone() };
    assert_eq!(list(db, &one, plain.clone()).await, (vec![1, 4, 3, 2], 4, 1));
    assert_eq!(list(db, &one, pulls(true)).await, (vec![3], 1, 0));
    assert_eq!(list(db, &one, pulls(false)).await, (vec![1, 4, 2], 3, 1));
    assert_eq!(list(db, &one, opened(true)).await, (vec![4, 3, 2], 3, 1));
    assert_eq!(list(db, &one, opened(false)).await, (vec![1], 1, 1));
    assert_eq!(
        list(db, &one, DiscussionQuery { pull_requests: Some(false), ..opened(true) }).await,
        (vec![4, 2], 2, 1)
    );
    assert_eq!(list(db, &one, search("crash")).await, (vec![1, 4], 2, 1));
    assert_eq!(
        list(db, &one, DiscussionQuery { open: Some(true), ..search("crash") }).await,
        (vec![4], 1, 1)
    );
    assert_eq!(list(db, &one, search("100%")).await, (vec![2], 1, 0), "letter by letter");
    assert_eq!(list(db, &one, author("Ann")).await, (vec![1, 4, 3, 2], 4, 1));
    assert_eq!(list(db, &one, author("nobody")).await, (vec![], 0, 0));
    let updated = DiscussionQuery { order: DiscussionOrder::Updated, ..plain.clone() };
    assert_eq!(list(db, &one, updated).await, (vec![1, 4, 3, 2], 4, 1));
    let page = |offset| DiscussionQuery { offset, limit: 3, ..plain.clone() };
    assert_eq!(list(db, &one, page(0)).await, (vec![1, 4, 3], 4, 1));
    assert_eq!(list(db, &one, page(3)).await, (vec![2], 4, 1));
    assert_eq!(list(db, &one, page(u64::MAX)).await, (vec![], 4, 1));

    let mut tx = db.write().await.unwrap();
    discussions::remove(&mut tx, &one, &last).await.unwrap();
    assert_eq!(open(&mut tx, &one, "next", false, NOW).await, 5, "a number is not given again");
    tx.commit(event()).await.unwrap();
    assert_eq!(list(db, &one, plain.clone()).await, (vec![1, 5, 3, 2], 4, 1));
    assert_eq!(list(db, &two, plain).await, (vec![1], 1, 0));
    let faults = discussions::faults(&mut db.read().await.unwrap(), &one).await.unwrap();
    assert_eq!(faults, ["refs/pr/3 is not there"], "nobody has placed it");
}

pub async fn comments_keep_every_version_and_hidden_ones_are_not_read(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let (one, two) =
        (repo(db, &ann, "one", Visibility::Public).await, repo(db, &ann, "two", Visibility::Public).await);
    let (ann, bob) = (Some(ann.namespace().id), Some(bob.namespace().id));
    let say = |content, author, seconds| NewVersion { content, author, now: NOW.plus_seconds(seconds) };
    let mut tx = db.write().await.unwrap();
    open(&mut tx, &one, "title", false, NOW).await;
    open(&mut tx, &two, "title", false, NOW).await;
    let (here, there) = (
        discussions::get(&mut tx, &one, 1).await.unwrap().unwrap().id,
        discussions::get(&mut tx, &two, 1).await.unwrap().unwrap().id,
    );
    let first = discussions::add_comment(&mut tx, &one, here, &say("eins", ann, 0)).await.unwrap();
    let second = discussions::add_comment(&mut tx, &one, here, &say("zwei", bob, 0)).await.unwrap();
    let data = r#"{"status":"closed"}"#;
    let closed = NewDiscussionEvent { kind: DiscussionEventKind::StatusChange, author: None, data, now: NOW };
    discussions::add_event(&mut tx, &one, here, &closed).await.unwrap();
    assert!(discussions::add_event(&mut tx, &two, here, &closed).await.is_err(), "another's discussion");
    assert!(discussions::add_version(&mut tx, &one, (here, second), &say("drei", ann, 3)).await.unwrap());
    for (access, discussion) in [(&two, here), (&two, there), (&one, there)] {
        let stolen = say("stolen", bob, 4);
        assert!(!discussions::add_version(&mut tx, access, (discussion, second), &stolen).await.unwrap());
        assert!(!discussions::hide(&mut tx, access, (discussion, second), bob, NOW).await.unwrap());
        assert!(discussions::event(&mut tx, access, discussion, second).await.unwrap().is_none());
    }
    let first_of_one = discussions::get(&mut tx, &one, 1).await.unwrap().unwrap();
    assert!(discussions::events(&mut tx, &two, &first_of_one).await.unwrap().is_empty());
    tx.commit(event()).await.unwrap();

    let mut read = db.read().await.unwrap();
    let events = discussions::events(&mut read, &one, &first_of_one).await.unwrap();
    assert_eq!(events.iter().map(|event| event.id).take(2).collect::<Vec<_>>(), [first, second]);
    assert_eq!((events[2].kind, events[2].data.as_str(), &events[2].author), (closed.kind, data, &None));
    let comment = events[1].comment.as_ref().unwrap();
    let said: Vec<_> = comment.contents.iter().map(|said| said.content.as_str()).collect();
    assert_eq!((comment.versions, said), (2, vec!["zwei", "drei"]));
    assert_eq!(comment.contents[1].author.as_ref().unwrap().as_str(), "ann");
    drop(read);
    let discussion = get(db, &one, 1).await.unwrap();
    assert_eq!((discussion.events, discussion.comments, discussion.content_bytes), (3, 2, 12 + 3 * 100));
    assert_eq!(discussion.updated_at, NOW.plus_seconds(3));

    let mut tx = db.write().await.unwrap();
    let proposer: Access<Propose> = one.lower();
    assert!(discussions::hide(&mut tx, &proposer, (here, second), ann, NOW).await.unwrap());
    assert!(!discussions::hide(&mut tx, &proposer, (here, second), ann, NOW).await.unwrap());
    assert!(!discussions::add_version(&mut tx, &proposer, (here, second), &say("x", bob, 5)).await.unwrap());
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    let hidden = discussions::event(&mut read, &one, here, second).await.unwrap().unwrap().comment.unwrap();
    assert_eq!((hidden.contents.len(), hidden.hidden_at.is_some()), (0, true));
    assert_eq!(discussions::get(&mut read, &one, 1).await.unwrap().unwrap().comments, 1);
    let count = async |read: &mut _, user: Option<_>, from| {
        discussions::comments_since(read, &one, user.unwrap(), from).await.unwrap().count
    };
    assert_eq!(count(&mut read, ann, NOW.plus_seconds(-1)).await, 2, "a comment and an edit");
    assert_eq!(count(&mut read, ann, NOW.plus_seconds(1)).await, 1);
    assert_eq!(count(&mut read, bob, NOW.plus_seconds(-1)).await, 1);
    let since = discussions::opened_since(&mut read, &one, ann.unwrap(), NOW.plus_seconds(-1));
    assert_eq!(since.await.unwrap(), Spent { count: 2, first: Some(NOW) });
    let found = discussions::users_named(&mut read, &one, &["bob".into(), "none".into()]).await.unwrap();
    assert_eq!(found, [bob.unwrap()]);
    drop(read);

    let mut tx = db.write().await.unwrap();
    let people = [(ann.unwrap(), Participant::Wrote), (ann.unwrap(), Participant::Mentioned)];
    discussions::note_participants(&mut tx, &one, here, &people, NOW).await.unwrap();
    repos::remove(&mut tx, &one).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    assert!(discussions::get(&mut read, &one, 1).await.unwrap().is_none(), "it went with its repository");
    assert!(discussions::get(&mut read, &two, 1).await.unwrap().is_some());
}

pub async fn refs_of_pull_requests_move_for_who_proposes_and_nothing_else_does(db: &Db) {
    let ann = user(db, "ann").await;
    let access = repo(db, &ann, "one", Visibility::Public).await;
    let proposer: Access<Propose> = access.lower();
    let mut tx = db.write().await.unwrap();
    open(&mut tx, &access, "a discussion", false, NOW).await;
    open(&mut tx, &access, "a pull request", true, NOW).await;
    let to = |n| Some(Target::commit(oid(n)));
    for num in [0, 1, 3, u64::MAX] {
        assert!(!refs::swap_pull_request(&mut tx, &proposer, num, None, to(1), NOW).await.unwrap(), "{num}");
    }
    assert!(refs::swap_pull_request(&mut tx, &proposer, 2, None, to(1), NOW).await.unwrap());
    assert!(!refs::swap_pull_request(&mut tx, &proposer, 2, None, to(2), NOW).await.unwrap());
    assert!(refs::swap_pull_request(&mut tx, &proposer, 2, Some(oid(1)), to(2), NOW).await.unwrap());
    let all = refs::list(&mut tx, &access).await.unwrap();
    assert_eq!(all.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["refs/pr/2"]);
    // They are found by where they stand, as long as they are open and for that branch.
    assert!(discussions::any_open_pull(&mut tx, &access).await.unwrap());
    let wanted: Vec<_> = (0..=255).chain(0..=255).map(oid).collect();
    let heads = refs::pull_requests_at(&mut tx, &access, &wanted).await.unwrap();
    assert_eq!(heads.iter().collect::<std::collections::HashSet<_>>().len(), 1);
    assert_eq!(heads[0], (2, oid(2)));
    let (main, other) = (RefName::main(), "refs/heads/other".parse().unwrap());
    let reached = Reached { num: 2, head: oid(2), base_seen: None };
    assert_eq!(
        discussions::open_for(&mut tx, &access, &main, &heads[..1]).await.unwrap(),
        std::slice::from_ref(&reached)
    );
    assert!(discussions::open_for(&mut tx, &access, &other, &heads).await.unwrap().is_empty());
    // Where its branch stands is kept when it moves, and at no other time.
    assert!(refs::swap(&mut tx, &access, &main, None, to(5), NOW).await.unwrap());
    assert_eq!(discussions::open_for(&mut tx, &access, &main, &heads[..1]).await.unwrap(), [reached]);
    assert!(!refs::swap_pull_request(&mut tx, &proposer, 2, Some(oid(9)), to(2), NOW).await.unwrap());
    assert!(refs::swap_pull_request(&mut tx, &proposer, 2, Some(oid(2)), to(2), NOW).await.unwrap());
    let reached = Reached { num: 2, head: oid(2), base_seen: Some(oid(5)) };
    assert_eq!(discussions::open_for(&mut tx, &access, &main, &heads[..1]).await.unwrap(), [reached]);
    assert!(refs::swap(&mut tx, &access, &main, Some(oid(5)), None, NOW).await.unwrap());
    let pull = discussions::get(&mut tx, &access, 2).await.unwrap().unwrap();
    let merged = Merged { base_commit: Some(oid(7)), merge_commit: oid(8) };
    discussions::set_merged(&mut tx, &access, &pull, merged, NOW).await.unwrap();
    discussions::set_ref_deleted(&mut tx, &access, pull.id, NOW).await.unwrap();
    assert!(discussions::open_for(&mut tx, &access, &main, &heads).await.unwrap().is_empty());
    assert!(!discussions::any_open_pull(&mut tx, &access).await.unwrap());
    tx.commit(event()).await.unwrap();
    let pull = get(db, &access, 2).await.unwrap();
    assert_eq!(pull.status, DiscussionStatus::Merged);
    let facts = pull.pull_request.unwrap();
    assert_eq!((facts.base_commit, facts.merge_commit), (Some(oid(7)), Some(oid(8))));
    assert_eq!((facts.base, facts.ref_deleted_at), (RefName::main(), Some(NOW)));
    assert_eq!(list(db, &access, DiscussionQuery::default()).await, (vec![2, 1], 2, 1));
}
