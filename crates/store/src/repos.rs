//! Rows of repositories: making, moving, settings, removing.

use bastide_core::{NamespaceId, RepoId, RepoPath, Timestamp, Visibility};

use crate::db::{Reader, WriteTx};
use crate::gate::parse;
use crate::permit::{Access, Admin, Gated, Includes, Namespace, See, Write};
use crate::{StoreError, counts, storage, values};

pub struct NewRepo<'a> {
    pub id: RepoId,
    pub path: &'a RepoPath,
    pub visibility: Visibility,
    pub gated: Gated,
    pub creator_id: Option<NamespaceId>,
    pub sdk: Option<&'a str>,
    pub now: Timestamp,
}

/// Adds a repository; an old name of another that stood in its way is forgotten.
/// `Conflict` when the path is taken.
pub async fn add<L: Includes<Write>>(
    tx: &mut WriteTx,
    namespace: &Access<L, Namespace>,
    new: &NewRepo<'_>,
) -> Result<(), StoreError> {
    let kind = new.path.kind.as_str();
    forget_alias(tx, new.path).await?;
    let sql = "INSERT INTO repo (id, kind, namespace_id, namespace, name, path_key, visibility, gated, creator_id, \
        created_at, updated_at, sdk) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)";
    let owner = namespace.namespace();
    let params = values![
        new.id,
        kind,
        owner.id,
        owner.name.as_str(),
        new.path.name.as_str(),
        new.path.key(),
        new.visibility.as_str(),
        new.gated.as_str(),
        new.creator_id,
        new.now,
        new.sdk
    ];
    tx.execute(sql, params).await?;
    counts::enter(tx, new.id).await
}

/// The repository at a path of a namespace, as it is spelled: who may make repositories there may
/// know which there are.
pub async fn at<L: Includes<Write>>(
    read: &mut Reader,
    namespace: &Access<L, Namespace>,
    path: &RepoPath,
) -> Result<Option<RepoPath>, StoreError> {
    let sql = "SELECT namespace, name FROM repo WHERE kind = $1 AND path_key = $2 AND namespace_id = $3";
    let row = read.one(sql, values![path.kind.as_str(), path.key(), namespace.namespace().id]).await?;
    row.map(|row| Ok(RepoPath { kind: path.kind, namespace: parse(&row, 0)?, name: parse(&row, 1)? }))
        .transpose()
}

async fn forget_alias(tx: &mut WriteTx, path: &RepoPath) -> Result<(), StoreError> {
    let sql = "DELETE FROM repo_alias WHERE kind = $1 AND path_key = $2";
    tx.execute(sql, values![path.kind.as_str(), path.key()]).await?;
    Ok(())
}

/// Gives a repository a new path and keeps the old one as an alias. `Conflict` when taken.
pub async fn rename<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    target: &Access<L, Namespace>,
    to: &RepoPath,
) -> Result<(), StoreError> {
    let (repo, owner) = (access.repo(), target.namespace());
    forget_alias(tx, to).await?;
    counts::leave(tx, repo.id).await?;
    storage::leave_namespace(tx, repo.id).await?;
    let sql = "UPDATE repo SET namespace_id = $1, namespace = $2, name = $3, path_key = $4 WHERE id = $5";
    let params = values![owner.id, owner.name.as_str(), to.name.as_str(), to.key(), repo.id];
    tx.execute(sql, params).await?;
    counts::enter(tx, repo.id).await?;
    storage::enter_namespace(tx, repo.id).await?;
    if repo.path.key() != to.key() {
        let sql = "INSERT INTO repo_alias (kind, path_key, repo_id) VALUES ($1, $2, $3) \
            ON CONFLICT (kind, path_key) DO UPDATE SET repo_id = excluded.repo_id";
        tx.execute(sql, values![repo.path.kind.as_str(), repo.path.key(), repo.id]).await?;
    }
    Ok(())
}

/// Settings that are to change; `None` leaves one as it is.
#[derive(Debug, Default, Clone, Copy)]
pub struct Settings {
    pub visibility: Option<Visibility>,
    pub gated: Option<Gated>,
    pub discussions_disabled: Option<bool>,
}

pub async fn set(tx: &mut WriteTx, access: &Access<Admin>, settings: Settings) -> Result<(), StoreError> {
    counts::leave(tx, access.repo_id()).await?;
    let sql = "UPDATE repo SET visibility = COALESCE($1, visibility), gated = COALESCE($2, gated), \
        discussions_disabled = COALESCE($3, discussions_disabled) WHERE id = $4";
    let params = values![
        settings.visibility.map(Visibility::as_str),
        settings.gated.map(Gated::as_str),
        settings.discussions_disabled,
        access.repo_id()
    ];
    tx.execute(sql, params).await?;
    counts::enter(tx, access.repo_id()).await
}

/// Removes the repository and all rows that hang on it. Its blobs are left to collection.
pub async fn remove(tx: &mut WriteTx, access: &Access<Admin>) -> Result<(), StoreError> {
    crate::search::unindex(tx, access).await?;
    counts::leave(tx, access.repo_id()).await?;
    storage::leave_namespace(tx, access.repo_id()).await?;
    tx.execute("DELETE FROM repo WHERE id = $1", values![access.repo_id()]).await?;
    Ok(())
}

/// Marks the repository as changed now.
pub async fn touch<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE repo SET updated_at = $1 WHERE id = $2";
    tx.execute(sql, values![now, access.repo_id()]).await?;
    Ok(())
}

/// The number of repositories: for the first page and for benches.
pub async fn count(read: &mut Reader) -> Result<u64, StoreError> {
    let row = read.one("SELECT COUNT(*) FROM repo", &[]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// What is read from a repository's files for lists and searches.
#[derive(Debug, Clone, Default)]
pub struct MetadataRow {
    /// JSON: an array of texts.
    pub tags: String,
    pub pipeline_tag: Option<String>,
    pub library: Option<String>,
    pub sdk: Option<String>,
    /// JSON: the card's front matter.
    pub card: Option<String>,
    /// JSON: facts from other files.
    pub facts: String,
    pub parameters: Option<u64>,
}

pub async fn set_metadata<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    new: &MetadataRow,
) -> Result<(), StoreError> {
    let sql = "UPDATE repo SET tags = $1, pipeline_tag = $2, library = $3, sdk = COALESCE($4, sdk), card = $5, \
        facts = $6, parameters = $7 WHERE id = $8";
    let params = values![
        &new.tags,
        new.pipeline_tag.clone(),
        new.library.clone(),
        new.sdk.clone(),
        new.card.clone(),
        &new.facts,
        new.parameters,
        access.repo_id()
    ];
    tx.execute(sql, params).await?;
    Ok(())
}

/// What lists and searches know of a repository.
pub async fn metadata_of<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<MetadataRow, StoreError> {
    let sql = "SELECT tags, pipeline_tag, library, sdk, card, facts, parameters FROM repo WHERE id = $1";
    let row = read.one(sql, values![access.repo_id()]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a repository without a row".to_owned()))?;
    Ok(MetadataRow {
        tags: row.get(0)?,
        pipeline_tag: row.get(1)?,
        library: row.get(2)?,
        sdk: row.get(3)?,
        card: row.get(4)?,
        facts: row.get(5)?,
        parameters: row.get(6)?,
    })
}

/// What the settings are now.
pub async fn settings_of<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Settings, StoreError> {
    let sql = "SELECT visibility, gated, discussions_disabled FROM repo WHERE id = $1";
    let row = read.one(sql, values![access.repo_id()]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a repository without a row".to_owned()))?;
    Ok(Settings {
        visibility: Some(parse(&row, 0)?),
        gated: Gated::parse(&row.get::<String>(1)?),
        discussions_disabled: Some(row.get(2)?),
    })
}
