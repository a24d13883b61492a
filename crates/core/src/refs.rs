//! Full ref names, and revisions as callers write them.

use std::fmt;
use std::str::FromStr;

use crate::limits::MAX_REF_BYTES;
use crate::{Invalid, Oid};

/// A full, valid ref: `refs/heads/x`, `refs/tags/x`, `refs/pr/N` or `refs/convert/x`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(String);

impl RefName {
    pub fn main() -> Self {
        Self("refs/heads/main".to_owned())
    }

    /// The branch called `short`.
    pub fn branch(short: &str) -> Result<Self, Invalid> {
        Self::under("refs/heads/", short)
    }

    /// The tag called `short`.
    pub fn tag(short: &str) -> Result<Self, Invalid> {
        Self::under("refs/tags/", short)
    }

    pub fn pull_request(number: u64) -> Self {
        Self(format!("refs/pr/{number}"))
    }

    fn under(prefix: &str, short: &str) -> Result<Self, Invalid> {
        // `refs/heads/refs/heads/x` and a branch called like a commit only serve confusion.
        if short.starts_with("refs/") || short == "HEAD" || short.parse::<Oid>().is_ok() {
            return Err(Invalid::new(format!("Invalid reference name: {short}")));
        }
        check_ref(short)?;
        Ok(Self(format!("{prefix}{short}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without `refs/heads/` and the like.
    pub fn short(&self) -> &str {
        ["refs/heads/", "refs/tags/", "refs/convert/"]
            .iter()
            .find_map(|prefix| self.0.strip_prefix(prefix))
            .unwrap_or(&self.0)
    }

    /// Is all of it to be seen? A name with characters that show nothing, or turn what is around them, looks
    /// like another. New refs have none; what there is can be read and removed.
    pub fn is_visible(&self) -> bool {
        !self.0.contains(is_invisible)
    }

    pub fn is_branch(&self) -> bool {
        self.0.starts_with("refs/heads/")
    }

    pub fn is_tag(&self) -> bool {
        self.0.starts_with("refs/tags/")
    }

    /// The number of the pull request whose ref this is.
    pub fn pull_request_number(&self) -> Option<u64> {
        self.0.strip_prefix("refs/pr/")?.parse().ok()
    }

    pub fn is_pull_request(&self) -> bool {
        self.0.starts_with("refs/pr/")
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RefName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(short) = text.strip_prefix("refs/heads/") {
            return Self::branch(short);
        }
        if let Some(short) = text.strip_prefix("refs/tags/") {
            return Self::tag(short);
        }
        if let Some(short) = text.strip_prefix("refs/convert/") {
            return Self::under("refs/convert/", short);
        }
        match text.strip_prefix("refs/pr/").and_then(|number| number.parse().ok()) {
            Some(number) if text == format!("refs/pr/{number}") => Ok(Self::pull_request(number)),
            _ => Err(Invalid::new(format!("Invalid reference name: {text}"))),
        }
    }
}

/// Characters of Unicode's format category and others that show nothing.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}'
            | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The rules of `git check-ref-format`, for a name without its prefix.
fn check_ref(name: &str) -> Result<(), Invalid> {
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let bad_segment = |segment: &str| {
        segment.is_empty() || segment.starts_with('.') || segment.ends_with('.') || segment.ends_with(".lock")
    };
    let bad = name.is_empty()
        || name.len() > MAX_REF_BYTES
        || name.starts_with('-')
        || name == "@"
        || name.contains("..")
        || name.contains("@{")
        || name.contains(forbidden)
        || name.split('/').any(bad_segment);
    if bad { Err(Invalid::new(format!("Invalid reference name: {name}"))) } else { Ok(()) }
}

/// A revision as the caller wrote it; only a repository can say what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// A full ref.
    Ref(RefName),
    /// 40 hex digits.
    Commit(Oid),
    /// A branch or a tag, or the first 4 to 39 digits of a commit.
    Short(String),
    /// `HEAD`: the default branch.
    Head,
}

impl Revision {
    /// Never fails: what cannot name anything is a `Short` that will not be found.
    pub fn parse(text: &str) -> Self {
        if text == "HEAD" {
            return Self::Head;
        }
        if let Ok(full) = text.parse() {
            return Self::Ref(full);
        }
        text.parse().map_or_else(|_| Self::Short(text.to_owned()), Self::Commit)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref(name) => name.fmt(f),
            Self::Commit(oid) => oid.fmt(f),
            Self::Short(text) => f.write_str(text),
            Self::Head => f.write_str("HEAD"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_rules_for_names() {
        for good in ["main", "feature/x", "v1.0", "ü", "a@b", "x".repeat(MAX_REF_BYTES).as_str()] {
            assert!(RefName::branch(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a..b",
            "a b",
            "a~",
            "a^",
            "a:",
            "a?",
            "a*",
            "a[",
            "a\\",
            "a\n",
            ".a",
            "a/.b",
            "a.lock",
            "a.",
            "@",
            "a@{b",
            "/a",
            "a/",
            "a//b",
            "-a",
            "refs/heads/x",
            "HEAD",
            "x".repeat(MAX_REF_BYTES + 1).as_str(),
            "0123456789012345678901234567890123456789",
        ] {
            assert!(RefName::branch(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_known() {
        for hidden in [
            "\u{202a}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{200b}",
            "\u{200d}",
            "\u{feff}",
            "\u{ad}",
            "\u{61c}",
            "\u{fe0f}",
            "\u{e0041}",
        ] {
            let name = RefName::branch(&format!("ma{hidden}in")).unwrap();
            assert!(!name.is_visible(), "{name:?}");
        }
        for shown in ["main", "ü", "日本語", "שלום", "v1.0-β", "🚀"] {
            assert!(RefName::tag(shown).unwrap().is_visible(), "{shown}");
        }
    }

    #[test]
    fn revisions() {
        assert_eq!(Revision::parse("HEAD"), Revision::Head);
        assert_eq!(Revision::parse("refs/pr/3"), Revision::Ref(RefName::pull_request(3)));
        assert_eq!(Revision::parse("refs/pr/03"), Revision::Short("refs/pr/03".into()));
        assert_eq!(Revision::parse("main"), Revision::Short("main".into()));
        assert!(matches!(Revision::parse(&"a".repeat(40)), Revision::Commit(_)));
    }
}
