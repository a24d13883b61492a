//! The path of a file or folder inside a repository.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::Invalid;
use crate::limits::{MAX_PATH_BYTES, MAX_PATH_SEGMENTS, MAX_SEGMENT_BYTES};

/// Files of git's, and what NTFS makes up for their names.
const GIT_FILES: [(&str, &str); 3] =
    [(".gitmodules", "gi7eba"), (".gitattributes", "gi7d29"), (".lfsconfig", "")];

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
        if text.split('/').nth(MAX_PATH_SEGMENTS).is_some() {
            return Err(Invalid::new(format!("a path has at most {MAX_PATH_SEGMENTS} segments")));
        }
        text.split('/').try_for_each(check_segment)?;
        check_git_files(text)?;
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
    if is_plain(segment) {
        return Ok(());
    }
    if segment.chars().any(char::is_control) {
        return refuse("has control characters");
    }
    if segment.starts_with('\\') {
        return refuse("is not allowed");
    }
    // On Windows a backslash parts names as a slash does.
    for piece in segment.split('\\') {
        if !piece.is_empty() && piece.trim_start_matches('.').is_empty() {
            return refuse("is not allowed");
        }
        if is_dot_git(piece) {
            return refuse("is reserved for git");
        }
    }
    Ok(())
}

/// Letters, digits and signs that every system takes as they are, and no dot at the start: such a name is no other one,
/// and needs no further look.
fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain)
}

/// Files that git reads as its own in every folder. Only under their plain name, and only as
/// files: some file systems take other spellings for the same name, and git's checks refuse them.
fn check_git_files(path: &str) -> Result<(), Invalid> {
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if is_plain(segment) {
            continue;
        }
        let refuse = |why: &str| Err(Invalid::new(format!("path segment {segment:?} {why}")));
        for (name, short) in GIT_FILES {
            if segment == name && segments.peek().is_some() {
                return refuse("is a file of git's: it cannot be a folder");
            }
            if segment != name && segment.split('\\').any(|piece| opens_as(piece, name, short)) {
                return refuse(&format!("would be taken for {name}: choose another name"));
            }
        }
    }
    Ok(())
}

/// Would some file system open `piece` as `name`? The names that NTFS makes up are the first six
/// letters and a number, or letters of its own (`short`), fewer with a longer number.
fn opens_as(piece: &str, name: &str, short: &str) -> bool {
    let stem = folded_stem(piece);
    if stem == name {
        return true;
    }
    let Some((head, number)) = stem.split_once('~') else { return false };
    let six = name.get(1..7).unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && (head == six || stem.len() == 8 && short.starts_with(head))
}

/// What some file system would open as `.git`: any case, trailing dots and spaces, the NTFS
/// short name and streams, and letters that HFS+ ignores (the rules of git's own `fsck`).
fn is_dot_git(piece: &str) -> bool {
    matches!(folded_stem(piece).as_str(), ".git" | "git~1")
}

/// A name without what file systems leave out of it.
fn folded_stem(piece: &str) -> String {
    let visible: String = piece.chars().filter(|c| !is_ignorable(*c)).collect();
    let folded = visible.to_ascii_lowercase();
    let stem = folded.split(':').next().unwrap_or_default();
    stem.trim_end_matches(['.', ' ']).to_owned()
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
            "a\\b\\",
            "x/.gitmodules",
            ".gitmodules.bak",
            ".lfsconfig",
            "gi7eba/x~1",
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
            "a\\.git\\config",
            "a\\..\\..\\x",
            "x\\..\\y",
            "a/b\\GIT~1",
            ".gitmodules/x",
            "a/.gitattributes/x",
            ".GitModules",
            ".gitmodules.",
            "gitmod~1",
            "a/GITATT~4",
            "gi7eba~1",
            "gi7d2~12",
            ".git\u{200c}attributes",
            "a\\.gitmodules",
            ".LFSconfig",
            ".lfsconfig/x",
            "lfscon~1",
        ] {
            assert!(bad.parse::<EntryPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_has_so_many_segments_and_no_more() {
        let deep = vec!["a"; MAX_PATH_SEGMENTS].join("/");
        assert!(deep.parse::<EntryPath>().is_ok());
        let error = format!("{deep}/a").parse::<EntryPath>().unwrap_err();
        assert_eq!(error.to_string(), format!("a path has at most {MAX_PATH_SEGMENTS} segments"));
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

    proptest::proptest! {
        #[test]
        fn plain_names_are_no_others(name in "[a-zA-Z0-9_.-]{1,12}", is_git in "(\\.?git|gi7eba|gitmod|lfsconfig)[.0-9]{0,2}") {
            for name in [name, is_git] {
                if is_plain(&name) {
                    proptest::prop_assert!(!name.chars().any(|c| c.is_control() || matches!(c, '~' | ':' | '\\')));
                    proptest::prop_assert!(!name.trim_start_matches('.').is_empty() && !is_dot_git(&name));
                    for (file, short) in GIT_FILES {
                        proptest::prop_assert!(name != file && !opens_as(&name, file, short));
                    }
                }
            }
        }
    }
}
