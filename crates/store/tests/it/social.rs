//! Likes, follows, numbers of repositories and collections, on both engines.

use std::sync::Arc;

use bastide_core::id::RowId;
use bastide_core::{CollectionId, Name, NamespaceId, RepoKind, RepoPath, Timestamp, Visibility};
use bastide_store::collections::items::{self, ItemRepo, NewItem};
use bastide_store::collections::{self, CollectionQuery, Metadata, NewCollection};
use bastide_store::people::{self, Page, Place};
use bastide_store::permit::{self, Access, Admin, Collection, Level, Namespace, Read, Write};
use bastide_store::profiles::{self, RepoCounts};
use bastide_store::repos::{self, Settings};
use bastide_store::{Db, check, follows, gate, likes, lists};

use crate::suite::{NOW, event, repo, user};

fn id(access: &Access<Admin, Namespace>) -> NamespaceId {
    access.namespace().id
}

fn page(viewer: Option<NamespaceId>, after: Option<Place>, limit: u32) -> Page {
    Page { viewer, after, limit }
}

fn later(seconds: i64) -> Timestamp {
    NOW.plus_seconds(seconds)
}

pub async fn likes_are_counted_once_and_paged_by_what_the_reader_sees(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let mut repos = Vec::new();
    for (name, visibility) in [
        ("a", Visibility::Public),
        ("b", Visibility::Private),
        ("c", Visibility::Internal),
        ("d", Visibility::Public),
    ] {
        repos.push(repo(db, &ann, name, visibility).await);
    }
    let mut tx = db.write().await.unwrap();
    for (at, access) in (0..).zip(&repos) {
        assert!(likes::like(&mut tx, &access.lower(), id(&ann), later(at)).await.unwrap());
        assert!(!likes::like(&mut tx, &access.lower(), id(&ann), later(9)).await.unwrap());
    }
    assert!(likes::like(&mut tx, &repos[0].lower(), id(&bob), later(5)).await.unwrap());
    assert!(!likes::unlike(&mut tx, &repos[1].lower(), id(&bob)).await.unwrap());
    tx.commit(event()).await.unwrap();

    let mut read = db.read().await.unwrap();
    assert_eq!(lists::info_of(&mut read, &repos[0]).await.unwrap().unwrap().likes, 2);
    for (viewer, names) in [(None, "da"), (Some(id(&bob)), "dca"), (Some(id(&ann)), "dcba")] {
        let (mut found, mut after) = (String::new(), None);
        loop {
            let rows = likes::liked_by(&mut read, &ann, page(viewer, after, 1)).await.unwrap();
            let Some(row) = rows.first() else { break };
            found += row.path.name.as_str();
            after = Some(Place { since: row.since, id: row.id.as_i64() });
        }
        assert_eq!(found, names);
        assert_eq!(likes::visible_count(&mut read, &ann, viewer).await.unwrap(), names.len() as u64);
    }
    let rows = likes::likers(&mut read, &repos[0], page(Some(id(&ann)), None, 10)).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["bob", "ann"]);
    // bob has nothing that everybody sees.
    let rows = likes::likers(&mut read, &repos[0], page(None, None, 10)).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["ann"]);
    drop(read);

    let mut tx = db.write().await.unwrap();
    assert!(likes::unlike(&mut tx, &repos[0].lower(), id(&bob)).await.unwrap());
    repos::remove(&mut tx, &repos[3]).await.unwrap();
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    assert_eq!(likes::count_of(&mut read, id(&ann)).await.unwrap(), 3);
    for access in &repos[..3] {
        assert!(check::repo_faults(&mut read, access).await.unwrap().is_empty());
    }
}

pub async fn numbers_of_repositories_follow_every_change(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let one = repo(db, &ann, "one", Visibility::Public).await;
    let two = repo(db, &ann, "two", Visibility::Private).await;
    let counts = async |whose: &Access<Admin, Namespace>, viewer| {
        let mut read = db.read().await.unwrap();
        assert!(check::count_faults(&mut read).await.unwrap().is_empty());
        profiles::repo_counts(&mut read, whose, viewer).await.unwrap().models
    };
    assert_eq!((counts(&ann, None).await, counts(&ann, Some(id(&ann))).await), (1, 2));
    assert_eq!(counts(&ann, Some(id(&bob))).await, 1);
    let mut tx = db.write().await.unwrap();
    let shown = Settings { visibility: Some(Visibility::Internal), ..Settings::default() };
    repos::set(&mut tx, &two, shown).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!((counts(&ann, None).await, counts(&ann, Some(id(&bob))).await), (1, 2));
    let mut tx = db.write().await.unwrap();
    let to = RepoPath::parse(RepoKind::Model, "bob/one").unwrap();
    repos::rename(&mut tx, &one, &bob, &to).await.unwrap();
    repos::remove(&mut tx, &two).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!((counts(&ann, Some(id(&ann))).await, counts(&bob, None).await), (0, 1));
    let mut read = db.read().await.unwrap();
    let none = RepoCounts::default();
    assert_eq!(profiles::repo_counts(&mut read, &ann, None).await.unwrap(), none);
    let sizes = profiles::sizes(&mut read, &bob, None, 10).await.unwrap();
    assert_eq!((sizes.len(), profiles::total_size(&mut read, &bob).await.unwrap()), (1, 0));
    let known = async |name: &str| {
        let name: Name = name.parse().unwrap();
        let mut read = db.read().await.unwrap();
        gate::namespace_by_name(&mut read, &name, None).await.unwrap().unwrap().is_known
    };
    assert!(known("bob").await && !known("ann").await);
}

pub async fn followers_are_rows_of_their_own(db: &Db) {
    let (ann, bob, cem) = (user(db, "ann").await, user(db, "bob").await, user(db, "cem").await);
    let mut tx = db.write().await.unwrap();
    assert!(follows::follow(&mut tx, &bob.lower(), &ann, later(0)).await.unwrap());
    assert!(!follows::follow(&mut tx, &bob.lower(), &ann, later(1)).await.unwrap());
    assert!(follows::follow(&mut tx, &cem.lower(), &ann, later(0)).await.unwrap());
    assert!(follows::follow(&mut tx, &bob.lower(), &cem, later(2)).await.unwrap());
    tx.commit(event()).await.unwrap();
    let mut read = db.read().await.unwrap();
    assert!(follows::is_following(&mut read, id(&bob), &ann).await.unwrap());
    assert!(!follows::is_following(&mut read, id(&ann), &bob).await.unwrap());
    assert_eq!(follows::count_of(&mut read, &bob.lower()).await.unwrap(), 2);
    // Two since the same moment: pages do not overlap and leave none out.
    let viewer = Some(id(&bob));
    let first = people::followers(&mut read, &ann, page(viewer, None, 1)).await.unwrap();
    let place = Place { since: first[0].since, id: first[0].id.as_i64() };
    let second = people::followers(&mut read, &ann, page(viewer, Some(place), 5)).await.unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first[0].name, second[0].name);
    let followed = people::followed(&mut read, &bob, page(viewer, None, 5)).await.unwrap();
    assert!(followed.iter().all(|person| person.is_followed), "{followed:?}");
    assert_eq!(followed[0].name.as_str(), "cem");
    let circles = people::circles(&mut read, &ann, viewer).await.unwrap();
    assert_eq!((circles.members, circles.followers, circles.followed), (0, 2, 0));
    assert!(people::followers(&mut read, &ann, page(None, None, 5)).await.unwrap().is_empty());
    assert!(people::members(&mut read, &ann, page(viewer, None, 5)).await.unwrap().is_empty());
    drop(read);
    let mut tx = db.write().await.unwrap();
    assert!(follows::unfollow(&mut tx, &bob.lower(), &ann).await.unwrap());
    assert!(!follows::unfollow(&mut tx, &bob.lower(), &ann).await.unwrap());
    tx.commit(event()).await.unwrap();
}

/// A permit for a collection that is in the database.
async fn access<L: Level>(db: &Db, id: CollectionId) -> Access<L, Collection> {
    let mut read = db.read().await.unwrap();
    let facts = gate::collection_by_id(&mut read, id, None).await.unwrap().unwrap();
    permit::grant_collection(Arc::new(facts.collection))
}

async fn collection(
    db: &Db,
    owner: &Access<Admin, Namespace>,
    title: &str,
    visibility: Visibility,
) -> CollectionId {
    let id = CollectionId::new(NOW);
    let new = NewCollection { id, title, description: "50%_of", visibility, theme: "blue", now: NOW };
    let mut tx = db.write().await.unwrap();
    collections::add(&mut tx, &owner.lower(), &new).await.unwrap();
    tx.commit(event()).await.unwrap();
    id
}

pub async fn collections_are_found_ordered_and_hidden(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let (open, hidden) = (
        collection(db, &ann, "Open", Visibility::Public).await,
        collection(db, &ann, "Hidden", Visibility::Private).await,
    );
    let last = collection(db, &ann, "Last", Visibility::Internal).await;
    let find = async |viewer, text: Option<&str>| {
        let query =
            CollectionQuery { viewer, text: text.map(Into::into), limit: 10, ..CollectionQuery::default() };
        let rows = collections::find(&mut db.read().await.unwrap(), &query).await.unwrap();
        rows.into_iter()
            .map(|row| row.title)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(find(None, None).await, ["Open"]);
    assert_eq!(find(Some(id(&bob)), None).await, ["Last", "Open"]);
    assert_eq!(find(Some(id(&ann)), Some("0%_o")).await, ["Hidden", "Last", "Open"]);
    assert_eq!(find(Some(id(&ann)), Some("hid")).await, ["Hidden"]);

    let place = async |collection, viewer| {
        let access: Access<Read, Collection> = access(db, collection).await;
        let mut read = db.read().await.unwrap();
        let row = collections::row_of(&mut read, &access).await.unwrap().unwrap();
        collections::place_of(&mut read, &access, row.position, viewer).await.unwrap()
    };
    assert_eq!((place(last, Some(id(&ann))).await, place(last, Some(id(&bob))).await), (2, 1));
    let writing: Access<Write, Collection> = access(db, last).await;
    let mut tx = db.write().await.unwrap();
    collections::move_to(&mut tx, &writing, 0).await.unwrap();
    let titles = collections::beside(&mut tx, &writing, "Open").await.unwrap();
    assert_eq!(titles, Some(open));
    assert!(collections::with_title(&mut tx, &bob.lower(), "Open").await.unwrap().is_none());
    tx.commit(event()).await.unwrap();
    let places = [
        place(last, Some(id(&ann))).await,
        place(open, Some(id(&ann))).await,
        place(hidden, Some(id(&ann))).await,
    ];
    assert_eq!(places, [0, 1, 2]);

    let mut tx = db.write().await.unwrap();
    let new = Metadata {
        title: "Über".into(),
        description: String::new(),
        visibility: Visibility::Public,
        theme: "green".into(),
    };
    collections::set(&mut tx, &writing, &new, later(5)).await.unwrap();
    assert_eq!(collections::count_of(&mut tx, &ann.lower()).await.unwrap(), 3);
    collections::remove(&mut tx, &access::<Write>(db, hidden).await).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(find(None, Some("über")).await, ["Über"]);
    assert_eq!(find(Some(id(&ann)), None).await, ["Open", "Über"]);
}

pub async fn items_keep_their_order_whatever_is_hidden(db: &Db) {
    let (ann, bob) = (user(db, "ann").await, user(db, "bob").await);
    let outer = collection(db, &ann, "Outer", Visibility::Public).await;
    let inner = collection(db, &ann, "Inner", Visibility::Private).await;
    let writing: Access<Write, Collection> = access(db, outer).await;
    let mut repos = Vec::new();
    for (name, visibility) in
        [("a", Visibility::Public), ("b", Visibility::Private), ("c", Visibility::Internal)]
    {
        repos.push(repo(db, &ann, name, visibility).await);
    }
    let inner_access: Access<Read, Collection> = access(db, inner).await;
    let mut tx = db.write().await.unwrap();
    let mut ids = Vec::new();
    let seen: Vec<_> = repos.iter().map(Access::lower).collect();
    for item in seen.iter().map(NewItem::Repo).chain([NewItem::Collection(&inner_access)]) {
        let new = RowId::new(NOW);
        assert!(!items::has(&mut tx, &writing, &item).await.unwrap());
        items::add(&mut tx, &writing, (new, &item), "a note", NOW).await.unwrap();
        assert!(items::has(&mut tx, &writing, &item).await.unwrap());
        ids.push(new);
    }
    assert_eq!(items::count(&mut tx, &writing).await.unwrap(), 4);
    tx.commit(event()).await.unwrap();

    let shown = async |viewer: Option<NamespaceId>| {
        let rows = items::list(&mut db.read().await.unwrap(), &writing, viewer, 100).await.unwrap();
        let name = |row: &items::ItemRow| match &row.target {
            ItemRepo::Repo(repo) => repo.path.name.as_str().to_owned(),
            ItemRepo::Collection(inner) => inner.title.to_lowercase().get(..1).unwrap().to_owned(),
        };
        rows.iter().map(name).collect::<String>()
    };
    assert_eq!(shown(None).await, "a");
    assert_eq!((shown(Some(id(&bob))).await, shown(Some(id(&ann))).await), ("ac".into(), "abci".into()));
    // bob, who sees two of them, puts the first behind the second.
    let mut tx = db.write().await.unwrap();
    let visible = items::list(&mut tx, &writing, Some(id(&bob)), 100).await.unwrap();
    items::move_to(&mut tx, &writing, &visible, ids[0], 1).await.unwrap();
    items::set_note(&mut tx, &writing, ids[2], "").await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!((shown(Some(id(&bob))).await, shown(Some(id(&ann))).await), ("ca".into(), "bcai".into()));
    // What belongs to another collection is not touched through this one.
    let mut tx = db.write().await.unwrap();
    let other: Access<Write, Collection> = access(db, inner).await;
    items::remove(&mut tx, &other, ids[0]).await.unwrap();
    items::remove(&mut tx, &writing, ids[1]).await.unwrap();
    repos::remove(&mut tx, &repos[2]).await.unwrap();
    collections::remove(&mut tx, &other).await.unwrap();
    tx.commit(event()).await.unwrap();
    assert_eq!(shown(Some(id(&ann))).await, "a");
    let query =
        CollectionQuery { repos: Some(vec![repos[0].repo_id()]), limit: 5, ..CollectionQuery::default() };
    assert_eq!(collections::find(&mut db.read().await.unwrap(), &query).await.unwrap().len(), 1);
    let none = CollectionQuery { repos: Some(Vec::new()), ..query };
    assert!(collections::find(&mut db.read().await.unwrap(), &none).await.unwrap().is_empty());
}
