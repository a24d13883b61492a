//! The facts from which `hub::access` decides. Nothing here is guarded by a permit, because
//! permits are made from it; nothing else may be built on it.

use bastide_core::{
    CollectionId, Name, NamespaceId, RepoId, RepoKind, RepoName, RepoPath, Role, Sha256, Timestamp, TokenId,
    TokenRole, Visibility,
};

use crate::db::{Reader, Row};
use crate::people;
use crate::permit::{Collection, Gated, Namespace, Repo};
use crate::{StoreError, values};

/// A token that exists, dead or alive, and its owner.
#[derive(Debug, Clone)]
pub struct TokenFacts {
    pub id: TokenId,
    pub role: TokenRole,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub user_id: NamespaceId,
    pub user_name: Name,
    pub user_disabled: bool,
}

const TOKEN_BY_HASH: &str = "\
    SELECT t.id, t.role, t.expires_at, t.revoked_at, t.last_used_at, n.id, n.name, n.disabled_at IS NOT NULL \
    FROM token t JOIN namespace n ON n.id = t.user_id WHERE t.hash = $1";

pub async fn token_by_hash(read: &mut Reader, hash: [u8; 32]) -> Result<Option<TokenFacts>, StoreError> {
    read.one(TOKEN_BY_HASH, values![hash]).await?.map(|row| token_facts(&row)).transpose()
}

const TOKEN_BY_ID: &str = "\
    SELECT t.id, t.role, t.expires_at, t.revoked_at, t.last_used_at, n.id, n.name, n.disabled_at IS NOT NULL \
    FROM token t JOIN namespace n ON n.id = t.user_id WHERE t.id = $1";

/// For what was derived from a token (Xet tokens, signed links): is its root still alive?
pub async fn token_by_id(read: &mut Reader, id: TokenId) -> Result<Option<TokenFacts>, StoreError> {
    read.one(TOKEN_BY_ID, values![id]).await?.map(|row| token_facts(&row)).transpose()
}

fn token_facts(row: &Row) -> Result<TokenFacts, StoreError> {
    Ok(TokenFacts {
        id: row.get(0)?,
        role: parse(row, 1)?,
        expires_at: row.get(2)?,
        revoked_at: row.get(3)?,
        last_used_at: row.get(4)?,
        user_id: row.get(5)?,
        user_name: parse(row, 6)?,
        user_disabled: row.get(7)?,
    })
}

/// A repository and the asking user's role in the organisation that owns it.
#[derive(Debug, Clone)]
pub struct RepoFacts {
    pub repo: Repo,
    pub role: Option<Role>,
}

const REPO_FACTS: &str = "r.id, r.kind, r.namespace, r.name, r.namespace_id, r.visibility, r.gated, r.disabled, \
    r.creator_id, r.epoch, r.created_at, m.role";

const REPO_COLUMNS: &str = "r.id, r.kind, r.namespace, r.name, r.namespace_id, r.visibility, r.gated, r.disabled, \
    r.creator_id, r.epoch, r.created_at, m.role FROM repo r LEFT JOIN member m ON m.org_id = r.namespace_id AND m.user_id = $1";

/// The repository at a path, in any spelling.
pub async fn repo_by_path(
    read: &mut Reader,
    path: &RepoPath,
    user: Option<NamespaceId>,
) -> Result<Option<RepoFacts>, StoreError> {
    let sql = format!("SELECT {REPO_COLUMNS} WHERE r.kind = $2 AND r.path_key = $3");
    let row = read.one(&sql, values![user_value(user), path.kind.as_str(), path.key()]).await?;
    row.map(|row| repo_facts(&row)).transpose()
}

/// The repository that once was at a path.
pub async fn repo_by_old_path(
    read: &mut Reader,
    path: &RepoPath,
    user: Option<NamespaceId>,
) -> Result<Option<RepoFacts>, StoreError> {
    let sql = format!(
        "SELECT {REPO_COLUMNS} JOIN repo_alias a ON a.repo_id = r.id WHERE a.kind = $2 AND a.path_key = $3"
    );
    let row = read.one(&sql, values![user_value(user), path.kind.as_str(), path.key()]).await?;
    row.map(|row| repo_facts(&row)).transpose()
}

/// The repository with an id.
pub async fn repo_by_id(
    read: &mut Reader,
    id: bastide_core::RepoId,
    user: Option<NamespaceId>,
) -> Result<Option<RepoFacts>, StoreError> {
    let sql = format!("SELECT {REPO_COLUMNS} WHERE r.id = $2");
    let row = read.one(&sql, values![user_value(user), id]).await?;
    row.map(|row| repo_facts(&row)).transpose()
}

/// No user has id 0, so an anonymous caller has no role.
fn user_value(user: Option<NamespaceId>) -> i64 {
    user.map_or(0, NamespaceId::as_i64)
}

fn repo_facts(row: &Row) -> Result<RepoFacts, StoreError> {
    let kind: RepoKind = parse(row, 1)?;
    let path = RepoPath { kind, namespace: parse(row, 2)?, name: parse::<RepoName>(row, 3)? };
    let gated: String = row.get(6)?;
    Ok(RepoFacts {
        repo: Repo {
            id: row.get(0)?,
            path,
            namespace_id: row.get(4)?,
            visibility: parse(row, 5)?,
            gated: Gated::parse(&gated).ok_or_else(|| StoreError::Corrupt(format!("gated: {gated}")))?,
            disabled: row.get(7)?,
            creator_id: row.get(8)?,
            epoch: row.get(9)?,
            created_at: row.get(10)?,
        },
        role: row.get::<Option<String>>(11)?.map(|role| corrupt(role.parse())).transpose()?,
    })
}

/// A namespace and the asking user's role in it.
#[derive(Debug, Clone)]
pub struct NamespaceFacts {
    pub namespace: Namespace,
    pub role: Option<Role>,
    pub disabled: bool,
    /// Something that everybody may see names it.
    pub is_known: bool,
}

pub async fn namespace_by_name(
    read: &mut Reader,
    name: &Name,
    user: Option<NamespaceId>,
) -> Result<Option<NamespaceFacts>, StoreError> {
    let sql = format!(
        "SELECT n.id, n.name, n.kind, n.default_visibility, n.disabled_at IS NOT NULL, m.role, {} \
         FROM namespace n LEFT JOIN member m ON m.org_id = n.id AND m.user_id = $1 WHERE n.name_key = $2",
        people::KNOWN
    );
    let row = read.one(&sql, values![user_value(user), name.key()]).await?;
    row.map(|row| namespace_facts(&row)).transpose()
}

fn namespace_facts(row: &Row) -> Result<NamespaceFacts, StoreError> {
    let visibility: Option<String> = row.get(3)?;
    Ok(NamespaceFacts {
        namespace: Namespace {
            id: row.get(0)?,
            name: parse(row, 1)?,
            is_organization: row.get::<String>(2)? == "org",
            default_visibility: visibility.map(|text| corrupt(text.parse::<Visibility>())).transpose()?,
        },
        disabled: row.get(4)?,
        role: row.get::<Option<String>>(5)?.map(|role| corrupt(role.parse())).transpose()?,
        is_known: row.get(6)?,
    })
}

/// A collection and the asking user's role in the organisation that owns it.
#[derive(Debug, Clone)]
pub struct CollectionFacts {
    pub collection: Collection,
    pub role: Option<Role>,
}

const COLLECTION_BY_ID: &str = "\
    SELECT c.id, c.owner_id, n.name, c.title, c.visibility, m.role \
    FROM collection c JOIN namespace n ON n.id = c.owner_id \
    LEFT JOIN member m ON m.org_id = c.owner_id AND m.user_id = $1 WHERE c.id = $2";

pub async fn collection_by_id(
    read: &mut Reader,
    id: CollectionId,
    user: Option<NamespaceId>,
) -> Result<Option<CollectionFacts>, StoreError> {
    let Some(row) = read.one(COLLECTION_BY_ID, values![user_value(user), id]).await? else { return Ok(None) };
    let collection = Collection {
        id: row.get(0)?,
        owner_id: row.get(1)?,
        owner: parse(&row, 2)?,
        title: row.get(3)?,
        visibility: parse(&row, 4)?,
    };
    let role = row.get::<Option<String>>(5)?.map(|role| corrupt(role.parse())).transpose()?;
    Ok(Some(CollectionFacts { collection, role }))
}

/// The role of a user in an organisation.
pub async fn role_in(
    read: &mut Reader,
    org: NamespaceId,
    user: NamespaceId,
) -> Result<Option<Role>, StoreError> {
    let sql = "SELECT role FROM member WHERE org_id = $1 AND user_id = $2";
    read.one(sql, values![org, user]).await?.map(|row| parse(&row, 0)).transpose()
}

/// What a webhook watches, and what decides whether its owner may know how it is called today.
#[derive(Debug, Clone)]
pub struct WatchFacts {
    pub webhook: bastide_core::id::RowId,
    pub kind: String,
    /// As its owner called it.
    pub name: String,
    /// The repository, if it is one and still there.
    pub repo: Option<RepoFacts>,
    /// The name of the user or organisation, if it is one.
    pub namespace: Option<String>,
}

/// What all webhooks of a user watch, or one of them.
pub async fn watched(
    read: &mut Reader,
    owner: NamespaceId,
    webhook: Option<bastide_core::id::RowId>,
) -> Result<Vec<WatchFacts>, StoreError> {
    let which = if webhook.is_some() { "AND h.id = $2" } else { "" };
    let sql = format!(
        "SELECT {REPO_FACTS}, w.webhook_id, w.type, w.name, n.name FROM webhook h \
         JOIN webhook_watch w ON w.webhook_id = h.id \
         LEFT JOIN repo r ON w.kind = 'repo' AND r.id = w.subject_id \
         LEFT JOIN member m ON m.org_id = r.namespace_id AND m.user_id = h.owner_id \
         LEFT JOIN namespace n ON w.kind = 'namespace' AND n.id = w.subject_id \
         WHERE h.owner_id = $1 {which} ORDER BY w.webhook_id, w.place"
    );
    let mut params = values![owner].to_vec();
    params.extend(webhook.map(crate::db::Value::from));
    let facts = |row: &Row| {
        let there = row.get::<Option<i64>>(0)?.is_some();
        Ok(WatchFacts {
            repo: if there { Some(repo_facts(row)?) } else { None },
            webhook: row.get(12)?,
            kind: row.get(13)?,
            name: row.get(14)?,
            namespace: row.get(15)?,
        })
    };
    read.all(&sql, &params).await?.iter().map(facts).collect()
}

/// A column that was valid when it was written.
pub(crate) fn parse<T: std::str::FromStr<Err = bastide_core::Invalid>>(
    row: &Row,
    column: usize,
) -> Result<T, StoreError> {
    corrupt(row.get::<String>(column)?.parse())
}

pub(crate) fn corrupt<T>(parsed: Result<T, bastide_core::Invalid>) -> Result<T, StoreError> {
    parsed.map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// Repositories that hold this content and that a user may have a right to look at: which of them is for
/// `hub::access` to say.
pub async fn repos_with_content(
    read: &mut Reader,
    sha256: Sha256,
    user: Option<NamespaceId>,
    limit: u32,
) -> Result<Vec<RepoId>, StoreError> {
    let sql = "SELECT DISTINCT r.id, r.visibility = 'public' FROM xet_file f JOIN repo r ON r.id = f.repo_id \
        WHERE f.sha256 = $1 AND (r.visibility <> 'private' OR r.namespace_id = $2 \
            OR r.namespace_id IN (SELECT org_id FROM member WHERE user_id = $2)) \
        ORDER BY 2 DESC, 1 DESC LIMIT $3";
    read.all(sql, values![sha256, user, limit]).await?.iter().map(|row| row.get(0)).collect()
}
