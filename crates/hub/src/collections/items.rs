//! Items of a collection: adding, noting, ordering, removing.

use bastide_core::id::RowId;
use bastide_core::limits::{MAX_COLLECTION_ITEMS, MAX_ITEM_CHANGES};
use bastide_core::{RepoKind, RepoPath};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::collections::items::{self, ItemRepo, ItemRow, NewItem};
use bastide_store::{WriteTx, collections};

use super::{CollectionView, collection_event, slug, slug_id, texts};
use crate::access::{Access, Collection, NO_COLLECTION, Read, See, Write};
use crate::{Hub, Problem};

/// What is to become an item, as clients name it: a type, and an id or a slug.
#[derive(Debug, Default)]
pub struct ItemRequest {
    pub kind: String,
    pub id: String,
    pub note: String,
}

/// What of an item is to change.
#[derive(Debug)]
pub struct ItemChange {
    pub id: RowId,
    pub note: Option<String>,
    pub position: Option<u64>,
}

/// What is to become an item, with the permit to see it.
pub(super) enum Target {
    Repo(Access<See>),
    Collection(Access<Read, Collection>),
}

impl Target {
    const fn as_new(&self) -> NewItem<'_> {
        match self {
            Self::Repo(access) => NewItem::Repo(access),
            Self::Collection(access) => NewItem::Collection(access),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Repo(access) => access.repo().path.to_string(),
            Self::Collection(access) => {
                let collection = access.collection();
                format!("collections/{}", slug(&collection.owner, &collection.title, collection.id))
            }
        }
    }
}

impl Hub {
    pub(super) async fn item_target(&self, context: &Context, item: &ItemRequest) -> Result<Target, Problem> {
        if item.kind == "collection" {
            let id = slug_id(&item.id).ok_or_else(|| Problem::NotFound(NO_COLLECTION.into()))?;
            return Ok(Target::Collection(self.access(context).collection(id).await?));
        }
        let kind: RepoKind = item.kind.parse().map_err(|_| {
            Problem::Invalid(
                "\"item.type\" must be one of [model, dataset, space, collection] on this hub".into(),
            )
        })?;
        let anonymous = context.is_anonymous();
        let path = RepoPath::parse(kind, &item.id).map_err(|_| Problem::RepoNotFound { anonymous })?;
        Ok(Target::Repo(self.access(context).repo(&path).await?))
    }

    pub async fn add_collection_item(
        &self,
        context: &Context,
        access: &Access<Write, Collection>,
        item: &ItemRequest,
    ) -> Result<CollectionView, Problem> {
        let target = self.item_target(context, item).await?;
        let note = texts::note(&item.note)?;
        let mut tx = self.write_collection(context, access).await?;
        let event = self.add_in(&mut tx, context, access, &target, note).await?;
        tx.commit(event).await?;
        self.collection(context, &access.lower()).await
    }

    /// Adds an item in a transaction; the event that tells of it.
    pub(super) async fn add_in(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Write, Collection>,
        target: &Target,
        note: &str,
    ) -> Result<NewEvent, Problem> {
        self.renew_target(tx, context, access, target).await?;
        let new = target.as_new();
        if items::has(tx, access, &new).await? {
            let message = format!("{} is in this collection already", target.name());
            return Err(Problem::Exists { message, url: None });
        }
        if items::count(tx, access).await? >= MAX_COLLECTION_ITEMS {
            return Err(Problem::Unprocessable(format!(
                "a collection has at most {MAX_COLLECTION_ITEMS} items, those that you may not see among them"
            )));
        }
        let id = RowId::new(context.now());
        items::add(tx, access, (id, &new), note, context.now()).await?;
        collections::touch(tx, access, context.now()).await?;
        let event = collection_event(context, Action::CollectionItemAdd, access.collection());
        Ok(event.fact("item", target.name()).fact("item_id", id.to_string()).fact("note", note))
    }

    /// Whether what is added may still be seen, and is not the collection itself.
    async fn renew_target(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        access: &Access<Write, Collection>,
        target: &Target,
    ) -> Result<(), Problem> {
        match target {
            Target::Repo(repo) => self.renew(tx, context, repo).await,
            Target::Collection(inner) if inner.collection().id == access.collection().id => {
                Err(Problem::Unprocessable("a collection is not in itself".into()))
            }
            Target::Collection(inner) => self.renew_collection(tx, context, inner).await,
        }
    }

    /// Changes notes and places, one after the other, all or none.
    pub async fn update_collection_items(
        &self,
        context: &Context,
        access: &Access<Write, Collection>,
        changes: &[ItemChange],
    ) -> Result<(), Problem> {
        if changes.len() > MAX_ITEM_CHANGES {
            return Err(Problem::Unprocessable(format!("a batch has at most {MAX_ITEM_CHANGES} changes")));
        }
        let mut tx = self.write_collection(context, access).await?;
        let mut last = None;
        for change in changes {
            let event = update_in(&mut tx, context, access, change).await?;
            if let Some(before) = last.replace(event) {
                tx.record(before);
            }
        }
        let Some(last) = last else { return Ok(()) };
        collections::touch(&mut tx, access, context.now()).await?;
        Ok(tx.commit(last).await?)
    }

    pub async fn remove_collection_item(
        &self,
        context: &Context,
        access: &Access<Write, Collection>,
        id: RowId,
    ) -> Result<(), Problem> {
        let mut tx = self.write_collection(context, access).await?;
        let visible = visible_items(&mut tx, context, access).await?;
        let item = find(&visible, id)?;
        items::remove(&mut tx, access, id).await?;
        collections::touch(&mut tx, access, context.now()).await?;
        let event = collection_event(context, Action::CollectionItemRemove, access.collection());
        let event = event.fact("item", item_name(item)).fact("item_id", id.to_string());
        Ok(tx.commit(event).await?)
    }
}

async fn visible_items(
    tx: &mut WriteTx,
    context: &Context,
    access: &Access<Write, Collection>,
) -> Result<Vec<ItemRow>, Problem> {
    let most = u32::try_from(MAX_COLLECTION_ITEMS).unwrap_or(u32::MAX);
    Ok(items::list(tx, access, context.user_id(), most).await?)
}

/// What the caller does not see is missing, also for changes.
fn find(visible: &[ItemRow], id: RowId) -> Result<&ItemRow, Problem> {
    let found = visible.iter().find(|item| item.id == id);
    found.ok_or_else(|| Problem::NotFound("there is no such item in this collection".into()))
}

async fn update_in(
    tx: &mut WriteTx,
    context: &Context,
    access: &Access<Write, Collection>,
    change: &ItemChange,
) -> Result<NewEvent, Problem> {
    let visible = visible_items(tx, context, access).await?;
    let item = find(&visible, change.id)?;
    let event = collection_event(context, Action::CollectionItemUpdate, access.collection());
    let mut event = event.fact("item", item_name(item)).fact("item_id", change.id.to_string());
    if let Some(note) = &change.note {
        let note = texts::note(note)?;
        items::set_note(tx, access, change.id, note).await?;
        event = event.fact("note", note).fact("note_before", item.note.as_str());
    }
    if let Some(place) = change.position {
        items::move_to(tx, access, &visible, change.id, place).await?;
        let before = visible.iter().take_while(|other| other.id != change.id).count();
        event = event.fact("position", place).fact("position_before", before as u64);
    }
    Ok(event)
}

fn item_name(item: &ItemRow) -> String {
    match &item.target {
        ItemRepo::Repo(repo) => repo.path.to_string(),
        ItemRepo::Collection(inner) => format!("collections/{}", slug(&inner.owner, &inner.title, inner.id)),
    }
}
