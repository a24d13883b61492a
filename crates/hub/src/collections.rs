//! Collections: named lists of repositories (and of other collections), kept by a user or an
//! organisation.
//!
//! A collection is found by the id at the end of its slug; the rest of the slug follows its title
//! and its owner's name. Who may not see an item is shown the collection as if it were not in it.

pub mod items;
mod texts;

use bastide_core::limits::{
    COLLECTIONS_PAGE, COLLECTIONS_PAGE_MAX, LISTED_ITEMS, MAX_COLLECTION_ITEMS, MAX_COLLECTIONS,
    MAX_LIST_TERMS,
};
use bastide_core::{CollectionId, Name, RepoKind, RepoPath, Timestamp, Visibility};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::collections::items::{self as item_rows, ItemRow};
use bastide_store::collections::{self, CollectionQuery, CollectionRow, Metadata, NewCollection};

use crate::access::{Access, Collection, NO_COLLECTION, Namespace, Read, See, Write};
use crate::{Hub, Problem};

pub use bastide_store::collections::CollectionRow as CollectionInfo;
pub use bastide_store::collections::items::{
    CollectionItem as InnerCollection, ItemRepo as ItemTarget, ItemRow as Item, RepoItem,
};
pub use items::{ItemChange, ItemRequest};
pub use texts::{slug, slug_id};

const THEMES: [&str; 6] = ["orange", "blue", "green", "purple", "pink", "indigo"];

/// A collection as its reader sees it.
#[derive(Debug)]
pub struct CollectionView {
    pub info: CollectionRow,
    pub items: Vec<ItemRow>,
    /// Its place among those of its owner that the reader sees; lists do not say.
    pub position: Option<u64>,
}

#[derive(Debug, Default)]
pub struct CollectionRequest {
    /// `None` for the caller's own.
    pub namespace: Option<Name>,
    pub title: String,
    pub description: String,
    pub shown: Shown,
    pub theme: Option<String>,
    pub item: Option<ItemRequest>,
}

/// Who is to see it: `private` is all that clients know; "not private" is as open as new
/// repositories of that owner are, but for those that are private by themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    pub private: Option<bool>,
    pub visibility: Option<Visibility>,
}

/// What of a collection is to change.
#[derive(Debug, Default)]
pub struct CollectionChange {
    pub title: Option<String>,
    pub description: Option<String>,
    pub shown: Shown,
    pub theme: Option<String>,
    pub position: Option<u64>,
}

/// Which collections are looked for.
#[derive(Debug, Default)]
pub struct CollectionSearch {
    pub owners: Vec<String>,
    /// Repositories, as `models/namespace/name`: collections with any of them.
    pub items: Vec<String>,
    pub text: Option<String>,
    pub after: Option<(Timestamp, CollectionId)>,
    pub limit: Option<u64>,
}

#[derive(Debug)]
pub struct CollectionPage {
    pub rows: Vec<CollectionView>,
    pub next: Option<(Timestamp, CollectionId)>,
}

impl Hub {
    pub async fn collection(
        &self,
        context: &Context,
        access: &Access<Read, Collection>,
    ) -> Result<CollectionView, Problem> {
        let viewer = context.user_id();
        let mut read = self.db.read().await?;
        let info = collections::row_of(&mut read, access).await?;
        let info = info.ok_or_else(|| Problem::NotFound(NO_COLLECTION.into()))?;
        let most = u32::try_from(MAX_COLLECTION_ITEMS).unwrap_or(u32::MAX);
        let items = item_rows::list(&mut read, access, viewer, most).await?;
        let position = collections::place_of(&mut read, access, info.position, viewer).await?;
        Ok(CollectionView { info, items, position: Some(position) })
    }

    pub async fn create_collection(
        &self,
        context: &Context,
        request: CollectionRequest,
    ) -> Result<CollectionView, Problem> {
        let owner = self.access(context).namespace_to_curate(request.namespace.as_ref()).await?;
        let title = texts::title(&request.title)?;
        let description = texts::description(&request.description)?;
        let id = CollectionId::new(context.now());
        let theme = theme(request.theme.as_deref())?.unwrap_or_else(|| theme_of(id));
        let visibility = self.visibility(owner.namespace().default_visibility, request.shown, None);
        let item = match &request.item {
            Some(item) => Some(self.item_target(context, item).await?),
            None => None,
        };
        let note = request.item.as_ref().map_or(Ok(""), |item| texts::note(&item.note))?;
        let mut tx = self.write_as_curator(context, &owner).await?;
        if let Some(taken) = collections::with_title(&mut tx, &owner, title).await? {
            return Err(exists(&owner.namespace().name, title, taken));
        }
        if collections::count_of(&mut tx, &owner).await? >= MAX_COLLECTIONS {
            return Err(Problem::Unprocessable(format!(
                "an owner has at most {MAX_COLLECTIONS} collections"
            )));
        }
        let new = NewCollection { id, title, description, visibility, theme, now: context.now() };
        collections::add(&mut tx, &owner, &new).await?;
        let facts = bastide_store::gate::collection_by_id(&mut tx, id, context.user_id()).await?;
        let access: Access<Write, Collection> = self.access(context).grant_collection(facts)?;
        let event = create_event(context, &owner, &new);
        match item {
            Some(item) => {
                tx.record(event);
                let added = self.add_in(&mut tx, context, &access, &item, note).await?;
                tx.commit(added).await?;
            }
            None => tx.commit(event).await?,
        }
        self.collection(context, &access.lower()).await
    }

    pub async fn update_collection(
        &self,
        context: &Context,
        access: &Access<Write, Collection>,
        change: &CollectionChange,
    ) -> Result<CollectionView, Problem> {
        let mut tx = self.write_collection(context, access).await?;
        let before = collections::row_of(&mut tx, access).await?;
        let before = before.ok_or_else(|| Problem::NotFound(NO_COLLECTION.into()))?;
        let new = self.changed(&before, change)?;
        if new.title != before.title
            && let Some(taken) = collections::beside(&mut tx, access, &new.title).await?
        {
            return Err(exists(&before.owner, &new.title, taken));
        }
        collections::set(&mut tx, access, &new, context.now()).await?;
        if let Some(place) = change.position {
            collections::move_to(&mut tx, access, place).await?;
        }
        tx.commit(update_event(context, &before, &new, change.position)).await?;
        self.collection(context, &access.lower()).await
    }

    fn changed(&self, before: &CollectionRow, change: &CollectionChange) -> Result<Metadata, Problem> {
        let title = change.title.as_deref().map_or(Ok(before.title.as_str()), texts::title)?;
        let description =
            change.description.as_deref().map_or(Ok(before.description.as_str()), texts::description)?;
        let theme = theme(change.theme.as_deref())?.unwrap_or(&before.theme);
        Ok(Metadata {
            title: title.to_owned(),
            description: description.to_owned(),
            visibility: self.visibility(None, change.shown, Some(before.visibility)),
            theme: theme.to_owned(),
        })
    }

    /// Who is to see a collection. Never more people than were meant: who says "not private" on a hub
    /// for its users alone does not publish.
    fn visibility(&self, owner: Option<Visibility>, shown: Shown, before: Option<Visibility>) -> Visibility {
        let open = owner.unwrap_or(self.config.default_visibility).max(Visibility::Internal);
        match (shown.visibility, shown.private) {
            (Some(visibility), _) => visibility,
            (None, Some(true)) => Visibility::Private,
            (None, Some(false)) => before.filter(|before| *before != Visibility::Private).unwrap_or(open),
            (None, None) => before.unwrap_or(open),
        }
    }

    pub async fn delete_collection(
        &self,
        context: &Context,
        access: &Access<Write, Collection>,
    ) -> Result<(), Problem> {
        let mut tx = self.write_collection(context, access).await?;
        let items = item_rows::count(&mut tx, access).await?;
        collections::remove(&mut tx, access).await?;
        let event = collection_event(context, Action::CollectionDelete, access.collection());
        Ok(tx.commit(event.fact("items", items)).await?)
    }

    /// A page of the collections that the caller may see, each with its first items.
    pub async fn list_collections(
        &self,
        context: &Context,
        search: CollectionSearch,
    ) -> Result<CollectionPage, Problem> {
        let limit =
            search.limit.map_or(COLLECTIONS_PAGE as u64, |limit| limit.clamp(1, COLLECTIONS_PAGE_MAX as u64));
        let limit = usize::try_from(limit).unwrap_or(COLLECTIONS_PAGE);
        let query = self.collection_query(context, search, limit).await?;
        let mut found = collections::find(&mut self.db.read().await?, &query).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| (last.updated_at, last.id));
        let mut rows = Vec::with_capacity(found.len());
        for info in found {
            let access = match self.access(context).collection::<Read>(info.id).await {
                Ok(access) => access,
                // Gone from the caller's sight since the list was made.
                Err(Problem::NotFound(_)) => continue,
                Err(problem) => return Err(problem),
            };
            let mut read = self.db.read().await?;
            let items = item_rows::list(&mut read, &access, context.user_id(), LISTED_ITEMS).await?;
            rows.push(CollectionView { info, items, position: None });
        }
        Ok(CollectionPage { rows, next })
    }

    async fn collection_query(
        &self,
        context: &Context,
        search: CollectionSearch,
        limit: usize,
    ) -> Result<CollectionQuery, Problem> {
        let CollectionSearch { owners, items, text, after, .. } = search;
        if owners.len() + items.len() > MAX_LIST_TERMS {
            return Err(Problem::Unprocessable(format!(
                "a list has at most {MAX_LIST_TERMS} owners and items together"
            )));
        }
        let mut texts = owners.iter().chain(&items).chain(&text);
        if texts.any(|text| text.chars().any(char::is_control)) {
            return Err(Problem::Invalid("what is searched for has no control characters".into()));
        }
        let repos = if items.is_empty() { None } else { Some(self.repos_named(context, &items).await?) };
        Ok(CollectionQuery {
            viewer: context.user_id(),
            owners: owners.iter().map(|owner| owner.to_ascii_lowercase()).collect(),
            repos,
            text: text.filter(|text| !text.is_empty()).map(|text| text.to_lowercase()),
            after,
            limit: u32::try_from(limit + 1).unwrap_or(u32::MAX),
        })
    }

    /// The repositories of these that the caller may see: of others no list tells who has them.
    async fn repos_named(
        &self,
        context: &Context,
        items: &[String],
    ) -> Result<Vec<bastide_core::RepoId>, Problem> {
        let mut found = Vec::new();
        for item in items {
            let Some((kind, id)) = item.split_once('/') else { continue };
            let Some(path) = RepoKind::from_plural(kind).and_then(|kind| RepoPath::parse(kind, id).ok())
            else {
                continue;
            };
            match self.access(context).repo::<See>(&path).await {
                Ok(access) => found.push(access.repo_id()),
                Err(Problem::RepoNotFound { .. } | Problem::Disabled) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(found)
    }
}

fn theme(asked: Option<&str>) -> Result<Option<&'static str>, Problem> {
    let Some(asked) = asked else { return Ok(None) };
    let known = THEMES.into_iter().find(|theme| *theme == asked);
    let bad = || Problem::Invalid(format!("\"theme\" must be one of [{}]", THEMES.join(", ")));
    known.ok_or_else(bad).map(Some)
}

/// Some theme, always the same for a collection.
fn theme_of(id: CollectionId) -> &'static str {
    let count = THEMES.len() as i64;
    usize::try_from(id.as_i64() % count).ok().and_then(|at| THEMES.get(at)).copied().unwrap_or("orange")
}

fn exists(owner: &Name, title: &str, taken: CollectionId) -> Problem {
    Problem::CollectionExists { slug: slug(owner, title, taken) }
}

fn create_event(context: &Context, owner: &Access<Write, Namespace>, new: &NewCollection<'_>) -> NewEvent {
    NewEvent::new(context, Action::CollectionCreate)
        .subject("collection", Some(new.id.as_i64()), &slug(&owner.namespace().name, new.title, new.id))
        .fact("title", new.title)
        .fact("visibility", new.visibility.as_str())
}

pub(crate) fn collection_event(context: &Context, action: Action, collection: &Collection) -> NewEvent {
    let name = slug(&collection.owner, &collection.title, collection.id);
    NewEvent::new(context, action).subject("collection", Some(collection.id.as_i64()), &name)
}

/// What has changed, and what it was.
fn update_event(
    context: &Context,
    before: &CollectionRow,
    new: &Metadata,
    position: Option<u64>,
) -> NewEvent {
    let name = slug(&before.owner, &before.title, before.id);
    let event = NewEvent::new(context, Action::CollectionUpdate);
    let mut event = event.subject("collection", Some(before.id.as_i64()), &name);
    let changes = [
        ("title", before.title.as_str(), new.title.as_str()),
        ("description", &before.description, &new.description),
        ("visibility", before.visibility.as_str(), new.visibility.as_str()),
        ("theme", &before.theme, &new.theme),
    ];
    for (key, old, new) in changes.into_iter().filter(|(_, old, new)| old != new) {
        event = event.fact(key, new).fact(&format!("{key}_before"), old);
    }
    match position {
        Some(position) => event.fact("position", position),
        None => event,
    }
}
