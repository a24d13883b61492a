//! The queue of webhooks: one walk, one lease, whoever many there are.

use std::time::Instant;

use bastide_core::id::RowId;
use bastide_core::{Clock, Visibility};
use bastide_ledger::{Action, NewEvent, context};
use bastide_store::webhooks::deliveries::{self, Claim, Ending, LEASE_SECONDS, Shares, Tried};
use bastide_store::webhooks::dispatch::{self, Cursor, NewDelivery, WatchersOf};
use bastide_store::webhooks::{self, Domains, NewWebhook, Subject, Watch};
use bastide_store::{Db, ledger};

use crate::suite::{NOW, event, repo, user};

const DAILY: i64 = 1000;
const SHARES: Shares = Shares { owner: 4, slow: 2 };
const BRANCH: &str = "branch.create";

fn tried() -> Tried {
    Tried { payload: "{}".into(), url: "https://x.org/".into(), status: Some(200), ..Tried::default() }
}

async fn webhook(db: &Db, owner: &crate::suite::Owner, subject: Subject) -> RowId {
    let id = RowId::new(NOW);
    let domains = Domains { repos: true, discussions: false };
    let mut tx = db.write().await.unwrap();
    let new = NewWebhook { id, url: "https://x.org/", secret: None, domains, token: None, now: NOW };
    webhooks::add(&mut tx, owner, new).await.unwrap();
    let watch = Watch { subject, kind: "model", name: "ann/one".into() };
    webhooks::set_watched(&mut tx, owner, id, &[watch]).await.unwrap();
    tx.commit(event()).await.unwrap();
    id
}

async fn claim(db: &Db, seconds: i64) -> Option<Claim> {
    deliveries::claim(db, SHARES, NOW.plus_seconds(seconds)).await.unwrap()
}

pub async fn a_thousand_events_that_nobody_watches_are_one_look(db: &Db) {
    let ann = user(db, "ann").await;
    let (quiet, watched) = (
        repo(db, &ann, "quiet", Visibility::Public).await,
        repo(db, &ann, "watched", Visibility::Public).await,
    );
    webhook(db, &ann, Subject::Repo(watched.repo_id())).await;
    let from = dispatch::cursor(&mut db.read().await.unwrap()).await.unwrap().unwrap();
    let mut tx = db.write().await.unwrap();
    let told = |id: i64| {
        NewEvent::new(&context::operator(&Clock::System), Action::BranchCreate).subject("repo", Some(id), "x")
    };
    for _ in 0..1000 {
        tx.record(told(quiet.repo_id().as_i64()));
    }
    tx.commit(told(watched.repo_id().as_i64())).await.unwrap();
    let mut read = db.read().await.unwrap();
    let size = ledger::size(&mut read).await.unwrap();
    let began = Instant::now();
    let found =
        dispatch::watched_events(&mut read, from.seq..size - 1, &[BRANCH], &["repo.delete"], 200).await;
    let took = began.elapsed();
    assert_eq!(found.unwrap().len(), 0);
    assert!(took.as_millis() < 100, "{took:?}");
    let found = dispatch::watched_events(&mut read, from.seq..size, &[BRANCH], &["repo.delete"], 200).await;
    assert_eq!(found.unwrap().iter().map(|event| event.seq).collect::<Vec<_>>(), [size - 1]);
}

pub async fn watchers_are_found_by_what_is_and_was_watched(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let one = repo(db, &ann, "one", Visibility::Public).await;
    let by_repo = webhook(db, &bob, Subject::Repo(one.repo_id())).await;
    let by_owner = webhook(db, &bob, Subject::Namespace(ann.namespace().id)).await;
    let size = ledger::size(&mut db.read().await.unwrap()).await.unwrap();
    let ask = async |seq: i64, discussions: bool, after: i64, limit: u32| {
        let (owner, other) = (ann.namespace().id, bob.namespace().id);
        let of = WatchersOf {
            repo: one.repo_id(),
            namespaces: [owner, other],
            member_of: owner,
            seq,
            discussions,
        };
        let found = dispatch::watchers(&mut db.read().await.unwrap(), &of, after, limit).await.unwrap();
        found.into_iter().map(|watcher| watcher.webhook).collect::<Vec<_>>()
    };
    let mut both = [by_repo, by_owner];
    both.sort();
    assert_eq!(ask(size, false, 0, 10).await, both);
    assert_eq!(ask(size, false, 0, 1).await, both[..1]);
    assert_eq!(ask(size, false, both[0].as_i64(), 10).await, both[1..]);
    assert_eq!(ask(size, true, 0, 10).await, []);
    // Events from before it watched are not a webhook's.
    assert_eq!(ask(0, false, 0, 10).await, []);
    let mut tx = db.write().await.unwrap();
    assert!(!webhooks::set_disabled(&mut tx, &ann, by_repo, Some(""), NOW).await.unwrap(), "another's");
    assert!(webhooks::set_disabled(&mut tx, &bob, by_repo, Some(""), NOW).await.unwrap());
    tx.commit(event()).await.unwrap();
    assert_eq!(ask(size, false, 0, 10).await, [by_owner]);
}

pub async fn a_delivery_belongs_to_who_claimed_it_last(db: &Db) {
    let ann = user(db, "ann").await;
    let one = repo(db, &ann, "one", Visibility::Public).await;
    let hook = webhook(db, &ann, Subject::Repo(one.repo_id())).await;
    let from = dispatch::cursor(&mut db.read().await.unwrap()).await.unwrap().unwrap();
    let to = Cursor { seq: from.seq + 2, webhook: 0 };
    let found: Vec<_> = (0..2)
        .map(|n| NewDelivery { webhook: hook, seq: from.seq + n, event: "update repo.content" })
        .collect();
    assert!(dispatch::advance(db, (from, to), &found, DAILY, NOW).await.unwrap());
    assert!(!dispatch::advance(db, (from, to), &found, DAILY, NOW).await.unwrap(), "the cursor was moved");
    let first = claim(db, 0).await.unwrap();
    assert_eq!((first.seq, first.attempts), (from.seq, 1));
    assert!(claim(db, 0).await.is_none(), "one of each webhook at a time");
    assert!(claim(db, LEASE_SECONDS - 1).await.is_none());
    let second = claim(db, LEASE_SECONDS).await.unwrap();
    assert_eq!((second.delivery, second.attempts), (first.delivery, 2));
    let now = NOW.plus_seconds(LEASE_SECONDS);
    let end =
        async |claim: &Claim, ending| deliveries::finish(db, claim, ending, None, (10, now)).await.unwrap();
    assert!(!end(&first, Ending::Delivered(tried())).await, "the lease was lost");
    let again = now.plus_seconds(60);
    assert!(end(&second, Ending::Again(tried(), again)).await);
    assert!(!end(&second, Ending::Delivered(tried())).await, "ended twice");
    let third = claim(db, LEASE_SECONDS).await.unwrap();
    assert_eq!(third.seq, from.seq + 1);
    assert!(end(&third, Ending::Withdrawn).await);
    assert!(claim(db, LEASE_SECONDS + 59).await.is_none());
    let last = claim(db, LEASE_SECONDS + 60).await.unwrap();
    assert_eq!((last.delivery, last.attempts, last.payload.as_deref()), (first.delivery, 3, Some("{}")));
    let off = Some(("gone", event()));
    let gone = deliveries::finish(db, &last, Ending::GivenUp(tried()), off, (10, again)).await;
    assert!(gone.unwrap());
    let mut read = db.read().await.unwrap();
    let row = webhooks::get(&mut read, &ann, hook).await.unwrap().unwrap();
    assert_eq!(row.disabled.as_deref(), Some("gone"));
    let log = deliveries::log(&mut read, &ann, hook, None, 10).await.unwrap().unwrap();
    assert_eq!(log.iter().map(|row| row.outcome.as_deref()).collect::<Vec<_>>(), [Some("failed")]);
    drop(read);
    assert_eq!(deliveries::prune(db, NOW).await.unwrap(), 0);
    assert_eq!(deliveries::prune(db, NOW.plus_seconds(1)).await.unwrap(), 1);
}

pub async fn a_log_keeps_its_newest_lines(db: &Db) {
    let ann = user(db, "ann").await;
    let one = repo(db, &ann, "one", Visibility::Public).await;
    let hook = webhook(db, &ann, Subject::Repo(one.repo_id())).await;
    let from = dispatch::cursor(&mut db.read().await.unwrap()).await.unwrap().unwrap();
    let found: Vec<_> = (0..5)
        .map(|n| NewDelivery { webhook: hook, seq: from.seq + n, event: "update repo.content" })
        .collect();
    let to = Cursor { seq: from.seq + 5, webhook: 0 };
    assert!(dispatch::advance(db, (from, to), &found, DAILY, NOW).await.unwrap());
    for _ in 0..5 {
        let claim = claim(db, 0).await.unwrap();
        assert!(deliveries::finish(db, &claim, Ending::Delivered(tried()), None, (3, NOW)).await.unwrap());
    }
    let mut read = db.read().await.unwrap();
    let log = deliveries::log(&mut read, &ann, hook, None, 10).await.unwrap().unwrap();
    assert_eq!(log.iter().map(|row| row.seq - from.seq).collect::<Vec<_>>(), [4, 3, 2]);
}

pub async fn webhooks_take_turns_and_slow_ones_leave_room(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let one = repo(db, &ann, "one", Visibility::Public).await;
    let mut hooks = Vec::new();
    for owner in [&ann, &ann, &ann, &bob] {
        hooks.push(webhook(db, owner, Subject::Repo(one.repo_id())).await);
    }
    let queue = async |hooks: &[RowId], number: i64, seconds: i64| {
        let from = dispatch::cursor(&mut db.read().await.unwrap()).await.unwrap().unwrap();
        let event = "update repo.content";
        let new = |hook: &RowId, n: i64| NewDelivery { webhook: *hook, seq: from.seq + n, event };
        let found: Vec<_> = (0..number).flat_map(|n| hooks.iter().map(move |hook| new(hook, n))).collect();
        let way = (from, Cursor { seq: from.seq + number, webhook: 0 });
        assert!(dispatch::advance(db, way, &found, DAILY, NOW.plus_seconds(seconds)).await.unwrap());
    };
    let end = async |claim: &Claim, slow: bool, seconds: i64| {
        let (tried, now) = (Tried { slow, ..tried() }, NOW.plus_seconds(seconds));
        assert!(deliveries::finish(db, claim, Ending::Delivered(tried), None, (99, now)).await.unwrap());
    };
    // Three have old things to tell, the fourth something new: it is next when each had a turn.
    queue(&hooks[..3], 2, 0).await;
    queue(&hooks[3..], 1, 5).await;
    let mut turns = Vec::new();
    for turn in 0..7 {
        let claim = claim(db, 10 + turn).await.unwrap();
        end(&claim, claim.owner == ann.namespace().id, 10 + turn).await;
        turns.push(claim.webhook);
    }
    assert_eq!(turns[3], hooks[3], "{turns:?} of {hooks:?}");
    assert!(claim(db, 20).await.is_none());
    // The first three were slow: two of them at a time, and the one that was not.
    queue(&hooks[..3], 1, 20).await;
    queue(&hooks[3..], 1, 21).await;
    let mut running = Vec::new();
    while let Some(claim) = claim(db, 22).await {
        running.push(claim);
    }
    assert_eq!(running.len(), 3);
    assert_eq!(running[2].webhook, hooks[3]);
    end(&running[0], false, 23).await;
    assert!(claim(db, 23).await.is_some(), "there is room again");
    assert!(claim(db, 23).await.is_none());
}
