//! What people write on collections, and the slugs that are made from it.

use bastide_core::limits::{MAX_COLLECTION_DESCRIPTION, MAX_COLLECTION_TITLE, MAX_ITEM_NOTE};
use bastide_core::{CollectionId, Name};

use crate::Problem;

/// Digits of an id at the end of a slug.
const ID_DIGITS: usize = 24;

/// A title without spaces around it.
pub fn title(text: &str) -> Result<&str, Problem> {
    let text = check("title", text, MAX_COLLECTION_TITLE, false)?;
    if text.is_empty() {
        return Err(Problem::Invalid("\"title\" must have at least one character".into()));
    }
    Ok(text)
}

pub fn description(text: &str) -> Result<&str, Problem> {
    check("description", text, MAX_COLLECTION_DESCRIPTION, false)
}

/// A note, which may have several lines.
pub fn note(text: &str) -> Result<&str, Problem> {
    check("note", text, MAX_ITEM_NOTE, true)
}

fn check<'a>(what: &str, text: &'a str, most: usize, lines: bool) -> Result<&'a str, Problem> {
    let text = text.trim();
    let count = text.chars().count();
    if count > most {
        return Err(Problem::Invalid(format!("\"{what}\" must have at most {most} characters, not {count}")));
    }
    if text.chars().any(|c| c.is_control() && !(lines && c == '\n') || turns_text(c)) {
        return Err(Problem::Invalid(format!("\"{what}\" must not have control characters")));
    }
    Ok(text)
}

/// Marks that change the direction of what follows: they make a text look like another.
const fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// `owner/title-in-small-letters-<id>`.
pub fn slug(owner: &Name, title: &str, id: CollectionId) -> String {
    let mut words = String::new();
    for c in title.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => words.push(c),
            _ if words.is_empty() || words.ends_with('-') => {}
            _ => words.push('-'),
        }
    }
    let words = words.trim_end_matches('-');
    let words = if words.is_empty() { "collection" } else { words };
    format!("{owner}/{words}-{id}")
}

/// The id at the end of a slug (or an id by itself), whatever stands before it.
pub fn slug_id(slug: &str) -> Option<CollectionId> {
    let (rest, id) = slug.split_at_checked(slug.len().checked_sub(ID_DIGITS)?)?;
    let apart = rest.is_empty() || rest.ends_with('-') || rest.ends_with('/');
    if apart { id.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bastide_core::Timestamp;

    #[test]
    fn slugs_are_safe_and_lead_back() {
        let id = CollectionId::new(Timestamp::from_millis(1_795_500_000_000));
        let owner: Name = "Ann".parse().unwrap();
        for (title, words) in [
            ("Recent models", "recent-models"),
            ("  A -- b/../c?x=1#y ", "a-b-c-x-1-y"),
            ("日本語", "collection"),
            ("<script>", "script"),
            ("Été", "t"),
        ] {
            let slug = slug(&owner, title, id);
            assert_eq!(slug, format!("Ann/{words}-{id}"));
            assert_eq!(slug_id(&slug), Some(id));
        }
        assert_eq!(slug_id(&id.to_string()), Some(id));
        for bad in [
            "",
            "x",
            "ann/title",
            "ann/x0123456789abcdef01234567",
            "日本語日本語日本語日本語",
            &format!("a{id}"),
        ] {
            assert_eq!(slug_id(bad), None, "{bad}");
        }
        assert_eq!(slug_id(&format!("ann/x-{}", id.to_string().to_uppercase())), None);
    }

    #[test]
    fn texts_have_limits_and_no_tricks() {
        assert_eq!(title("  a b ").unwrap(), "a b");
        assert!(title(&"é".repeat(MAX_COLLECTION_TITLE)).is_ok());
        assert!(title(&"é".repeat(MAX_COLLECTION_TITLE + 1)).is_err());
        for bad in ["", "  ", "a\nb", "a\0b", "a\u{202e}b", "a\u{85}b"] {
            assert!(title(bad).is_err(), "{bad:?}");
        }
        assert!(description("").is_ok());
        assert!(description(&"x".repeat(MAX_COLLECTION_DESCRIPTION + 1)).is_err());
        assert!(note("two\nlines").is_ok());
        assert!(note(&"x".repeat(MAX_ITEM_NOTE)).is_ok());
        assert!(note(&"x".repeat(MAX_ITEM_NOTE + 1)).is_err());
        assert!(note("a\u{1b}[31m").is_err());
    }
}
