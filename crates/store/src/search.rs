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
    for term in terms {
        add_term(tx, repo, *term, uses).await?;
    }
    Ok(())
}

/// Takes a repository out of the index, before it is removed.
pub async fn unindex(tx: &mut WriteTx, access: &Access<Admin>) -> Result<(), StoreError> {
    clear(tx, access.repo_id(), access.repo().visibility).await
}

async fn clear(tx: &mut WriteTx, repo: RepoId, counted_as: Visibility) -> Result<(), StoreError> {
    if counted_as == Visibility::Public {
        let sql =
            "UPDATE term SET uses = uses - 1 WHERE id IN (SELECT term_id FROM repo_term WHERE repo_id = $1)";
        tx.execute(sql, values![repo]).await?;
    }
    tx.execute("DELETE FROM repo_term WHERE repo_id = $1", values![repo]).await?;
    Ok(())
}

/// Counts the words of a repository for the visibility that it gets.
pub async fn recount(tx: &mut WriteTx, access: &Access<Admin>, to: Visibility) -> Result<(), StoreError> {
    let from = access.repo().visibility;
    let change = i64::from(to == Visibility::Public) - i64::from(from == Visibility::Public);
    if change != 0 {
        let sql =
            "UPDATE term SET uses = uses + $1 WHERE id IN (SELECT term_id FROM repo_term WHERE repo_id = $2)";
        tx.execute(sql, values![change, access.repo_id()]).await?;
    }
    Ok(())
}

/// Replaces the words of a repository's old name by those of its new one.
pub async fn rename(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    old: &[String],
    new: &[&str],
) -> Result<(), StoreError> {
    let uses = i64::from(access.repo().visibility == Visibility::Public);
    for word in old {
        let sql = "DELETE FROM repo_term WHERE repo_id = $1 \
            AND term_id IN (SELECT id FROM term WHERE kind = 'name' AND word = $2)";
        if tx.execute(sql, values![access.repo_id(), word]).await? > 0 {
            let sql = "UPDATE term SET uses = uses - $1 WHERE kind = 'name' AND word = $2";
            tx.execute(sql, values![uses, word]).await?;
        }
    }
    for word in new {
        add_term(tx, access.repo_id(), ("name", word), uses).await?;
    }
    Ok(())
}

pub(crate) async fn add_term(
    tx: &mut WriteTx,
    repo: RepoId,
    term: Term<'_>,
    uses: i64,
) -> Result<(), StoreError> {
    let (kind, word) = term;
    let sql = "INSERT INTO term (kind, word, uses) VALUES ($1, $2, 0) \
        ON CONFLICT (kind, word) DO UPDATE SET uses = term.uses RETURNING id";
    let Some(row) = tx.one(sql, values![kind, word]).await? else { return Ok(()) };
    let id: i64 = row.get(0)?;
    let sql =
        "INSERT INTO repo_term (term_id, repo_id) VALUES ($1, $2) ON CONFLICT (term_id, repo_id) DO NOTHING";
    if tx.execute(sql, values![id, repo]).await? > 0 && uses > 0 {
        tx.execute("UPDATE term SET uses = uses + $1 WHERE id = $2", values![uses, id]).await?;
    }
    Ok(())
}
