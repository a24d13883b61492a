//! Git's objects, parsed from bytes that anybody may have written, and written as git writes them.

use bastide_core::{Oid, Sha256, Timestamp};

use crate::GitError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    File,
    Executable,
    Symlink,
    Tree,
    Submodule,
}

impl Mode {
    /// A regular file, executable or not.
    pub const fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Executable)
    }

    pub(crate) const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::File => b"100644",
            Self::Executable => b"100755",
            Self::Symlink => b"120000",
            Self::Tree => b"40000",
            Self::Submodule => b"160000",
        }
    }

    /// Only as git writes it today.
    pub(crate) fn exact(text: &[u8]) -> Option<Self> {
        let all = [Self::File, Self::Executable, Self::Symlink, Self::Tree, Self::Submodule];
        all.into_iter().find(|mode| mode.as_bytes() == text)
    }

    /// As git shows it, in six digits.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Tree => "040000",
            Self::Submodule => "160000",
        }
    }

    /// Old writers used other bits; git reads them by their type alone, and so do we.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let number = std::str::from_utf8(text).ok().and_then(|text| u32::from_str_radix(text, 8).ok())?;
        Some(match number & 0o170_000 {
            0o040_000 => Self::Tree,
            0o120_000 => Self::Symlink,
            0o160_000 => Self::Submodule,
            0o100_000 if number & 0o111 != 0 => Self::Executable,
            0o100_000 => Self::File,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub mode: Mode,
    pub oid: Oid,
}

impl Entry {
    pub fn is_tree(&self) -> bool {
        self.mode == Mode::Tree
    }
}

/// A folder, in git's order: folders compare as if they ended in '/'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    pub entries: Vec<Entry>,
}

impl Tree {
    pub(crate) fn parse(oid: Oid, mut data: &[u8]) -> Result<Self, GitError> {
        let damaged = |what| GitError::Damaged { oid, what };
        let mut entries = Vec::new();
        while !data.is_empty() {
            let space = data.iter().position(|byte| *byte == b' ').ok_or_else(|| damaged("no mode"))?;
            let (mode, rest) = data.split_at_checked(space).ok_or_else(|| damaged("no mode"))?;
            let mode = Mode::parse(mode).ok_or_else(|| damaged("an unknown mode"))?;
            let rest = rest.get(1..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == 0).ok_or_else(|| damaged("no name"))?;
            let (name, rest) = rest.split_at_checked(end).ok_or_else(|| damaged("no name"))?;
            let (id, rest) =
                rest.get(1..).and_then(|rest| rest.split_at_checked(20)).ok_or_else(|| damaged("no id"))?;
            let id = Oid::from_slice(id).map_err(|_| damaged("no id"))?;
            entries.push(Entry { name: String::from_utf8_lossy(name).into_owned(), mode, oid: id });
            data = rest;
        }
        Ok(Self { entries })
    }

    pub fn find(&self, name: &str) -> Option<&Entry> {
        // Order differs for folders, so two places are possible; trees of strangers may have none.
        self.entries.iter().find(|entry| entry.name == name)
    }

    pub(crate) fn render(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * 48);
        for entry in &self.entries {
            bytes.extend_from_slice(entry.mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(entry.name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(entry.oid.as_bytes());
        }
        bytes
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub tree: Oid,
    pub parents: Vec<Oid>,
    pub author: Person,
    pub time: Timestamp,
    pub message: String,
}

/// Headers that have a place of their own: git looks for them nowhere else.
const PLACED: [&str; 3] = ["tree ", "parent ", "author "];

impl Commit {
    /// Reads what git reads, and only that: a second tree or a parent further down would be another history than git's.
    pub(crate) fn parse(oid: Oid, data: &[u8]) -> Result<Self, GitError> {
        let damaged = |what| GitError::Damaged { oid, what };
        let text = String::from_utf8_lossy(data);
        let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.split('\n').peekable();
        let tree =
            lines.next().and_then(|line| line.strip_prefix("tree ")).ok_or_else(|| damaged("no tree"))?;
        let tree = tree.parse().map_err(|_| damaged("a bad tree id"))?;
        let mut parents = Vec::new();
        while let Some(id) = lines.peek().and_then(|line| line.strip_prefix("parent ")) {
            parents.push(id.parse().map_err(|_| damaged("a bad parent id"))?);
            lines.next();
        }
        let author = lines.next().and_then(|line| line.strip_prefix("author "));
        let (author, time) = author.map(parse_person).ok_or_else(|| damaged("no author"))?;
        if lines.any(|line| PLACED.iter().any(|name| line.starts_with(name))) {
            return Err(damaged("a tree, a parent or an author out of place"));
        }
        Ok(Self { tree, parents, author, time, message: message.to_owned() })
    }

    /// The first line of the message.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// `Name <email> seconds zone`, as well as it can be read.
fn parse_person(text: &str) -> (Person, Timestamp) {
    let (name, rest) = text.split_once('<').unwrap_or((text, ""));
    let (email, time) = rest.split_once('>').unwrap_or((rest, ""));
    let seconds = time.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let person = Person { name: name.trim().to_owned(), email: email.trim().to_owned() };
    (person, Timestamp::from_millis(0).plus_seconds(seconds))
}

/// A commit to write.
#[derive(Debug, Clone)]
pub struct NewCommit<'a> {
    pub tree: Oid,
    pub parents: &'a [Oid],
    pub author: &'a Person,
    pub time: Timestamp,
    pub message: &'a str,
}

impl NewCommit<'_> {
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = format!("tree {}\n", self.tree);
        for parent in self.parents {
            text.push_str(&format!("parent {parent}\n"));
        }
        let person = render_person(self.author, self.time);
        text.push_str(&format!("author {person}\ncommitter {person}\n\n"));
        text.push_str(&self.message.replace('\0', ""));
        text.into_bytes()
    }
}

fn render_person(person: &Person, time: Timestamp) -> String {
    format!("{} <{}> {} +0000", plain(&person.name), plain(&person.email), time.as_seconds())
}

/// Without what would end the header early.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect::<String>().trim().to_owned()
}

/// An annotated tag to write.
#[derive(Debug, Clone)]
pub struct Tag<'a> {
    pub target: Oid,
    pub name: &'a str,
    pub tagger: &'a Person,
    pub time: Timestamp,
    pub message: &'a str,
}

impl Tag<'_> {
    pub(crate) fn render(&self) -> Vec<u8> {
        let tagger = render_person(self.tagger, self.time);
        let message = self.message.replace('\0', "");
        let Self { target, name, .. } = self;
        format!("object {target}\ntype commit\ntag {name}\ntagger {tagger}\n\n{message}\n").into_bytes()
    }
}

/// What every pointer begins with.
const VERSION: &str = "version ";
/// What git-lfs takes for the version of a pointer.
const OLD_VERSIONS: [&str; 3] =
    ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"];

/// What git holds in place of a large file (git-lfs specification, v1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pointer {
    pub sha256: Sha256,
    pub size: u64,
}

impl Pointer {
    /// Longest text that is looked at; the specification's own limit.
    pub const MAX_BYTES: u64 = 1024;

    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        if lines.next()? != "version https://git-lfs.github.com/spec/v1" {
            return None;
        }
        let (mut sha256, mut size) = (None, None);
        for line in lines {
            match line.split_once(' ')? {
                ("oid", oid) => sha256 = Some(oid.strip_prefix("sha256:")?.parse().ok()?),
                ("size", bytes) => size = Some(bytes.parse().ok()?),
                (key, _) if key.starts_with("ext-") => {}
                _ => return None,
            }
        }
        Some(Self { sha256: sha256?, size: size? })
    }

    /// Would some program take this for a pointer? git-lfs takes more than the specification allows: older versions
    /// of it, other line ends, blank lines and keys of other programs.
    pub fn resembles(text: &[u8]) -> bool {
        // git-lfs reads so much and no more, whatever comes after it.
        let text = String::from_utf8_lossy(text.get(..Self::MAX_BYTES as usize).unwrap_or(text));
        let Some(version) = text.trim().strip_prefix(VERSION) else { return false };
        let has = |start: &str| text.lines().any(|line| line.trim().starts_with(start));
        let version = version.lines().next().unwrap_or_default().trim();
        OLD_VERSIONS.contains(&version) || (has("oid sha256:") && has("size "))
    }

    /// So much of a file says whether `may_begin` is worth asking.
    pub const START_BYTES: usize = 64;

    /// Can a file that begins like this be a pointer, or resemble one? There may be more of it.
    pub fn may_begin(start: &[u8]) -> bool {
        let text = String::from_utf8_lossy(start);
        let text = text.trim_start();
        // A letter that is cut in two may be any.
        text.starts_with(VERSION)
            || VERSION.starts_with(text)
            || text.starts_with(char::REPLACEMENT_CHARACTER)
    }

    /// The id of the file that holds it, as git-lfs and we write it.
    pub fn blob_id(&self) -> Result<Oid, GitError> {
        crate::pack::blob_id(gix_object::Kind::Blob, self.render().as_bytes())
    }

    pub fn render(&self) -> String {
        format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            self.sha256, self.size
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_commit_has_the_tree_and_the_parents_that_git_sees() {
        let id = |digit: char| digit.to_string().repeat(40);
        let (tree, other) = (format!("tree {}\n", id('1')), format!("tree {}\n", id('2')));
        let (parent, people) =
            (format!("parent {}\n", id('3')), "author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n");
        let read =
            |head: String| Commit::parse(Oid::from_slice(&[7; 20]).unwrap(), format!("{head}\nm").as_bytes());
        let commit = read(format!("{tree}{parent}{people}gpgsig -\n tree {}\n", id('2'))).unwrap();
        assert_eq!((commit.tree.to_string(), commit.parents.len()), (id('1'), 1));
        for head in [
            format!("{tree}{people}{other}"),
            format!("{tree}{other}{people}"),
            format!("{tree}{people}{parent}"),
            format!("{tree}author a <a@b> 1 +0000\n{parent}committer a <a@b> 1 +0000\n"),
            format!("{tree}{people}author b <b@b> 1 +0000\n"),
            format!("{people}{tree}"),
            format!("{parent}{tree}{people}"),
            format!("x y\n{tree}{people}"),
        ] {
            assert!(matches!(read(head.clone()), Err(GitError::Damaged { .. })), "{head}");
        }
    }

    #[test]
    fn pointers_go_both_ways_and_nothing_else_is_one() {
        let pointer = Pointer { sha256: Sha256::from_bytes([7; 32]), size: 12 };
        assert_eq!(Pointer::parse(pointer.render().as_bytes()), Some(pointer));
        for bad in [
            "",
            "version https://git-lfs.github.com/spec/v1\n",
            "hello",
            "version x\noid sha256:00\nsize 1\n",
        ] {
            assert_eq!(Pointer::parse(bad.as_bytes()), None);
        }
    }

    #[test]
    fn what_others_take_for_a_pointer_is_seen() {
        let text = Pointer { sha256: Sha256::from_bytes([7; 32]), size: 12 }.render();
        let version = "https://git-lfs.github.com/spec/v1";
        for other in [
            text.replace('\n', "\r\n"),
            text.replace(version, "https://hawser.github.com/spec/v1"),
            text.replace(version, "http://git-media.io/v/2"),
            text.replace(version, "https://example.org/spec/v9"),
            format!("\n\n{text}"),
            format!("{text}\n"),
            format!("{text}x-mine 1\n"),
            format!("version {version}\n"),
        ] {
            assert!(
                Pointer::parse(other.as_bytes()).is_none() && Pointer::resembles(other.as_bytes()),
                "{other:?}"
            );
        }
        let long = format!("{text}{}", "\n".repeat(Pointer::MAX_BYTES as usize));
        for text in ["", "version 2", "version of oid sha256: and size 1", "# About\noid sha256:1\nsize 2\n"]
        {
            assert!(!Pointer::resembles(text.as_bytes()), "{text:?}");
        }
        // What git-lfs reads of it is one.
        assert!(Pointer::resembles(format!("{long}and more").as_bytes()));
    }

    #[test]
    fn most_files_are_known_by_their_start() {
        for start in ["# Title", "{\"a\": 1}", "verse", " \n x", "versions ", "Version 1"] {
            assert!(!Pointer::may_begin(start.as_bytes()), "{start:?}");
        }
        for start in ["", " \n", "v", "version", "version ", "\u{3000}ver", "version x"] {
            assert!(Pointer::may_begin(start.as_bytes()), "{start:?}");
        }
        assert!(Pointer::may_begin(&"\u{3000}".as_bytes()[..2]));
    }

    #[test]
    fn people_cannot_add_headers() {
        let person = Person { name: "a\nparent b <x>".into(), email: "e\0>\n@x".into() };
        let line = render_person(&person, Timestamp::from_millis(5000));
        assert_eq!(line, "aparent b x <e@x> 5 +0000");
    }

    proptest! {
        #[test]
        fn no_pointer_begins_otherwise(
            before in "[ \t\r\n\u{85}\u{3000}]{0,40}",
            version in proptest::sample::select(&OLD_VERSIONS[..]),
            cut in 0..300usize,
        ) {
            let pointer = Pointer { sha256: Sha256::from_bytes([7; 32]), size: 12 };
            let text = pointer.render().replace(OLD_VERSIONS[0], version);
            let text = format!("{before}{text}");
            prop_assert!(Pointer::resembles(text.as_bytes()));
            prop_assert!(Pointer::may_begin(&text.as_bytes()[..cut.min(text.len())]));
        }

        #[test]
        fn what_begins_otherwise_is_no_pointer(text in "[ \u{3000}]{0,2}(version)?[ \u{3000}]{0,2}[a-v1\n]{0,90}") {
            let start = &text.as_bytes()[..text.len().min(Pointer::START_BYTES)];
            let is_one = Pointer::resembles(text.as_bytes()) || Pointer::parse(text.as_bytes()).is_some();
            prop_assert!(!is_one || Pointer::may_begin(start));
        }

        #[test]
        fn no_bytes_make_a_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            let oid = Oid::from_bytes([0; 20]);
            let _ = Tree::parse(oid, &data);
            let _ = Commit::parse(oid, &data);
            let _ = Pointer::parse(&data);
            let _ = Pointer::may_begin(&data);
        }
    }
}
