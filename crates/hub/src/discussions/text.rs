//! What titles and comments may be, and whom they name.

use bastide_core::Name;
use bastide_core::limits::{
    MAX_COMMENT_BYTES, MAX_DISCUSSION_BYTES, MAX_DISCUSSION_EVENTS, MAX_DISCUSSION_TITLE, MAX_MENTIONS,
    MIN_DISCUSSION_TITLE,
};
use bastide_store::discussions::Discussion;

use crate::Problem;
use crate::rules::{check_text, lines};

/// A title as it is kept.
pub(crate) fn title(text: &str) -> Result<String, Problem> {
    let title = text.trim();
    let length = title.chars().count();
    if !(MIN_DISCUSSION_TITLE..=MAX_DISCUSSION_TITLE).contains(&length) {
        return Err(Problem::Invalid(format!(
            "a title has {MIN_DISCUSSION_TITLE} to {MAX_DISCUSSION_TITLE} characters, this one has {length}"
        )));
    }
    if title.chars().any(|c| c.is_control() || is_direction(c)) {
        return Err(Problem::Invalid("a title is one line without control characters".into()));
    }
    Ok(title.to_owned())
}

/// Characters that turn the direction of what follows: in a title they change how its neighbours read.
const fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A comment as it is kept.
pub(crate) fn comment(text: &str) -> Result<String, Problem> {
    let text = content(text)?;
    if text.trim().is_empty() {
        return Err(Problem::Invalid("a comment cannot be empty".into()));
    }
    Ok(text)
}

/// The first comment, which may say nothing.
pub(crate) fn content(text: &str) -> Result<String, Problem> {
    if text.len() > MAX_COMMENT_BYTES {
        return Err(Problem::TooLarge(format!("a comment has at most {MAX_COMMENT_BYTES} bytes")));
    }
    let text = lines(text);
    check_text("a comment", &text)?;
    Ok(text)
}

/// Whether a discussion can hold so much more: all of it is one answer.
pub(crate) fn check_room(discussion: &Discussion, bytes: usize) -> Result<(), Problem> {
    let full = discussion.events >= MAX_DISCUSSION_EVENTS
        || discussion.content_bytes.saturating_add(bytes as u64) > MAX_DISCUSSION_BYTES;
    if full {
        return Err(Problem::Unprocessable(
            "this discussion is full: open a new one that refers to it".into(),
        ));
    }
    Ok(())
}

/// The names after `@`, each once, in lower case: the first few.
pub(crate) fn mentions(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let starts = c == '@' && !before.is_alphanumeric();
        before = c;
        let Some(name) = text.get(at + c.len_utf8()..).filter(|_| starts).and_then(name_at) else { continue };
        if !found.contains(&name) {
            found.push(name);
        }
        if found.len() == MAX_MENTIONS {
            break;
        }
    }
    found
}

fn name_at(rest: &str) -> Option<String> {
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
        .unwrap_or(rest.len());
    let name = rest.get(..end)?.trim_end_matches(['.', '-']);
    Some(name.parse::<Name>().ok()?.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_line_of_3_to_200_characters() {
        assert_eq!(title("  abc \n").unwrap(), "abc");
        assert!(title(&"ü".repeat(MAX_DISCUSSION_TITLE)).is_ok());
        for bad in
            ["", "ab", "  ab  ", "a\nbc", "a\0bc", "abc\u{202e}fed", &"x".repeat(MAX_DISCUSSION_TITLE + 1)]
        {
            assert!(title(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn comments_say_something_within_their_size() {
        assert_eq!(comment("a\r\nb\tc").unwrap(), "a\nb\tc");
        assert!(comment(&"x".repeat(MAX_COMMENT_BYTES)).is_ok());
        assert!(matches!(comment(&"x".repeat(MAX_COMMENT_BYTES + 1)), Err(Problem::TooLarge(_))));
        for bad in ["", " \n", "a\0", "a\x1b[2J", "a\rb"] {
            assert!(comment(bad).is_err(), "{bad:?}");
        }
        assert_eq!(content("").unwrap(), "");
    }

    #[test]
    fn names_after_an_at_sign() {
        assert_eq!(mentions("@Ann, (@bob) mail@carl.org @ann. @@dora @-x @"), ["ann", "bob", "dora"]);
        let many: String = (0..MAX_MENTIONS + 5).map(|n| format!("@user{n} ")).collect();
        assert_eq!(mentions(&many).len(), MAX_MENTIONS);
    }
}
