//! What passes by between a client and git: what is asked for, and when a pack begins.

use std::collections::HashMap;

use bastide_core::Oid;
use bastide_git::packet::{Packet, Packets};
use bastide_git::{GitError, SnapshotRef};

/// Objects of one request that are remembered by name; others are counted.
const MAX_WANTS: usize = 1000;
/// Commits of a request at which a client says that its history ends: git takes long over many, whatever they are.
const MAX_SHALLOW: u64 = 50_000;
/// So much of a line is looked at: `want`, a space, an id.
const KEEP: usize = 64;

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub wants: Vec<Oid>,
    /// Wants beyond those.
    pub more: u64,
    /// Does it have something of the repository?
    pub has_some: bool,
    /// Lines that say where the client's history ends.
    shallow: u64,
    packets: Lines,
}

#[derive(Debug)]
struct Lines(Packets);

impl Default for Lines {
    fn default() -> Self {
        Self(Packets::new(KEEP))
    }
}

impl Clone for Lines {
    // Only what was found is copied.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Asked {
    pub(super) fn take(&mut self, part: &[u8]) -> Result<(), GitError> {
        let Self { wants, more, has_some, shallow, packets } = self;
        packets.0.feed(part, |packet| {
            let Packet::Line(line) = packet else { return true };
            if line.starts_with(b"have ") {
                *has_some = true;
            } else if line.starts_with(b"shallow ") {
                *shallow += 1;
            } else if let Some(oid) = want(line) {
                if wants.len() < MAX_WANTS {
                    wants.push(oid);
                } else {
                    *more += 1;
                }
            }
            true
        })?;
        match *shallow {
            0..=MAX_SHALLOW => Ok(()),
            _ => Err(GitError::Protocol("a client's history ends at 50000 commits at most: clone anew")),
        }
    }

    /// Has the request ended between two packets?
    pub(super) const fn is_whole(&self) -> bool {
        self.packets.0.is_between()
    }

    /// The commits behind those wants that are refs.
    pub(super) fn commits(&self, refs: &[SnapshotRef]) -> HashMap<Oid, Oid> {
        let wants: std::collections::HashSet<&Oid> = self.wants.iter().collect();
        let named = refs.iter().filter(|(_, target, _)| wants.contains(target));
        named.map(|(_, target, peeled)| (*target, peeled.unwrap_or(*target))).collect()
    }
}

fn want(line: &[u8]) -> Option<Oid> {
    let id = line.strip_prefix(b"want ")?.get(..40)?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// What git answers.
#[derive(Debug)]
pub(super) struct Answered {
    packets: Packets,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing,
    Lines,
    Error,
    Pack,
}

impl Default for Answered {
    fn default() -> Self {
        Self { packets: Packets::new(KEEP), stage: Stage::Nothing }
    }
}

impl Answered {
    /// Does a pack begin in this part?
    pub(super) fn begins_pack(&mut self, part: &[u8]) -> bool {
        if self.stage == Stage::Pack {
            return false;
        }
        let mut stage = Stage::Lines;
        let lines = self.packets.feed(part, |packet| {
            if let Packet::Line(line) = packet {
                stage = match line {
                    // A section of version 2, or the bands of the versions before it.
                    b"packfile\n" | [1 | 2, ..] => Stage::Pack,
                    line if line.starts_with(b"ERR ") => Stage::Error,
                    _ => Stage::Lines,
                };
            }
            stage != Stage::Pack
        });
        // The oldest clients get the pack as it is, without lines.
        self.stage = if lines.is_err() { Stage::Pack } else { stage };
        self.stage == Stage::Pack
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stage == Stage::Nothing
    }

    /// Is the last that git said that it refuses?
    pub(super) fn says_error(&self) -> bool {
        self.stage == Stage::Error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bastide_git::packet::push_line;

    const ID: &str = "0123456789012345678901234567890123456789";

    fn asked(lines: &[&str]) -> Asked {
        let mut text = Vec::new();
        lines.iter().for_each(|line| push_line(&mut text, line.as_bytes()));
        let mut asked = Asked::default();
        for part in text.chunks(3) {
            asked.take(part).unwrap();
        }
        assert!(asked.is_whole());
        asked
    }

    #[test]
    fn wants_and_haves_are_seen_in_both_versions() {
        let old =
            asked(&[&format!("want {ID} side-band-64k ofs-delta agent=git/2\n"), "deepen 1\n", "done\n"]);
        assert_eq!((old.wants.len(), old.has_some), (1, false));
        let new = asked(&["command=fetch", "thin-pack", &format!("want {ID}\n"), &format!("have {ID}\n")]);
        assert_eq!((new.wants.as_slice(), new.has_some), ([ID.parse().unwrap()].as_slice(), true));
        assert!(asked(&["want nothing\n", "wanted\n", "want "]).wants.is_empty());
        let many = asked(&vec![format!("want {ID}\n").as_str(); MAX_WANTS + 3]);
        assert_eq!((many.wants.len(), many.more), (MAX_WANTS, 3));
    }

    #[test]
    fn a_history_ends_at_so_many_commits_and_no_more() {
        let mut edge = asked(&vec![format!("shallow {ID}\n").as_str(); MAX_SHALLOW as usize]);
        let mut line = Vec::new();
        push_line(&mut line, format!("shallow {ID}\n").as_bytes());
        assert!(edge.take(&line).is_err());
    }

    fn answered(parts: &[&[u8]]) -> (Vec<bool>, Answered) {
        let mut answered = Answered::default();
        let begins = parts.iter().map(|part| answered.begins_pack(part)).collect();
        (begins, answered)
    }

    #[test]
    fn a_pack_begins_once() {
        let (begins, _) = answered(&[b"0008NAK\n", b"000", b"7\x01PA", b"0007\x01CK"]);
        assert_eq!(begins, [false, false, true, false]);
        let (begins, _) = answered(&[b"0008NAK\nPACK\0\0", b"more"]);
        assert_eq!(begins, [true, false]);
        let (begins, _) = answered(&[b"0011shallow-info\n0001000dpackfile\n0005\x02", b"0006\x01x"]);
        assert_eq!(begins, [true, false]);
        let (begins, list) = answered(&[b"0011shallow-info\n0000"]);
        assert!(begins == [false] && !list.is_empty() && !list.says_error());
    }

    #[test]
    fn a_refusal_is_known_as_one() {
        let (begins, refused) = answered(&[b"0008NAK\n", b"000eERR not ou", b""]);
        assert_eq!(begins, [false; 3]);
        assert!(!refused.says_error(), "only half of it has come");
        let (_, refused) = answered(&[b"000bERR no\n"]);
        assert!(refused.says_error());
        assert!(answered(&[]).1.is_empty());
    }
}
