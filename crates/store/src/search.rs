//! The term index: tags and the words of names, alike, as rows. Lists and searches are plain SQL
//! over it, always consistent with the data.

use bastide_core::{RepoId, Visibility};

use crate::db::WriteTx;
use crate::permit::{Access, Admin, Includes, Write};
use crate::{StoreError, values};

/// What a word is: `tag` or `name`.
pub type Term<'a> = (&'a str, &'a str);

/// Replaces the terms of a repository. `visibility` is the one that holds from now on.
pub async fn index<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    visibility: Visibility,
    terms: &[Term<'_>],
) -> Result<(), StoreError> {
    let repo = access.repo_id();
    clear(tx, repo, access.repo().visibility).await?;
    let uses = i64::from(visibility == Visibility::Public);
    for (kind, word) in terms {
        let sql = "INSERT INTO term (kind, word, uses) VALUES ($1, $2, $3) \
            ON CONFLICT (kind, word) DO UPDATE SET uses = term.uses + excluded.uses RETURNING id";
        let Some(row) = tx.one(sql, values![*kind, *word, uses]).await? else { continue };
        let id: i64 = row.get(0)?;
        let sql = "INSERT INTO repo_term (term_id, repo_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(sql, values![id, repo]).await?;
    }
    Ok(())
}

/// Takes a repository out of the index, before it is removed.
pub async fn unindex(tx: &mut WriteTx, access: &Access<Admin>) -> Result<(), StoreError> {
    clear(tx, access.repo_id(), access.repo().visibility).await
}

async fn clear(tx: &mut WriteTx, repo: RepoId, counted_as: Visibility) -> Result<(), StoreError> {
    if counted_as == Visibility::Public {
        let sql = "UPDATE term SET uses = uses - 1 WHERE id IN (SELECT term_id FROM repo_term WHERE repo_id = $1)";
        tx.execute(sql, values![repo]).await?;
    }
    tx.execute("DELETE FROM repo_term WHERE repo_id = $1", values![repo]).await?;
    Ok(())
}
