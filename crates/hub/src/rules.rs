//! What a commit may bring, whichever way it comes: over the wire in operations, or by `git push`. Each rule is
//! written once, here; who applies them adds how to mend it in its own world.

use std::fmt;

use bastide_core::limits::{MAX_COMMIT_MESSAGE, MAX_COMMIT_TITLE, MAX_FILE_BYTES, MAX_REGULAR_FILE_BYTES};
use bastide_core::{EntryPath, RepoKind, Sha256};
use bastide_git::push::visible;
use bastide_git::{Commit, Flaw, Pointer};
use bastide_inspect::git_files;

use crate::Problem;

/// Longest target of a symbolic link.
pub(crate) const MAX_LINK_BYTES: u64 = 1024;
/// Parents of a commit, and bytes of the name and the address of its author.
const MAX_PARENTS: usize = 64;
const MAX_PERSON_BYTES: usize = 512;
/// So much is shown of a path that cannot be one, and of what is wrong.
const MAX_SHOWN_CHARS: usize = 300;
const MAX_FAULT_CHARS: usize = 600;
/// The years that every client can show: up to 9999.
const MAX_COMMIT_SECONDS: i64 = 253_402_300_799;

/// What is wrong with a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A path, a tree, a link or a file of git's.
    Content(String),
    /// Text of a commit.
    Message(String),
    /// A regular file that is too large.
    TooLarge {
        path: String,
        size: Option<u64>,
    },
    /// A pointer at content that the repository does not have.
    NoContent {
        path: String,
        sha256: Sha256,
    },
    /// A pointer that says another size than the content has, or an impossible one.
    Pointer(String),
    Card(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(text) | Self::Message(text) | Self::Pointer(text) => f.write_str(text),
            Self::TooLarge { path, .. } => write!(
                f,
                "{path} has more than {MAX_REGULAR_FILE_BYTES} bytes: upload it as a large file (LFS or Xet)"
            ),
            Self::NoContent { path, sha256 } => write!(
                f,
                "the content of {path} (sha256 {sha256}) was not uploaded to this repository: upload it first"
            ),
            Self::Card(text) => write!(f, "Invalid metadata in README.md.\n- Error: {text}"),
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let text = fault.to_string();
        match fault {
            Fault::Content(_) | Fault::TooLarge { .. } => Self::Unprocessable(text),
            Fault::Message(_) | Fault::NoContent { .. } | Fault::Card(_) => Self::Invalid(text),
            // Sizes that cannot be are as bad as paths; a wrong one is a mistake.
            Fault::Pointer(_) => Self::Invalid(text),
        }
    }
}

/// A file of this size may be in git itself.
pub(crate) fn check_size(path: &EntryPath, size: u64) -> Result<(), Fault> {
    if size > MAX_REGULAR_FILE_BYTES {
        return Err(Fault::TooLarge { path: path.to_string(), size: Some(size) });
    }
    Ok(())
}

/// Files that git reads as its own are such that its checks take them.
pub(crate) fn check_content(path: &EntryPath, content: &[u8]) -> Result<(), Fault> {
    git_files::check(path.file_name(), content).map_err(Fault::Content)?;
    if Pointer::parse(content).is_none() && Pointer::resembles(content) {
        return Err(Fault::Content(format!(
            "{path} looks like a pointer of git-lfs, but is not as its specification (v1) has it: write it anew with \
            `git lfs migrate import --include='{path}'`, or with `git add --renormalize`, and not by hand"
        )));
    }
    Ok(())
}

/// Does the content of a file decide whether it may be here, whatever its size?
pub(crate) fn is_git_file(path: &EntryPath) -> bool {
    git_files::is_git_file(path.file_name())
}

/// A file of git's cannot be a large one.
pub(crate) fn may_be_large(path: &EntryPath) -> Result<(), Fault> {
    if is_git_file(path) {
        return Err(Fault::Content(format!("{path} is a file of git's: send it as a regular file")));
    }
    Ok(())
}

pub(crate) fn check_pointer(path: &EntryPath, pointer: Pointer) -> Result<(), Fault> {
    if pointer.size > MAX_FILE_BYTES {
        return Err(Fault::Content(format!("{path} points at more than {MAX_FILE_BYTES} bytes")));
    }
    may_be_large(path)
}

/// The content that a pointer names is here, and as long as it says: `known` is what is here.
pub(crate) fn check_large(
    path: &EntryPath,
    sha256: Sha256,
    size: Option<u64>,
    known: Option<u64>,
) -> Result<u64, Fault> {
    let known = known.ok_or_else(|| Fault::NoContent { path: path.to_string(), sha256 })?;
    match size {
        Some(size) if size != known => {
            Err(Fault::Pointer(format!("{path} has {known} bytes, not the {size} that were named")))
        }
        _ => Ok(known),
    }
}

/// A card can be read by those who look for it.
pub(crate) fn check_card(kind: RepoKind, readme: &[u8]) -> Result<(), Fault> {
    let card = bastide_inspect::card::read(&String::from_utf8_lossy(readme), kind);
    match card.errors.first() {
        None => Ok(()),
        Some(error) => Err(Fault::Card(error.to_string())),
    }
}

/// Title and description of a commit.
pub(crate) fn check_message(title: &str, description: &str) -> Result<(), Fault> {
    let wrong = |text: String| Err(Fault::Message(text));
    if title.len() > MAX_COMMIT_TITLE {
        return wrong(format!("a commit's summary has 1 to {MAX_COMMIT_TITLE} bytes"));
    }
    if description.len() > MAX_COMMIT_MESSAGE {
        return wrong(format!("a commit's description has at most {MAX_COMMIT_MESSAGE} bytes"));
    }
    check_text("a commit's summary", title)?;
    check_text("a commit's description", &lines(description))
}

/// A text whose lines end as git ends them.
pub(crate) fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// Control characters have no place in a message: git cuts some, a database refuses others, and a
/// terminal obeys the rest.
pub(crate) fn check_text(what: &str, text: &str) -> Result<(), Fault> {
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(Fault::Message(format!("{what} has no control characters but line ends and tabs")));
    }
    Ok(())
}

/// A commit that somebody else's program has written: its author, its date, its parents and its message. Letters that
/// are not UTF-8 are shown as well as they can be, and are no fault.
pub(crate) fn check_commit(commit: &Commit) -> Result<(), Fault> {
    let wrong = |text: String| Err(Fault::Message(text));
    let text = lines(&commit.message);
    let (title, description) = text.split_once('\n').unwrap_or((&text, ""));
    check_message(title.trim_end_matches('\r'), description)?;
    for (what, text) in [("name", &commit.author.name), ("address", &commit.author.email)] {
        check_text(&format!("an author's {what}"), text)?;
        if text.len() > MAX_PERSON_BYTES {
            return wrong(format!("an author's {what} has at most {MAX_PERSON_BYTES} bytes"));
        }
    }
    if !(0..=MAX_COMMIT_SECONDS).contains(&commit.time.as_seconds()) {
        return wrong("a commit's date lies between the years 1970 and 9999".to_owned());
    }
    if commit.parents.len() > MAX_PARENTS {
        return wrong(format!("a commit has at most {MAX_PARENTS} parents"));
    }
    Ok(())
}

/// A symbolic link leads to something in the repository. `..` is followed only where it leads out of the link's own
/// folder, which is a real one: behind the name of another link nobody knows where it leads.
pub(crate) fn check_link(path: &EntryPath, target: &[u8]) -> Result<(), Fault> {
    let wrong = |why: &str| Err(Fault::Content(format!("{path} is a symbolic link that {why}")));
    if is_git_file(path) {
        return wrong("has a name of git's own: those are regular files");
    }
    let Ok(target) = std::str::from_utf8(target) else { return wrong("does not name its target in UTF-8") };
    if target.starts_with(['/', '\\']) || target.as_bytes().get(1) == Some(&b':') {
        return wrong("has an absolute target: let it be relative, and stay inside the repository");
    }
    let mut folder: Vec<&str> = path.segments().collect();
    folder.pop();
    let mut segments = target.split('/').filter(|segment| !matches!(*segment, "" | ".")).peekable();
    while segments.next_if_eq(&"..").is_some() {
        if folder.pop().is_none() {
            return wrong("leads out of the repository");
        }
    }
    folder.extend(segments);
    let whole = folder.join("/");
    if whole.is_empty() || whole.parse::<EntryPath>().is_ok() {
        return Ok(());
    }
    wrong("has a target that no path of a repository can be: let it be like ../folder/file")
}

/// What is wrong with a tree as such.
pub(crate) fn flaw(flaw: Flaw) -> Fault {
    Fault::Content(match flaw {
        Flaw::NotText { path } => format!("the name of {} is not valid UTF-8", shown(&path)),
        Flaw::Mode { path, mode } => format!(
            "{} has the mode {}: there are regular files (100644), programs (100755), symbolic links (120000) and folders",
            shown(&path),
            visible(&mode)
        ),
        Flaw::Clash { old, new } => {
            bastide_git::GitError::CaseClash { old: shown(&old), new: shown(&new) }.to_string()
        }
        Flaw::TooDeep { path } => match path.parse::<EntryPath>() {
            Err(error) => cut(&error.to_string(), MAX_FAULT_CHARS),
            Ok(path) => format!("{path} lies too deep"),
        },
        Flaw::Malformed { path } => format!("the folder '{}' is not as git writes folders", shown(&path)),
    })
}

/// A path of anybody's making, for people to read.
fn shown(path: &str) -> String {
    visible(&cut(path, MAX_SHOWN_CHARS))
}

pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

impl Fault {
    /// No longer than anybody reads: what it tells of can be as long as somebody likes.
    pub(crate) fn brief(self) -> Self {
        let brief = |text: String| cut(&text, MAX_FAULT_CHARS);
        match self {
            Self::Content(text) => Self::Content(brief(text)),
            Self::Message(text) => Self::Message(brief(text)),
            Self::Pointer(text) => Self::Pointer(brief(text)),
            Self::Card(text) => Self::Card(brief(text)),
            // Those have paths that are bounded.
            Self::TooLarge { .. } | Self::NoContent { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let link = |path: &str, target: &str| check_link(&path.parse().unwrap(), target.as_bytes()).is_ok();
        for (path, target) in [
            ("a", "b"),
            ("a", "./b/c"),
            ("x/y/a", "../../b"),
            ("x/a", "../x/b"),
            ("x/a", ".."),
            ("a", "b/"),
            ("a", "."),
        ] {
            assert!(link(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("a", "../b"),
            ("x/a", "../../b"),
            ("x/y/a", "b/../../../../c"),
            // Through another link to the root this leads out.
            ("x/y/a", "b/../c"),
            ("a", ".git/config"),
            ("x/a", "../.GIT/hooks/x"),
            ("a", "\\\\server\\share"),
            ("a", "C:/x"),
            ("a", "b\nc"),
            ("a", "x\\..\\..\\y"),
            (".gitattributes", "b"),
        ] {
            assert!(!link(path, target), "{path} -> {target}");
        }
        assert!(check_link(&"a".parse().unwrap(), b"\xff").is_err());
    }

    #[test]
    fn commits_of_others_are_bounded() {
        let good = Commit {
            tree: bastide_core::Oid::from_bytes([1; 20]),
            parents: Vec::new(),
            author: bastide_git::Person { name: "Ann \u{fffd}".into(), email: "ann@example.org".into() },
            time: bastide_core::Timestamp::from_millis(0),
            message: "title\r\n\r\nbody\r\n".into(),
        };
        assert_eq!(check_commit(&good), Ok(()));
        let changed = |change: fn(&mut Commit)| {
            let mut commit = good.clone();
            change(&mut commit);
            check_commit(&commit)
        };
        assert!(changed(|commit| commit.message.clear()).is_ok());
        assert!(changed(|commit| commit.parents = vec![commit.tree; MAX_PARENTS]).is_ok());
        assert!(changed(|commit| commit.parents = vec![commit.tree; MAX_PARENTS + 1]).is_err());
        assert!(changed(|commit| commit.message = "x".repeat(MAX_COMMIT_TITLE)).is_ok());
        assert!(changed(|commit| commit.message = "x".repeat(MAX_COMMIT_TITLE + 1)).is_err());
        assert!(changed(|commit| commit.message = format!("t\n{}", "x".repeat(MAX_COMMIT_MESSAGE))).is_ok());
        assert!(
            changed(|commit| commit.message = format!("t\n{}", "x".repeat(MAX_COMMIT_MESSAGE + 1))).is_err()
        );
        assert!(changed(|commit| commit.message.push('\x1b')).is_err());
        assert!(changed(|commit| commit.message.push('\0')).is_err());
        assert!(changed(|commit| commit.author.name.push('\x07')).is_err());
        assert!(changed(|commit| commit.author.email = "x".repeat(MAX_PERSON_BYTES + 1)).is_err());
        assert!(changed(|commit| commit.time = commit.time.plus_seconds(-1)).is_err());
        assert!(changed(|commit| commit.time = commit.time.plus_seconds(MAX_COMMIT_SECONDS)).is_ok());
        assert!(changed(|commit| commit.time = commit.time.plus_seconds(MAX_COMMIT_SECONDS + 1)).is_err());
    }
}
