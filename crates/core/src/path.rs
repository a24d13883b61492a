//! The path of a file or folder inside a repository.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::Invalid;
use crate::limits::{MAX_PATH_BYTES, MAX_SEGMENT_BYTES};

/// A path that is safe to store in git and to check out on any system: relative, no empty,
/// `.`, `..` or `.git` segment, no control characters, bounded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(String);

impl EntryPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folder that holds it, if that is not the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for EntryPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > MAX_PATH_BYTES {
            return Err(Invalid::new(format!("a path has 1 to {MAX_PATH_BYTES} bytes")));
        }
        text.split('/').try_for_each(check_segment)?;
        Ok(Self(text.to_owned()))
    }
}

fn check_segment(segment: &str) -> Result<(), Invalid> {
    let refuse = |why: &str| Err(Invalid::new(format!("path segment {segment:?} {why}")));
    if segment.is_empty() {
        return Err(Invalid::new("a path has no empty segment and does not start or end with '/'"));
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err(Invalid::new(format!("a path segment has at most {MAX_SEGMENT_BYTES} bytes")));
    }
    if segment == "." || segment.starts_with("..") && segment.trim_start_matches('.').is_empty() {
        return refuse("is not allowed");
    }
    // `..\x` is a way up on Windows; a backslash after other text is a plain character.
    if segment.starts_with("..\\") || segment.starts_with('\\') {
        return refuse("is not allowed");
    }
    if segment.chars().any(char::is_control) {
        return refuse("has control characters");
    }
    if is_dot_git(segment) {
        return refuse("is reserved for git");
    }
    Ok(())
}

/// What some file system would open as `.git`: any case, trailing dots and spaces, the NTFS
/// short name and streams, and letters that HFS+ ignores (the rules of git's own `fsck`).
fn is_dot_git(segment: &str) -> bool {
    let visible: String = segment.chars().filter(|c| !is_ignorable(*c)).collect();
    let folded = visible.to_ascii_lowercase();
    let stem = folded.split([':', '\\']).next().unwrap_or_default();
    let stem = stem.trim_end_matches(['.', ' ']);
    stem == ".git" || stem == "git~1"
}

/// Characters that HFS+ leaves out of names (git: `utf8.c`, `next_hfs_char`).
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for EntryPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_pass() {
        for good in [
            "a",
            "a/b.txt",
            ".gitattributes",
            ".github/x.yml",
            "ü/日本 ?#%.bin",
            "folder/..\u{3000}x",
            "a\\b",
            "git",
            "x.git",
            "...a",
            "emoji 🤗/it's.txt",
        ] {
            assert!(good.parse::<EntryPath>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn attacks_are_refused() {
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "...",
            "..\\ddd",
            "..\\..\\x",
            "\\a",
            "a\0b",
            "a\nb",
            "\u{7f}",
            ".git",
            ".GIT/config",
            "a/.git/hooks/x",
            ".git.",
            ".git ",
            "git~1",
            "GIT~1/x",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            ".git\\x",
        ] {
            assert!(bad.parse::<EntryPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let segment = "s".repeat(MAX_SEGMENT_BYTES);
        assert!(segment.parse::<EntryPath>().is_ok());
        assert!(format!("{segment}s").parse::<EntryPath>().is_err());
        let longest = vec!["a".repeat(204); 5].join("/");
        assert_eq!(longest.len(), MAX_PATH_BYTES);
        assert!(longest.parse::<EntryPath>().is_ok());
        assert!(format!("{longest}a").parse::<EntryPath>().is_err());
    }
}
