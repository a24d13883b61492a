//! What leads to a model from other repositories: Spaces that link it, models that were made from
//! it. Each reader is told of those that it may see.

use bastide_core::{NamespaceId, RepoKind};

use crate::db::{Reader, Row, Value};
use crate::permit::{Access, Includes, See};
use crate::search::{self, Audiences, Term};
use crate::{StoreError, lists, values};

/// Ids of the Spaces that link a model in their cards, the latest first.
pub async fn spaces<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    viewer: Option<NamespaceId>,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    let word = format!("model:{}", access.repo().path.key());
    let Some(tail) = tail(read, viewer, ("link", &word)).await? else { return Ok(Vec::new()) };
    let sql = format!("SELECT r.namespace, r.name {tail} ORDER BY r.id DESC LIMIT {limit}");
    let rows = read.all(&sql, &params(RepoKind::Space, viewer)).await?;
    let id = |row: &Row| Ok(format!("{}/{}", row.get::<String>(0)?, row.get::<String>(1)?));
    rows.iter().map(id).collect()
}

/// The number of models that were made from one.
pub async fn children<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    viewer: Option<NamespaceId>,
) -> Result<u64, StoreError> {
    let word = access.repo().path.key();
    let Some(tail) = tail(read, viewer, ("base", &word)).await? else { return Ok(0) };
    let row = read.one(&format!("SELECT COUNT(*) {tail}"), &params(RepoKind::Model, viewer)).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Where such repositories stand, as the end of a statement; `None` when nobody has the term.
async fn tail(
    read: &mut Reader,
    viewer: Option<NamespaceId>,
    term: Term<'_>,
) -> Result<Option<String>, StoreError> {
    let audiences = Audiences::of(read, viewer).await?;
    let ids: Vec<String> =
        search::word(read, &audiences, term).await?.iter().map(|(id, _)| id.to_string()).collect();
    let visible = lists::visible(viewer.map(|_| "$2"));
    Ok((!ids.is_empty()).then(|| {
        format!(
            "FROM repo_term t JOIN repo r ON r.id = t.repo_id \
             WHERE t.term_id IN ({}) AND r.kind = $1 AND {visible}",
            ids.join(", ")
        )
    }))
}

fn params(kind: RepoKind, viewer: Option<NamespaceId>) -> Vec<Value> {
    let mut params: Vec<Value> = values![kind.as_str()].to_vec();
    params.extend(viewer.map(Value::from));
    params
}
