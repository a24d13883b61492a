//! The term index: tags and the words of names, alike, as rows. Lists and searches are plain SQL
//! over it, always consistent with the data.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bastide_core::{RepoId, Visibility};

use crate::db::{Reader, WriteTx};
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
    let id = term_id(tx, term).await?;
    let sql =
        "INSERT INTO repo_term (term_id, repo_id) VALUES ($1, $2) ON CONFLICT (term_id, repo_id) DO NOTHING";
    if tx.execute(sql, values![id, repo]).await? > 0 && uses > 0 {
        tx.execute("UPDATE term SET uses = uses + $1 WHERE id = $2", values![uses, id]).await?;
    }
    Ok(())
}

/// The id of a word, which is added when it is new.
async fn term_id(tx: &mut WriteTx, (kind, word): Term<'_>) -> Result<i64, StoreError> {
    let sql = "SELECT id FROM term WHERE kind = $1 AND word = $2";
    if let Some(row) = tx.one(sql, values![kind, word]).await? {
        return row.get(0);
    }
    let sql = "INSERT INTO term (kind, word, uses) VALUES ($1, $2, 0) RETURNING id";
    let row = tx.one(sql, values![kind, word]).await?;
    let id: i64 = row.ok_or_else(|| StoreError::Corrupt("a word without an id".to_owned()))?.get(0)?;
    if kind == "name" {
        for gram in grams(word) {
            let sql = "INSERT INTO term_gram (gram, term_id) VALUES ($1, $2)";
            tx.execute(sql, values![gram, id]).await?;
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

/// Words of names with a part in them, and how many repositories have each: `limit` at most.
pub(crate) async fn words_with(
    read: &mut Reader,
    part: &str,
    limit: usize,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let gram = rarest_gram(read, part).await?;
    let sql = "SELECT DISTINCT t.id, t.uses FROM term_gram g JOIN term t ON t.id = g.term_id \
        WHERE g.gram BETWEEN $1 AND $2 AND t.word LIKE $3 LIMIT $4";
    let rows = read.scan(sql, values![*gram.start(), *gram.end(), format!("%{part}%"), limit]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Of a part's grams the one that the fewest words have, as far as counting is cheap.
async fn rarest_gram(read: &mut Reader, part: &str) -> Result<RangeInclusive<i64>, StoreError> {
    const COUNT_TO: i64 = 1000;
    let last = part.chars().count().saturating_sub(GRAM_LETTERS);
    let mut rarest = (i64::MAX, gram(part));
    for (place, _) in part.char_indices().take(last + 1) {
        let gram = gram(part.get(place..).unwrap_or_default());
        let sql =
            "SELECT COUNT(*) FROM (SELECT 1 FROM term_gram WHERE gram BETWEEN $1 AND $2 LIMIT $3) found";
        let row = read.one(sql, values![*gram.start(), *gram.end(), COUNT_TO]).await?;
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
}
