//! The term index: tags and the words of names, alike, as rows. Lists and searches are plain SQL
//! over it, always consistent with the data.
//!
//! Words are kept apart by who may know them (`Audience`): a look-up sees the dictionaries of its
//! reader and no others, so not even the time that it takes tells of hidden repositories.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bastide_core::{NamespaceId, RepoId, Visibility};

use crate::db::{Reader, WriteTx};
use crate::gate::parse;
use crate::permit::{Access, Admin, Includes, See, Write};
use crate::{StoreError, values};

/// What a word is: `tag`, `name`, `link` or `kind`.
pub type Term<'a> = (&'a str, &'a str);

/// Who may know a word: everybody, who is signed in, or who may read in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audience(i64);

impl Audience {
    pub(crate) const EVERYBODY: Self = Self(0);
    const SIGNED_IN: Self = Self(1);

    const fn of(visibility: Visibility, namespace: NamespaceId) -> Self {
        match visibility {
            Visibility::Public => Self::EVERYBODY,
            Visibility::Internal => Self::SIGNED_IN,
            Visibility::Private => Self(namespace.as_i64()),
        }
    }
}

/// The dictionaries that a reader may look into, as a list for SQL.
pub(crate) struct Audiences(String);

impl Audiences {
    pub(crate) async fn of(read: &mut Reader, viewer: Option<NamespaceId>) -> Result<Self, StoreError> {
        let mut all = vec![Audience::EVERYBODY.0];
        if let Some(viewer) = viewer {
            all.extend([Audience::SIGNED_IN.0, viewer.as_i64()]);
            let sql = "SELECT org_id FROM member WHERE user_id = $1 AND role <> 'no_access'";
            for row in read.all(sql, values![viewer]).await? {
                all.push(row.get(0)?);
            }
        }
        Ok(Self(all.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")))
    }
}

/// Replaces the terms of a repository.
pub async fn index<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    terms: &[Term<'_>],
) -> Result<(), StoreError> {
    set(tx, access.repo_id(), &terms.iter().copied().collect()).await
}

/// The terms of a repository.
pub async fn terms_of<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT t.kind, t.word FROM repo_term r JOIN term t ON t.id = r.term_id WHERE r.repo_id = $1";
    let rows = read.all(sql, values![access.repo_id()]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Takes a repository out of the index, before it is removed.
pub async fn unindex(tx: &mut WriteTx, access: &Access<Admin>) -> Result<(), StoreError> {
    set(tx, access.repo_id(), &BTreeSet::new()).await
}

/// Puts the words of a repository where its visibility, as it is now, says.
pub async fn reindex(tx: &mut WriteTx, access: &Access<Admin>) -> Result<(), StoreError> {
    let held = held(tx, access.repo_id()).await?;
    set(tx, access.repo_id(), &held.iter().map(Held::term).collect()).await
}

/// Replaces the words of a repository's old name by those of its new one, after it was renamed.
pub async fn rename(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    old: &[String],
    new: &[&str],
) -> Result<(), StoreError> {
    let held = held(tx, access.repo_id()).await?;
    let stays = |term: &Term<'_>| term.0 != "name" || !old.iter().any(|word| word == term.1);
    let kept = held.iter().map(Held::term).filter(stays);
    set(tx, access.repo_id(), &kept.chain(new.iter().map(|word| ("name", *word))).collect()).await
}

/// A word that a repository has.
struct Held {
    id: i64,
    audience: Audience,
    kind: String,
    word: String,
}

impl Held {
    fn term(&self) -> Term<'_> {
        (&self.kind, &self.word)
    }
}

async fn held(tx: &mut WriteTx, repo: RepoId) -> Result<Vec<Held>, StoreError> {
    let sql = "SELECT t.id, t.audience, t.kind, t.word FROM repo_term u JOIN term t ON t.id = u.term_id \
        WHERE u.repo_id = $1";
    let rows = tx.all(sql, values![repo]).await?;
    let one = |row: &crate::db::Row| {
        let audience = Audience(row.get(1)?);
        Ok(Held { id: row.get(0)?, audience, kind: row.get(2)?, word: row.get(3)? })
    };
    rows.iter().map(one).collect()
}

/// Brings a repository's words to what they are to be: most stay as they are.
async fn set(tx: &mut WriteTx, repo: RepoId, terms: &BTreeSet<Term<'_>>) -> Result<(), StoreError> {
    let sql = "SELECT visibility, namespace_id FROM repo WHERE id = $1";
    let Some(row) = tx.one(sql, values![repo]).await? else { return Ok(()) };
    let audience = Audience::of(parse(&row, 0)?, row.get(1)?);
    let held = held(tx, repo).await?;
    let (stay, go): (Vec<_>, Vec<_>) =
        held.iter().partition(|held| held.audience == audience && terms.contains(&held.term()));
    for held in go {
        drop_term(tx, repo, held.id).await?;
    }
    let stay: BTreeSet<Term<'_>> = stay.into_iter().map(Held::term).collect();
    for term in terms.difference(&stay) {
        add_term(tx, repo, audience, *term).await?;
    }
    Ok(())
}

async fn drop_term(tx: &mut WriteTx, repo: RepoId, id: i64) -> Result<(), StoreError> {
    tx.execute("DELETE FROM repo_term WHERE term_id = $1 AND repo_id = $2", values![id, repo]).await?;
    tx.execute("UPDATE term SET uses = uses - 1 WHERE id = $1", values![id]).await?;
    tx.execute("DELETE FROM term WHERE id = $1 AND uses <= 0", values![id]).await?;
    Ok(())
}

pub(crate) async fn add_term(
    tx: &mut WriteTx,
    repo: RepoId,
    audience: Audience,
    term: Term<'_>,
) -> Result<(), StoreError> {
    let id = term_id(tx, audience, term).await?;
    let sql =
        "INSERT INTO repo_term (term_id, repo_id) VALUES ($1, $2) ON CONFLICT (term_id, repo_id) DO NOTHING";
    if tx.execute(sql, values![id, repo]).await? > 0 {
        tx.execute("UPDATE term SET uses = uses + 1 WHERE id = $1", values![id]).await?;
    }
    Ok(())
}

/// The id of a word, which is added when it is new.
async fn term_id(tx: &mut WriteTx, audience: Audience, (kind, word): Term<'_>) -> Result<i64, StoreError> {
    let sql = "SELECT id FROM term WHERE audience = $1 AND kind = $2 AND word = $3";
    if let Some(row) = tx.one(sql, values![audience.0, kind, word]).await? {
        return row.get(0);
    }
    let sql = "INSERT INTO term (audience, kind, word, uses) VALUES ($1, $2, $3, 0) RETURNING id";
    let row = tx.one(sql, values![audience.0, kind, word]).await?;
    let id: i64 = row.ok_or_else(|| StoreError::Corrupt("a word without an id".to_owned()))?.get(0)?;
    if kind == "name" {
        for gram in grams(word) {
            let sql = "INSERT INTO term_gram (audience, gram, term_id) VALUES ($1, $2, $3)";
            tx.execute(sql, values![audience.0, gram, id]).await?;
        }
    }
    Ok(id)
}

/// Bits of one letter in a gram.
const LETTER_BITS: u32 = 21;
const GRAM_LETTERS: usize = 3;

/// Up to three letters from each place of a word, as numbers that sort like the text.
fn grams(word: &str) -> BTreeSet<i64> {
    word.char_indices().map(|(place, _)| *gram(word.get(place..).unwrap_or_default()).start()).collect()
}

/// The grams that start like this text: with three letters or more there is just one.
fn gram(text: &str) -> RangeInclusive<i64> {
    let letters = text.chars().take(GRAM_LETTERS);
    let (number, count) = letters.fold((0, 0), |(number, count), letter| {
        (number << LETTER_BITS | i64::from(u32::from(letter)), count + 1)
    });
    let open = LETTER_BITS * (GRAM_LETTERS as u32 - count);
    number << open..=(number << open) + ((1 << open) - 1)
}

/// A word that a reader may know: the ids that it has, and how many repositories use it.
pub(crate) async fn word(
    read: &mut Reader,
    audiences: &Audiences,
    (kind, word): Term<'_>,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let sql =
        format!("SELECT id, uses FROM term WHERE audience IN ({}) AND kind = $1 AND word = $2", audiences.0);
    let rows = read.all(&sql, values![kind, word]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Words of names with a part in them, and how many repositories have each: `limit` at most.
pub(crate) async fn words_with(
    read: &mut Reader,
    audiences: &Audiences,
    part: &str,
    limit: usize,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let gram = rarest_gram(read, audiences, part).await?;
    let sql = format!(
        "SELECT DISTINCT t.id, t.uses FROM term_gram g JOIN term t ON t.id = g.term_id \
         WHERE g.audience IN ({}) AND g.gram BETWEEN $1 AND $2 AND t.word LIKE $3 LIMIT $4",
        audiences.0
    );
    let rows = read.scan(&sql, values![*gram.start(), *gram.end(), format!("%{part}%"), limit]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Of a part's grams the one that the fewest words have, as far as counting is cheap.
async fn rarest_gram(
    read: &mut Reader,
    audiences: &Audiences,
    part: &str,
) -> Result<RangeInclusive<i64>, StoreError> {
    const COUNT_TO: i64 = 1000;
    let last = part.chars().count().saturating_sub(GRAM_LETTERS);
    let mut rarest = (i64::MAX, gram(part));
    for (place, _) in part.char_indices().take(last + 1) {
        let gram = gram(part.get(place..).unwrap_or_default());
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM term_gram WHERE audience IN ({}) AND gram BETWEEN $1 AND $2 \
             LIMIT $3) found",
            audiences.0
        );
        let row = read.one(&sql, values![*gram.start(), *gram.end(), COUNT_TO]).await?;
        let count = row.map(|row| row.get(0)).transpose()?.unwrap_or_default();
        if count < rarest.0 {
            rarest = (count, gram);
        }
    }
    Ok(rarest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_word_is_the_start_of_a_gram() {
        let word = "bert2\u{10ffff}";
        let all = grams(word);
        let ends: Vec<usize> = word.char_indices().map(|(place, _)| place).chain([word.len()]).collect();
        for (from, start) in ends.iter().enumerate() {
            for end in ends.iter().skip(from + 1) {
                let part = &word[*start..*end];
                assert!(all.iter().any(|found| gram(part).contains(found)), "{part}");
            }
        }
        for other in ["tb", "bet", "2b", "x", "er2"] {
            assert!(!all.iter().any(|found| gram(other).contains(found)), "{other}");
        }
    }

    const ANN: i64 = 1000;
    const LAB: i64 = 2000;
    const BOB: i64 = 3000;
    const REPO: RepoId = RepoId::from_i64(9000);

    /// ann's repository, the organisation lab with bob in it, and a database for them.
    async fn world() -> (tempfile::TempDir, crate::Db) {
        let folder = tempfile::tempdir().unwrap();
        let db = crate::Db::open_sqlite(&folder.path().join("test.db")).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        for (id, name) in [(ANN, "ann"), (LAB, "lab"), (BOB, "bob")] {
            let sql = "INSERT INTO namespace (id, kind, name, name_key, full_name, created_at) \
                VALUES ($1, 'user', $2, $2, $2, 0)";
            tx.execute(sql, values![id, name]).await.unwrap();
        }
        let sql = "INSERT INTO member (org_id, user_id, role, created_at) VALUES ($1, $2, 'read', 0)";
        tx.execute(sql, values![LAB, BOB]).await.unwrap();
        let sql = "INSERT INTO repo (id, kind, namespace_id, namespace, name, path_key, visibility, created_at, \
            updated_at) VALUES ($1, 'model', $2, 'ann', 'secret', 'ann/secret', 'private', 0, 0)";
        tx.execute(sql, values![REPO, ANN]).await.unwrap();
        set(&mut tx, REPO, &[("name", "secret"), ("tag", "hush")].into()).await.unwrap();
        tx.commit_upkeep().await.unwrap();
        (folder, db)
    }

    /// Who of nobody, ann and bob finds the repository's words.
    async fn knowing(db: &crate::Db) -> [bool; 3] {
        let mut found = [false; 3];
        for (found, viewer) in found.iter_mut().zip([None, Some(ANN), Some(BOB)]) {
            let mut read = db.read().await.unwrap();
            let audiences = Audiences::of(&mut read, viewer.map(NamespaceId::from_i64)).await.unwrap();
            let tag = !word(&mut read, &audiences, ("tag", "hush")).await.unwrap().is_empty();
            for part in ["secret", "cre", "s"] {
                let words = words_with(&mut read, &audiences, part, 10).await.unwrap();
                assert_eq!(!words.is_empty(), tag, "{part} for {viewer:?}");
            }
            *found = tag;
        }
        found
    }

    async fn change(db: &crate::Db, sql: &str) {
        let mut tx = db.begin().await.unwrap();
        tx.batch(sql).await.unwrap();
        let held: Vec<_> = held(&mut tx, REPO).await.unwrap();
        set(&mut tx, REPO, &held.iter().map(Held::term).collect()).await.unwrap();
        tx.commit_upkeep().await.unwrap();
    }

    #[tokio::test]
    async fn words_of_hidden_repositories_are_in_no_dictionary_of_a_stranger() {
        let (_folder, db) = world().await;
        assert_eq!(knowing(&db).await, [false, true, false]);
        change(&db, "UPDATE repo SET visibility = 'internal'").await;
        assert_eq!(knowing(&db).await, [false, true, true]);
        change(&db, "UPDATE repo SET visibility = 'public'").await;
        assert_eq!(knowing(&db).await, [true, true, true]);
        change(&db, &format!("UPDATE repo SET visibility = 'private', namespace_id = {LAB}")).await;
        assert_eq!(knowing(&db).await, [false, false, true]);
        change(&db, "UPDATE member SET role = 'no_access'").await;
        assert_eq!(knowing(&db).await, [false, false, false]);
    }

    #[tokio::test]
    async fn a_word_that_nobody_uses_is_gone() {
        let (_folder, db) = world().await;
        let mut tx = db.begin().await.unwrap();
        set(&mut tx, REPO, &BTreeSet::new()).await.unwrap();
        for table in ["term", "term_gram", "repo_term"] {
            let row = tx.one(&format!("SELECT COUNT(*) FROM {table}"), &[]).await.unwrap().unwrap();
            assert_eq!(row.get::<i64>(0).unwrap(), 0, "{table}");
        }
    }
}
